//! What the person at the keyboard looks at, and what a key does. It knows nothing of terminals.

use std::fmt;
use std::time::{Duration, Instant};

use super::rows::Column;

/// For how long an outcome is shown.
const NOTE: Duration = Duration::from_secs(60);

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    /// ^C.
    Interrupt,
    /// ^Z.
    Suspend,
    /// ^L.
    Redraw,
    Other,
}

/// What is asked of the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Reload,
    /// Replace the worker with this process.
    Replace {
        slot: u32,
        pid: u32,
    },
    Scale(i32),
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reload => f.write_str("reload"),
            Self::Replace { slot, pid } => write!(f, "replace the worker of slot {slot} (pid {pid})"),
            Self::Scale(by) => write!(f, "change the number of workers by {by:+}"),
        }
    }
}

/// What follows a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// The screen changes, or nothing does.
    Nothing,
    Ask(Wish),
    Redraw,
    Suspend,
    Quit,
}

/// What is on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Table,
    /// The worker of a slot.
    Detail,
    /// What the workers of a slot have written.
    Lines,
    Help,
    /// Whether this is really wanted.
    Question(Wish),
}

/// How something ended that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) is_good: bool,
    pub(super) words: String,
    pub(super) at: Instant,
}

/// A slot as it stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) slot: u32,
    pub(super) pid: Option<u32>,
}

/// What the person at the keyboard has chosen.
#[derive(Debug)]
pub(super) struct Ui {
    pub(super) page: Page,
    pub(super) sort: Column,
    pub(super) reversed: bool,
    /// The slot that is chosen, if one is.
    pub(super) chosen: Option<u32>,
    note: Option<Note>,
}

impl Default for Ui {
    fn default() -> Self {
        Self { page: Page::Table, sort: Column::Slot, reversed: false, chosen: None, note: None }
    }
}

/// How far a page goes.
const PAGE: usize = 10;

impl Ui {
    /// A key was pressed. `entries` are the rows in their order, and `sorts` the columns that have numbers.
    pub(super) fn press(&mut self, key: Key, entries: &[Entry], sorts: &[Column], now: Instant) -> Does {
        match (key, self.page) {
            (Key::Interrupt, _) => Does::Quit,
            (Key::Suspend, _) => Does::Suspend,
            (Key::Redraw, _) => Does::Redraw,
            (key, Page::Question(wish)) => {
                self.page = Page::Table;
                if matches!(key, Key::Char('y' | 'Y')) { Does::Ask(wish) } else { Does::Nothing }
            }
            (Key::Char('q'), _) => Does::Quit,
            (Key::Escape, _)
            | (Key::Enter, Page::Help | Page::Detail | Page::Lines)
            | (Key::Char('?'), Page::Help)
            | (Key::Char('l'), Page::Lines) => {
                self.page = Page::Table;
                Does::Nothing
            }
            (_, Page::Help) => Does::Nothing,
            (key, Page::Table | Page::Detail | Page::Lines) => self.command(key, entries, sorts, now),
        }
    }

    fn command(&mut self, key: Key, entries: &[Entry], sorts: &[Column], now: Instant) -> Does {
        let last = entries.len().saturating_sub(1);
        let at = entries.iter().position(|entry| Some(entry.slot) == self.chosen);
        match key {
            Key::Char('?' | 'h') => self.page = Page::Help,
            Key::Enter if !entries.is_empty() => {
                self.choose(entries, at.unwrap_or(0));
                self.page = Page::Detail;
            }
            Key::Char('l') if !entries.is_empty() => {
                self.choose(entries, at.unwrap_or(0));
                self.page = Page::Lines;
            }
            Key::Down => self.choose(entries, at.map_or(0, |at| (at + 1).min(last))),
            Key::Up => self.choose(entries, at.map_or(0, |at| at.saturating_sub(1))),
            Key::PageDown => self.choose(entries, at.map_or(0, |at| (at + PAGE).min(last))),
            Key::PageUp => self.choose(entries, at.map_or(0, |at| at.saturating_sub(PAGE))),
            Key::Home => self.choose(entries, 0),
            Key::End => self.choose(entries, last),
            Key::Char('s') => self.sort_by_the_next(sorts),
            Key::Char('S') => self.reversed = !self.reversed,
            Key::Char('r') => return Does::Ask(Wish::Reload),
            Key::Char('+') => return Does::Ask(Wish::Scale(1)),
            Key::Char('-') => return Does::Ask(Wish::Scale(-1)),
            Key::Char('k') => self.ask_to_replace(at.and_then(|at| entries.get(at)), now),
            Key::Char(_)
            | Key::Enter
            | Key::Escape
            | Key::Interrupt
            | Key::Suspend
            | Key::Redraw
            | Key::Other => {}
        }
        Does::Nothing
    }

    fn choose(&mut self, entries: &[Entry], at: usize) {
        self.chosen = entries.get(at).map(|entry| entry.slot);
    }

    fn sort_by_the_next(&mut self, sorts: &[Column]) {
        let at = sorts.iter().position(|column| *column == self.sort);
        let next = at.and_then(|at| sorts.get(at + 1)).or(sorts.first());
        (self.sort, self.reversed) = (next.copied().unwrap_or(Column::Slot), false);
    }

    fn ask_to_replace(&mut self, entry: Option<&Entry>, now: Instant) {
        match entry {
            Some(Entry { slot, pid: Some(pid) }) => {
                self.page = Page::Question(Wish::Replace { slot: *slot, pid: *pid });
            }
            Some(Entry { slot, pid: None }) => self.say(false, format!("slot {slot} has no worker"), now),
            None => self.say(false, "choose a worker first, with the arrow keys".to_owned(), now),
        }
    }

    /// The slot whose lines are looked at, if any are.
    pub(super) fn looks_at_lines_of(&self) -> Option<u32> {
        self.chosen.filter(|_| self.page == Page::Lines)
    }

    /// Shows how something ended.
    pub(super) fn say(&mut self, is_good: bool, words: String, now: Instant) {
        self.note = Some(Note { is_good, words, at: now });
    }

    /// How the last thing ended that was asked for, if that is not long ago.
    pub(super) fn note(&self, now: Instant) -> Option<&Note> {
        self.note.as_ref().filter(|note| now.saturating_duration_since(note.at) < NOTE)
    }
}
