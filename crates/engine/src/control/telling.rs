//! What a worker has written, as a client is told it.

use humantime::format_rfc3339_millis;

use super::protocol::{LogLine, Reply};
use crate::process::ring::Piece;

/// About how much of what workers write is written by one call, in bytes. Then others have their turn: short lines are many.
const WRITE: usize = 8 << 10;

/// A piece that a client is being told, line by line.
#[derive(Clone, Debug)]
pub(super) struct Telling {
    piece: Piece,
    /// How much of it was told.
    told: usize,
}

impl Telling {
    pub(super) fn of(piece: Piece) -> Self {
        Self { piece, told: 0 }
    }

    /// The next lines as replies, about as much as is written by one call. Nothing when all is told.
    pub(super) fn next(&mut self) -> Vec<u8> {
        let (mut replies, time) = (Vec::new(), format_rfc3339_millis(self.piece.time).to_string());
        let rest = self.piece.lines.get(self.told..).unwrap_or_default();
        let mut continued = self.told == 0 && self.piece.continues;
        for line in rest.split_inclusive(|&byte| byte == b'\n') {
            let line = (log_line(&self.piece, &time, line, std::mem::take(&mut continued)), line.len());
            self.told += line.1;
            replies.extend(Reply::Line(line.0).encode().unwrap_or_default());
            if replies.len() >= WRITE {
                break;
            }
        }
        replies
    }

    /// All that is left of it, as replies.
    pub(super) fn rest(&self) -> Vec<u8> {
        let mut telling = self.clone();
        std::iter::from_fn(|| Some(telling.next()).filter(|replies| !replies.is_empty())).flatten().collect()
    }
}

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
