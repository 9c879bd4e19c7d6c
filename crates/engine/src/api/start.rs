//! From a builder to a running cluster: everything that can be wrong and can be known before is looked at first.

use std::path::PathBuf;

use recluster_core::Config;

use crate::api::builder::ClusterBuilder;
use crate::api::cluster::Cluster;
use crate::config::balance::Balance;
use crate::config::ready::ReadyCheck;
use crate::process::health_check::Checks;
use crate::process::preload::Preload;
use crate::process::program::{NodeKind, ResolvedProgram, Runtime};
use crate::report::error::StartError;
use crate::socket::bind;
use crate::supervisor::generations::Conduct;
use crate::{dataplane, process, supervisor};

impl ClusterBuilder {
    /// Starts the cluster: checks everything, then starts the workers. Returns before they are ready;
    /// [`Cluster::started`] waits for that. Must be called in a tokio runtime with IO and time enabled.
    ///
    /// # Errors
    ///
    /// When the server or node cannot be run, the settings contradict each other, or the machine refuses a
    /// thread or a descriptor. Nothing has been started then.
    pub async fn start(mut self) -> Result<Cluster, StartError> {
        if process::ignores_ended_children() {
            return Err(StartError::ChildrenIgnored);
        }
        let (adopted, listens) = (std::mem::take(&mut self.adopted), std::mem::take(&mut self.listens));
        let (balance, raw_stdio, end_with_master) =
            (self.balance.clone(), self.raw_stdio, self.end_with_master);
        let (events, reread, peek) = (self.events.clone(), self.reread.take(), self.peek);
        let heard = events.downgrade();
        let hosting = std::mem::take(&mut self.hosting);
        let Examined { config, first, conduct } = self.examine()?;
        let bound = bind::bind_all(adopted, &listens).await?;
        let system = |source| StartError::System { what: "copy a listening socket", source };
        let means = dataplane::Config {
            balance: balance.clone(),
            peek,
            // Deno takes connections, and no sockets.
            workers_accept: first.node_kind() != Some(NodeKind::Deno),
            is_hosted: hosting.host.is_some(),
        };
        let setup = dataplane::Setup::new(means, &bound).map_err(system)?;
        let shell = supervisor::Shell {
            conduct,
            first,
            balance,
            raw_stdio,
            end_with_master,
            bound,
            reread,
            hosting,
            events,
        };
        let supervisor::Controls { inputs, progress } = supervisor::start(config, shell, setup)?;
        Ok(Cluster { inputs, events: heard, progress })
    }

    /// Whether it could be started, without starting it: the same questions as [`start`](Self::start) asks, but for what
    /// only binding and starting can tell.
    ///
    /// # Errors
    ///
    /// As those of [`start`](Self::start).
    pub fn check(self) -> Result<Checked, StartError> {
        bind::check_all(&self.listens)?;
        let first = self.examine()?.first;
        let node = match first.runtime {
            Runtime::Node { binary, .. } => Some(binary),
            Runtime::Executable { .. } => None,
        };
        Ok(Checked { server: first.server, node })
    }

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
