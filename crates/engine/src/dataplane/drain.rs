//! How one worker is let go.
//!
//! ```text
//!              begin: `Drain` to the preload          step, when `disconnect_at` has come:
//!              step:  `disconnect` to the app         Node's `disconnect`
//!   None ────────────────────────────────► Taking ─────────────────────────► Disconnecting
//!   given connections                      given nothing new;                 closes its servers, then
//!                                          takes what is on its way           the channel
//! ```
//!
//! Node's `disconnect` closes the worker's servers, and comes late on purpose: connections on their way are taken first
//! (for at most [`TAKE_WAIT`]), and then it is held back for [`HOLD_BACK`]. A worker that accepts by itself gets new
//! connections until it hears it, so it hears it at once.
//!
//! At a stop, connections that the master took from the kernel's queues are still to be given to workers. Until they are,
//! and for half of the drain timeout at most, the worker is not told to disconnect, and neither is its application, which
//! may close its servers as soon as it hears of it.
//!
//! A worker that began its own disconnect (`leaving`) is sent none: a second one kills it.

use std::time::{Duration, Instant};

use recluster_wire::node::{IdleGrace, ToWorker};

use super::channel::ProtocolViolation;
use super::listener::{Listener, Listeners, Mode};
use super::reactor::{Reactor, Timer};
use super::worker::{Drain, TAKE_WAIT, Word, Worker};

/// How long Node's disconnect is held back. After a connection was sent, because Node 26 resets one that a disconnect follows
/// at once, although it was accepted; and after the message to the application, so that one that closes its servers itself
/// has done so before Node does.
const HOLD_BACK: Duration = Duration::from_millis(100);

/// How a worker is let go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// When the supervisor loses patience with it.
    pub(super) until: Instant,
    /// How long its preload is to spare idle connections, where it has one.
    pub(super) grace: Option<IdleGrace>,
    /// The application hears of it, by the message `{cmd: 'disconnect'}`.
    pub(super) tells_application: bool,
}

/// Begins a worker's drain, or changes the terms of the one that has begun.
pub(super) fn begin(
    worker: &mut Worker,
    terms: Terms,
    listeners: &Listeners,
    is_stopping: bool,
    reactor: &mut Reactor,
) -> Result<(), ProtocolViolation> {
    worker.mark_listeners(reactor);
    if worker.drain == Drain::None {
        let mut used = worker.servers.values().filter_map(|server| listeners.get(&server.listener));
        // At a stop nothing new begins on shared sockets either.
        let accepts_itself = !is_stopping && used.any(|listener| listener.mode == Mode::Shared);
        let held_back = if accepts_itself { Duration::ZERO } else { HOLD_BACK };
        // At a stop nobody else is left to answer what has just come, and an application may refuse it once it closes.
        let spares_last = is_stopping || terms.grace.is_none();
        worker.drain =
            Drain::Taking { since: reactor.now, until: terms.until, held_back, spares_last, told_at: None };
        // From then on it may be stuck.
        reactor.set_timer_in(TAKE_WAIT, Timer::Worker(worker.id));
    } else if let Drain::Taking { until, .. } = &mut worker.drain {
        *until = terms.until.min(*until);
    }
    // A worker that drains already may be given less time at a stop.
    if let Some(grace) = terms.grace {
        worker.channel.send(&ToWorker::Drain { grace })?;
    }
    if terms.tells_application && worker.said.drain == Word::Unwanted {
        worker.said.drain = Word::Due;
    }
    if worker.drain == Drain::Disconnecting { tell_application(worker) } else { Ok(()) }
}

/// Takes the next step of a worker's drain, or sets a timer for it.
pub(super) fn step(
    worker: &mut Worker,
    has_leftovers: bool,
    reactor: &mut Reactor,
) -> Result<(), ProtocolViolation> {
    if let Some(at) = tell_at(worker, has_leftovers) {
        if at > reactor.now {
            reactor.set_timer(at, Timer::Worker(worker.id));
            return Ok(());
        }
        tell_application(worker)?;
        if let Drain::Taking { told_at, .. } = &mut worker.drain {
            *told_at = Some(reactor.now);
        }
    }
    match disconnect_at(worker, has_leftovers) {
        Some(at) if at <= reactor.now => disconnect(worker),
        Some(at) => {
            reactor.set_timer(at, Timer::Worker(worker.id));
            Ok(())
        }
        None => Ok(()),
    }
}

