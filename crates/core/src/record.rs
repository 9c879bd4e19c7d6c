//! Facts: what each event changes, before any rule applies. Only what an event asks for in vain is refused here.

use crate::{
    Caller, Cause, Change, Cluster, Config, Event, Exit, Failure, Notice, Phase, SpawnFailure, State,
};
use crate::{Verdict, WorkerId};

/// How often what was sent KILL may have its time once more because it is about to end. However busy a machine is, what takes longer does
/// not end.
pub const MOST_SPARED: u8 = 5;

impl Cluster {
    pub(crate) fn record(&mut self, event: Event) {
        match event {
            // A process that runs is not ready yet; `handle` records the time.
            Event::Online(_) | Event::Tick => {}
            Event::Begun(worker) => self.begun(worker),
            Event::Ready(worker) => self.ready(worker),
            Event::Unready(worker) => self.unready(worker),
            Event::Retiring(worker) => self.retiring(worker),
            Event::Disconnected(worker) => self.disconnected(worker),
            Event::Exited(worker, exit) => self.exited(worker, exit),
            Event::Ending(worker) => self.ending(worker),
            Event::SpawnFailed(worker, failure) => self.spawn_failed(worker, failure),
            Event::Changed(change) => self.changed(change),
            Event::Reload { caller, config } => self.asked_to_reload(caller, config),
            Event::Replace(worker) => self.asked_to_replace(worker),
            Event::Scale(workers) => self.scale(workers),
            Event::Stop => self.stop(),
            Event::Terminate => self.cease(Phase::Terminating),
            Event::Release => self.release(),
            Event::Resume => self.resume(),
        }
    }

    fn begun(&mut self, id: WorkerId) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(id) else { return };
        worker.begin(now);
        for worker in self.workers.iter_mut() {
            worker.queue_moves(now);
        }
    }

    fn ready(&mut self, id: WorkerId) {
        let since = self.now;
        if let Some(worker) = self.workers.get_mut(id)
            && matches!(worker.state, State::Starting { .. })
        {
            worker.state = State::Ready { since };
        }
    }

    fn unready(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(id)
            && worker.is_ready()
            && !worker.proven
        {
            worker.begin_again();
        }
    }

    /// It leaves its slot. It is not wanted then, and so it is drained. A released worker is left alone.
    fn retiring(&mut self, id: WorkerId) {
        if self.supervises() {
            self.lose(id, Cause::Retired);
        }
    }

    fn disconnected(&mut self, id: WorkerId) {
        let now = self.now;
        if let Some(worker) = self.workers.get_mut(id) {
            worker.closed.get_or_insert(now);
            self.retiring(id);
        }
    }

    fn exited(&mut self, id: WorkerId, exit: Exit) {
        if let Some(worker) = self.workers.get(id) {
            let (slot, generation, expected) = (worker.slot, worker.generation, !worker.stays());
            self.notify(Notice::Gone { worker: id, slot, generation, exit, expected });
            self.lose(id, Cause::Exited(exit));
            self.workers.end(id);
        }
    }

    fn ending(&mut self, id: WorkerId) {
        let later = self.now + self.settings.end_timeout;
        let spared = self.workers.get_mut(id).filter(|worker| worker.spared < MOST_SPARED);
        if let Some(worker) = spared
            && let State::Killed { until } = &mut worker.state
        {
            *until = later;
            worker.spared += 1;
        }
    }

    fn spawn_failed(&mut self, id: WorkerId, failure: SpawnFailure) {
        self.lose(id, Cause::SpawnFailed(failure));
        self.workers.end(id);
    }

    /// A worker ends or leaves. If it was wanted, its slot is vacant now, and may have failed once more.
    pub(crate) fn lose(&mut self, id: WorkerId, cause: Cause) {
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let failed = match self.on_trial() {
            // The end of a worker that served counts too: otherwise a generation could start and crash for ever.
            Some(generation) => worker.generation == generation,
            None => self.supervises() && !worker.proven,
        };
        let reload = self.reloading();
        let slot = self.slots.get_mut(worker.slot.index());
        let Some(slot) = slot.filter(|slot| slot.wants(id)) else { return };
        slot.vacate(id, reload, self.now);
        if failed {
            let failure =
                Failure { worker: id, slot: slot.id, cause, failures: slot.failures().saturating_add(1) };
            slot.failure = Some(failure);
            self.notify(Notice::Failed(failure));
        }
    }

    /// Where nothing is started any more, it means nothing.
    fn changed(&mut self, change: Change) {
        if self.supervises() {
            self.changes.note(change, self.now);
        }
    }

    fn asked_to_reload(&mut self, caller: Option<Caller>, config: Option<Config>) {
        if self.supervises() {
            self.pending.get_or_insert_default().ask(caller, config);
        } else {
            let callers = caller.into_iter().collect();
            self.notify(Notice::Verdict { generation: None, callers, verdict: Verdict::Abandoned });
        }
    }

    /// Ignored where nothing has served yet, where a reload renews every worker anyway, and for a worker that holds
    /// no slot.
    fn asked_to_replace(&mut self, worker: WorkerId) {
        let now = self.now;
        if self.phase == Phase::Running && self.reload.is_none() {
            let mut slots = self.slots.iter_mut();
            if let Some(slot) = slots.find(|slot| slot.holder == Some(worker) && !slot.renew) {
                slot.ask_to_renew(now);
            }
        }
    }

    /// No worker is wanted any more. Those that drain already get no more time than the others.
    pub(crate) fn stop(&mut self) {
        if self.supervises() || self.phase == Phase::Released {
            self.cease(Phase::Stopping);
            let latest = self.now + self.settings.stop_timeout;
            for worker in self.workers.iter_mut() {
                if let State::Draining { until } = &mut worker.state {
                    *until = latest.min(*until);
                }
            }
        }
    }

    fn release(&mut self) {
        if self.supervises() {
            self.cease(Phase::Released);
        }
    }

    /// A first start has had its chance, and a reload has had its verdict: what it had begun goes.
    fn resume(&mut self) {
        if self.phase != Phase::Released {
            return;
        }
        self.phase = Phase::Running;
        for id in self.workers.which(|_, worker| worker.closed.is_some()) {
            self.retiring(id);
        }
        for slot in &mut self.slots {
            slot.roll_back(self.now);
            slot.reset();
        }
        self.backoff.batch(self.now);
    }

    /// Nothing is started from now on, and no reload will end by itself.
    fn cease(&mut self, phase: Phase) {
        self.phase = phase;
        // Released workers keep their seats.
        if phase != Phase::Released {
            for slot in &mut self.slots {
                (slot.holder, slot.candidate) = (None, None);
            }
        }
        self.changes.forget();
        let running = self.reload.take().map(|reload| (Some(reload.generation), reload.callers));
        let pending = self.pending.take().map(|pending| (None, pending.waiting));
        for (generation, callers) in running.into_iter().chain(pending) {
            self.notify(Notice::Verdict { generation, callers, verdict: Verdict::Abandoned });
        }
    }
}
