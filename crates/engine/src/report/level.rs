//! [`Level`]: how much it matters that something happened.

use serde::{Deserialize, Serialize};

use crate::report::event::{Event, Exit};
use crate::report::signal::signal_name;
use crate::report::verdict::Verdict;

/// How much an event matters to whoever runs the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "these four are what logs everywhere have")]
pub enum Level {
    /// Routine: one step of a start, of a drain, of a stop.
    Debug,
    /// It changes how the cluster serves, as it should.
    Info,
    /// Something is wrong or was lost, and the cluster copes with it.
    Warn,
    /// What was asked for was not done, or clients are not served.
    Error,
}

impl Level {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl Event {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Self::FileLost { .. }
            | Self::StartFailed { .. }
            | Self::ReplaceFailed { .. }
            | Self::Unkillable { .. }
            | Self::WorkerLogFailed { .. }
            | Self::UpgradeFailed { .. }
            | Self::Panicked { .. }
            | Self::Reloaded {
                verdict: Verdict::RolledBack { .. } | Verdict::StoppedPartWay { .. } | Verdict::Refused { .. },
                ..
            } => Level::Error,
            Self::Exit { expected: true, exit, oom_killed: false, .. } if !is_fault(*exit) => Level::Debug,
            Self::ListenUnused { .. }
            | Self::ListenIgnored { .. }
            | Self::Caveat { .. }
            | Self::Exit { .. }
            | Self::StartHangs { .. }
            | Self::Late { .. }
            | Self::Overdue { .. }
            | Self::OutOfTime { .. }
            | Self::KeepAliveTooLong { .. }
            | Self::LeftBehind { .. }
            | Self::AddressTaken { .. }
            | Self::Backgrounded { .. }
            | Self::Failed { .. }
            | Self::PreloadMissing { .. }
            | Self::CompileCacheOff { .. }
            | Self::Moved { .. }
            | Self::WatchLimited { .. }
            | Self::Unhealthy { .. }
            | Self::NotStored { .. }
            | Self::Hung { .. }
            | Self::CutOff { .. }
            | Self::MessagesLost { .. }
            | Self::MessageUnheard { .. }
            | Self::MessageSkipped { .. }
            | Self::LinesLost { .. }
            | Self::WorkerLogResumed { .. }
            | Self::HookFailed { .. } => Level::Warn,
            Self::Bound { .. }
            | Self::InspectorMoved { .. }
            | Self::Respawning { .. }
            | Self::FilesChanged { .. }
            | Self::Held { .. }
            | Self::AcceptingUntilStop { .. }
            | Self::Recycling { .. }
            | Self::Upgraded { .. }
            | Self::Started { .. }
            | Self::Superseded { .. }
            | Self::Reloaded { verdict: Verdict::Done | Verdict::Abandoned, .. }
            | Self::Scaled { .. }
            | Self::Stopping
            | Self::Over => Level::Info,
            Self::GenerationBegan { generation } if *generation > 1 => Level::Info,
            Self::GenerationBegan { .. }
            | Self::Spawned { .. }
            | Self::Online { .. }
            | Self::Listening { .. }
            | Self::Closed { .. }
            | Self::FileRestored { .. }
            | Self::Ready { .. }
            | Self::Serving { .. }
            | Self::Message { .. }
            | Self::Disconnect { .. }
            | Self::Draining { .. } => Level::Debug,
        }
    }
}

/// Whether a worker that was let go ended by a fault: what it was answering is lost then. A status from 128 on says by
/// convention that it heard a signal, and the signals by which applications end themselves are none of these.
fn is_fault(exit: Exit) -> bool {
    match exit {
        Exit::Code(code) => (1..128).contains(&code),
        Exit::Signal(signal) => ["SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"]
            .contains(&&*signal_name(signal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::worker::Worker;

    #[test]
    fn an_exit_matters_by_how_it_came() {
        let worker = Worker { id: 1, slot: 0, generation: 1, pid: Some(7) };
        let level = |exit, expected| Event::Exit { worker, exit, expected, oom_killed: false }.level();
        assert_eq!(level(Exit::Code(0), true), Level::Debug);
        assert_eq!(level(Exit::Code(143), true), Level::Debug, "it heard SIGTERM");
        assert_eq!(level(Exit::Signal(15), true), Level::Debug);
        assert_eq!(level(Exit::Code(1), true), Level::Warn, "what it was answering is lost");
        assert_eq!(level(Exit::Signal(11), true), Level::Warn);
        assert_eq!(level(Exit::Code(0), false), Level::Warn);
        let killed = Event::Exit { worker, exit: Exit::Signal(9), expected: true, oom_killed: true };
        assert_eq!(killed.level(), Level::Warn);
    }

    #[test]
    fn a_level_is_written_as_it_is_serialised() {
        for level in [Level::Debug, Level::Info, Level::Warn, Level::Error] {
            assert_eq!(serde_json::to_value(level).unwrap(), level.as_str());
        }
        assert!(Level::Debug < Level::Info && Level::Info < Level::Warn && Level::Warn < Level::Error);
    }
}
