//! What the workers of one slot have written last, as the master keeps it.

use std::collections::VecDeque;

use recluster::Stream;
use recluster::control::protocol::LogLine;

use crate::paint::printable_plain;

/// How many lines are kept.
pub(super) const LINES: usize = 500;
/// How much is kept of one, in characters. No screen shows more.
const LENGTH: usize = 2000;

/// What is told of it.
#[derive(Debug)]
pub(super) enum Told {
    /// What follows is all of it, from the beginning, of these streams.
    Begins(Vec<Stream>),
    Line(LogLine),
    /// So many lines came faster than they were read.
    Missed(u64),
    /// Nothing more is told, and why.
    Ends(String),
}

/// The lines of a slot.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) slot: u32,
    pub(super) lines: VecDeque<Line>,
    pub(super) source: Source,
}

/// What is known of where they come from.
#[derive(Debug)]
pub(super) enum Source {
    Asked,
    Tells(Vec<Stream>),
    Lost(String),
}

/// One of them.
#[derive(Debug)]
pub(super) struct Line {
    /// `12:01:03`, UTC.
    pub(super) time: String,
    pub(super) pid: Option<u32>,
    stream: Stream,
    pub(super) text: String,
    /// Its end has not come yet.
    is_open: bool,
    /// It is about the lines, and none of them.
    pub(super) is_note: bool,
}

impl Written {
    pub(super) fn of(slot: u32) -> Self {
        Self { slot, lines: VecDeque::new(), source: Source::Asked }
    }

    /// Something was told.
    pub(super) fn hear(&mut self, told: Told) {
        match told {
            Told::Begins(streams) => {
                self.lines.clear();
                self.source = Source::Tells(streams);
            }
            Told::Line(line) => self.add(&line),
            Told::Missed(lines) => {
                let text = format!("{lines} lines are missing here: they came faster than they were read");
                let (time, stream) = (String::new(), Stream::Stderr);
                self.push(Line { time, pid: None, stream, text, is_open: false, is_note: true });
            }
            Told::Ends(reason) => self.source = Source::Lost(reason),
        }
    }

    fn add(&mut self, line: &LogLine) {
        let LogLine { time, pid, stream, line: text, partial, continued, .. } = line;
        let text = printable_plain(text.as_bytes()).replace('\t', "    ");
        if let Some(last) = self.lines.back_mut()
            && *continued
            && last.is_open
            && (last.pid, last.stream) == (*pid, *stream)
        {
            last.text = short(std::mem::take(&mut last.text) + &text);
            last.is_open = *partial;
            return;
        }
        let time = time.get(11..19).unwrap_or_default().to_owned();
        let (pid, stream, text) = (*pid, *stream, short(text));
        self.push(Line { time, pid, stream, text, is_open: *partial, is_note: false });
    }

    fn push(&mut self, line: Line) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

fn short(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LENGTH) {
        text.truncate(end);
    }
    text
}
