//! A row for each slot, its cells, and their order.

use std::cmp::Ordering;

use recluster::{NodeStatus, SlotStatus, Status, WorkerStatus};

use super::figures::{UNKNOWN, amount, delay, memory, percent, rate, span, sparkline};
use super::rates::{Pace, Rates};
use crate::paint::printable;

/// What a column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Slot,
    Pid,
    Generation,
    State,
    Up,
    Restarts,
    Cpu,
    Memory,
    Heap,
    Utilization,
    Lag,
    Connections,
    Requests,
    P99,
    Errors,
    Queue,
    Says,
}

impl Column {
    /// From left to right.
    pub(super) const ALL: [Self; 17] = [
        Self::Slot,
        Self::Pid,
        Self::Generation,
        Self::State,
        Self::Up,
        Self::Restarts,
        Self::Cpu,
        Self::Memory,
        Self::Heap,
        Self::Utilization,
        Self::Lag,
        Self::Connections,
        Self::Requests,
        Self::P99,
        Self::Errors,
        Self::Queue,
        Self::Says,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Slot => "SLOT",
            Self::Pid => "PID",
            Self::Generation => "GEN",
            Self::State => "STATE",
            Self::Up => "UP",
            Self::Restarts => "RST",
            Self::Cpu => "CPU",
            Self::Memory => "MEM",
            Self::Heap => "HEAP",
            Self::Utilization => "ELU",
            Self::Lag => "LAG",
            Self::Connections => "CONN",
            Self::Requests => "REQ/S",
            Self::P99 => "P99",
            Self::Errors => "5XX",
            Self::Queue => "QUEUE",
            Self::Says => "SAYS",
        }
    }
}

/// One slot, and the worker that stands for it: its active one, or the one that is to be.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) slot: &'a SlotStatus,
    pub(super) worker: Option<&'a WorkerStatus>,
    pub(super) pace: Option<&'a Pace>,
}

/// A row for each slot, in the order of their numbers.
pub(super) fn rows<'a>(status: &'a Status, rates: &'a Rates) -> Vec<Row<'a>> {
    let row = |slot: &'a SlotStatus| {
        let worker = standing(slot, status);
        Row { slot, worker, pace: worker.and_then(|worker| rates.of(worker.id)) }
    };
    status.slots.iter().map(row).collect()
}

/// Who has no row: those on their way out, and those that are to replace who has one.
pub(super) fn others(status: &Status) -> Vec<&WorkerStatus> {
    let standing: Vec<u64> =
        status.slots.iter().filter_map(|slot| standing(slot, status)).map(|worker| worker.id).collect();
    status.workers.iter().filter(|worker| !standing.contains(&worker.id)).collect()
}

fn standing<'a>(slot: &SlotStatus, status: &'a Status) -> Option<&'a WorkerStatus> {
    let mut own = status.workers.iter().filter(|worker| worker.slot == slot.slot);
    match slot.active {
        Some(active) => own.find(|worker| worker.id == active),
        None => own.rfind(|worker| worker.state == "starting"),
    }
}

/// Sorts the rows by a column: numbers from the greatest down, but for that of the slot. What is not known comes last.
pub(super) fn sort(rows: &mut [Row<'_>], by: Column, reversed: bool) {
    let ascends = (by == Column::Slot) != reversed;
    rows.sort_by(|one, other| {
        let order = match (one.number(by), other.number(by)) {
            (Some(one), Some(other)) if ascends => one.total_cmp(&other),
            (Some(one), Some(other)) => other.total_cmp(&one),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        order.then(one.slot.slot.cmp(&other.slot.slot))
    });
}

impl Row<'_> {
    fn node(&self) -> Option<&NodeStatus> {
        self.worker?.node.as_ref()
    }

    /// The state of the worker; a slot without one is vacant.
    pub(super) fn state(&self) -> &str {
        self.worker.map_or("vacant", WorkerStatus::state_now)
    }

    /// What rows are sorted by, if the column has numbers.
    #[expect(clippy::cast_precision_loss, reason = "it is for an order")]
    pub(super) fn number(&self, column: Column) -> Option<f64> {
        match column {
            Column::Slot => Some(self.slot.slot.into()),
            Column::Pid => self.worker?.pid.map(f64::from),
            Column::Generation => Some(self.worker?.generation as f64),
            Column::Up => Some(self.worker?.uptime_seconds),
            Column::Restarts => Some(self.slot.restarts as f64),
            Column::Cpu => self.pace?.cpu,
            Column::Memory => self.worker?.memory_bytes.map(|bytes| bytes as f64),
            Column::Heap => Some(self.node()?.heap_used_bytes as f64),
            Column::Utilization => Some(self.node()?.loop_utilization),
            Column::Lag => Some(self.node()?.loop_lag_seconds),
            Column::Connections => self.slot.connections.map(|count| count as f64),
            Column::Requests => self.pace?.requests,
            Column::P99 => self.worker?.http.as_ref()?.p99_seconds,
            Column::Errors => self.pace?.failed,
            Column::Queue => Some(self.slot.in_flight as f64),
            Column::State | Column::Says => None,
        }
    }

    /// Whether there is anything to show in a column. That nothing waits is not worth the room.
    pub(super) fn knows(&self, column: Column) -> bool {
        let cell = self.cell(column, 0);
        let is_idle = column == Column::Queue && self.slot.in_flight == 0;
        !cell.is_empty() && cell != UNKNOWN && !is_idle
    }

    /// The cell; `past` is how many of the last looks it may show.
    pub(super) fn cell(&self, column: Column, past: usize) -> String {
        let known = match column {
            Column::Slot => Some(self.slot.slot.to_string()),
            Column::Pid => self.worker.and_then(|worker| worker.pid).map(|pid| pid.to_string()),
            Column::Generation => self.worker.map(|worker| worker.generation.to_string()),
            Column::State => Some(self.state().to_owned()),
            Column::Up => self.worker.map(|worker| span(worker.uptime_seconds)),
            Column::Restarts => Some(amount(self.slot.restarts)),
            Column::Cpu => self.number(column).map(percent),
            Column::Memory => self.worker.and_then(|worker| worker.memory_bytes).map(memory),
            Column::Heap => self.node().map(|node| memory(node.heap_used_bytes)),
            Column::Utilization => self.utilization(past),
            Column::Lag => self.node().map(|node| delay(node.loop_lag_seconds)),
            Column::Connections => self.slot.connections.map(amount),
            Column::Requests => self.number(column).map(rate),
            Column::P99 => self.number(column).map(delay),
            Column::Errors => self.number(column).map(share),
            Column::Queue => Some(amount(self.slot.in_flight)),
            Column::Says => return self.worker.map(says).unwrap_or_default(),
        };
        known.unwrap_or_else(|| UNKNOWN.to_owned())
    }

    fn utilization(&self, past: usize) -> Option<String> {
        let now = percent(self.node()?.loop_utilization);
        if past == 0 {
            return Some(now);
        }
        let busy = self.pace.map(|pace| sparkline(pace.busy.iter().copied(), past));
        Some(format!("{now:>4} {}", busy.unwrap_or_default()))
    }
}

/// A share of requests; few are not none.
fn share(share: f64) -> String {
    if share > 0.0 && share < 0.005 { "<1%".to_owned() } else { percent(share) }
}

/// What a worker reports of itself: in its drain, its open connections and requests.
pub(super) fn says(worker: &WorkerStatus) -> String {
    let held = worker.held.as_ref().map(ToString::to_string);
    printable(&held.into_iter().chain(worker.status.clone()).collect::<Vec<_>>().join("; "))
}
