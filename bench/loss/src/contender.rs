//! Who is measured: how each cluster is started and reloaded. Uses processes and the directory of the run.

mod ours;
mod pm2;
mod reference;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::Endpoint;
use crate::home::Home;

pub(crate) use ours::{admin_of, deploy};

/// How long a start or a reload may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at what the servers have written.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// One way to run a server as a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contender {
    /// The npm package `recluster`, wired as its README says.
    Reference,
    /// pm2 in cluster mode, with a server that leaves as pm2's documentation has it.
    Pm2,
    /// The `recluster` command.
    Ours,
    /// The same without its lossless drain.
    OursPlain,
    /// Our npm package, wired as the reference.
    OursNpm,
}

/// A server of `servers/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Server {
    /// node:http on TCP and on a unix socket.
    Http,
    /// express.
    Express,
    /// fastify.
    Fastify,
    /// node:https.
    Https,
    /// node:http2 with TLS, which speaks HTTP/1 too.
    Http2,
    /// `Http` and `Http2` in one worker.
    Mixed,
}

/// What is the same for every contender.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node binary that runs all of it.
    pub node: PathBuf,
    /// Our command.
    pub recluster: PathBuf,
    /// A `node_modules` directory with the packages that the servers and the contenders need.
    pub modules: PathBuf,
    /// The server.
    pub server: Server,
    /// How many workers.
    pub workers: usize,
    /// How long an old worker may go on after a reload.
    pub timeout: Duration,
    /// Ours: further options of `recluster run`.
    pub options: Vec<String>,
    /// Whether the workers write down each connection that they accept, to prove which of them had it.
    pub journal: bool,
    /// Whether the master answers HTTP, for those who watch it.
    pub watched: bool,
}

/// A cluster that runs. When it is dropped, all of its processes are killed.
#[derive(Debug)]
pub(crate) struct Cluster {
    contender: Contender,
    settings: Settings,
    pub(crate) home: Home,
    /// The process that was started. With pm2 it has ended: its daemon is the master.
    master: Mutex<Child>,
}

impl Contender {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Reference, Self::Pm2, Self::Ours, Self::OursPlain, Self::OursNpm];

    /// Its name in options and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Pm2 => "pm2",
            Self::Ours => "ours",
            Self::OursPlain => "ours-plain",
            Self::OursNpm => "ours-npm",
        }
    }
}

impl Server {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Http, Self::Express, Self::Fastify, Self::Https, Self::Http2, Self::Mixed];

    /// Its name in options and tables, and that of its file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Express => "express",
            Self::Fastify => "fastify",
            Self::Https => "https",
            Self::Http2 => "http2",
            Self::Mixed => "mixed",
        }
    }

    /// In how many places a worker of it listens.
    fn endpoints(self) -> usize {
        match self {
            Self::Express | Self::Fastify | Self::Https | Self::Http2 => 1,
            Self::Http => 2,
            Self::Mixed => 3,
        }
    }
}

impl Settings {
    /// The directory of the server files.
    pub(crate) fn servers() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("servers")
    }

    /// The directory of our npm package.
    fn package() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../npm")
    }

    /// The directory with the key and the certificate of the servers.
    pub fn identity() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/fixtures/tls")
    }

    /// The path of the server file.
    pub(crate) fn server_file(&self) -> PathBuf {
        Self::servers().join(self.server.name()).with_extension("js")
    }

    /// A command of the run, in the environment that all its servers need.
    fn command(&self, home: &Home, program: &Path) -> Result<Command> {
        let mut command = home.command(program)?;
        command.env("NODE_PATH", &self.modules).env("LOSS_TLS", Self::identity());
        if self.journal {
            command.env("LOSS_JOURNAL", home.join("journal"));
        }
        Ok(command)
    }
}

