//! Messages from the master's user to this worker.

use std::collections::VecDeque;
use std::sync::Arc;

use recluster_wire::Json;

use crate::watched::Watched;

/// How much may wait to be fetched, in bytes.
const MOST_BYTES: usize = 16 << 20;
/// What a message takes beside its text, in bytes.
const OVERHEAD: usize = 64;

/// The messages that were not fetched yet.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: Watched<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Json>,
    bytes: usize,
    lost: u64,
    ended: bool,
}

impl Inbox {
    /// Takes a message in; the oldest ones make room for it.
    pub(crate) fn take_in(&self, message: Json) {
        self.waiting.change(|waiting| {
            waiting.bytes += cost(&message);
            waiting.messages.push_back(message);
            while waiting.bytes > MOST_BYTES && waiting.messages.len() > 1 {
                waiting.fetch();
                waiting.lost += 1;
            }
        });
    }

    /// No more will come.
    pub(crate) fn end(&self) {
        self.waiting.change(|waiting| waiting.ended = true);
    }
}

enum Next {
    Message(Json),
    End,
}

impl Next {
    fn message(self) -> Option<Json> {
        match self {
            Self::Message(message) => Some(message),
            Self::End => None,
        }
    }
}

impl Waiting {
    fn fetch(&mut self) -> Option<Json> {
        let message = self.messages.pop_front()?;
        self.bytes -= cost(&message);
        Some(message)
    }

    /// The next message, or that there is none to come; nothing if it has to be waited for.
    fn next(&mut self) -> Option<Next> {
        match self.fetch() {
            Some(message) => Some(Next::Message(message)),
            None => self.ended.then_some(Next::End),
        }
    }
}

fn cost(message: &Json) -> usize {
    message.as_str().len() + OVERHEAD
}

/// The messages to this worker, in their order; see [`messages`](crate::messages).
///
/// As an iterator it waits for each message, and ends when the channel does.
#[derive(Clone, Debug)]
pub struct Messages {
    inbox: Arc<Inbox>,
}

impl Messages {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox }
    }

    /// Waits for the next message; none when the channel has ended. To be used with any runtime. If it is dropped while it
    /// waits, no message is lost.
    #[cfg(feature = "tokio")]
    pub async fn recv(&mut self) -> Option<Json> {
        self.inbox.waiting.found(Waiting::next).await.message()
    }

    /// The next message, if there is one now.
    pub fn try_next(&mut self) -> Option<Json> {
        self.inbox.waiting.look(Waiting::fetch)
    }

    /// How many messages were dropped because they were not fetched: those beyond 16 MiB.
    pub fn lost(&self) -> u64 {
        self.inbox.waiting.look(|waiting| waiting.lost)
    }
}

impl Iterator for Messages {
    type Item = Json;

    fn next(&mut self) -> Option<Json> {
        self.inbox.waiting.wait(None, Waiting::next)?.message()
    }
}
