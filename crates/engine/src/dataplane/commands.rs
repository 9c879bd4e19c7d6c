//! What the data plane does on each command of the supervisor.

use recluster_core::WorkerId;
use recluster_wire::Json;
use recluster_wire::node::ToWorker;

use super::channel::{Channel, Limits};
use super::drain::{TAKE_WAIT, Terms};
use super::handover::send_to_this;
use super::listeners;
use super::messages::{Admission, Command, Fact, Handle, Report, Routes};
use super::reactor::Token;
use super::reading::read_to_end;
use super::state::State;
use super::worker::Worker;
use crate::report::error::SendError;
use crate::report::status::ListenerStatus;

pub(super) fn obey(state: &mut State, command: Command) {
    match command {
        Command::Admit(admission) => admit(state, admission),
        Command::Route(routes) => route(state, routes),
        Command::Drain { worker, until, grace } => {
            state.begin_drain(worker, Terms { until, grace, tells_application: true });
        }
        Command::CloseListeners => stop(state),
        Command::Ended(worker) => read_to_end(state, worker),
        Command::Disconnect { worker, grace } => {
            // Its user wants it to go, and it may take what time it likes.
            let until = state.reactor.now + TAKE_WAIT;
            state.begin_drain(worker, Terms { until, grace, tells_application: false });
        }
        Command::Send { worker, json, handle, reply } => {
            // A caller that no longer waits does not need the answer.
            let _ = reply.send(send_message(state, worker, &json, handle));
        }
        Command::HandOver { worker, connection, reply } => {
            let worker = state.workers.get_mut(&worker);
            let sent = worker.is_some_and(|worker| send_to_this(worker, &connection, &state.listeners));
            let _ = reply.send(sent);
        }
        Command::Settle(done) => state.settling.push(done),
        Command::Report(reply) => {
            let _ = reply.send(report(state));
        }
        Command::Finish => state.finished = true,
    }
}

fn admit(state: &mut State, admission: Admission) {
    let Admission { worker: id, slot, channel: socket, is_node } = admission;
    if let Err(error) = state.reactor.watch(&socket, Token::Worker(id)) {
        state.reports.fact(Fact::CutOff(id, format!("its channel cannot be watched: {error}")));
        state.reports.fact(Fact::Disconnected { worker: id, finishing: false });
        return;
    }
    let limits = if state.config.is_hosted { Limits::AMPLE } else { Limits::USUAL };
    let mut worker = Worker::new(id, slot, Channel::new(socket, limits), is_node);
    worker.standing = state.routes.standing.get(&id).copied();
    state.workers.insert(id, worker);
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
fn stop(state: &mut State) {
    state.is_stopping = true;
    state.opener.close_inherited();
    state.peeks.end_all(&mut state.reactor);
    state.peeks.return_ended(&mut state.listeners);
    listeners::stop_all(&mut state.listeners, &mut state.reactor);
    state.step_drains();
}

fn send_message(
    state: &mut State,
    id: WorkerId,
    json: &Json,
    handle: Option<Handle>,
) -> Result<(), SendError> {
    let worker = state.workers.get_mut(&id).ok_or(SendError::NoWorker(id.get()))?;
    let sent = match handle {
        None => worker.channel.send(&ToWorker::User(json)),
        Some(Handle { kind, fd }) => worker.channel.send_handle(&ToWorker::UserHandle { kind, json }, fd),
    };
    sent.map_err(|_| SendError::Full(id.get()))
}

fn report(state: &State) -> Report {
    let listeners = state.listeners.values().map(|listener| ListenerStatus {
        address: listener.address.to_string(),
        balance: listener.balance().to_owned(),
    });
    Report {
        listeners: listeners.collect(),
        taken: state.workers.values().map(|worker| (worker.id, worker.connections())).collect(),
        tally: state.reports.tally.clone(),
    }
}
