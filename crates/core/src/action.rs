//! What the shell has to do, and what it has to report: the core's answers to events.

use std::time::Duration;

use crate::{Caller, Change, Exit, Failure, Generation, SlotId, Time, WorkerId};

/// One thing for the shell to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the shell must perform each of them")]
pub enum Action {
    /// Start a process for this worker.
    Spawn {
        /// The new worker.
        worker: WorkerId,
        /// The slot it is for.
        slot: SlotId,
        /// The generation it belongs to.
        generation: Generation,
    },
    /// Ask the worker to finish its work and exit. At most once for a worker, and never for one that has closed its
    /// channel: it could not read the request.
    Drain {
        /// The worker that leaves.
        worker: WorkerId,
        /// The end of its drain timeout, when it is sent TERM. A later stop may shorten that without another action.
        until: Time,
    },
    /// Send a signal to the worker's process. Each signal at most once to a worker, TERM before KILL.
    Signal {
        /// The worker.
        worker: WorkerId,
        /// The signal.
        signal: Signal,
    },
    /// Ask for a reload, since files of this kind have changed: the shell says by [`Event::Reload`](crate::Event::Reload) which
    /// settings it brings.
    Reload(Change),
    /// Report something, in the log and to subscribers.
    Notify(Notice),
}

/// The signals that the core sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Signal {
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
}

/// A report of something that happened or was decided. It asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Notice {
    /// A generation begins: the first start, or a reload. The settings that came with it are in force, before any of its
    /// workers is spawned.
    GenerationBegan {
        /// Which.
        generation: Generation,
    },
    /// A worker serves from now on: it was ready and has lived for the bake time.
    Serving {
        /// The worker.
        worker: WorkerId,
        /// Its slot.
        slot: SlotId,
        /// Its generation.
        generation: Generation,
        /// How many slots have a serving worker of this generation now.
        serving: u32,
        /// How many slots there are.
        of: u32,
    },
    /// A worker that holds or was to take a slot is gone or going, and another will be started in its slot.
    Respawning {
        /// The worker that must be replaced.
        worker: WorkerId,
        /// Its slot.
        slot: SlotId,
        /// How long until the next one is started, by the limiter and the queue before it. On trial it may take
        /// longer: one failing slot is retried at a time. So it may where others boot, up to the limit.
        delay: Duration,
    },
    /// A worker that holds no slot any more has ended, and none is started in its place before the next reload.
    Held {
        /// The worker.
        worker: WorkerId,
        /// Its slot.
        slot: SlotId,
    },
    /// A wanted worker failed before it served; or it served, and ended while its generation was still on trial.
    Failed(Failure),
    /// A worker is not ready in time and may go on ([`Lateness`](crate::Lateness)).
    Late {
        /// The worker.
        worker: WorkerId,
        /// Its slot.
        slot: SlotId,
    },
    /// A worker has missed a deadline and is sent a signal.
    Overdue {
        /// The worker.
        worker: WorkerId,
        /// The deadline.
        due: Due,
        /// What it is sent.
        signal: Signal,
    },
    /// A worker lives on that was sent KILL long ago. Nothing waits for it any more; if it ends after all, that is told.
    Unkillable {
        /// The worker.
        worker: WorkerId,
        /// Its slot.
        slot: SlotId,
        /// Its generation.
        generation: Generation,
    },
    /// A worker has ended. One that could not be started has a notice of its failure only.
    Gone {
        /// The worker.
        worker: WorkerId,
        /// Its slot.
        slot: SlotId,
        /// Its generation.
        generation: Generation,
        /// How it ended.
        exit: Exit,
        /// Whether it had been asked to go, or was sent a signal by us.
        expected: bool,
    },
    /// The first start is complete: every slot has a serving worker.
    Started {
        /// Its generation.
        generation: Generation,
    },
    /// The first start failed: what lives is drained, and nothing more is started.
    StartFailed(Failure),
    /// A reload gave way to a newer one; its callers wait for that one now.
    Superseded {
        /// The generation that was being started.
        generation: Generation,
    },
    /// A reload ended. Every caller is named in exactly one verdict.
    Verdict {
        /// The generation that was being started; none where the reload never began.
        generation: Option<Generation>,
        /// Who waited.
        callers: Vec<Caller>,
        /// How it ended.
        verdict: Verdict,
    },
    /// The number of slots changed.
    Scaled {
        /// Before.
        from: u32,
        /// Now.
        to: u32,
    },
    /// The replacement of one worker was given up, since the new one never served. The old one goes on.
    ReplaceFailed(Failure),
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every caller must handle each of them")]
pub enum Verdict {
    /// Every slot is served by the new generation.
    Done,
    /// The new generation failed and was taken down; the old one serves on.
    RolledBack(Failure),
    /// The new generation failed after some slots were replaced (bounded surge); those keep the new code.
    StoppedPartWay {
        /// How many slots run the new generation.
        replaced: u32,
        /// Of how many.
        of: u32,
        /// Why it stopped.
        failure: Failure,
    },
    /// A stop, a terminate or a release came before the reload ended.
    Abandoned,
}

/// Why the core wants to be woken, or why a worker was sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "each is a rule of the policy")]
pub enum Due {
    /// A worker must be ready by then.
    Ready(WorkerId),
    /// A worker has lived for the bake time and serves from then on.
    Bake(WorkerId),
    /// A draining worker's timeout ends.
    Drain(WorkerId),
    /// A draining worker is of an old generation beyond those that may drain at once. No moment is ever due for this.
    Surplus(WorkerId),
    /// A worker whose channel is closed should have exited by then.
    Exit(WorkerId),
    /// A worker that was sent TERM should have exited by then.
    Kill(WorkerId),
    /// A worker that was sent KILL should be gone by then.
    End(WorkerId),
    /// The limiter allows the next respawn.
    Respawn,
    /// The next generation may begin.
    Reload,
    /// Changed files are to become a reload.
    Changes,
}