/// Whether there is, or may soon be, a connection for the worker or one of its like that the master has taken from the
/// kernel's queue at a stop.
pub(super) fn has_leftovers(worker: &Worker, listeners: &Listeners, is_stopping: bool) -> bool {
    let mut used = worker.servers.values().filter_map(|server| listeners.get(&server.listener));
    is_stopping && worker.takes_leftovers() && used.any(Listener::has_leftovers)
}

/// When the application is due to hear that it is let go, if it is still to hear of it.
///
/// What it closes by itself then, Node without the preload cuts off where nothing has arrived yet, and at a stop many frameworks
/// answer it with 503: so the last connection has its moment first.
fn tell_at(worker: &Worker, has_leftovers: bool) -> Option<Instant> {
    let Drain::Taking { since, until, spares_last, told_at: None, .. } = worker.drain else { return None };
    if worker.said.drain != Word::Due {
        return None;
    }
    let given = worker.last_given.filter(|_| spares_last).map_or(since, |given| since.max(given + HOLD_BACK));
    Some(if has_leftovers { given.max(half(since, until)) } else { given })
}

/// Tells the application that it is let go: once, and after the preload has heard of it, so that an application that then
/// closes its servers closes none of their connections.
fn tell_application(worker: &mut Worker) -> Result<(), ProtocolViolation> {
    if worker.said.drain != Word::Due {
        return Ok(());
    }
    worker.said.drain = Word::Said;
    worker.channel.send(&ToWorker::UserDisconnect)
}

/// When Node's disconnect is due, if it is still to be sent.
fn disconnect_at(worker: &Worker, has_leftovers: bool) -> Option<Instant> {
    let Drain::Taking { since, until, held_back, told_at, .. } = worker.drain else { return None };
    let given = worker.last_given.unwrap_or(since).max(since) + held_back;
    // Where little time is left, half of it is for what comes after the disconnect.
    let told = told_at.map_or(since, |told| told + held_back.min(until.saturating_duration_since(told) / 2));
    let settled = given.max(told);
    Some(if has_leftovers {
        settled.max(half(since, until))
    } else if worker.in_flight.is_empty() {
        settled
    } else {
        settled.max(since + TAKE_WAIT)
    })
}

fn half(since: Instant, until: Instant) -> Instant {
    since + until.saturating_duration_since(since) / 2
}

fn disconnect(worker: &mut Worker) -> Result<(), ProtocolViolation> {
    worker.drain = Drain::Disconnecting;
    if worker.leaving {
        return Ok(());
    }
    worker.finishing = worker.servers.is_empty() && worker.has_asked_to_listen();
    let seq = worker.channel.seq();
    worker.channel.send(&ToWorker::Disconnect { seq })
}

#[cfg(test)]
mod tests {
    use recluster_wire::node::worker::FromPrimary;
    use recluster_wire::node::{Farewell, FromWorker};

    use super::super::fixtures::{FarEnd, Harness, connection, id, just_before};
    use super::super::messages::Command;
    use super::super::worker::InFlight;
    use super::*;
    use crate::config::balance::Balance;

    const TIMEOUT: Duration = Duration::from_secs(8);

    /// A worker that serves on a listener.
    fn serving(balance: Balance) -> (Harness, FarEnd) {
        let mut harness = Harness::new(balance);
        let mut far = harness.serving(1, 0);
        harness.listen(1, &mut far);
        harness.turn();
        far.lines();
        (harness, far)
    }

    fn drain(harness: &mut Harness, grace: Option<Duration>) {
        let grace = grace.map(|grace| IdleGrace { least: grace, most: grace });
        let until = harness.state.reactor.now + TIMEOUT;
        harness.obey(Command::Drain { worker: id(1), until, grace });
    }

    /// What has come: `d` for Node's disconnect, `u` for a message of the user, `?` for what is for the preload.
    fn heard(far: &mut FarEnd) -> String {
        let letter = |message| {
            if message == FromPrimary::Disconnect {
                'd'
            } else if matches!(message, FromPrimary::User(_)) {
                'u'
            } else {
                assert_eq!(message, FromPrimary::Unknown);
                '?'
            }
        };
        far.messages().into_iter().map(letter).collect()
    }

    #[test]
    fn the_preload_hears_of_it_first_then_the_application_and_node_late() {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        drain(&mut harness, Some(Duration::from_secs(1)));
        assert_eq!(heard(&mut far), "?u");
        harness.pass(just_before(HOLD_BACK));
        assert_eq!(heard(&mut far), "");
        harness.pass(Duration::from_millis(1));
        assert_eq!(heard(&mut far), "d");
        harness.pass(TIMEOUT);
        assert_eq!(heard(&mut far), "", "once");
    }

