//! The last words of a worker: what it wrote to its stderr last, kept for verdicts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::process::exception::Exception;
use crate::process::in_use;
use crate::socket::holder::Wanted;

/// How many of the last bytes of a worker's stderr are kept.
const TAIL_BYTES: usize = 16 * 1024;
/// How many lines of these a verdict shows.
const TAIL_LINES: usize = 20;

/// The last bytes that a worker wrote to its stderr.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(TAIL_BYTES);
        kept.drain(..excess);
    }

    /// What is kept.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    fn text(&self) -> String {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }

    /// The last exception among what is kept. It may stand far above the last lines.
    pub(crate) fn exception(&self) -> Option<Exception> {
        Exception::last_in(&self.text())
    }

    /// The last line that says of an address that it is in use, one that names it first.
    pub(crate) fn address_in_use(&self) -> Option<String> {
        in_use::line_in(&self.text(), |line| Wanted::in_words(line).is_some())
    }

    /// The last lines, oldest first, without empty ones at either end.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = self.text();
        let lines: Vec<&str> = text.trim_matches('\n').lines().map(str::trim_end).collect();
        let skipped = lines.len().saturating_sub(TAIL_LINES);
        lines.into_iter().skip(skipped).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_end() {
        let tail = Tail::default();
        for number in 0..100_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        let lines = tail.lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("line 99999"));
    }

    #[test]
    fn an_exception_is_found_above_the_last_lines() {
        let tail = Tail::default();
        tail.push(b"Error: no database\n    at boot (/srv/server.js:7:5) {\n");
        for number in 0..100 {
            tail.push(format!("  field{number}: 'value',\n").as_bytes());
        }
        assert!(!tail.lines().concat().contains("no database"));
        let exception = tail.exception().map(|exception| exception.to_string());
        assert_eq!(exception.as_deref(), Some("Error: no database (at /srv/server.js:7:5)"));
    }

    #[test]
    fn a_tail_without_words_is_empty() {
        assert!(Tail::default().lines().is_empty());
        assert_eq!(Tail::default().exception(), None);
    }
}
