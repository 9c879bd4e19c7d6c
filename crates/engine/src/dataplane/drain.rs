//! One worker's leave, as it is told to the worker.
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

use recluster_wire::node::ToWorker;

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
    pub(super) grace: Option<Duration>,
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

/// Begins a worker's drain, or tells the application of the one that has begun.
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
        if let Some(grace) = terms.grace {
            worker.channel.send(&ToWorker::Drain { grace })?;
        }
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
