//! What happened: the facts that the shell reports to the core.

use crate::{Caller, Config, SlotId, WorkerId};

/// One fact. The core takes it as true; a fact about a worker that has ended is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the shell must name each of them; a new one is a new duty")]
pub enum Event {
    /// The worker's process is being started. Until then it queues, and from then on its time to be ready counts. (While
    /// it queues that time is what may pass without any worker being begun.)
    Begun(WorkerId),
    /// The worker's process runs and has sent its first message.
    Online(WorkerId),
    /// The worker can serve. A second one, such as for another port, changes nothing.
    Ready(WorkerId),
    /// The worker, which does not serve yet, is not ready after all. Means nothing for one that serves or leaves.
    Unready(WorkerId),
    /// The worker asks to be replaced: it said so, or it closes its servers.
    Retiring(WorkerId),
    /// The worker's channel is closed; its process may still live.
    Disconnected(WorkerId),
    /// The worker's process has ended. Also one that was given up as unkillable may.
    Exited(WorkerId, Exit),
    /// The worker, which was sent KILL, is about to end: it has that much time once more, but for [`MOST_SPARED`] times at most. Means
    /// nothing otherwise.
    ///
    /// [`MOST_SPARED`]: crate::MOST_SPARED
    Ending(WorkerId),
    /// The worker's process could not be started.
    SpawnFailed(WorkerId, SpawnFailure),
    /// A file has changed that asks for a reload. When that has settled, the shell is told to [ask for
    /// it](crate::Action::Reload).
    Changed(Change),
    /// Replace every worker by a new generation.
    Reload {
        /// The caller who waits for the verdict, if there is one.
        caller: Option<Caller>,
        /// The settings that come with the new generation, if others than now: they are in force from its beginning, and
        /// a rollback brings back those before. Of several calls that wait together the last word counts.
        ///
        /// Another number of slots than the settings before had is what the reload changes that to: a larger one at
        /// once, a smaller one when it is done. [`Event::Scale`] overrules it, then and afterwards.
        config: Option<Config>,
    },
    /// Renew one worker within its generation, new first. Means nothing for a worker that does not hold its slot,
    /// during a reload, and before anything has served.
    Replace(WorkerId),
    /// Change the number of slots. Zero is taken as one. The number stays, however a reload that runs or waits ends.
    Scale(u32),
    /// Drain everything, start nothing more.
    Stop,
    /// Kill everything, start nothing more.
    Terminate,
    /// Supervise no more: workers are left alone, nothing is started.
    Release,
    /// Supervise again after a release: those who live keep their slots, vacant slots get a worker at once. Means nothing
    /// otherwise.
    Resume,
    /// Time has passed.
    Tick,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "a process ends in these two ways")]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Why a process could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "the one question is whether trying again can help")]
pub enum SpawnFailure {
    /// The machine is short of something (processes, descriptors, memory): trying again may help.
    Temporary,
    /// The generation can never start: no such file, no permission. Trying again cannot help.
    Hopeless,
}

/// Why a worker failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "every front end words each of them")]
pub enum Cause {
    /// It exited.
    Exited(Exit),
    /// It was not ready in time.
    ReadyTimeout,
    /// It could not be started.
    SpawnFailed(SpawnFailure),
    /// It retired or closed its channel.
    Retired,
}

/// A kind of files that ask for a reload when they change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "each has a pace of its own")]
pub enum Change {
    /// Code that somebody is writing: who has saved a file waits for what it does.
    Source,
    /// What is put in place in production: a release, a configuration, a certificate.
    Deployed,
}

/// One failure: of a worker to come to serve or, while its generation was on trial, to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record of the verdict")]
pub struct Failure {
    /// The worker that failed.
    pub worker: WorkerId,
    /// Its slot.
    pub slot: SlotId,
    /// What happened to it.
    pub cause: Cause,
    /// How often in a row this slot had failed by then, this failure included. A reload counts from its beginning.
    pub failures: u32,
}