impl Cluster {
    /// Starts it and waits until every worker listens everywhere.
    pub(crate) async fn start(contender: Contender, settings: &Settings) -> Result<Self> {
        let home = Home::new()?;
        let command = match contender {
            Contender::Reference => reference::start(settings, &home, Path::new("recluster")),
            Contender::OursNpm => reference::start(settings, &home, &Settings::package()),
            Contender::Pm2 => pm2::start(settings, &home),
            Contender::Ours => ours::start(settings, &home, &[]),
            Contender::OursPlain => ours::start(settings, &home, &["--drain-http", "off"]),
        };
        let mut command = command?;
        let program = command.as_std().get_program().to_owned();
        let master = command.spawn().with_context(|| format!("failed to run {}", program.display()))?;
        let cluster = Self { contender, settings: settings.clone(), home, master: Mutex::new(master) };
        let wanted = settings.workers * settings.server.endpoints();
        cluster
            .wait_until("the workers listen", |home| Ok(home.reports()?.listening.len() >= wanted))
            .await?;
        Ok(cluster)
    }

    /// Where it can be reached.
    pub(crate) fn endpoints(&self) -> Result<Vec<Endpoint>> {
        let mut endpoints = Vec::new();
        for (_, endpoint) in self.home.reports()?.listening {
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        Ok(endpoints)
    }

    /// The workers that live.
    pub(crate) fn workers(&self) -> Result<Vec<u32>> {
        let mut pids: Vec<u32> = self.home.reports()?.listening.iter().map(|(pid, _)| *pid).collect();
        pids.sort_unstable();
        pids.dedup();
        pids.retain(|pid| self.home.has(*pid));
        Ok(pids)
    }

    /// Reloads it and waits for the verdict, which must be good.
    pub(crate) async fn reload(&self) -> Result<()> {
        match self.contender {
            Contender::Pm2 => self.run(pm2::reload(&self.settings, &self.home)?).await,
            Contender::Ours | Contender::OursPlain => {
                self.run(ours::reload(&self.settings, &self.home)?).await
            }
            Contender::Reference | Contender::OursNpm => {
                let before = self.home.reports()?.reloaded;
                reference::reload(&self.master());
                self.wait_until("the reload is done", |home| Ok(home.reports()?.reloaded > before)).await
            }
        }
    }

    /// Runs a command to its end, which must be good.
    pub(crate) async fn run(&self, command: Command) -> Result<()> {
        let what = format!("{:?}", command.as_std());
        let (status, _) = self.status_of(command).await?;
        if status != Some(0) {
            bail!("{what}: status {status:?}\n{}", self.home.tail());
        }
        Ok(())
    }

    /// Runs a command to its end; its exit status and what it said.
    pub(crate) async fn status_of(&self, mut command: Command) -> Result<(Option<i32>, Vec<u8>)> {
        let what = format!("{:?}", command.as_std());
        command.stdout(std::process::Stdio::piped()).kill_on_drop(true);
        let output = timeout(DEADLINE, command.output()).await;
        let output =
            output.with_context(|| format!("{what}: no end in {DEADLINE:?}\n{}", self.home.tail()))?;
        let output = output.with_context(|| format!("failed to run {what}"))?;
        Ok((output.status.code(), output.stdout))
    }

    /// A client command of ours.
    pub(crate) fn ours(&self, arguments: &[&str]) -> Result<Command> {
        ours::client(&self.settings, &self.home, arguments)
    }

    /// `top`, on a terminal of its own.
    pub(crate) fn top(&self) -> Result<Command> {
        ours::top(&self.settings, &self.home)
    }

    fn master(&self) -> MutexGuard<'_, Child> {
        self.master.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the process that was started has ended with an error.
    fn has_failed(&self) -> Result<bool> {
        Ok(self.master().try_wait()?.is_some_and(|status| !status.success()))
    }

    async fn wait_until(&self, what: &str, condition: impl Fn(&Home) -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !condition(&self.home)? {
            if begin.elapsed() > DEADLINE || self.has_failed()? {
                bail!("{}: waited in vain until {what}\n{}", self.contender, self.home.tail());
            }
            sleep(BETWEEN_LOOKS).await;
        }
        Ok(())
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Contender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|contender| contender.name() == text);
        found.ok_or_else(|| format!("choose from {}", Self::ALL.map(Self::name).join(", ")))
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|server| server.name() == text);
        found.ok_or_else(|| format!("choose from {}", Self::ALL.map(Self::name).join(", ")))
    }
}
