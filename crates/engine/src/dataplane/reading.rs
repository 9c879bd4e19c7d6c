//! Reading the workers' channels: a share of each in a turn, and all that is left when the worker's process has ended.

use std::time::Duration;

use recluster_core::WorkerId;

use super::channel::{ProtocolViolation, Read};
use super::messages::Fact;
use super::protocol;
use super::reactor::Timer;
use super::reclaim::Reclaim;
use super::state::State;

/// How many reads one worker gets in one turn, so that a talkative one does not starve the others.
const READS_A_TURN: usize = 8;
/// How often a dead worker's channel is read: more than fits its buffer. A child of the worker may hold the other end
/// and write for ever.
const LAST_READS: usize = 64;
/// How soon a channel is looked at again that was left unread because the supervisor has enough to do.
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);

/// Reads what a worker says, up to its share of a turn.
pub(super) fn read_share(state: &mut State, id: WorkerId) {
    for _ in 0..READS_A_TURN {
        if state.workers.get(&id).is_some_and(|worker| worker.backlog.is_full()) {
            state.reactor.set_timer_in(BACKLOG_PAUSE, Timer::Worker(id));
            return;
        }
        match read_once(state, id) {
            Ok(Read::Bytes(_)) => {}
            Ok(Read::Nothing) => return,
            Ok(Read::Closed) => return state.close_channel(id, Reclaim::Untouched),
            Err(violation) => return state.cut_off(id, &violation),
        }
    }
    state.reactor.mark_unread(id);
}

/// The worker's process has ended: what it wrote before is still in the channel, and is read first.
pub(super) fn read_to_end(state: &mut State, id: WorkerId) {
    for _ in 0..LAST_READS {
        if !matches!(read_once(state, id), Ok(Read::Bytes(_))) {
            break;
        }
    }
    state.close_channel(id, Reclaim::Untouched);
    // No process but the master has its sockets now.
    for listener in state.listeners.values_mut() {
        listener.group.iter_mut().for_each(|group| group.vacate(id));
        state.reactor.mark(listener.id);
    }
    state.reports.fact(Fact::ChannelDrained(id));
}

/// Reads once and acts on every whole message.
fn read_once(state: &mut State, id: WorkerId) -> Result<Read, ProtocolViolation> {
    let Some(worker) = state.workers.get_mut(&id) else { return Ok(Read::Nothing) };
    let read = worker.channel.read(&mut state.scratch)?;
    loop {
        // A message may have had the worker cut off.
        let Some(worker) = state.workers.get_mut(&id) else { return Ok(Read::Nothing) };
        match worker.channel.next_message()? {
            Some(message) => protocol::hear(state, id, message)?,
            None => return Ok(read),
        }
    }
}