    #[test]
    fn a_second_drain_gives_the_preload_another_grace() {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        drain(&mut harness, Some(Duration::from_secs(60)));
        assert_eq!(heard(&mut far), "?u");
        drain(&mut harness, Some(Duration::from_secs(1)));
        assert_eq!(heard(&mut far), "?", "and nothing else is said twice");
    }

    #[test]
    fn a_second_drain_tells_nothing_twice() {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        harness.obey(Command::Disconnect { worker: id(1), grace: None });
        assert_eq!(heard(&mut far), "", "its user says so");
        drain(&mut harness, None);
        assert_eq!(heard(&mut far), "u");
        drain(&mut harness, None);
        assert_eq!(heard(&mut far), "");
        harness.pass(HOLD_BACK);
        assert_eq!(heard(&mut far), "d");
        drain(&mut harness, None);
        harness.pass(HOLD_BACK);
        assert_eq!(heard(&mut far), "");
    }

    #[test]
    fn what_is_on_its_way_is_waited_for_up_to_a_limit() {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        harness.worker(1).in_flight.insert(7, InFlight { listener: 0, connection: connection().0 });
        drain(&mut harness, None);
        assert_eq!(heard(&mut far), "u");
        harness.pass(just_before(TAKE_WAIT));
        assert_eq!(heard(&mut far), "");
        harness.pass(Duration::from_millis(1));
        assert_eq!(heard(&mut far), "d");
    }

    #[test]
    fn what_is_taken_ends_the_wait() {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        harness.worker(1).in_flight.insert(7, InFlight { listener: 0, connection: connection().0 });
        drain(&mut harness, None);
        harness.pass(HOLD_BACK);
        assert_eq!(heard(&mut far), "u");
        harness.hear(1, FromWorker::Ack { ack: 7, accepted: true });
        assert_eq!(heard(&mut far), "d");
    }

    #[test]
    fn the_last_connection_has_its_moment_too() {
        let (mut harness, _far) = serving(Balance::RoundRobin);
        let start = harness.state.reactor.now;
        let given = start + Duration::from_millis(70);
        drain(&mut harness, None);
        harness.worker(1).last_given = Some(given);
        assert_eq!(disconnect_at(harness.worker(1), false), Some(given + HOLD_BACK));
        harness.worker(1).last_given = start.checked_sub(Duration::from_millis(70));
        assert_eq!(disconnect_at(harness.worker(1), false), Some(start + HOLD_BACK));
    }

    #[test]
    fn at_a_stop_leftovers_are_waited_for_for_half_of_the_timeout() {
        let (mut harness, _far) = serving(Balance::RoundRobin);
        let start = harness.state.reactor.now;
        drain(&mut harness, None);
        assert_eq!(disconnect_at(harness.worker(1), true), Some(start + TIMEOUT / 2));
        let has = |harness: &Harness, is_stopping| {
            has_leftovers(&harness.state.workers[&id(1)], &harness.state.listeners, is_stopping)
        };
        assert!(!has(&harness, true));
        harness.listener(0).waiting.push_back(connection().0);
        assert!(has(&harness, true));
        assert!(!has(&harness, false), "nothing stops");
        harness.worker(1).servers.clear();
        assert!(!has(&harness, true), "they are none of its business");
    }

    #[test]
    fn a_worker_that_accepts_by_itself_hears_it_at_once() {
        let (mut harness, mut far) = serving(Balance::Shared);
        drain(&mut harness, None);
        assert_eq!(heard(&mut far), "ud");
    }

    #[test]
    fn at_a_stop_one_that_accepts_by_itself_has_its_moment_as_well() {
        let (mut harness, mut far) = serving(Balance::Shared);
        harness.close_listeners();
        drain(&mut harness, None);
        assert_eq!(heard(&mut far), "");
        // The socket refuses connections first and is closed then; the last step ends the wait.
        harness.pass(Duration::from_millis(80));
        harness.pass(just_before(Duration::from_millis(10)));
        assert_eq!(heard(&mut far), "");
        harness.pass(Duration::from_millis(1));
        assert_eq!(heard(&mut far), "u");
        harness.pass(HOLD_BACK);
        assert_eq!(heard(&mut far), "d");
    }

