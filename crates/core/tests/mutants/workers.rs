//! Mutants of what happens to one worker or one slot: serving, draining, signals, respawns, limits.

use crate::{Edit, Mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "KILL is sent without TERM",
        edits: &[Edit {
            file: "reconcile/escalate.rs",
            old: "Due::Drain(worker) | Due::Exit(worker) => self.term(worker, due),",
            new: "Due::Drain(worker) | Due::Exit(worker) => self.kill(worker),",
        }],
    },
    Mutant {
        name: "a worker that ignores TERM is never sent KILL",
        edits: &[Edit {
            file: "worker.rs",
            old: "State::Terminating { until } => Some((until, Due::Kill(id))),",
            new: "State::Terminating { .. } => None,",
        }],
    },
    Mutant {
        name: "a worker that KILL does not end is waited for without end",
        edits: &[Edit {
            file: "worker.rs",
            old: "State::Killed { until } => Some((until, Due::End(id))),",
            new: "State::Killed { .. } => None,",
        }],
    },
    Mutant {
        name: "a worker may queue for its start for ever",
        edits: &[Edit {
            file: "worker.rs",
            old: "let until = until.unwrap_or(self.queues_since + self.ready_timeout);",
            new: "let until = until?;",
        }],
    },
    Mutant {
        name: "a worker queues no longer than its ready timeout, although others are begun",
        edits: &[Edit { file: "record.rs", old: "worker.queue_moves(now);", new: "let _ = worker;" }],
    },
    Mutant {
        name: "more workers boot at a time than may",
        edits: &[Edit { file: "reconcile/fill.rs", old: "may_start.truncate(self.boot_room());", new: "" }],
    },
    Mutant {
        name: "a respawn does not ask whether there is room to boot",
        edits: &[Edit { file: "reconcile/fill.rs", old: " || self.boot_room() == 0", new: "" }],
    },
    Mutant {
        name: "one that is ready makes no room to boot",
        edits: &[Edit {
            file: "worker.rs",
            old: "matches!(self.state, State::Starting { .. }) && !self.late",
            new: "self.stays() && !self.late",
        }],
    },
    Mutant {
        name: "a worker is given up as soon as it is sent KILL",
        edits: &[Edit {
            file: "reconcile/retire.rs",
            old: "worker.state = State::Killed { until };",
            new: "worker.state = State::Killed { until: until.min(self.now) };",
        }],
    },
    Mutant {
        name: "an end waits for workers that were given up",
        edits: &[Edit {
            file: "worker.rs",
            old: "self.living.values().all(|worker| worker.state == State::Unkillable)",
            new: "self.living.is_empty()",
        }],
    },
    Mutant {
        name: "an end does not wait for workers that were sent KILL",
        edits: &[Edit {
            file: "worker.rs",
            old: "self.living.values().all(|worker| worker.state == State::Unkillable)",
            new: "self.living.values().all(Worker::is_killed)",
        }],
    },
    Mutant {
        name: "a worker that closed its channel may live until the drain timeout",
        edits: &[Edit {
            file: "worker.rs",
            old: "exit.filter(|(exit, _)| *exit < until)",
            new: "exit.filter(|_| false)",
        }],
    },
    Mutant {
        name: "a worker that closed its channel is asked to go",
        edits: &[Edit { file: "reconcile/retire.rs", old: "if worker.closed.is_none() {", new: "if true {" }],
    },
    Mutant {
        name: "the bake time is passed by a worker that died in it",
        edits: &[Edit {
            file: "record.rs",
            old: "            self.lose(id, Cause::Exited(exit));\n            self.workers.end(id);",
            new: "            if self.workers.get(id).is_some_and(|dead| dead.is_ready() && !dead.proven) {\n                return;\n            }\n            self.lose(id, Cause::Exited(exit));\n            self.workers.end(id);",
        }],
    },
    Mutant {
        name: "a worker serves as soon as it is ready",
        edits: &[Edit {
            file: "worker.rs",
            old: "(since + settings.bake, Due::Bake(id))",
            new: "(since, Due::Bake(id))",
        }],
    },
    Mutant {
        name: "a second port starts the bake time again",
        edits: &[Edit {
            file: "record.rs",
            old: "&& matches!(worker.state, State::Starting { .. })",
            new: "&& worker.stays() && !worker.proven",
        }],
    },
    Mutant {
        name: "a stop gives those that drain already new patience",
        edits: &[Edit { file: "record.rs", old: "*until = latest.min(*until);", new: "*until = latest;" }],
    },
    Mutant {
        name: "workers are started after a stop",
        edits: &[Edit {
            file: "reconcile/mod.rs",
            old: "            if self.supervises() {\n                self.fill();\n            }",
            new: "            self.fill();",
        }],
    },
    Mutant {
        name: "a terminate leaves those alone that are not ready",
        edits: &[Edit {
            file: "reconcile/retire.rs",
            old: "self.workers.which(|_, _| true)",
            new: "self.workers.which(|_, worker| !matches!(worker.state, State::Starting { .. }))",
        }],
    },
    Mutant {
        name: "a worker that is not ready after all is still proven",
        edits: &[Edit { file: "record.rs", old: "            worker.begin_again();", new: "" }],
    },
    Mutant {
        name: "a released worker must still be ready in time",
        edits: &[Edit {
            file: "cluster.rs",
            old: "deadlines.filter(|(_, due)| self.phase != Phase::Released || !matches!(due, Due::Ready(_)))",
            new: "deadlines",
        }],
    },
    Mutant {
        name: "each slot has a limiter of its own",
        edits: &[
            Edit {
                file: "reconcile/fill.rs",
                old: "while let Some(slot) = self.next_respawn().filter(|_| self.backoff.next() <= self.now) {\n            self.backoff.respawned(self.now);\n            self.spawn(slot);",
                new: "for slot in self.queue() {\n            let waiting = self.slots.get(slot.index()).and_then(|slot| slot.waiting);\n            if waiting.is_some_and(|waiting| waiting.since + self.settings.respawn <= self.now) {\n                self.spawn(slot);\n            }",
            },
            Edit {
                file: "reconcile/fill.rs",
                old: "let at = limiter.next().max(self.now);",
                new: "let at = self.now + self.settings.respawn;",
            },
            Edit {
                file: "cluster.rs",
                old: "let respawn = self.next_respawn().map(|_| (self.backoff.next(), Due::Respawn));",
                new: "let waiting = self.slots.iter().filter_map(|slot| slot.waiting);\n        let waiting = waiting.filter(|_| self.supervises());\n        let respawn = waiting.map(|waiting| (waiting.since + self.settings.respawn, Due::Respawn)).min();",
            },
        ],
    },
    Mutant {
        name: "respawns keep no distance from a generation's first workers",
        edits: &[Edit {
            file: "backoff.rs",
            old: "self.next = self.next.max(now + self.spacing_at(now));",
            new: "self.next = self.next.max(now);",
        }],
    },
    Mutant {
        name: "the spacing of respawns never grows",
        edits: &[Edit {
            file: "backoff.rs",
            old: "self.spacing = doubled(self.spacing_at(now), self.least).min(most);",
            new: "self.spacing = self.spacing_at(now).min(most);",
        }],
    },
    Mutant {
        name: "a respawn is announced without the queue before it",
        edits: &[Edit { file: "reconcile/fill.rs", old: "            limiter.respawned(at);\n", new: "" }],
    },
    Mutant {
        name: "renewing takes the old worker away first",
        edits: &[Edit {
            file: "slot.rs",
            old: "        self.renew = true;\n",
            new: "        self.holder = None;\n",
        }],
    },
    Mutant {
        name: "renewing is never given up",
        edits: &[Edit {
            file: "reconcile/conclude.rs",
            old: "slot.failure.filter(|failure| slot.renew && self.is_final(failure))",
            new: "slot.failure.filter(|_| false)",
        }],
    },
    Mutant {
        name: "the newest of too many draining generations is sent TERM",
        edits: &[Edit {
            file: "reconcile/escalate.rs",
            old: "for generation in old.into_iter().take(beyond) {",
            new: "for generation in old.into_iter().rev().take(beyond) {",
        }],
    },
    Mutant {
        name: "a clock that steps back is believed",
        edits: &[Edit { file: "cluster.rs", old: "self.now = self.now.max(now);", new: "self.now = now;" }],
    },
    Mutant {
        name: "patience that ends at once is noticed at the next event only",
        edits: &[Edit {
            file: "reconcile/mod.rs",
            old: "            if *self == before {\n                return;\n            }",
            new: "            drop(before);\n            return;",
        }],
    },
    Mutant {
        name: "a worker that is not wanted any more serves",
        edits: &[Edit { file: "cluster.rs", old: "!worker.stays() || self.wants(id, worker)", new: "true" }],
    },
];
