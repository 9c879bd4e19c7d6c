//! Those who are told what has happened, or what workers write, and may want to hear of more. It is all the same to others how fast
//! they read: what they are told is kept once for all of them.

use std::io;
use std::time::Duration;

use tokio::task::yield_now;

use super::super::leaving::Doing;
use super::super::protocol::Reply;
use super::super::recent::{Found, reply};
use super::super::seats::Doing as Seated;
use super::super::telling::Telling;
use super::{Conversation, Next, TOO_MANY};
use crate::process::ring;
use crate::report::level::Level;
use crate::report::record::EventsMissed;

/// How long one who follows may read nothing. Until then it is told what it has missed.
const STALLED: Duration = Duration::from_secs(60);
/// After how many events in a row others have their turn.
const AT_ONCE: u32 = 16;

impl Conversation {
    /// Tells what has happened lately, and what happens from now on to one who follows.
    pub(super) async fn events(&mut self, last: Option<u32>, follow: bool) -> io::Result<Next> {
        let place = self.host.recent.place(last, follow);
        self.shown.does(Doing::Events(place));
        self.follow_events().await
    }

    pub(super) async fn follow_events(&mut self) -> io::Result<Next> {
        let Some(_place) = self.host.room.to_follow() else {
            return self.refuse(TOO_MANY.to_owned()).await;
        };
        let recent = self.host.recent.clone();
        for told in 1_u32.. {
            let (found, mut news) = {
                let mut stand = self.shown.lock();
                let Doing::Events(place) = &mut stand.doing else { break };
                (recent.next(place), place.listener())
            };
            match found {
                Found::Line(line) => self.write_slowly(&line).await?,
                Found::Missed(events) => {
                    self.write_slowly(&reply(Level::Warn, &EventsMissed { events })?).await?;
                }
                Found::Nothing => tokio::select! {
                    // An error means that the server is gone.
                    _ = news.changed() => {}
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
        let place = ring.place(slot, last, follow);
        self.shown.does(Doing::Logs(Box::new(place), None));
        self.say(&Reply::Streams { streams: ring.streams().to_vec() }).await?;
        self.follow_logs().await
    }

    pub(super) async fn follow_logs(&mut self) -> io::Result<Next> {
        let Some(_place) = self.host.room.to_follow() else {
            return self.refuse(TOO_MANY.to_owned()).await;
        };
        loop {
            let (found, mut news) = {
                let mut stand = self.shown.lock();
                let Doing::Logs(place, telling) = &mut stand.doing else { break };
                let found = place.next();
                if let ring::Found::Piece(piece) = &found {
                    *telling = Some(Telling::of(piece.clone()));
                }
                (found, place.listener())
            };
            match found {
                ring::Found::Piece(_) => self.tell().await?,
                ring::Found::Missed { slot, lines } => {
                    self.write_slowly(&Reply::LinesMissed { slot, lines }.encode()?).await?;
                }
                ring::Found::Nothing => tokio::select! {
                    // An error means that the ring is gone, and the place holds it.
                    _ = news.changed() => {}
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
    async fn tell(&mut self) -> io::Result<()> {
        loop {
            let replies = {
                let mut stand = self.shown.lock();
                let Doing::Logs(_, telling) = &mut stand.doing else { return Ok(()) };
                telling.as_mut().map(Telling::next).unwrap_or_default()
            };
            if replies.is_empty() {
                return Ok(());
            }
            self.write_slowly(&replies).await?;
            yield_now().await;
        }
    }

    /// Writes a line for as long as the client reads at all. While it does not, it gives way to others.
    pub(super) async fn write_slowly(&mut self, line: &[u8]) -> io::Result<()> {
        self.write_within(line, STALLED, Seated::Waiting).await
    }
}

/// Why there are no lines where neither stream passes through the master.
const NOTHING_PASSES: &str = "there are no lines to show: the workers of this cluster write to its stdout and stderr \
    themselves (--raw-stdio, or a program that has the cluster inside it, as with the npm package)";
