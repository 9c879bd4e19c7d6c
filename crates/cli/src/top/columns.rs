//! Which columns there is room for. Nothing wraps.

use super::rows::{Column, Row};

/// Between two columns.
pub(super) const GAP: usize = 1;
/// How much of the past a sparkline shows at most, and at least.
const PAST: usize = 30;
const LEAST_PAST: usize = 8;

/// In which order columns get their room. Behind them come those of which nothing is known, in the same order.
const TURNS: [Column; 16] = [
    Column::Slot,
    Column::Pid,
    Column::State,
    Column::Cpu,
    Column::Memory,
    Column::Requests,
    Column::P99,
    Column::Generation,
    Column::Up,
    Column::Connections,
    Column::Utilization,
    Column::Errors,
    Column::Lag,
    Column::Restarts,
    Column::Queue,
    Column::Heap,
];

/// A column that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) column: Column,
    pub(super) width: usize,
    /// How much of the past it shows.
    pub(super) past: usize,
}

/// The columns for which there is room, from left to right.
pub(super) fn fitting(rows: &[Row<'_>], width: usize) -> Vec<Shown> {
    let is_known = |column: Column| column == Column::Slot || rows.iter().any(|row| row.knows(column));
    let (known, unknown): (Vec<_>, Vec<_>) = TURNS.into_iter().partition(|column| is_known(*column));
    let mut left = width + GAP;
    let mut shown = Vec::new();
    let mut add = |column: Column, left: &mut usize| {
        let needs = least(column) + GAP;
        // One that does not fit does not keep out a narrower one.
        if needs <= *left {
            *left -= needs;
            shown.push(Shown { column, width: least(column), past: 0 });
        }
    };
    for column in known {
        add(column, &mut left);
    }
    let says = is_known(Column::Says);
    if says {
        add(Column::Says, &mut left);
    }
    for column in unknown {
        add(column, &mut left);
    }
    let past = if is_known(Column::Utilization) { past(left, says) } else { 0 };
    left -= past + usize::from(past > 0);
    if !says {
        add(Column::Says, &mut left);
    }
    for it in &mut shown {
        if it.column == Column::Utilization && past > 0 {
            (it.past, it.width) = (past, it.width + 1 + past);
        }
        if it.column == Column::Says {
            it.width += left;
        }
    }
    shown.sort_by_key(|it| Column::ALL.iter().position(|column| *column == it.column));
    shown
}

/// How much of the past there is room for, beside a space. What workers say is worth more.
fn past(left: usize, says: bool) -> usize {
    let most = if says { LEAST_PAST } else { PAST };
    if left > LEAST_PAST { (left - 1).min(most) } else { 0 }
}

/// The least width of a column.
fn least(column: Column) -> usize {
    match column {
        Column::Slot | Column::Generation | Column::Restarts | Column::Utilization | Column::Errors => 4,
        Column::Cpu
        | Column::Memory
        | Column::Heap
        | Column::Lag
        | Column::Requests
        | Column::P99
        | Column::Queue => 5,
        Column::Up | Column::Connections => 6,
        Column::Pid => 7,
        Column::State => 11,
        Column::Says => 14,
    }
}
