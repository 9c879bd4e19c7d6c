//! How often each event, action, notice and outcome occurred: a simulator that never saw one has proved nothing of it.

use std::collections::BTreeMap;
use std::fmt;

use recluster_core::{Action, Cause, Due, Event, Failure, Notice, Phase, Signal, SpawnFailure, Verdict};

/// Everything that must occur, over all runs together.
const EXPECTED: [&str; 71] = [
    "event Begun",
    "event Online",
    "event Ready",
    "event Unready",
    "event Retiring",
    "event Disconnected",
    "event Exited",
    "event Ending",
    "event SpawnFailed(Temporary)",
    "event SpawnFailed(Hopeless)",
    "event Changed",
    "event Reload(caller)",
    "event Reload",
    "event Replace",
    "event Scale",
    "event Reload(config)",
    "event Stop",
    "event Terminate",
    "event Release",
    "event Tick",
    "action Spawn",
    "action Drain",
    "action TERM",
    "action KILL",
    "action Reload",
    "notice GenerationBegan",
    "notice Serving",
    "notice Respawning",
    "notice Failed",
    "notice Held",
    "notice Overdue",
    "notice Gone",
    "notice Unkillable",
    "notice Started",
    "notice StartFailed",
    "notice Superseded",
    "notice Scaled",
    "notice ReplaceFailed",
    "verdict Done",
    "verdict RolledBack",
    "verdict StoppedPartWay",
    "verdict Abandoned",
    "verdict Abandoned before it began",
    "verdict for no caller",
    "verdict for one caller",
    "verdict for many callers",
    "cause Exited",
    "cause ReadyTimeout",
    "cause SpawnFailed(Temporary)",
    "cause SpawnFailed(Hopeless)",
    "cause Retired",
    "overdue Ready",
    "overdue Drain",
    "overdue Surplus",
    "overdue Exit",
    "overdue Kill",
    "due Ready",
    "due Bake",
    "due Drain",
    "due Exit",
    "due Kill",
    "due End",
    "due Respawn",
    "due Reload",
    "due Changes",
    "phase Starting",
    "phase Running",
    "phase Stopping",
    "phase Terminating",
    "phase Released",
    "phase Over",
];

/// Must occur as well, where the policy can be saved at all.
const SAVED: &str = "saved and loaded";

