//! Which kinds of clients there are, and how many of each a load has. Std only.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Small requests back to back on one connection.
    KeepAlive,
    /// The same with pauses between them, as people make.
    Pausing,
    /// A connection for each request, which has a body of 16 KiB.
    New,
    /// A fresh connection that is held for a while before its first request.
    Held,
    /// Responses that are streamed for a second.
    Slow,
    /// Bursts of four requests, written at once.
    Pipelined,
    /// Bodies of 256 KiB that take half a second to send.
    Upload,
    /// HTTP/2 with several streams at once.
    Http2,
    /// Messages on a WebSocket that are echoed.
    WebSocket,
}

/// How many clients there are of each kind.
///
/// ```
/// use recluster_loss::{Kind, Mix};
///
/// let mix: Mix = "keep-alive=2,new=1".parse().unwrap();
/// assert_eq!(mix.count(Kind::KeepAlive), 2);
/// assert_eq!(mix.count(Kind::Slow), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix(BTreeMap<Kind, usize>);

/// A mix that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMix(String);

/// More clients of one kind are a mistake: one thread could not keep them busy.
const MOST: usize = 1000;

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::KeepAlive,
        Self::Pausing,
        Self::New,
        Self::Held,
        Self::Slow,
        Self::Pipelined,
        Self::Upload,
        Self::Http2,
        Self::WebSocket,
    ];

    /// Its name in options and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive",
            Self::Pausing => "pausing",
            Self::New => "new",
            Self::Held => "held",
            Self::Slow => "slow",
            Self::Pipelined => "pipelined",
            Self::Upload => "upload",
            Self::Http2 => "http2",
            Self::WebSocket => "websocket",
        }
    }
}

impl Mix {
    /// A load without clients.
    pub fn nobody() -> Self {
        Self(BTreeMap::new())
    }

    /// The same with so many clients of a kind.
    #[must_use]
    pub fn with(mut self, kind: Kind, count: usize) -> Self {
        self.0.insert(kind, count);
        self
    }

    /// How many clients there are of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.0.get(&kind).copied().unwrap_or(0)
    }
}

impl Default for Mix {
    fn default() -> Self {
        let counts = [16, 8, 8, 4, 8, 2, 4, 4, 4];
        Self(Kind::ALL.into_iter().zip(counts).collect())
    }
}

impl FromStr for Mix {
    type Err = BadMix;

    fn from_str(text: &str) -> Result<Self, BadMix> {
        let mut mix = Self::nobody();
        for part in text.split(',') {
            let (name, count) =
                part.split_once('=').ok_or_else(|| BadMix(format!("{part}: not KIND=COUNT")))?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
            let kind = kind.ok_or_else(|| BadMix(format!("no kind of client is called {name}")))?;
            let count = count.parse().ok().filter(|count| *count <= MOST);
            let count = count.ok_or_else(|| BadMix(format!("{part}: not a number up to {MOST}")))?;
            mix = mix.with(kind, count);
        }
        Ok(mix)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for BadMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadMix {}
