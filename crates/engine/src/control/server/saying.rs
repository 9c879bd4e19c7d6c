//! What a client is told, for as long as it reads.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::super::lines::Line;
use super::super::protocol::Reply;
use super::super::seats::Doing;
use super::{Conversation, Next};

/// How long a client may take to read an answer.
const READING: Duration = Duration::from_secs(10);

impl Conversation {
    /// The client did not wait for its answer: it left, or sent another request.
    pub(super) async fn interrupted(&mut self, line: Line) -> io::Result<Next> {
        match line {
            Line::End => Ok(Next::Close),
            Line::Whole(_) | Line::TooLong => {
                self.refuse("one request at a time: the last one is not answered yet".to_owned()).await
            }
        }
    }

    pub(super) async fn refuse(&mut self, reason: String) -> io::Result<Next> {
        self.shown.lock().closes = true;
        self.say(&Reply::Refused { reason }).await.map(|()| Next::Close)
    }

    pub(super) async fn say(&mut self, reply: &Reply) -> io::Result<()> {
        let room = self.host.room.clone();
        self.write(&reply.encode()?, |bytes| room.for_rest(bytes)).await
    }

    /// Writes an answer. A client that does not read it gives way to others, and all of these have so much room for their answers.
    pub(super) async fn write<R>(
        &mut self,
        line: &[u8],
        room: impl FnOnce(usize) -> io::Result<R>,
    ) -> io::Result<()> {
        // Whatever else is wrong shows again below.
        let sent = self.writer.try_write(line).unwrap_or(0);
        let rest = line.get(sent..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        let _room = room(rest.len())?;
        self.shown.is_answered();
        timeout(READING, self.write_within(rest, READING, Doing::Waiting)).await?
    }

    /// Writes this for as long as the client reads some of it within such a time. While it does not, it gives way to others.
    pub(super) async fn write_within(&mut self, line: &[u8], limit: Duration, then: Doing) -> io::Result<()> {
        let mut rest = line;
        while !rest.is_empty() {
            match self.writer.try_write(rest) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.activity.is(Doing::Stalled);
                    self.shown.lock().unsent = rest.to_vec();
                    timeout(limit, self.writer.writable()).await??;
                    self.shown.lock().unsent.clear();
                    self.activity.is(then);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
