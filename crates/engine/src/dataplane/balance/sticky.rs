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
    let mut by_slot = by_slot(listener, workers, is_stopping);
    // At a stop, what waits for a worker that takes nothing goes to others while there are some.
    by_slot.retain(|_, worker| !workers.get(worker).is_some_and(|worker| worker.is_stuck(reactor.now)));
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

    /// Accepts, unless there are connections already for which no worker has room, or of which some are about to come back
    /// because too many clients are still to be known.
    fn sort_arriving(&mut self) {
        for _ in 0..BATCH {
            let Listener { mode, acceptable, paused_until, waiting, .. } = &*self.listener;
            let accepts = *mode == Mode::RoundRobin && *acceptable && paused_until.is_none();
            if !accepts || !waiting.is_empty() || self.peeks.has_ended() {
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{IpAddr, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::config::balance::Balance;
    use crate::dataplane::client_hash::Client;
    use crate::dataplane::event_loop::note_peek;
    use crate::dataplane::fixtures::{FarEnd, Harness, connection, id, just_before};
    use crate::dataplane::messages::{Command, Standing};
    use crate::dataplane::reactor::{ListenerId, Token};
    use crate::dataplane::worker::{InFlight, TAKE_WAIT};
    use recluster_wire::node::FromWorker;

    fn by_cookie() -> Balance {
        Balance::Sticky(StickyBy::Cookie("sid".to_owned()))
    }

    /// Two workers that serve on a listener, in slots 0 and 1.
    fn two_workers() -> (Harness, [FarEnd; 2], ListenerId) {
        let mut harness = Harness::new(by_cookie());
        let mut ends = [harness.serving(1, 0), harness.serving(2, 1)];
        let listener = harness.listen(1, &mut ends[0]);
        harness.listen(2, &mut ends[1]);
        harness.turn();
        (harness, ends, listener)
    }

    /// A session whose slot this is, of two.
    fn session_of(slot: u32) -> String {
        let table = Table::new(vec![0, 1]);
        let mut names = (0..).map(|number: u32| format!("s{number}"));
        names.find(|name| table.slot_of(Client::named(name.as_bytes())) == Some(slot)).unwrap()
    }

    fn request(session: &str) -> String {
        format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: sid={session}\r\n\r\n")
    }

    /// A client of this slot connects and has said all.
    fn client_of(slot: u32, harness: &mut Harness, listener: ListenerId) -> TcpStream {
        let mut client = harness.connect(listener);
        client.write_all(request(&session_of(slot)).as_bytes()).unwrap();
        client
    }

    /// A connection of this slot's client that waits already.
    fn waiting_of(slot: u32) -> Connection {
        Connection { owner: Owner::Client(Client::named(session_of(slot).as_bytes())), ..connection().0 }
    }

    fn fill(harness: &mut Harness, worker: u64, listener: ListenerId) {
        for number in 0..8 {
            let sent = InFlight { listener, connection: connection().0 };
            harness.worker(worker).in_flight.insert(1000 + number, sent);
        }
    }

    fn sort_now(harness: &mut Harness, listener: ListenerId) {
        harness.state.reactor.mark(listener);
        harness.turn();
    }

    #[test]
    fn a_client_reaches_the_worker_of_its_slot() {
        let (mut harness, mut ends, listener) = two_workers();
        let _clients: Vec<_> = [0, 1, 1].map(|slot| client_of(slot, &mut harness, listener)).into();
        harness.turn();
        assert_eq!(ends.each_mut().map(|end| end.connections().len()), [1, 2]);
    }

    #[test]
    fn of_two_workers_in_a_slot_the_newest_gets_its_clients() {
        let (mut harness, mut ends, listener) = two_workers();
        let mut newer = harness.serving(3, 0);
        harness.listen(3, &mut newer);
        let _client = client_of(0, &mut harness, listener);
        harness.turn();
        assert_eq!((ends[0].connections().len(), newer.connections().len()), (0, 1));
    }

    #[test]
    fn a_busy_worker_delays_only_its_own_clients() {
        let (mut harness, mut ends, listener) = two_workers();
        fill(&mut harness, 1, listener);
        let _clients: Vec<_> = [0, 0, 1].map(|slot| client_of(slot, &mut harness, listener)).into();
        harness.turn();
        assert_eq!(harness.listener(listener).pending[&id(1)].len(), 2);
        assert_eq!(ends[1].connections().len(), 1);
        harness.worker(1).in_flight.clear();
        sort_now(&mut harness, listener);
        assert_eq!(ends[0].connections().len(), 2);
    }

    #[test]
    fn what_does_not_fit_the_pending_queue_goes_to_any_worker() {
        let (mut harness, mut ends, listener) = two_workers();
        fill(&mut harness, 1, listener);
        let most = pending_limit(2);
        let full = (0..most).map(|_| waiting_of(0)).collect();
        harness.listener(listener).pending.insert(id(1), full);
        harness.listener(listener).waiting.push_back(waiting_of(0));
        sort_now(&mut harness, listener);
        assert_eq!(harness.listener(listener).pending[&id(1)].len(), most);
        assert_eq!(ends[1].connections().len(), 1);
    }

    #[test]
    fn what_is_pending_for_a_worker_that_has_lost_its_slot_goes_to_the_new_one() {
        let (mut harness, _ends, listener) = two_workers();
        fill(&mut harness, 1, listener);
        harness.listener(listener).waiting.push_back(waiting_of(0));
        sort_now(&mut harness, listener);
        assert_eq!(harness.listener(listener).pending[&id(1)].len(), 1);
        let mut newer = harness.serving(3, 0);
        harness.listen(3, &mut newer);
        harness.set_standing(1, None);
        harness.turn();
        assert_eq!(newer.connections().len(), 1);
        assert_eq!(harness.state.reports.tally.requeued, 1);
        assert!(!harness.listener(listener).pending.contains_key(&id(1)));
    }

    #[test]
    fn the_clients_of_an_empty_slot_are_lent_to_the_others() {
        let (mut harness, mut ends, listener) = two_workers();
        harness.set_standing(1, None);
        let _client = client_of(0, &mut harness, listener);
        harness.turn();
        assert_eq!(harness.listener(listener).table.slots(), [1]);
        assert_eq!(ends[1].connections().len(), 1);
        harness.set_standing(1, Some(Standing::Serving));
        harness.turn();
        assert_eq!(harness.listener(listener).table.slots(), [0, 1]);
    }

    #[test]
    fn where_no_worker_serves_what_comes_waits() {
        let (mut harness, mut ends, listener) = two_workers();
        harness.set_standing(1, None);
        harness.set_standing(2, None);
        let _client = client_of(0, &mut harness, listener);
        harness.turn();
        assert!(ends.iter_mut().all(|end| end.connections().is_empty()));
        harness.set_standing(2, Some(Standing::Serving));
        harness.turn();
        assert_eq!(ends[1].connections().len(), 1);
    }

    #[test]
    fn one_that_its_worker_refused_goes_to_any_other() {
        let (mut harness, mut ends, listener) = two_workers();
        let _client = client_of(0, &mut harness, listener);
        harness.turn();
        let seq = ends[0].connections()[0];
        harness.hear(1, FromWorker::HandleAck);
        harness.hear(1, FromWorker::Ack { ack: seq, accepted: false });
        harness.turn();
        assert_eq!(ends[1].connections().len(), 1);
    }

    #[test]
    fn a_request_that_comes_in_parts_is_waited_for() {
        let (mut harness, mut ends, listener) = two_workers();
        let request = request(&session_of(1));
        let mut client = harness.connect(listener);
        client.write_all(&request.as_bytes()[..20]).unwrap();
        harness.turn();
        assert!(ends.iter_mut().all(|end| end.connections().is_empty()));
        note_peek(&mut harness.state, 0);
        client.write_all(&request.as_bytes()[20..]).unwrap();
        assert!(harness.state.reactor.wait().contains(&Token::Peek(0)));
        note_peek(&mut harness.state, 0);
        harness.turn();
        assert_eq!(ends[1].connections().len(), 1);
    }

    #[test]
    fn a_flood_of_silent_clients_waits_in_the_kernel() {
        let (mut harness, _ends, listener) = two_workers();
        fill(&mut harness, 1, listener);
        fill(&mut harness, 2, listener);
        let _clients: Vec<_> = (0..20).map(|_| harness.connect(listener)).collect();
        harness.turn();
        // Two may be awaited: the third one takes the place of the first, and that is where accepting stops.
        let listener = harness.listener(listener);
        assert_eq!(
            listener.waiting.len()
                + listener.pending.values().map(std::collections::VecDeque::len).sum::<usize>(),
            1
        );
    }

    #[test]
    fn a_silent_client_is_known_by_its_address_in_the_end() {
        let (mut harness, mut ends, listener) = two_workers();
        let _client = harness.connect(listener);
        harness.turn();
        let timeout = harness.state.config.peek.timeout;
        harness.pass(just_before(timeout));
        assert!(ends.iter_mut().all(|end| end.connections().is_empty()));
        harness.pass(Duration::from_millis(1));
        let address = Client::at(IpAddr::from([127, 0, 0, 1]));
        let slot = Table::new(vec![0, 1]).slot_of(address).unwrap();
        assert_eq!(ends[slot as usize].connections().len(), 1);
    }

    #[test]
    fn beyond_the_limit_the_oldest_is_waited_for_no_longer() {
        let (mut harness, mut ends, listener) = two_workers();
        // The harness has room for two.
        let _clients: Vec<_> = (0..3).map(|_| harness.connect(listener)).collect();
        harness.turn();
        harness.turn();
        assert_eq!(ends.iter_mut().map(|end| end.connections().len()).sum::<usize>(), 1);
    }

    #[test]
    fn at_a_stop_no_client_is_waited_for() {
        let (mut harness, mut ends, listener) = two_workers();
        let _silent = harness.connect(listener);
        harness.turn();
        let _later = harness.connect(listener);
        harness.close_listeners();
        harness.turn();
        assert_eq!(ends.iter_mut().map(|end| end.connections().len()).sum::<usize>(), 2);
    }

    #[test]
    fn at_a_stop_what_waits_for_a_worker_that_hangs_goes_to_another() {
        let (mut harness, mut ends, listener) = two_workers();
        fill(&mut harness, 1, listener);
        let _client = client_of(0, &mut harness, listener);
        harness.close_listeners();
        let until = harness.state.reactor.now + Duration::from_secs(60);
        for worker in [1, 2] {
            harness.obey(Command::Drain { worker: id(worker), until, grace: None });
        }
        harness.pass(just_before(TAKE_WAIT));
        assert_eq!(harness.listener(listener).pending[&id(1)].len(), 1);
        harness.pass(Duration::from_millis(1));
        assert_eq!(ends[1].connections().len(), 1);
    }

    #[test]
    fn what_is_encrypted_is_reported_once() {
        let (mut harness, mut ends, listener) = two_workers();
        harness.facts();
        for _ in 0..2 {
            let mut client = harness.connect(listener);
            client.write_all(&[0x16, 0x03, 0x01]).unwrap();
            harness.turn();
        }
        assert_eq!(harness.fact_names(), ["caveat"]);
        assert_eq!(ends.iter_mut().map(|end| end.connections().len()).sum::<usize>(), 2);
    }

    #[test]
    fn by_a_request_the_connection_is_closed_behind_its_response() {
        let (mut harness, mut ends, listener) = two_workers();
        let _client = client_of(1, &mut harness, listener);
        harness.turn();
        let lines = ends[1].lines();
        assert!(lines.iter().any(|line| line.contains("newconn") && line.contains("close")), "{lines:?}");
    }

    #[test]
    fn what_a_closed_listener_waited_for_is_dropped() {
        let (mut harness, _ends, listener) = two_workers();
        let _client = harness.connect(listener);
        harness.turn();
        harness.state.peeks.forget(listener);
        note_peek(&mut harness.state, 0);
        harness.pass(Duration::from_secs(60));
        assert!(harness.listener(listener).waiting.is_empty());
    }
}