/// Counts by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    fn count(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    #[cfg(feature = "serde")]
    pub(crate) fn saved(&mut self) {
        self.count(SAVED);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    /// What never occurred.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let saved = cfg!(feature = "serde").then_some(SAVED);
        EXPECTED.into_iter().chain(saved).filter(|name| !self.0.contains_key(name)).collect()
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.count(match event {
            Event::Begun(_) => "event Begun",
            Event::Online(_) => "event Online",
            Event::Ready(_) => "event Ready",
            Event::Unready(_) => "event Unready",
            Event::Retiring(_) => "event Retiring",
            Event::Disconnected(_) => "event Disconnected",
            Event::Exited(..) => "event Exited",
            Event::Ending(_) => "event Ending",
            Event::SpawnFailed(_, SpawnFailure::Temporary) => "event SpawnFailed(Temporary)",
            Event::SpawnFailed(_, SpawnFailure::Hopeless) => "event SpawnFailed(Hopeless)",
            Event::Changed(_) => "event Changed",
            Event::Reload { config: Some(_), .. } => "event Reload(config)",
            Event::Reload { caller: Some(_), .. } => "event Reload(caller)",
            Event::Reload { .. } => "event Reload",
            Event::Replace(_) => "event Replace",
            Event::Scale(_) => "event Scale",
            Event::Stop => "event Stop",
            Event::Terminate => "event Terminate",
            Event::Release => "event Release",
            Event::Resume => "event Resume",
            Event::Tick => "event Tick",
        });
    }

    pub(crate) fn action(&mut self, action: &Action) {
        match action {
            Action::Spawn { .. } => self.count("action Spawn"),
            Action::Drain { .. } => self.count("action Drain"),
            Action::Signal { signal: Signal::Term, .. } => self.count("action TERM"),
            Action::Signal { signal: Signal::Kill, .. } => self.count("action KILL"),
            Action::Reload(_) => self.count("action Reload"),
            Action::Notify(notice) => self.notice(notice),
        }
    }

    fn notice(&mut self, notice: &Notice) {
        self.count(match notice {
            Notice::GenerationBegan { .. } => "notice GenerationBegan",
            Notice::Serving { .. } => "notice Serving",
            Notice::Respawning { .. } => "notice Respawning",
            Notice::Failed(_) => "notice Failed",
            Notice::Held { .. } => "notice Held",
            Notice::Overdue { .. } => "notice Overdue",
            Notice::Gone { .. } => "notice Gone",
            Notice::Unkillable { .. } => "notice Unkillable",
            Notice::Started { .. } => "notice Started",
            Notice::StartFailed(_) => "notice StartFailed",
            Notice::Superseded { .. } => "notice Superseded",
            Notice::Verdict { .. } => "notice Verdict",
            Notice::Scaled { .. } => "notice Scaled",
            Notice::ReplaceFailed(_) => "notice ReplaceFailed",
            Notice::Late { .. } => "notice Late",
            _ => "notice of an unknown kind",
        });
        if let Notice::Failed(failure) = notice {
            self.cause(failure);
        }
        if let Notice::Overdue { due, .. } = notice {
            self.overdue(*due);
        }
        if let Notice::Verdict { generation, callers, verdict } = notice {
            self.verdict(generation.is_some(), *verdict);
            self.callers(callers.len());
        }
    }

    fn callers(&mut self, callers: usize) {
        self.count(match callers {
            0 => "verdict for no caller",
            1 => "verdict for one caller",
            _ => "verdict for many callers",
        });
    }

    fn verdict(&mut self, began: bool, verdict: Verdict) {
        self.count(match verdict {
            Verdict::Done => "verdict Done",
            Verdict::RolledBack(_) => "verdict RolledBack",
            Verdict::StoppedPartWay { .. } => "verdict StoppedPartWay",
            Verdict::Abandoned if began => "verdict Abandoned",
            Verdict::Abandoned => "verdict Abandoned before it began",
        });
    }

    fn cause(&mut self, failure: &Failure) {
        self.count(match failure.cause {
            Cause::Exited(_) => "cause Exited",
            Cause::ReadyTimeout => "cause ReadyTimeout",
            Cause::SpawnFailed(SpawnFailure::Temporary) => "cause SpawnFailed(Temporary)",
            Cause::SpawnFailed(SpawnFailure::Hopeless) => "cause SpawnFailed(Hopeless)",
            Cause::Retired => "cause Retired",
        });
    }

    fn overdue(&mut self, due: Due) {
        self.count(match due {
            Due::Ready(_) => "overdue Ready",
            Due::Drain(_) => "overdue Drain",
            Due::Surplus(_) => "overdue Surplus",
            Due::Exit(_) => "overdue Exit",
            Due::Kill(_) => "overdue Kill",
            Due::Bake(_) | Due::End(_) | Due::Respawn | Due::Reload | Due::Changes => {
                "overdue of an unknown kind"
            }
        });
    }

    pub(crate) fn due(&mut self, due: Due) {
        self.count(match due {
            Due::Ready(_) => "due Ready",
            Due::Bake(_) => "due Bake",
            Due::Drain(_) => "due Drain",
            Due::Surplus(_) => "due of an unknown kind",
            Due::Exit(_) => "due Exit",
            Due::Kill(_) => "due Kill",
            Due::End(_) => "due End",
            Due::Respawn => "due Respawn",
            Due::Reload => "due Reload",
            Due::Changes => "due Changes",
        });
    }

    pub(crate) fn phase(&mut self, phase: Phase) {
        self.count(match phase {
            Phase::Starting => "phase Starting",
            Phase::Running => "phase Running",
            Phase::Stopping => "phase Stopping",
            Phase::Terminating => "phase Terminating",
            Phase::Released => "phase Released",
            Phase::Over => "phase Over",
        });
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, count)| writeln!(f, "{count:>12}  {name}"))
    }
}
