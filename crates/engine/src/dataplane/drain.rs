//! How one worker is let go.
//!
//! ```text
//!              begin: `Drain` to the preload             step, when `disconnect_at` has come:
//!                     (and `disconnect` to the app)      Node's `disconnect`
//!   None ───────────────────────────────────► Taking ─────────────────────────► Disconnecting
//!   given connections                         given nothing new;                 closes its servers, then
//!                                             takes what is on its way           the channel
//! ```
//!
//! Node's `disconnect` closes the worker's servers, and comes late on purpose: connections on their way are taken first
//! (for at most [`TAKE_WAIT`]), and then it is held back for [`HOLD_BACK`]. A worker that accepts by itself gets new
//! connections until it hears it, so it hears it at once. At a stop it waits for the connections that the master took from
//! the kernel's queues as well, for half of the drain timeout at most.
//!
//! A worker that began its own disconnect (`leaving`) is sent none: a second one kills it.

use std::time::{Duration, Instant};

use recluster_wire::node::{IdleGrace, ToWorker};

use super::channel::ProtocolViolation;
use super::listener::{Listener, Listeners, Mode};
use super::reactor::{Reactor, Timer};
use super::worker::{Drain, Worker};

/// How long a drain waits for connections on their way to be taken.
pub(super) const TAKE_WAIT: Duration = Duration::from_secs(1);
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

/// What a step of a drain came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing to do now. If there will be, a timer is set.
    Wait,
    /// The worker was told to disconnect.
    Disconnect,
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
        worker.drain = Drain::Taking { since: reactor.now, until: terms.until, held_back };
    }
    // A worker that drains already may be given less time at a stop.
    if let Some(grace) = terms.grace {
        worker.channel.send(&ToWorker::Drain { grace })?;
    }
    // Once, and after the preload has heard of it, so that an application that then closes its servers closes none of their
    // connections.
    if terms.tells_application && !std::mem::replace(&mut worker.said.drain, true) {
        worker.channel.send(&ToWorker::UserDisconnect)?;
    }
    Ok(())
}

/// Takes the next step of a worker's drain, or sets a timer for it.
pub(super) fn step(
    worker: &mut Worker,
    has_leftovers: bool,
    reactor: &mut Reactor,
) -> Result<Step, ProtocolViolation> {
    match disconnect_at(worker, has_leftovers) {
        Some(at) if at <= reactor.now => disconnect(worker).map(|()| Step::Disconnect),
        Some(at) => {
            reactor.set_timer(at, Timer::Worker(worker.id));
            Ok(Step::Wait)
        }
        None => Ok(Step::Wait),
    }
}

/// Whether drains have to wait for connections that the master has taken from the kernel's queues.
pub(super) fn has_leftovers(listeners: &Listeners, is_stopping: bool) -> bool {
    is_stopping && listeners.values().any(Listener::has_leftovers)
}

/// When Node's disconnect is due, if it is still to be sent.
fn disconnect_at(worker: &Worker, has_leftovers: bool) -> Option<Instant> {
    let Drain::Taking { since, until, held_back } = worker.drain else { return None };
    let settled = worker.last_given.unwrap_or(since).max(since) + held_back;
    Some(if has_leftovers {
        settled.max(since + until.saturating_duration_since(since) / 2)
    } else if worker.in_flight.is_empty() {
        settled
    } else {
        settled.max(since + TAKE_WAIT)
    })
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
    use recluster_wire::node::FromWorker;
    use recluster_wire::node::worker::FromPrimary;

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
        assert!(!has_leftovers(&harness.state.listeners, true));
        harness.listener(0).waiting.push_back(connection().0);
        assert!(has_leftovers(&harness.state.listeners, true));
        assert!(!has_leftovers(&harness.state.listeners, false), "nothing stops");
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
        harness.obey(Command::CloseListeners);
        drain(&mut harness, None);
        assert_eq!(heard(&mut far), "u");
        // The socket refuses connections first and is closed then; the last step ends the wait.
        harness.pass(Duration::from_millis(80));
        harness.pass(Duration::from_millis(10));
        assert_eq!(heard(&mut far), "");
        harness.pass(Duration::from_millis(10));
        assert_eq!(heard(&mut far), "d");
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
