//! What the data plane does on each command of the supervisor.

use std::collections::BTreeSet;

use recluster_core::WorkerId;
use recluster_wire::node::{Payload, ToWorker};

use super::channel::{Channel, Limits};
use super::drain::Terms;
use super::handle::Handle;
use super::handover::send_to_this;
use super::keeping;
use super::listeners;
use super::looking;
use super::messages::{Admission, Command, Fact, Routes};
use super::names::Names;
use super::reactor::Token;
use super::reading::read_to_end;
use super::saved;
use super::state::State;
use super::worker::{TAKE_WAIT, Worker};
use crate::report::error::SendError;
use crate::socket::kept::KeptName;

pub(super) fn obey(state: &mut State, command: Command) {
    match command {
        Command::Admit(admission) => admit(state, admission),
        Command::Route(routes) => route(state, routes),
        Command::Drain { worker, until, grace } => {
            // One that is to be ended at once has no time for what it would do then.
            let tells_application = until > state.reactor.now;
            state.begin_drain(worker, Terms { until, grace, tells_application });
        }
        Command::CloseListeners { kept } => stop(state, &kept),
        Command::Ended(worker) => read_to_end(state, worker),
        Command::Disconnect { worker, grace } => {
            // Its user wants it to go, and it may take what time it likes.
            let until = state.reactor.now + TAKE_WAIT;
            state.begin_drain(worker, Terms { until, grace, tells_application: false });
        }
        Command::Send { worker, said, handle, reply } => {
            // A caller that no longer waits does not need the answer.
            let _ = reply.send(send_message(state, worker, &said, handle));
        }
        Command::FlushCache(worker) => flush_cache(state, worker),
        Command::HandOver { worker, connection, reply } => {
            let worker = state.workers.get_mut(&worker);
            let sent = worker.is_some_and(|worker| send_to_this(worker, &connection, &state.listeners));
            let _ = reply.send(sent);
        }
        Command::KeepAgain => {
            state.listeners.values().for_each(|listener| keeping::report_again(listener, &state.reports));
        }
        Command::Settle(done) => {
            state.names.restore(&state.reports);
            state.settling.push(done);
        }
        Command::NameUnused(reply) => {
            // What a program that is not Node does with the sockets that it inherits is known where it asks for another one.
            let is_known = state.workers.values().any(|worker| worker.is_node || worker.said.query);
            // A caller that no longer waits does not need the answer.
            let _ = reply.send(if is_known { state.opener.unused() } else { Vec::new() });
        }
        Command::Report(reply) => looking::begin(state, reply),
        Command::Preview(reply) => {
            // A caller that no longer waits does not need the answer. No descriptor passes by it, and so no memory.
            let _ = reply.send(saved::save(state).map(|(saving, _memories)| saving));
        }
        Command::Rest(reply) => state.resting = Some(reply),
        // It does already.
        Command::GoOn => {}
        Command::Finish => state.finished = true,
    }
}

fn admit(state: &mut State, admission: Admission) {
    let Admission { worker: id, slot, generation, pid, channel: socket, is_node, serialization, answers } =
        admission;
    if let Err(error) = state.reactor.watch(&socket, Token::Worker(id)) {
        state.reports.fact(Fact::CutOff(id, format!("its channel cannot be watched: {error}")));
        state.reports.fact(Fact::Disconnected { worker: id, finishing: false });
        return;
    }
    let limits = Limits::of(&state.config);
    let mut worker = Worker::new(id, slot, Channel::new(socket, limits, serialization), is_node);
    (worker.generation, worker.pid) = (generation, pid);
    worker.standing = state.routes.standing.get(&id).copied();
    worker.interview.answers = answers;
    state.workers.insert(id, worker);
}

fn flush_cache(state: &mut State, id: WorkerId) {
    let sent = state.workers.get_mut(&id).map(|worker| worker.channel.send(&ToWorker::FlushCache));
    if let Some(Err(violation)) = sent {
        state.cut_off(id, &violation);
    }
}

fn route(state: &mut State, routes: Routes) {
    for worker in state.workers.values_mut() {
        worker.standing = routes.standing.get(&worker.id).copied();
    }
    state.routes = routes;
    for listener in state.listeners.keys() {
        state.reactor.mark(*listener);
    }
    state.close_unused();
}

/// Everything stops.
fn stop(state: &mut State, kept: &BTreeSet<KeptName>) {
    state.is_stopping = true;
    state.opener.leave(&mut state.listeners, kept, &mut state.reactor);
    state.opener.close_inherited();
    state.peeks.end_all(&mut state.reactor);
    state.peeks.return_ended(&mut state.listeners);
    listeners::stop_all(&mut state.listeners, &mut state.reactor);
    // Nobody is to come any more: whatever happens to the files of sockets now is as it should be.
    state.names = Names::default();
}

