//! Those who are told what has happened, or what workers write, and may want to hear of more. It is all the same to others how fast
//! they read: what they are told is kept once for all of them.

use std::io;
use std::time::Duration;

use humantime::format_rfc3339_millis;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::super::protocol::{LogLine, Reply};
use super::super::recent::{Found, reply};
use super::super::seats::Doing;
use super::{Conversation, Next, TOO_MANY};
use crate::process::ring::{self, Piece};
use crate::report::level::Level;
use crate::report::record::EventsMissed;

/// How long one who follows may read nothing. Until then it is told what it has missed.
const STALLED: Duration = Duration::from_secs(60);
/// After how many events in a row others have their turn.
const AT_ONCE: u32 = 16;
/// About how much of what workers write is written by one call, in bytes. Then others have their turn: short lines are many.
const WRITE: usize = 8 << 10;

impl Conversation {
    /// Tells what has happened lately, and what happens from now on to one who follows.
    pub(super) async fn events(&mut self, last: Option<u32>, follow: bool) -> io::Result<Next> {
        let Some(_place) = self.host.room.to_follow() else {
            return self.refuse(TOO_MANY.to_owned()).await;
        };
        let recent = self.host.recent.clone();
        let mut place = recent.place(last, follow);
        for told in 1_u32.. {
            match recent.next(&mut place) {
                Found::Line(line) => self.write_slowly(&line).await?,
                Found::Missed(events) => {
                    self.write_slowly(&reply(Level::Warn, &EventsMissed { events })?).await?;
                }
                Found::Nothing => tokio::select! {
                    () = place.news() => {}
                    left = self.lines.next() => return self.interrupted(left?).await,
                    () = self.host.closed.wait() => break,
                },
                Found::End => break,
            }
            if told.is_multiple_of(AT_ONCE) {
                yield_now().await;
            }
        }
        self.say(&Reply::EventsEnd).await.map(|()| Next::Listen)
    }

    /// Tells the last lines of workers, and those that come to one who follows.
    pub(super) async fn logs(
        &mut self,
        slot: Option<u32>,
        last: Option<u32>,
        follow: bool,
    ) -> io::Result<Next> {
        let ring = self.host.cluster.ring.clone();
        if ring.streams().is_empty() {
            return self.refuse(NOTHING_PASSES.to_owned()).await;
        }
        if let Some(reason) = self.no_such_slot(slot).await {
            return self.refuse(reason).await;
        }
        let Some(_place) = self.host.room.to_follow() else {
            return self.refuse(TOO_MANY.to_owned()).await;
        };
        let mut place = ring.place(slot, last, follow);
        self.say(&Reply::Streams { streams: ring.streams().to_vec() }).await?;
        loop {
            match place.next() {
                ring::Found::Piece(piece) => self.tell(&piece).await?,
                ring::Found::Missed { slot, lines } => {
                    self.write_slowly(&Reply::LinesMissed { slot, lines }.encode()?).await?;
                }
                ring::Found::Nothing => tokio::select! {
                    () = place.news() => {}
                    left = self.lines.next() => return self.interrupted(left?).await,
                    () = self.host.closed.wait() => break,
                },
                ring::Found::End => break,
            }
        }
        self.say(&Reply::LinesEnd).await.map(|()| Next::Listen)
    }

    /// Why there is nothing to be told of this slot, if it is none.
    async fn no_such_slot(&self, slot: Option<u32>) -> Option<String> {
        let slot = slot.filter(|slot| !self.host.cluster.ring.knows(*slot))?;
        // A cluster that has ended has no more to say anyway.
        let slots = self.host.cluster.active_workers().await.ok()?.len();
        let last = u32::try_from(slots).ok()?.saturating_sub(1);
        (slot > last).then(|| format!("there is no slot {slot}: the last one is {last}"))
    }

    /// Tells each line of a piece.
    async fn tell(&mut self, piece: &Piece) -> io::Result<()> {
        let (mut replies, mut continued) = (Vec::new(), piece.continues);
        let time = format_rfc3339_millis(piece.time).to_string();
        for line in piece.lines.split_inclusive(|&byte| byte == b'\n') {
            let line = log_line(piece, &time, line, std::mem::take(&mut continued));
            replies.extend(Reply::Line(line).encode()?);
            if replies.len() >= WRITE {
                self.write_slowly(&replies).await?;
                replies.clear();
                yield_now().await;
            }
        }
        self.write_slowly(&replies).await?;
        yield_now().await;
        Ok(())
    }

    /// Writes a line for as long as the client reads at all. While it does not, it gives way to others.
    async fn write_slowly(&mut self, line: &[u8]) -> io::Result<()> {
        let mut rest = line;
        while !rest.is_empty() {
            match self.writer.try_write(rest) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.activity.is(Doing::Stalled);
                    timeout(STALLED, self.writer.writable()).await??;
                    self.activity.is(Doing::Waiting);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Why there are no lines where neither stream passes through the master.
const NOTHING_PASSES: &str = "there are no lines to show: the workers of this cluster write to its stdout and stderr \
    themselves (--raw-stdio, or a program that has the cluster inside it, as with the npm package)";

fn log_line(piece: &Piece, time: &str, line: &[u8], continued: bool) -> LogLine {
    let worker = piece.source.worker;
    let text = line.strip_suffix(b"\n");
    LogLine {
        time: time.to_owned(),
        slot: worker.slot,
        pid: worker.pid,
        generation: worker.generation,
        stream: piece.source.stream,
        line: String::from_utf8_lossy(text.unwrap_or(line)).into_owned(),
        partial: text.is_none(),
        continued,
    }
}
