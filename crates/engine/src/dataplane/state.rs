//! All that the data plane has, in parts. Functions take the parts that they touch; the few here touch most of them.

use std::sync::mpsc;
use std::time::Instant;

use recluster_core::WorkerId;
use tokio::sync::oneshot;

use super::balance::{handout, kernel, relief, round_robin, sticky};
use super::beside;
use super::channel::{ProtocolViolation, READ_BYTES};
use super::drain::{self, Terms};
use super::idle::Looks;
use super::keeping;
use super::later::Later;
use super::listener::Listeners;
use super::listeners::{self, Opener};
use super::messages::{Billed, Config, Fact, Report, Resting, Routes, Setup};
use super::names::Names;
use super::peeks::Peeks;
use super::reactor::{ListenerId, Reactor};
use super::reclaim::{Reclaim, reclaim};
use super::reports::Reports;
use super::worker::Workers;
use crate::sink::Sink;

pub(super) struct State {
    pub(super) config: Config,
    pub(super) reactor: Reactor,
    pub(super) reports: Reports,
    pub(super) workers: Workers,
    pub(super) listeners: Listeners,
    pub(super) names: Names,
    pub(super) opener: Opener,
    pub(super) peeks: Peeks,
    pub(super) looks: Looks,
    /// Which workers may be given what, as the supervisor said last.
    pub(super) routes: Routes,
    /// Everything stops: no new listener, and only connections that wait already.
    pub(super) is_stopping: bool,
    /// Space for what is read from channels.
    pub(super) scratch: Vec<u8>,
    /// To be answered when this turn is over.
    pub(super) settling: Vec<mpsc::Sender<()>>,
    /// Who looks, and waits until workers have said how they do, but no longer than until then.
    pub(super) looking: Vec<(Instant, oneshot::Sender<Report>)>,
    /// Requests to listen that wait.
    pub(super) later: Later,
    /// It is to rest when this turn is over.
    pub(super) resting: Option<Resting>,
    pub(super) finished: bool,
}

impl State {
    pub(super) fn new(setup: Setup, facts: Sink<Billed>, mut reactor: Reactor) -> Self {
        let mut names = Names::default();
        setup.files.iter().for_each(|file| names.add(file, &mut reactor));
        Self {
            peeks: Peeks::new(setup.config.peek),
            config: setup.config,
            looks: Looks::new(reactor.now),
            later: Later::new(setup.has_survivors, reactor.now),
            reactor,
            reports: Reports::new(facts),
            workers: Workers::new(),
            listeners: Listeners::new(),
            names,
            opener: Opener::new(setup.inherited, setup.lender, setup.pool, setup.keeps),
            routes: Routes::default(),
            is_stopping: false,
            scratch: vec![0; READ_BYTES],
            settling: Vec::new(),
            looking: Vec::new(),
            resting: None,
            finished: false,
        }
    }

    /// Sends what a listener has to workers, and has the kernel choose among those that may take connections.
    pub(super) fn serve(&mut self, id: ListenerId) {
        let Self { workers, listeners, opener, peeks, looks, is_stopping, reactor, reports, .. } = self;
        let Some(listener) = listeners.get_mut(&id) else { return };
        beside::begin(listener, workers, reactor, reports);
        if !*is_stopping {
            keeping::settle(listener, workers, opener.pool(), reactor, reports);
        }
        keeping::empty_spares(listener, reactor, reports);
        kernel::steer(listener, workers, *is_stopping, looks, reactor, reports);
        sticky::sort(listener, workers, peeks, *is_stopping, reactor, reports);
        round_robin::dispatch(listener, workers, *is_stopping, reactor);
        peeks.return_ended(listeners);
    }

    /// Sends a worker whose loop turns what waits to be handed out; if it is idle, what waits for a busy one.
    pub(super) fn offer(&mut self, id: ListenerId, worker: WorkerId, is_idle: bool) {
        let Self { workers, listeners, is_stopping, reactor, reports, .. } = self;
        let Some(listener) = listeners.get_mut(&id) else { return };
        if !handout::offer(listener, worker, workers, *is_stopping, reactor, reports) && is_idle {
            relief::offer(listener, worker, workers, *is_stopping, reactor, reports);
        }
    }

    /// Lets a worker go; one that breaks a rule by that is cut off.
    pub(super) fn begin_drain(&mut self, id: WorkerId, terms: Terms) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match drain::begin(worker, terms, &self.listeners, self.is_stopping, &mut self.reactor) {
            Ok(()) => self.step_drain(id),
            Err(violation) => self.cut_off(id, &violation),
        }
    }

    /// Takes the next step of a worker's drain.
    pub(super) fn step_drain(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let has_leftovers = drain::has_leftovers(worker, &self.listeners, self.is_stopping);
        if let Err(violation) = drain::step(worker, has_leftovers, &mut self.reactor) {
            self.cut_off(id, &violation);
        }
    }

    /// At a stop: closes what no worker is left to take, and takes the next step of every drain, since what they waited for
    /// may be over.
    pub(super) fn step_stop(&mut self) {
        listeners::give_up_leftovers(&mut self.listeners, &self.workers, &self.reactor);
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            self.step_drain(id);
        }
        listeners::give_up_leftovers(&mut self.listeners, &self.workers, &self.reactor);
    }

    /// The worker broke a rule that its channel rests on: the channel is closed, which ends a Node worker.
    pub(super) fn cut_off(&mut self, id: WorkerId, violation: &ProtocolViolation) {
        self.reports.fact(Fact::CutOff(id, violation.to_string()));
        self.close_channel(id, Reclaim::Nothing);
    }

    /// Drops the worker's channel, takes back what the worker had not taken, and reports it. Once.
    pub(super) fn close_channel(&mut self, id: WorkerId, what: Reclaim) {
        let Some(mut worker) = self.workers.remove(&id) else { return };
        let past = self.reports.tally.past.entry(worker.slot).or_insert(Some(0));
        *past = past.zip(worker.connections()).map(|(past, more)| past.saturating_add(more));
        if worker.interview.answers {
            let counted = self.reports.tally.counted.entry(worker.slot).or_default();
            *counted = counted.and(&worker.interview.counted());
        }
        worker.mark_listeners(&mut self.reactor);
        for listener in self.listeners.values_mut() {
            listener.remove_worker(id);
        }
        if what == Reclaim::Untouched {
            reclaim(&mut worker, &mut self.listeners, &mut self.reactor, &mut self.reports);
        }
        self.close_unused();
        // Its last act may have been to remove the file of a socket that others use.
        self.names.restore(&self.reports);
        self.reports.fact(Fact::Disconnected { worker: id, finishing: worker.finishing });
    }

    /// Closes listeners that no worker will want again.
    pub(super) fn close_unused(&mut self) {
        let Self { listeners, workers, opener, routes, peeks, reactor, reports, .. } = self;
        listeners::close_unused(listeners, workers, routes.settled, peeks, reactor, reports);
        if routes.settled {
            opener.close_unwanted(reactor, reports);
        }
    }
}
