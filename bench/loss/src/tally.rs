//! What became of the requests: answered, refused or lost, by kind of client. Std only.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::Kind;

/// What became of every request of a load.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By kind of client; a kind that never ended a request is not there.
    pub kinds: BTreeMap<Kind, Counts>,
}

/// What became of the requests of one kind of client.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Requests with a whole and correct answer.
    pub answered: u64,
    /// Requests that the protocol says were not processed and are to be sent again. They were, and count once more
    /// as what became of them then.
    pub refused: u64,
    /// The others, each with its story.
    pub losses: Vec<Loss>,
}

/// A request without a whole and correct answer, or a connection that could not be made.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The kind of client that lost it.
    pub kind: Kind,
    /// When it was known to be lost, since the load began.
    pub at: Duration,
    /// What happened.
    pub cause: Cause,
    /// How many bytes of the response were there.
    pub bytes: usize,
    /// The process that answered earlier on the same connection.
    pub worker: Option<u32>,
    /// The client's own port, where it has one.
    pub port: Option<u16>,
}

/// What can happen to a request, as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// No connection, in the system's words or the TLS library's.
    Connect(String),
    /// The connection ended in order, without the answer or in the middle of it.
    Closed,
    /// The connection was reset.
    Reset,
    /// Any other error of the connection.
    Io(String),
    /// Neither an answer nor an end of the connection in time.
    Silence,
    /// An answer with a status that is no success.
    Status(u16),
    /// A whole answer to something else.
    WrongBody,
    /// Bytes that are no answer.
    Garbage(String),
    /// An HTTP/2 stream that was reset for another reason than that it was not processed.
    StreamReset(String),
    /// Refused again each time that it was sent.
    RefusedForEver,
}

impl Counts {
    /// Requests that were sent, or were to be on a connection that could not be made.
    pub fn sent(&self) -> u64 {
        self.answered + self.refused + self.lost()
    }

    /// Requests that were lost.
    pub fn lost(&self) -> u64 {
        self.losses.len() as u64
    }
}

impl Tally {
    /// Requests that were sent.
    pub fn sent(&self) -> u64 {
        self.kinds.values().map(Counts::sent).sum()
    }

    /// Requests that were refused and sent again.
    pub fn refused(&self) -> u64 {
        self.kinds.values().map(|counts| counts.refused).sum()
    }

    /// Requests that were lost.
    pub fn lost(&self) -> u64 {
        self.kinds.values().map(Counts::lost).sum()
    }

    /// Every loss.
    pub fn losses(&self) -> impl Iterator<Item = &Loss> {
        self.kinds.values().flat_map(|counts| &counts.losses)
    }

    /// What became of the requests of one kind.
    pub fn of(&self, kind: Kind) -> Counts {
        self.kinds.get(&kind).cloned().unwrap_or_default()
    }

    /// Adds what another load counted.
    pub fn add(&mut self, other: Self) {
        for (kind, counts) in other.kinds {
            let own = self.kinds.entry(kind).or_default();
            own.answered += counts.answered;
            own.refused += counts.refused;
            own.losses.extend(counts.losses);
        }
    }
}

impl Loss {
    /// What happened, in words, without what differs from one loss to the next.
    pub fn story(&self) -> String {
        match (&self.cause, self.bytes) {
            (Cause::Closed | Cause::Reset | Cause::Io(_) | Cause::Silence, 1..) => {
                format!("answer cut: {}", self.cause)
            }
            (cause, _) => cause.to_string(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::Closed => f.write_str("connection closed"),
            Self::Reset => f.write_str("connection reset"),
            Self::Io(why) => write!(f, "connection broken: {why}"),
            Self::Silence => f.write_str("no end of the answer in time"),
            Self::Status(code) => write!(f, "status {code}"),
            Self::WrongBody => f.write_str("wrong body"),
            Self::Garbage(why) => write!(f, "not an answer: {why}"),
            Self::StreamReset(why) => write!(f, "stream reset: {why}"),
            Self::RefusedForEver => f.write_str("refused each time it was sent"),
        }
    }
}
