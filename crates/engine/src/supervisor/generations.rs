//! How a cluster is run, as far as a reload may change it; and the changing.

use std::fmt;
use std::time::Duration;

use recluster_core as core;
use recluster_core::{Config, Generation};

use crate::api::builder::ClusterBuilder;
use crate::api::start::Examined;
use crate::config::drain_signal::DrainSignal;
use crate::config::limits::Limits;
use crate::config::listen::Listen;
use crate::config::ready::ReadyWhen;
use crate::process::health_check::Checks;
use crate::process::preload::Preload;
use crate::process::program::Program;
use crate::supervisor::Supervisor;

/// What holds until a reload says otherwise, beside the policy's settings.
#[derive(Clone, Debug)]
pub(crate) struct Conduct {
    pub(crate) program: Program,
    pub(crate) ready_when: ReadyWhen,
    pub(crate) ready_timeout: Duration,
    pub(crate) kill_timeout: Duration,
    /// The lossless drain of Node workers, if it is on.
    pub(crate) preload: Option<Preload>,
    /// How long a stop waits before it begins.
    pub(crate) accept_after_stop: Duration,
    /// What programs that are not Node are sent when they are to drain.
    pub(crate) drain_signal: DrainSignal,
    /// When workers are renewed.
    pub(crate) limits: Limits,
    /// What workers are asked to find out whether they serve.
    pub(crate) checks: Option<Checks>,
    /// Where each worker gets a listener of its own, to be asked on.
    pub(crate) check_listen: Option<Listen>,
    /// How long a worker may be silent.
    pub(crate) watchdog: Option<Duration>,
}

/// How a cluster is to be run, or was.
#[derive(Debug)]
pub(crate) struct Terms {
    /// What the policy is told.
    config: Config,
    conduct: Conduct,
}

/// Says anew, when a reload is asked for, how the cluster is to be run; or why it cannot.
pub(crate) struct Reread(pub(crate) Box<dyn FnMut() -> Result<ClusterBuilder, String> + Send>);

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reread")
    }
}

impl Supervisor {
    /// Asks how the cluster is to be run after a reload: as this says, or as is said now. Nothing changes before that reload
    /// begins. If it cannot be, the reason is returned; else what the policy is to know.
    pub(crate) fn reread(&mut self, with: Option<Box<ClusterBuilder>>) -> Result<Option<Config>, String> {
        let said = match (with, &mut self.shell.reread) {
            (Some(said), _) => *said,
            (None, Some(Reread(say))) => say()?,
            (None, None) => return Ok(None),
        };
        let Examined { config, conduct, .. } = said.examine().map_err(|error| error.to_string())?;
        // Reloads that wait begin as one, and what was said last counts.
        self.said = Some(Terms { config, conduct });
        Ok(Some(config))
    }

    /// A generation begins, by what was said for it. The policy has the same settings in force from here on.
    pub(crate) fn begin_generation(&mut self) {
        if let Some(said) = self.said.take() {
            let before = self.run_by(said);
            // What was proven is kept while one reload gives way to another.
            self.fallback.get_or_insert(before);
        }
    }

    /// A reload has ended, or will never begin. After a rollback everything is as it was before.
    pub(crate) fn end_generation(&mut self, generation: Option<Generation>, verdict: core::Verdict) {
        if generation.is_none() {
            self.said = None;
            return;
        }
        let fallback = self.fallback.take();
        if let (core::Verdict::RolledBack(_), Some(before)) = (verdict, fallback) {
            self.run_by(before);
        }
    }

    /// How many slots there are for the workers of a generation, as far as that is known.
    pub(crate) fn slots_for(&self, generation: Generation) -> u32 {
        let status = self.policy.status();
        let reload = status.reload.filter(|reload| reload.generation == generation);
        reload.map_or(u32::try_from(status.slots.len()).unwrap_or(u32::MAX), |reload| reload.of)
    }

    /// Puts these terms in force; returns those before.
    fn run_by(&mut self, terms: Terms) -> Terms {
        let config = std::mem::replace(&mut self.config, terms.config);
        let conduct = std::mem::replace(&mut self.shell.conduct, terms.conduct);
        self.watch_limits();
        Terms { config, conduct }
    }
}