fn send_message(
    state: &mut State,
    id: WorkerId,
    said: &Payload,
    handle: Option<Handle>,
) -> Result<(), SendError> {
    let worker = state.workers.get_mut(&id).ok_or(SendError::NoWorker(id.get()))?;
    match worker.channel.send_said(said, handle) {
        Ok(true) => Ok(()),
        Ok(false) => Err(SendError::JsonOnly(id.get())),
        Err(_) => Err(SendError::Full(id.get())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    use recluster_wire::Json;
    use recluster_wire::node::worker::FromPrimary;
    use recluster_wire::node::{FromWorker, HandleKind, QueryServer, SocketKind, Taken};
    use tokio::sync::oneshot;

    use super::super::fixtures::{Harness, id, query};
    use super::super::messages::{Report, Standing};
    use super::*;
    use crate::config::balance::{Balance, StickyBy};
    use crate::report::status::ListenerStatus;

    fn send(harness: &mut Harness, number: u64, text: &str, handle: Option<Handle>) -> Result<(), SendError> {
        let (reply, mut answer) = oneshot::channel();
        let said = Payload::Json(Json::parse(text).unwrap());
        harness.obey(Command::Send { worker: id(number), said, handle, reply });
        answer.try_recv().unwrap()
    }

    fn hand_over(harness: &mut Harness, number: u64) -> bool {
        let (connection, _client) = UnixStream::pair().unwrap();
        let (reply, mut answer) = oneshot::channel();
        harness.obey(Command::HandOver { worker: id(number), connection: connection.into(), reply });
        answer.try_recv().unwrap()
    }

    fn reported(harness: &mut Harness) -> Report {
        let (reply, mut answer) = oneshot::channel();
        harness.obey(Command::Report(reply));
        answer.try_recv().unwrap()
    }

    #[test]
    fn a_worker_has_the_standing_that_was_published_before_it_came() {
        let mut harness = Harness::new(Balance::RoundRobin);
        harness.set_standing(1, Some(Standing::Standby));
        let _far = harness.admitted(1, 0);
        assert_eq!(harness.worker(1).standing, Some(Standing::Standby));
        harness.set_standing(1, None);
        assert_eq!(harness.worker(1).standing, None);
    }

    #[test]
    fn messages_of_the_host_program_reach_the_application() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut far = harness.serving(1, 0);
        send(&mut harness, 1, "{\"a\":1}", None).unwrap();
        let (fd, _other) = UnixStream::pair().unwrap();
        let handle = Handle { kind: HandleKind::NetNative, fd: fd.into() };
        send(&mut harness, 1, "{\"b\":2}", Some(handle)).unwrap();
        let messages = far.messages();
        assert!(
            matches!(&messages[0], FromPrimary::User(message) if message.payload().json().unwrap().as_str() == "{\"a\":1}")
        );
        assert!(matches!(&messages[1], FromPrimary::Handle(_)));
        assert_eq!(far.fds.len(), 1);
    }

    #[test]
    fn a_message_that_cannot_be_sent_is_an_error() {
        let mut harness = Harness::new(Balance::RoundRobin);
        assert!(matches!(send(&mut harness, 1, "1", None), Err(SendError::NoWorker(1))));
        let _far = harness.serving(1, 0);
        let long = format!("\"{}\"", "x".repeat(1 << 20));
        // The queue holds 32 MiB.
        let first_error = (0..40).find_map(|_| send(&mut harness, 1, &long, None).err());
        assert!(matches!(first_error, Some(SendError::Full(1))));
    }

    #[test]
    fn a_connection_for_one_worker_goes_to_its_oldest_server_of_connections() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut far = harness.serving(1, 0);
        assert!(!hand_over(&mut harness, 1), "it has no server");
        let udp = QueryServer { kind: Some(SocketKind::Udp4), ..query(1) };
        harness.hear(1, FromWorker::QueryServer(udp));
        harness.hear(1, FromWorker::HandleAck);
        assert!(!hand_over(&mut harness, 1), "it takes datagrams alone");
        for index in 1..=12 {
            harness.hear(1, FromWorker::QueryServer(QueryServer { index, ..query(2) }));
        }
        far.lines();
        assert!(hand_over(&mut harness, 1));
        // "10" would be the first in the order of texts.
        assert!(far.lines()[0].contains("\"key\":\"2\""));
        assert!(!hand_over(&mut harness, 9));
    }

    #[test]
    fn the_report_says_where_it_listens_and_who_got_what() {
        for (balance, word) in [
            (Balance::RoundRobin, "round-robin"),
            (Balance::Shared, "shared"),
            (Balance::Kernel, "kernel"),
            (Balance::Sticky(StickyBy::Ip), "sticky"),
            (Balance::Sticky(StickyBy::ProxyProtocol), "sticky"),
        ] {
            let mut harness = Harness::new(balance);
            let mut far = harness.serving(1, 0);
            let listener = harness.listen(1, &mut far);
            harness.hear(1, FromWorker::Taken(Taken { connections: 5, ..Taken::default() }));
            let address = harness.listener(listener).address.to_string();
            let report = reported(&mut harness);
            assert_eq!(report.taken[&id(1)], Some(5));
            let expected =
                ListenerStatus { address, balance: word.to_owned(), reason: None, handing_out: false };
            assert_eq!(report.listeners, [expected]);
        }
    }

    #[test]
    fn who_waits_for_the_commands_before_hears_of_it_when_the_turn_is_over() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let (done, settled) = mpsc::channel();
        harness.obey(Command::Settle(done));
        assert!(settled.try_recv().is_err());
        harness.turn();
        assert_eq!(settled.try_recv(), Ok(()));
        harness.obey(Command::Finish);
        assert!(harness.state.finished);
    }
}
