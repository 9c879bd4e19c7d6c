//! Mutants of how generations begin and end: done, rolled back, superseded, failed, and who hears of it.

use crate::{Edit, Mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "ready events are counted instead of slots",
        edits: &[
            Edit {
                file: "reload.rs",
                old: "    pub(crate) before: Settings,",
                new: "    pub(crate) before: Settings,\n    pub(crate) ready: u32,",
            },
            Edit {
                file: "reconcile/conclude.rs",
                old: "callers, before, sizing: Some(sizing) })",
                new: "callers, before, sizing: Some(sizing), ready: 0 })",
            },
            Edit {
                file: "record.rs",
                old: "        let since = self.now;\n",
                new: "        let since = self.now;\n        let generation = self.workers.get(id).map(|worker| worker.generation);\n        if let Some(reload) = self.reload.as_mut().filter(|reload| Some(reload.generation) == generation) {\n            reload.ready += 1;\n        }\n",
            },
            Edit {
                file: "reconcile/conclude.rs",
                old: "        let all = |generation| self.serving_slots(generation) == self.size_for(generation);\n        let done = self.reloading().is_some_and(all);",
                new: "        let done = self.reload.as_ref().is_some_and(|reload| reload.ready >= self.size());",
            },
        ],
    },
    Mutant {
        name: "slots are retired one by one under surge all",
        edits: &[Edit {
            file: "reconcile/conclude.rs",
            old: "if reload.is_some() && self.settings.surge == Surge::All {",
            new: "if reload.is_some() && self.settings.surge == Surge::All && self.slots.is_empty() {",
        }],
    },
    Mutant {
        name: "a caller is forgotten at superseding",
        edits: &[Edit {
            file: "reconcile/conclude.rs",
            old: "callers = older.callers;",
            new: "drop(older.callers);",
        }],
    },
    Mutant {
        name: "superseded workers are left alive",
        edits: &[Edit {
            file: "reconcile/retire.rs",
            old: "worker.stays() && !self.wants(id, worker)",
            new: "worker.stays() && !self.wants(id, worker) && (self.reload.is_none() || worker.generation <= self.generation)",
        }],
    },
    Mutant {
        name: "superseding takes the only worker of a slot that serves",
        edits: &[Edit {
            file: "slot.rs",
            old: "if self.holder.is_none() || only_candidate_serves {",
            new: "if self.holder.is_none() && only_candidate_serves {",
        }],
    },
    Mutant {
        name: "a storm of reloads never gives one the time to boot",
        edits: &[Edit {
            file: "reconcile/conclude.rs",
            old: "            self.generation_spacing = doubled(self.generation_spacing, self.settings.respawn);\n",
            new: "",
        }],
    },
    Mutant {
        name: "the cluster does not ask to be woken for a reload that waits",
        edits: &[Edit {
            file: "cluster.rs",
            old: "self.worker_deadlines().chain(respawn).chain(reload).chain(changes).min()",
            new: "self.worker_deadlines().chain(respawn).chain(reload.filter(|_| self.slots.is_empty())).chain(changes).min()",
        }],
    },
    Mutant {
        name: "those who wait for a reload that never began hear nothing at a stop",
        edits: &[Edit {
            file: "record.rs",
            old: "in running.into_iter().chain(pending) {",
            new: "in running.into_iter().chain(pending.filter(|_| false)) {",
        }],
    },
    Mutant {
        name: "a slot may fail once more than it has attempts",
        edits: &[Edit {
            file: "reconcile/conclude.rs",
            old: "hopeless || failure.failures >= self.settings.attempts",
            new: "hopeless || failure.failures > self.settings.attempts",
        }],
    },
    Mutant {
        name: "a ready timeout is one failure among others",
        edits: &[Edit {
            file: "reconcile/conclude.rs",
            old: "            Cause::ReadyTimeout | Cause::SpawnFailed(SpawnFailure::Hopeless) => true,\n            Cause::SpawnFailed",
            new: "            Cause::SpawnFailed(SpawnFailure::Hopeless) => true,\n            Cause::ReadyTimeout | Cause::SpawnFailed",
        }],
    },
    Mutant {
        name: "all failing slots are retried at once",
        edits: &[Edit {
            file: "reconcile/fill.rs",
            old: "if retries || !self.supervises()",
            new: "if !self.supervises()",
        }],
    },
    Mutant {
        name: "failures are counted on from one reload to the next",
        edits: &[
            Edit { file: "reconcile/conclude.rs", old: "            slot.failure = None;\n", new: "" },
            Edit {
                file: "slot.rs",
                old: "(self.failure, self.waiting, self.renew) = (None, None, false);",
                new: "(self.waiting, self.renew) = (None, false);",
            },
        ],
    },
    Mutant {
        name: "a failed generation is not taken down",
        edits: &[Edit {
            file: "slot.rs",
            old: "        let candidate = self.candidate.take();\n        if self.holder.is_some() {",
            new: "        let candidate = self.candidate;\n        if self.holder.is_some() {",
        }],
    },
    Mutant {
        name: "a failed generation takes the old one down with it",
        edits: &[Edit {
            file: "slot.rs",
            old: "        let candidate = self.candidate.take();\n        if self.holder.is_some() {",
            new: "        let candidate = self.candidate.take().and(self.holder.take());\n        if self.holder.is_some() {",
        }],
    },
    Mutant {
        name: "during a reload missing workers are started with the old code",
        edits: &[Edit {
            file: "reconcile/fill.rs",
            old: "let generation = reload.unwrap_or(slot.generation);",
            new: "let generation = slot.generation;",
        }],
    },
    Mutant {
        name: "a bounded surge starts candidates in all slots",
        edits: &[Edit {
            file: "reconcile/fill.rs",
            old: "self.settings.surge.limit(self.slots.len()).saturating_sub(used);",
            new: "self.slots.len();",
        }],
    },
    Mutant {
        name: "after a reload slots are respawned with what they had before",
        edits: &[Edit {
            file: "reconcile/conclude.rs",
            old: "            slot.take_over();\n            slot.generation = reload.generation;",
            new: "            slot.take_over();",
        }],
    },
    Mutant {
        name: "a slot being renewed counts as serving only by its new worker",
        edits: &[Edit {
            file: "cluster.rs",
            old: "[slot.holder, slot.candidate].into_iter().flatten();",
            new: "slot.candidate.or(slot.holder).into_iter();",
        }],
    },
    Mutant {
        name: "a holder that comes to serve clears the failures of its renewal",
        edits: &[Edit { file: "reconcile/escalate.rs", old: "!on_trial && !slot.renew", new: "!on_trial" }],
    },
];
