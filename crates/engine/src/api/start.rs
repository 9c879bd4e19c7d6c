//! From a builder to a running cluster: everything that can be wrong and can be known before is looked at first.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::api::builder::ClusterBuilder;
use crate::api::cluster::Cluster;
use crate::aside::aside;
use crate::config::listen::Listen;
use crate::process::advice;
use crate::process::program::ResolvedProgram;
use crate::process::runtime::{NodeKind, Runtime};
use crate::process::slot_files;
use crate::process::survivors;
use crate::report::error::{ProgramError, StartError};
use crate::socket::bind::{self, Bound};
use crate::socket::kept::Pool;
use crate::socket::manager::ManagerSocket;
use crate::supervisor::audience::Audience;
use crate::supervisor::beginning::{self, BALANCE};
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
        let mut inheritance = self.inheritance.take();
        if let Some(inheritance) = &mut inheritance {
            self.balance = inheritance.needed(BALANCE)?;
        }
        let running = inheritance.as_ref().map(beginning::program_left).transpose()?.flatten();
        let (spec, first) = match running {
            Some(running) => self.draft.of(running, &self.balance)?,
            None => self.draft.check(&self.balance)?,
        };
        let cluster = self.cluster.clone().filter(|_| inheritance.is_none());
        let begins_anew = self.after_panic.as_ref().is_some_and(|after| after.has_panicked());
        let survivors = survivors(cluster, &first, begins_anew).await;
        let (mut pool, manager) = (std::mem::take(&mut self.kept), self.manager.as_ref());
        let mut returned = pool.names();
        pool.tells(manager.and_then(|manager| ManagerSocket::open(manager.socket.clone()).ok()));
        let keeps = manager.is_some_and(|manager| manager.store.is_some());
        let mut bound = if let Some(inheritance) = &mut inheritance {
            bind::adopt_all(inheritance)?
        } else {
            bound(adopted, &listens, &first, &mut pool).await?
        };
        returned.retain(|name| !pool.given_up().contains(name));
        let system = |source| StartError::System { what: "copy a listening socket", source };
        let means = dataplane::Config {
            balance: self.balance.clone(),
            peek: self.peek,
            // Deno takes connections, and no sockets.
            workers_accept: first.node_kind() != Some(NodeKind::Deno),
            is_hosted: self.host.is_some(),
            messages: self.messages,
        };
        let setup = dataplane::Setup::new(means, &bound, self.lender).map_err(system)?;
        let mut setup = setup.kept(pool, keeps, &mut bound);
        setup.has_survivors = !survivors.is_empty();
        setup.begins_anew = self.after_panic.is_some();
        let heard = self.events.downgrade();
        let shell = supervisor::Shell {
            spec,
            first,
            balance: self.balance,
            raw_stdio: self.raw_stdio,
            output: self.output,
            end_with_master: self.end_with_master,
            seat: self.seat,
            successor: self.successor,
            after_panic: self.after_panic,
            cluster: self.cluster,
            open_files: self.open_files,
            bound,
            reread: self.reread,
            watched: self.watched,
            own: self.own,
            numbering: self.numbering,
            latest: self.latest,
            name: self.name,
            manager: self.manager,
            returned,
        };
        let audience = Audience::new(self.events, self.host);
        let controls = supervisor::start(shell, audience, setup, inheritance.as_mut())?;
        let supervisor::Controls { inputs, progress, ring } = controls;
        Ok(Cluster { inputs, events: heard, progress, ring, look: self.look, survivors: survivors.into() })
    }

    /// The environment that workers would be given now, but for what each has of its own, such as `WORKER_ID`.
    ///
    /// # Errors
    ///
    /// When an env file cannot be read, or a variable cannot be one for workers.
    pub fn worker_environment(&self) -> Result<BTreeMap<OsString, OsString>, ProgramError> {
        self.draft.program.variables().map(|(env, _)| env)
    }

    /// Whether it could be started, without starting it: the same questions as [`start`](Self::start) asks, but for what
    /// only binding and starting can tell.
    ///
    /// # Errors
    ///
    /// As those of [`start`](Self::start).
    pub fn check(mut self) -> Result<Checked, StartError> {
        let listens = std::mem::take(&mut self.listens);
        let has_listeners = !(listens.is_empty() && self.adopted.is_empty());
        let (spec, first) = self.draft.check(&self.balance)?;
        let (slots, stop_timeout) = (spec.settings().workers, spec.settings().stop_timeout);
        bind::check_all(&listens)?;
        if let Some(log) = self.output.log {
            let directory = log.directory.clone();
            slot_files::check(&log, slots).map_err(|source| StartError::WorkerLog { directory, source })?;
        }
        let caveats = advice::caveats(&first, has_listeners).into_iter().map(String::from).collect();
        let how = first.runtime.in_words();
        let under = first.node_kind().map(NodeKind::name);
        let (node, node_args) = match first.runtime {
            Runtime::Node { binary, args, .. } => (Some(binary), args),
            Runtime::Executable { .. } => (None, Vec::new()),
        };
        let (server, directory) = (first.server, first.directory);
        Ok(Checked { server, directory, how, under, node, node_args, caveats, stop_timeout })
    }

    /// Whether the addresses that it would bind can be bound now. Each is free again afterwards, and no file is made. An
    /// address that is in use is waited for, as [`start`](Self::start) does. Must be called in a tokio runtime with time
    /// enabled.
    ///
    /// # Errors
    ///
    /// As those of [`start`](Self::start).
    pub async fn check_addresses(&self) -> Result<(), StartError> {
        bind::preview_all(&self.adopted, &self.listens).await
    }
}

/// The workers that this cluster had under a master before, where it is known by what they name it.
async fn survivors(cluster: Option<Arc<OsStr>>, first: &ResolvedProgram, begins_anew: bool) -> Vec<u32> {
    let Some(cluster) = cluster else { return Vec::new() };
    let [user, _] = first.privileges.user();
    // It looks at every process of the machine, and one of them may keep whoever looks.
    let look = aside(move || survivors::of(&cluster, user, begins_anew));
    timeout(survivors::PATIENCE, look).await.ok().and_then(Result::ok).unwrap_or_default()
}

/// All that the master binds itself, beside what it was started with.
async fn bound(
    adopted: Vec<Bound>,
    listens: &[Listen],
    first: &ResolvedProgram,
    pool: &mut Pool,
) -> Result<Vec<Bound>, StartError> {
    let mut bound = bind::bind_all(adopted, listens, pool).await?;
    if first.node_kind().is_none() {
        dataplane::stand_alone(&mut bound, pool);
    }
    Ok(bound)
}

/// What a cluster would run: every symlink resolved as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Checked {
    /// The server file.
    pub server: PathBuf,
    /// The working directory.
    pub directory: PathBuf,
    /// How the server file is run, and why so, in words.
    pub how: String,
    /// What it runs under: `node`, `deno` or `bun`; none where it runs as it is.
    pub under: Option<&'static str>,
    /// The binary of that.
    pub node: Option<PathBuf>,
    /// The arguments of that: those of the server file's first line, then those that were given.
    pub node_args: Vec<OsString>,
    /// What people should know of such a program.
    pub caveats: Vec<String>,
    /// How long a worker may take at a stop, until it is sent TERM.
    pub stop_timeout: Duration,
}
