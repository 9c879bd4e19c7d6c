//! All that a picture is made of.

use std::time::Instant;

use super::facts::Facts;
use super::rows::{Column, Row, rows, sort};
use super::theme::Theme;
use super::ui::{Entry, Ui};

/// What is known, what is chosen, and how it is to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    pub(super) facts: &'a Facts,
    pub(super) ui: &'a Ui,
    pub(super) theme: Theme,
    pub(super) now: Instant,
}

impl<'a> Scene<'a> {
    /// The rows in their order.
    pub(super) fn rows(&self) -> Vec<Row<'a>> {
        let Some(status) = &self.facts.status else { return Vec::new() };
        let mut rows = rows(status, &self.facts.rates);
        sort(&mut rows, self.ui.sort, self.ui.reversed);
        rows
    }
}

/// The rows as a key finds them.
pub(super) fn entries(rows: &[Row<'_>]) -> Vec<Entry> {
    let pid = |row: &Row<'_>| row.worker.and_then(|worker| worker.pid);
    rows.iter().map(|row| Entry { slot: row.slot.slot, pid: pid(row) }).collect()
}

/// The columns that rows may be sorted by: of which numbers are known.
pub(super) fn sorts(rows: &[Row<'_>]) -> Vec<Column> {
    let has_numbers = |column: &Column| rows.iter().any(|row| row.number(*column).is_some());
    Column::ALL.into_iter().filter(has_numbers).collect()
}
