//! Everything that can be wrong with a cluster and can be known before anything is started.

use std::path::PathBuf;

use recluster_core::Config;

use crate::api::builder::ClusterBuilder;
use crate::config::balance::Balance;
use crate::process::health_check::{Checks, ReadyCheck};
use crate::process::preload::Preload;
use crate::process::program::{NodeKind, ResolvedProgram};
use crate::report::error::StartError;
use crate::supervisor::generations::Conduct;

impl ClusterBuilder {
    /// Looks at everything that can be wrong before anything is started.
    pub(crate) fn examine(self) -> Result<Examined, StartError> {
        let mut settings = self.settings;
        settings.stop_timeout = self.stop_timeout.unwrap_or(settings.stop_timeout.min(settings.timeout));
        let counts = self.balance.has_workers_accept();
        let preload = Preload { idle_grace: self.idle_grace, timeout: settings.timeout, counts };
        let config = Config::new(settings)?;
        let first = self.program.resolve()?;
        let ready_when = self.ready_when.unwrap_or_else(|| first.default_ready_when());
        if first.node_kind() == Some(NodeKind::Deno) && self.balance == Balance::Shared {
            return Err(StartError::DenoTakesNoSocket);
        }
        if !first.is_node() && self.balance.sticky_by().is_some() {
            return Err(StartError::StickyWithoutNode);
        }
        let (every, timeout) = (self.check_interval, self.check_timeout);
        let checks = self.ready_check.map(|check| Checks { check, every, timeout });
        let asks_by_http = checks.as_ref().is_some_and(|checks| matches!(checks.check, ReadyCheck::Http(_)));
        if asks_by_http && !first.is_node() && self.check_listen.is_none() {
            return Err(StartError::CheckReachesNeighbours);
        }
        if let Some(listen) = &self.check_listen {
            listen.suits_checks(first.is_node())?;
        }
        let conduct = Conduct {
            program: self.program,
            ready_when,
            ready_timeout: settings.ready_timeout,
            kill_timeout: settings.kill_timeout,
            preload: self.drain_http.then_some(preload),
            accept_after_stop: self.accept_after_stop,
            drain_signal: self.drain_signal,
            limits: self.limits,
            checks,
            check_listen: self.check_listen,
            watchdog: self.watchdog,
        };
        Ok(Examined { config, first, conduct })
    }
}

/// What a cluster would run: every symlink resolved as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Checked {
    /// The server file.
    pub server: PathBuf,
    /// The node binary, where the server file runs under it.
    pub node: Option<PathBuf>,
}

/// What a builder says, when there is nothing wrong with it.
pub(crate) struct Examined {
    pub(crate) config: Config,
    /// What the next generation would run.
    pub(crate) first: ResolvedProgram,
    pub(crate) conduct: Conduct,
}
