//! How a cluster is run, as far as a reload may change it; and the changing.

use std::fmt;
use std::time::Duration;

use recluster_core as core;
use recluster_core::Config;

use crate::builder::{ClusterBuilder, ReadyWhen};
use crate::check::Checks;
use crate::driver::Driver;
use crate::listen::Listen;
use crate::preload::Preload;
use crate::process::DrainSignal;
use crate::program::Program;
use crate::recycle::Limits;

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

/// How a cluster was run before a reload.
#[derive(Debug)]
pub(crate) struct Fallback {
    config: Config,
    conduct: Conduct,
    /// How many slots there were, whatever the settings say.
    slots: u32,
}

/// Says anew, when a reload begins, how the cluster is to be run; or why it cannot.
pub(crate) struct Reread(pub(crate) Box<dyn FnMut() -> Result<ClusterBuilder, String> + Send>);

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reread")
    }
}

impl Driver {
    /// Lets a reload begin with this, or with what is said now. If that cannot be, nothing is touched, and the reason is returned.
    pub(crate) fn reread(&mut self, with: Option<Box<ClusterBuilder>>) -> Result<(), String> {
        let said = match (with, &mut self.shell.reread) {
            (Some(said), _) => *said,
            (None, Some(Reread(say))) => say()?,
            (None, None) => return Ok(()),
        };
        let examined = said.examine().map_err(|error| error.to_string())?;
        let slots = u32::try_from(self.policy.status().slots.len()).unwrap_or(u32::MAX);
        let conduct = std::mem::replace(&mut self.shell.conduct, examined.conduct);
        let before = Fallback { config: self.config, conduct, slots };
        // What was proven is kept while one reload gives way to another.
        self.fallback.get_or_insert(before);
        self.configure(examined.config);
        Ok(())
    }

    /// A reload has ended: after a rollback everything is as it was before.
    pub(crate) fn keep_conduct(&mut self, verdict: core::Verdict) {
        let Some(Fallback { config, conduct, slots }) = self.fallback.take() else { return };
        if matches!(verdict, core::Verdict::RolledBack(_)) {
            self.shell.conduct = conduct;
            self.config = config;
            self.follow_ups.extend([core::Event::Configure(config), core::Event::Scale(slots)]);
        }
    }

    /// The number of slots follows the settings only where these name another one than before: else it is what was last
    /// asked for.
    fn configure(&mut self, config: Config) {
        let before = std::mem::replace(&mut self.config, config);
        self.tell(core::Event::Configure(config));
        let slots = config.settings().workers;
        if slots != before.settings().workers {
            self.tell(core::Event::Scale(slots));
        }
        self.watch_limits();
    }
}
