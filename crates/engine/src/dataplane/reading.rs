//! Reading the workers' channels: a share of each in a turn, and all that is left when the worker's process has ended.

use std::time::Duration;

use recluster_core::WorkerId;

use super::application;
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
        if state.workers.get(&id).is_some_and(|worker| worker.backlog.has(worker.channel.limits().facts)) {
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

/// Reads once and acts on every whole message. The worker pays for all that follows.
fn read_once(state: &mut State, id: WorkerId) -> Result<Read, ProtocolViolation> {
    let Some(worker) = state.workers.get_mut(&id) else { return Ok(Read::Nothing) };
    state.reports.charge(&worker.backlog);
    let read = read_and_hear(state, id);
    state.reports.charge_nobody();
    read
}

fn read_and_hear(state: &mut State, id: WorkerId) -> Result<Read, ProtocolViolation> {
    let Some(worker) = state.workers.get_mut(&id) else { return Ok(Read::Nothing) };
    let read = worker.channel.read(&mut state.scratch)?;
    loop {
        // A message may have had the worker cut off.
        let Some(worker) = state.workers.get_mut(&id) else { return Ok(Read::Nothing) };
        let Some(message) = worker.channel.next_message()? else {
            application::goes_on(worker, &state.reports);
            return Ok(read);
        };
        protocol::hear(state, id, message)?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Harness, id};
    use super::super::messages::Command;
    use crate::config::balance::Balance;

    const ONLINE: &str = r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#;
    const ACK: &str = r#"{"cmd":"NODE_HANDLE_ACK"}"#;

    #[test]
    fn a_message_is_heard_when_its_line_is_whole() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut far = harness.serving(1, 0);
        rustix::io::write(&far.socket, &ONLINE.as_bytes()[..10]).unwrap();
        harness.note_worker(1);
        harness.turn();
        assert!(harness.facts().is_empty());
        far.say(&ONLINE[10..]);
        harness.note_worker(1);
        harness.turn();
        assert_eq!(harness.fact_names(), ["online 1"]);
    }

    #[test]
    fn a_worker_that_closes_its_channel_is_forgotten() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut far = harness.serving(1, 0);
        far.say(ONLINE);
        drop(far);
        harness.note_worker(1);
        harness.turn();
        assert_eq!(harness.fact_names(), ["online 1", "disconnected 1"]);
        assert!(harness.state.workers.is_empty());
        harness.obey(Command::Ended(id(1)));
        assert_eq!(harness.fact_names(), ["drained 1"]);
    }

    #[test]
    fn one_that_breaks_a_rule_is_cut_off() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut far = harness.serving(1, 0);
        far.say(ACK);
        far.say(ONLINE);
        harness.note_worker(1);
        harness.turn();
        assert_eq!(harness.fact_names(), ["cut off 1", "disconnected 1"]);
        assert!(rustix::io::write(&far.socket, b"x").is_err());
    }

    #[test]
    fn the_last_words_of_a_dead_worker_are_heard_first() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut far = harness.serving(1, 0);
        far.say(ONLINE);
        far.say("\"ready\"");
        harness.obey(Command::Ended(id(1)));
        let expected = ["online 1", "message 1", "ready 1", "disconnected 1", "drained 1"];
        assert_eq!(harness.fact_names(), expected);
    }

    #[test]
    fn a_child_that_goes_on_writing_does_not_hold_the_master() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let far = harness.serving(1, 0);
        let writer = std::thread::spawn(move || {
            far.socket.set_nonblocking(false).unwrap();
            // It ends when the master has closed its end.
            while rustix::io::write(&far.socket, b"{}\n").is_ok() {}
        });
        harness.obey(Command::Ended(id(1)));
        assert!(harness.state.workers.is_empty());
        writer.join().unwrap();
    }

    /// What a worker can say without an end, each of which leads to something that the supervisor is told.
    #[test]
    fn a_worker_is_left_unread_while_the_supervisor_has_enough_to_do() {
        let long = format!("\"{}\"", "x".repeat(60_000));
        let held = r#"{"cmd":"NODE_RECLUSTER_HELD","connections":1,"upgraded":1,"requests":1}"#;
        let keeps = r#"{"cmd":"NODE_RECLUSTER_KEEPS","timeout":5}"#;
        let farewell = r#"{"cmd":"NODE_RECLUSTER_FAREWELL","alive":{"Timeout":1},"handles":false}"#;
        for text in [&long, held, keeps, farewell, "\"ready\""] {
            let mut harness = Harness::new(Balance::RoundRobin);
            let mut far = harness.serving(1, 0);
            let mut waiting = Vec::new();
            let most = harness.worker(1).channel.limits().facts;
            while !harness.worker(1).backlog.has(most) {
                far.say(text);
                harness.note_worker(1);
                harness.turn();
                let told = harness.billed();
                assert!(!told.is_empty(), "{text:.60}");
                waiting.extend(told);
            }
            far.say(ONLINE);
            harness.note_worker(1);
            harness.turn();
            assert!(harness.facts().is_empty(), "{text:.60}");
            waiting.clear();
            harness.pass(super::BACKLOG_PAUSE);
            harness.turn();
            assert_eq!(harness.fact_names(), ["online 1"]);
        }
    }

    #[test]
    fn a_talkative_worker_gets_its_share_of_a_turn() {
        let mut harness = Harness::new(Balance::RoundRobin);
        harness.state.scratch.truncate(ONLINE.len() + 1);
        let mut far = harness.serving(1, 0);
        for _ in 0..super::READS_A_TURN {
            far.say(ONLINE);
        }
        far.say("\"ready\"");
        harness.note_worker(1);
        harness.turn();
        assert_eq!(harness.fact_names(), ["online 1"]);
        harness.turn();
        assert_eq!(harness.fact_names(), ["message 1", "ready 1"]);
    }
}