    /// An application may close its servers as soon as it hears of it.
    #[test]
    fn at_a_stop_the_application_hears_of_it_when_what_waited_is_given_away() {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        let _clients: Vec<_> = (0..10).map(|_| harness.connect(0)).collect();
        harness.close_listeners();
        drain(&mut harness, Some(Duration::from_secs(1)));
        assert_eq!(heard(&mut far), "?");
        harness.turn();
        let taken = harness.take(1, &mut far);
        harness.turn();
        let lines = far.lines();
        let given = lines.iter().filter(|line| line.contains("newconn")).count();
        assert_eq!((taken, given), (8, 2));
        harness.pass(just_before(HOLD_BACK));
        assert_eq!(heard(&mut far), "", "the last ones have their moment");
        harness.pass(Duration::from_millis(1));
        assert_eq!(heard(&mut far), "u");
        harness.pass(TIMEOUT);
        assert_eq!(heard(&mut far), "d");
    }

    #[test]
    fn at_a_stop_it_hears_of_it_in_time_whatever_waits() {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        for number in 0..8 {
            harness.worker(1).in_flight.insert(number, InFlight { listener: 0, connection: connection().0 });
        }
        harness.listener(0).waiting.push_back(connection().0);
        harness.close_listeners();
        drain(&mut harness, None);
        harness.pass(just_before(TIMEOUT / 2));
        assert_eq!(heard(&mut far), "");
        harness.pass(Duration::from_millis(1));
        assert_eq!(heard(&mut far), "u");
        harness.pass(HOLD_BACK);
        assert_eq!(heard(&mut far), "d");
        assert!(!harness.listener(0).has_leftovers(), "nobody takes them any more");
    }

    /// Node without the preload cuts off a connection that has just come when its server is closed.
    #[test]
    fn without_a_preload_the_last_connection_has_its_moment_before_the_application_hears_of_it() {
        let (mut harness, _far) = serving(Balance::RoundRobin);
        let given = harness.state.reactor.now;
        harness.worker(1).last_given = Some(given);
        harness.state.reactor.now += HOLD_BACK / 2;
        for (grace, told) in [(None, given + HOLD_BACK), (Some(HOLD_BACK), given + HOLD_BACK / 2)] {
            harness.worker(1).drain = Drain::None;
            harness.worker(1).said.drain = Word::Said;
            drain(&mut harness, grace);
            harness.worker(1).said.drain = Word::Due;
            assert_eq!(tell_at(harness.worker(1), false), Some(told));
        }
    }

    #[test]
    fn one_that_disconnects_by_itself_is_sent_no_disconnect() {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        harness.hear(1, FromWorker::ExitedAfterDisconnect { seq: 3 });
        assert_eq!(far.messages(), [FromPrimary::Ack { ack: 3 }]);
        drain(&mut harness, None);
        harness.pass(HOLD_BACK);
        assert_eq!(heard(&mut far), "u");
        assert_eq!(harness.worker(1).drain, Drain::Disconnecting);
    }

    #[test]
    fn one_that_had_closed_its_servers_is_known_to_be_finishing() {
        let (mut harness, _far) = serving(Balance::RoundRobin);
        let key = harness.worker(1).servers.keys().next().cloned().unwrap();
        drain(&mut harness, None);
        harness.hear(1, FromWorker::Close { key });
        harness.pass(HOLD_BACK);
        harness.facts();
        harness.obey(Command::Ended(id(1)));
        assert_eq!(harness.fact_names(), ["finishing 1", "drained 1"]);
    }

    #[test]
    fn one_that_has_said_farewell_is_finishing_no_more() {
        let (mut harness, _far) = serving(Balance::RoundRobin);
        let key = harness.worker(1).servers.keys().next().cloned().unwrap();
        drain(&mut harness, None);
        harness.hear(1, FromWorker::Close { key });
        harness.pass(HOLD_BACK);
        harness.hear(
            1,
            FromWorker::Farewell(Farewell { alive: std::collections::BTreeMap::new(), handles: false }),
        );
        harness.facts();
        harness.obey(Command::Ended(id(1)));
        assert_eq!(harness.fact_names(), ["disconnected 1", "drained 1"]);
    }

    #[test]
    fn one_that_has_servers_or_never_had_any_is_not_finishing() {
        let (mut with_server, _far) = serving(Balance::RoundRobin);
        let mut without = Harness::new(Balance::RoundRobin);
        let _silent = without.serving(1, 0);
        for harness in [&mut with_server, &mut without] {
            drain(harness, None);
            harness.pass(HOLD_BACK);
            assert_eq!(harness.worker(1).drain, Drain::Disconnecting);
            assert!(!harness.worker(1).finishing);
        }
    }
}
