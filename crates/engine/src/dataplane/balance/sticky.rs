//! Balance `sticky` where the master accepts: whose a connection is, and the way to that client's worker.
//!
//! The client is known by its address or by the first bytes of the connection (`peeks`). Then the connection waits in the
//! pending queue of the worker in its client's slot until that worker has room, so that a busy worker delays no other
//! worker's clients. A connection whose client cannot be known goes to any worker.

use std::collections::BTreeMap;
use std::rc::Rc;

use recluster_core::WorkerId;

use crate::config::balance::StickyBy;
use crate::dataplane::balance::eligible::by_slot;
use crate::dataplane::client_hash::Table;
use crate::dataplane::connection::{Connection, Owner};
use crate::dataplane::handover::{BATCH, SEND_PAUSE, next_connection, send};
use crate::dataplane::listener::{Listener, Mode};
use crate::dataplane::messages::pending_limit;
use crate::dataplane::peeks::Peeks;
use crate::dataplane::reactor::{Reactor, Timer};
use crate::dataplane::reports::Reports;
use crate::dataplane::worker::Workers;

/// One listener's connections being sorted, and all that this touches.
struct Sorting<'a> {
    listener: &'a mut Listener,
    by: Rc<StickyBy>,
    /// The worker of each slot.
    by_slot: BTreeMap<u32, WorkerId>,
    workers: &'a mut Workers,
    peeks: &'a mut Peeks,
    is_stopping: bool,
    reactor: &'a mut Reactor,
    reports: &'a mut Reports,
}

/// Sends what a listener has to the workers of the clients. What may go to any worker stays in `waiting`.
pub(in crate::dataplane) fn sort(
    listener: &mut Listener,
    workers: &mut Workers,
    peeks: &mut Peeks,
    is_stopping: bool,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    let Some(by) = listener.sticky_by.clone() else { return };
    let by_slot = by_slot(listener, workers, is_stopping);
    let mut sorting = Sorting { listener, by, by_slot, workers, peeks, is_stopping, reactor, reports };
    sorting.follow_slots();
    if !sorting.by_slot.is_empty() {
        sorting.sort_waiting();
        sorting.sort_arriving();
    }
    sorting.send_all_pending();
}

impl Sorting<'_> {
    /// Has the table and the pending queues follow the slots: what waits for a worker that has lost its slot is waiting again.
    fn follow_slots(&mut self) {
        let Self { listener, by_slot, reports, .. } = self;
        if !listener.table.slots().iter().eq(by_slot.keys()) {
            listener.table = Table::new(by_slot.keys().copied().collect());
        }
        let mut left = std::mem::take(&mut listener.pending);
        for worker in by_slot.values() {
            listener.pending.extend(left.remove_entry(worker));
        }
        for connection in left.into_values().flatten() {
            reports.tally.requeued += 1;
            listener.waiting.push_back(connection);
        }
    }

    fn sort_waiting(&mut self) {
        for connection in std::mem::take(&mut self.listener.waiting) {
            self.sort_one(connection);
        }
    }

    /// Accepts, unless there are connections already for which no worker has room.
    fn sort_arriving(&mut self) {
        for _ in 0..BATCH {
            let Listener { mode, acceptable, paused_until, waiting, .. } = &*self.listener;
            let accepts = *mode == Mode::RoundRobin && *acceptable && paused_until.is_none();
            if !accepts || !waiting.is_empty() {
                return;
            }
            let Some(connection) = next_connection(self.listener, self.reactor) else { return };
            self.sort_one(connection);
        }
        self.reactor.set_timer(self.reactor.now, Timer::Listener(self.listener.id));
    }

    fn sort_one(&mut self, mut connection: Connection) {
        if connection.owner == Owner::Unknown {
            match self.peeks.owner_of(&connection, &self.by, self.reports) {
                Some(owner) => connection.owner = owner,
                // At a stop there is no time to wait for it.
                None if self.is_stopping => connection.owner = connection.owner_by_address(),
                None => {
                    let by = Rc::clone(&self.by);
                    return self.peeks.wait_for(connection, self.listener.id, by, self.reactor);
                }
            }
        }
        let slot = match connection.owner {
            Owner::Client(client) if connection.refused_by.is_empty() => self.listener.table.slot_of(client),
            Owner::Client(_) | Owner::Anybody | Owner::Unknown => None,
        };
        let Some(&worker) = slot.and_then(|slot| self.by_slot.get(&slot)) else {
            return self.listener.waiting.push_back(connection);
        };
        let most = pending_limit(self.by_slot.len());
        if self.listener.pending.get(&worker).is_some_and(|pending| pending.len() >= most) {
            self.send_pending(worker);
        }
        let pending = self.listener.pending.entry(worker).or_default();
        if pending.len() < most {
            pending.push_back(connection);
        } else {
            self.listener.waiting.push_back(connection);
        }
    }

    fn send_all_pending(&mut self) {
        for worker in std::mem::take(&mut self.by_slot).into_values() {
            self.send_pending(worker);
        }
    }

    /// Sends what is pending for a worker, while it has room.
    fn send_pending(&mut self, worker: WorkerId) {
        let closes = self.by.is_request();
        let Listener { id, targets, pending, .. } = &mut *self.listener;
        let Some(target) = targets.iter().find(|target| target.worker == worker) else { return };
        let (Some(worker), Some(pending)) = (self.workers.get_mut(&worker), pending.get_mut(&worker)) else {
            return;
        };
        while worker.has_room() {
            let Some(connection) = pending.pop_front() else { return };
            if let Err(connection) = send(connection, *id, worker, &target.key, closes, self.reactor.now) {
                pending.push_front(connection);
                return worker.pause(SEND_PAUSE, self.reactor);
            }
        }
    }
}
