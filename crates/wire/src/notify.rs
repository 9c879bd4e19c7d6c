//! What a worker says by `sd_notify`: systemd's datagrams of lines `KEY=VALUE`.
//!
//! ```
//! use recluster_wire::notify::{self, Word};
//!
//! let words = notify::parse(b"READY=1\nSTATUS=serving\nMADE_UP=1\n")?;
//! assert_eq!(words, [Word::Ready, Word::Status("serving".to_owned())]);
//! assert_eq!(notify::datagram(&words), "READY=1\nSTATUS=serving\n");
//! # Ok::<(), notify::Refused>(())
//! ```

use std::fmt::{self, Write as _};
use std::time::Duration;

/// The longest datagram that is read, in bytes; systemd's own limit.
pub const MAX_DATAGRAM: usize = 4096;
/// The longest status text that is kept, in bytes.
pub const MAX_STATUS: usize = 512;

/// One assignment that means something to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The worker serves.
    Ready,
    /// What the worker does, as text. One line, no control characters, at most [`MAX_STATUS`] bytes; may be empty.
    Status(String),
    /// The worker stops and asks to be replaced.
    Stopping,
    /// The worker reads its configuration again; [`Ready`](Self::Ready) follows when that is done.
    Reloading,
    /// When the reloading began, on the monotonic clock.
    Monotonic(Duration),
    /// The worker is alive.
    WatchdogBeat,
    /// The worker asks to be treated as hung.
    WatchdogTrigger,
    /// The watchdog's timeout from now on.
    WatchdogTimeout(Duration),
    /// Keep the descriptors that came with this.
    FdStore,
    /// Forget those kept under the name that came with this.
    FdStoreRemove,
    /// Close the descriptor that came with this, once everything before it is dealt with.
    Barrier,
    /// The process to watch.
    MainPid(u32),
    /// Why the worker fails, as an errno.
    Errno(i32),
    /// How much longer than allowed the start or the stop takes.
    ExtendTimeout(Duration),
}

/// Why a datagram is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has more than [`MAX_DATAGRAM`] bytes; what was cut off is unknown.
    TooLong,
    /// It has a NUL before its end.
    Nul,
    /// A barrier with other assignments: a barrier has to come alone, behind all that it waits for.
    BarrierInCompany,
}

/// Reads a datagram. What is unknown, or a known key with a value that makes no sense, is skipped: those who speak this
/// protocol send words that only some managers know.
///
/// The caller reads with room for one byte more than [`MAX_DATAGRAM`], so that a longer one is recognised.
pub fn parse(datagram: &[u8]) -> Result<Vec<Word>, Refused> {
    if datagram.len() > MAX_DATAGRAM {
        return Err(Refused::TooLong);
    }
    // Some senders count the NUL that ends a string in C.
    let text = datagram.strip_suffix(b"\0").unwrap_or(datagram);
    if text.contains(&0) {
        return Err(Refused::Nul);
    }
    let lines = || text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let words: Vec<Word> = lines().filter_map(word).collect();
    if words.contains(&Word::Barrier) && lines().count() > 1 {
        return Err(Refused::BarrierInCompany);
    }
    Ok(words)
}

/// Writes a datagram. It may be longer than [`MAX_DATAGRAM`] only where there are many words.
pub fn datagram(words: &[Word]) -> String {
    words.iter().fold(String::new(), |mut text, word| {
        // A String takes every write.
        let _ = writeln!(text, "{word}");
        text
    })
}

fn word(line: &[u8]) -> Option<Word> {
    let (key, value) = std::str::from_utf8(line).ok()?.split_once('=')?;
    let switch = |word| (value == "1").then_some(word);
    match key {
        "READY" => switch(Word::Ready),
        "STATUS" => Some(Word::status(value)),
        "STOPPING" => switch(Word::Stopping),
        "RELOADING" => switch(Word::Reloading),
        "MONOTONIC_USEC" => micros(value).map(Word::Monotonic),
        "WATCHDOG" if value == "trigger" => Some(Word::WatchdogTrigger),
        "WATCHDOG" => switch(Word::WatchdogBeat),
        "WATCHDOG_USEC" => micros(value).map(Word::WatchdogTimeout),
        "FDSTORE" => switch(Word::FdStore),
        "FDSTOREREMOVE" => switch(Word::FdStoreRemove),
        "BARRIER" => switch(Word::Barrier),
        "MAINPID" => number(value).filter(|&pid| pid > 0).map(Word::MainPid),
        "ERRNO" => number(value).filter(|&errno| errno >= 0).map(Word::Errno),
        "EXTEND_TIMEOUT_USEC" => micros(value).map(Word::ExtendTimeout),
        _ => None,
    }
}

fn micros(value: &str) -> Option<Duration> {
    number(value).map(Duration::from_micros)
}

/// Digits alone: a sign would be taken by `parse`.
fn number<N: std::str::FromStr>(value: &str) -> Option<N> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten()
}

impl Word {
    /// A status of any text: cut at [`MAX_STATUS`], with a space for each control character, since it is shown on
    /// terminals.
    pub fn status(text: &str) -> Self {
        let mut kept = String::new();
        for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
            if kept.len() + character.len_utf8() > MAX_STATUS {
                break;
            }
            kept.push(character);
        }
        Self::Status(kept)
    }
}

/// The assignment, without a newline.
impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("READY=1"),
            Self::Status(text) => write!(f, "STATUS={text}"),
            Self::Stopping => f.write_str("STOPPING=1"),
            Self::Reloading => f.write_str("RELOADING=1"),
            Self::Monotonic(since) => write!(f, "MONOTONIC_USEC={}", since.as_micros()),
            Self::WatchdogBeat => f.write_str("WATCHDOG=1"),
            Self::WatchdogTrigger => f.write_str("WATCHDOG=trigger"),
            Self::WatchdogTimeout(patience) => write!(f, "WATCHDOG_USEC={}", patience.as_micros()),
            Self::FdStore => f.write_str("FDSTORE=1"),
            Self::FdStoreRemove => f.write_str("FDSTOREREMOVE=1"),
            Self::Barrier => f.write_str("BARRIER=1"),
            Self::MainPid(pid) => write!(f, "MAINPID={pid}"),
            Self::Errno(errno) => write!(f, "ERRNO={errno}"),
            Self::ExtendTimeout(more) => write!(f, "EXTEND_TIMEOUT_USEC={}", more.as_micros()),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "a notification is longer than {MAX_DATAGRAM} bytes"),
            Self::Nul => f.write_str("a notification has a NUL in it"),
            Self::BarrierInCompany => f.write_str("a barrier came with other words in its notification"),
        }
    }
}

impl std::error::Error for Refused {}
