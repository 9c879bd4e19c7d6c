//! The data plane's loop. One turn: wait, take what is ready, look at the clock, and send connections to workers.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use recluster_core::WorkerId;

use crate::guard::at_work;

use super::abandoned;
use super::balance::kernel;
use super::balance::relief::Violations;
use super::commands::obey;
use super::listeners;
use super::looking;
use super::messages::{Command, PART};
use super::protocol;
use super::reactor::{ListenerId, Timer, Token};
use super::reading::read_share;
use super::resting::rest;
use super::state::State;

/// Where the supervisor's commands arrive.
pub(super) struct Inbox {
    pub(super) commands: Receiver<Command>,
    pub(super) waker: Arc<OwnedFd>,
}

/// Runs until the cluster is over.
pub(super) fn run(state: &mut State, inbox: &Inbox) {
    while !state.finished {
        turn(state, inbox);
    }
}

fn turn(state: &mut State, inbox: &Inbox) {
    for token in state.reactor.wait() {
        if token == Token::Waker {
            take_commands(state, inbox);
        } else {
            note(state, token);
        }
    }
    finish_turn(state);
    if let Some(reply) = state.resting.take() {
        rest(state, &inbox.commands, &reply);
        // What was told meanwhile may have rung before it rested.
        let _ = rustix::io::write(&inbox.waker, &1_u64.to_ne_bytes());
    }
}

/// Something is ready.
pub(super) fn note(state: &mut State, token: Token) {
    match token {
        // The supervisor's commands are taken where they arrive, and what is due is looked at in any case.
        Token::Waker | Token::Alarm => {}
        Token::Listener(id) => note_acceptable(state, id),
        Token::Member(id, place) => note_member(state, id, place),
        Token::Worker(id) => note_worker(state, id),
        Token::Files => state.names.noticed(&mut state.reactor),
        Token::Peek(number) => note_peek(state, number),
    }
}

/// Reads, looks at the clock and sends connections to workers, as far as there is reason to.
pub(super) fn finish_turn(state: &mut State) {
    for id in state.reactor.take_unread() {
        read_share(state, id);
    }
    while let Some(timer) = state.reactor.next_due() {
        match timer {
            Timer::Worker(id) => revisit_worker(state, id),
            Timer::Listener(id) => revisit_listener(state, id),
            Timer::Member(id, place) => revisit_member(state, id, place),
            Timer::Unwanted => state.close_unused(),
            Timer::Peeks => revisit_peeks(state),
            // They are answered below.
            Timer::Looking => {}
            Timer::Later => protocol::ask_again(state),
            Timer::Names => state.names.look(&mut state.reactor, &state.reports),
        }
    }
    serve_marked(state);
    if state.is_stopping {
        state.step_stop();
        // What a worker had that was cut off by that.
        serve_marked(state);
    }
    looking::end(state);
    for settled in state.settling.drain(..) {
        // A caller that no longer waits does not need the answer.
        let _ = settled.send(());
    }
}

fn serve_marked(state: &mut State) {
    while let Some(id) = state.reactor.next_marked() {
        state.serve(id);
    }
}

fn take_commands(state: &mut State, inbox: &Inbox) {
    let _ = rustix::io::read(&inbox.waker, &mut [0_u8; 8]);
    at_work(PART);
    // What follows a rest is for when it goes on.
    while state.resting.is_none() {
        match inbox.commands.try_recv() {
            Ok(command) => obey(state, command),
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => {
                state.finished = true;
                return;
            }
        }
    }
}

pub(super) fn note_acceptable(state: &mut State, id: ListenerId) {
    if let Some(listener) = state.listeners.get_mut(&id) {
        listener.acceptable = true;
        state.reactor.mark(id);
    }
}

pub(super) fn note_member(state: &mut State, id: ListenerId, place: usize) {
    let State { workers, listeners, looks, is_stopping, reactor, reports, .. } = &mut *state;
    let Some(listener) = listeners.get_mut(&id) else { return };
    let violations = kernel::note_member(listener, place, workers, *is_stopping, looks, reactor, reports);
    cut_off(state, &violations);
}

pub(super) fn note_worker(state: &mut State, id: WorkerId) {
    let Some(worker) = state.workers.get_mut(&id) else { return };
    worker.channel.flush();
    worker.mark_listeners(&mut state.reactor);
    state.reactor.mark_unread(id);
}

pub(super) fn note_peek(state: &mut State, number: u64) {
    state.peeks.note(number, &mut state.reactor, &mut state.reports);
    state.peeks.return_ended(&mut state.listeners);
}

fn revisit_worker(state: &mut State, id: WorkerId) {
    let Some(worker) = state.workers.get_mut(&id) else { return };
    worker.resume(state.reactor.now);
    worker.channel.flush();
    worker.mark_listeners(&mut state.reactor);
    state.reactor.mark_unread(id);
    state.step_drain(id);
}

fn revisit_listener(state: &mut State, id: ListenerId) {
    abandoned::revisit(state, id);
    if let Some(listener) = state.listeners.get_mut(&id) {
        listener.resume(state.reactor.now);
        state.reactor.mark(id);
        listeners::step_stop(listener, &mut state.reactor);
    }
    state.close_unused();
}

fn revisit_member(state: &mut State, id: ListenerId, place: usize) {
    let State { workers, listeners, looks, is_stopping, reactor, reports, .. } = &mut *state;
    let Some(listener) = listeners.get_mut(&id) else { return };
    let violations = kernel::revisit_member(listener, place, workers, *is_stopping, looks, reactor, reports);
    cut_off(state, &violations);
}

fn cut_off(state: &mut State, violations: &Violations) {
    for (worker, violation) in violations {
        state.cut_off(*worker, violation);
    }
}

fn revisit_peeks(state: &mut State) {
    state.peeks.end_overdue(&mut state.reactor);
    state.peeks.return_ended(&mut state.listeners);
}
