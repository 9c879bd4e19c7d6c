//! Rule 2: what is on trial has failed or is proven, and a reload that waits may begin.

use crate::backoff::doubled;
use crate::reload::Reload;
use crate::slot::{Slot, count};
use crate::{Action, Cause, Cluster, Config, Failure, Notice, Settings, SpawnFailure, Surge, Verdict};

impl Cluster {
    pub(super) fn conclude(&mut self) {
        self.fail_trial();
        self.take_over();
        self.finish_reload();
        self.complete_start();
        self.give_up_renewals();
        self.begin_reload();
        self.ask_for_reload();
    }

    /// What has changed and settled becomes a reload, which the shell asks for: it knows what the reload brings.
    fn ask_for_reload(&mut self) {
        if let Some(change) = self.changes.take_due(self.now) {
            self.act(Action::Reload(change));
        }
    }

    /// A generation on trial fails when one slot has failed too often, or at once where trying again cannot help.
    fn fail_trial(&mut self) {
        if self.on_trial().is_none() {
            return;
        }
        let mut failures = self.slots.iter().filter_map(|slot| slot.failure);
        let Some(failure) = failures.find(|failure| self.is_final(failure)) else { return };
        if let Some(reload) = self.reload.take() {
            self.roll_back(reload, failure);
        } else {
            self.notify(Notice::StartFailed(failure));
            self.stop();
        }
    }

    fn is_final(&self, failure: &Failure) -> bool {
        let hopeless = match failure.cause {
            Cause::ReadyTimeout | Cause::SpawnFailed(SpawnFailure::Hopeless) => true,
            Cause::SpawnFailed(SpawnFailure::Temporary) | Cause::Exited(_) | Cause::Retired => false,
        };
        hopeless || failure.failures >= self.settings.attempts
    }

    /// No candidate is wanted any more. Slots that were replaced keep the new code, the others go on with the old.
    fn roll_back(&mut self, reload: Reload, failure: Failure) {
        for slot in &mut self.slots {
            slot.roll_back(self.now);
        }
        let replaced = count(self.slots.iter().filter(|slot| slot.generation == reload.generation));
        let of = reload.covers(self.size());
        let verdict = match replaced {
            0 => Verdict::RolledBack(failure),
            _ => Verdict::StoppedPartWay { replaced, of, failure },
        };
        if replaced == 0 {
            self.configure(reload.before);
            self.resize(reload.sizing.map_or(self.size(), |sizing| sizing.from));
        } else if of < self.size() {
            // There are as many slots as before: the next reload may say the smaller number again.
            self.settings.workers = reload.before.workers;
        }
        self.end_reload(reload, verdict);
    }

    /// A candidate that serves takes its slot over; but a reload under [`Surge::All`] takes all slots at its end.
    fn take_over(&mut self) {
        let reload = self.reloading();
        if reload.is_some() && self.settings.surge == Surge::All {
            return;
        }
        for slot in &mut self.slots {
            if self.workers.serves(slot.candidate) {
                slot.take_over();
                slot.generation = reload.unwrap_or(slot.generation);
            }
        }
    }

    /// A reload is done when every slot that stays has a serving worker of its generation.
    fn finish_reload(&mut self) {
        let all = |generation| self.serving_slots(generation) == self.size_for(generation);
        let done = self.reloading().is_some_and(all);
        let Some(reload) = self.reload.take_if(|_| done) else { return };
        self.generation = reload.generation;
        for slot in &mut self.slots {
            slot.take_over();
            slot.generation = reload.generation;
        }
        self.resize(reload.sizing.map_or(self.size(), |sizing| sizing.to));
        self.complete_start();
        self.end_reload(reload, Verdict::Done);
    }

    /// A reload has ended: failures while it ran no longer count.
    fn end_reload(&mut self, reload: Reload, verdict: Verdict) {
        for slot in &mut self.slots {
            slot.failure = None;
        }
        self.generation_spacing = self.settings.respawn;
        let Reload { generation, callers, .. } = reload;
        self.notify(Notice::Verdict { generation: Some(generation), callers, verdict });
    }

    /// The first start is complete, once, when every slot is held by a serving worker.
    fn complete_start(&mut self) {
        if !self.started && self.slots.iter().all(|slot| self.workers.serves(slot.holder)) {
            self.started = true;
            self.notify(Notice::Started { generation: self.generation });
        }
    }

    /// What was to renew a holder has failed for good: the holder goes on.
    fn give_up_renewals(&mut self) {
        let given_up = |slot: &Slot| slot.failure.filter(|failure| slot.renew && self.is_final(failure));
        let given_up: Vec<Failure> = self.slots.iter().filter_map(given_up).collect();
        for failure in given_up {
            if let Some(slot) = self.slots.get_mut(failure.slot.index()) {
                slot.reset();
            }
            self.notify(Notice::ReplaceFailed(failure));
        }
    }

    /// A reload begins at once, or, where it supersedes one that is still running, when its time has come.
    fn begin_reload(&mut self) {
        if self.reload.is_some() && self.now < self.reload_due() {
            return;
        }
        let Some(newer) = self.pending.take() else { return };
        for slot in &mut self.slots {
            slot.supersede(&self.workers);
        }
        let older = self.reload.take();
        let sizing = self.sizing(&newer, older.as_ref());
        let (mut before, mut callers) = (self.settings, Vec::new());
        if let Some(older) = older {
            // Requests that come faster than workers start must not supersede each other for ever: the next waits longer.
            self.generation_spacing = doubled(self.generation_spacing, self.settings.respawn);
            self.notify(Notice::Superseded { generation: older.generation });
            before = older.before;
            callers = older.callers;
        }
        callers.extend(newer.waiting);
        self.newest = self.newest.next();
        self.began = self.now;
        self.configure(newer.config.map_or(self.settings, Config::into_settings));
        self.backoff.batch(self.now);
        self.reload = Some(Reload { generation: self.newest, callers, before, sizing: Some(sizing) });
        self.notify(Notice::GenerationBegan { generation: self.newest });
        if self.settings.gone_first {
            for slot in &mut self.slots {
                slot.holder = None;
            }
        }
        self.resize(sizing.from.max(sizing.to));
    }

    /// Other settings from now on. A drain or a signal that has begun keeps its deadline.
    fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        self.backoff.configure(settings.respawn, settings.backoff);
        self.generation_spacing = self.generation_spacing.max(settings.respawn);
    }
}
