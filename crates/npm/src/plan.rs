//! What the package wants: a plan, written as JSON, becomes a description of a cluster.
//!
//! The package has read and checked what its user said; what is missing here is left to the engine's defaults. Spans are
//! seconds.

use std::collections::BTreeMap;
use std::error::Error;
use std::num::{NonZeroU8, NonZeroU32};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use recluster::admin::Options;
use recluster::host::{Lateness, Lender, Serialization, Stdio};
use recluster::{
    Balance, Cluster, ClusterBuilder, CompileCache, MemoryLimit, ParseStickyByError, PeekLimits, ReadyWhen,
    ServiceManager, StickyBy, Surge, WorkerMetrics,
};
use serde::{Deserialize, Deserializer};

use crate::{numbers, sys};

/// The settings of a cluster.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Plan {
    server: PathBuf,
    node: PathBuf,
    args: Vec<String>,
    exec_argv: Vec<String>,
    /// The whole environment.
    env: BTreeMap<String, String>,
    /// Beside it, and before it.
    variables: BTreeMap<String, String>,
    env_files: Vec<PathBuf>,
    cwd: Option<PathBuf>,
    uid: Option<u32>,
    gid: Option<u32>,
    own_group: bool,
    stdio: [Place; 3],
    serialization: Writing,
    workers: u32,
    ready_when: When,
    /// None: all.
    surge: Option<NonZeroU32>,
    boot_limit: Option<NonZeroU32>,
    balance: Way,
    sticky_by: Option<String>,
    peek_bytes: Option<usize>,
    peek_timeout: Option<Span>,
    peek_connections: Option<usize>,
    drain_http: bool,
    worker_metrics: Option<Words>,
    attempts: u32,
    timeout: Span,
    respawn: Span,
    ready_timeout: Span,
    /// A worker that is not ready in time fails the reload that waits for it.
    late_fails: bool,
    exit_grace: Span,
    kill_timeout: Span,
    bake: Span,
    accept_after_stop: Span,
    backoff: Option<Span>,
    stop_timeout: Option<Span>,
    idle_grace: Option<Span>,
    max_draining: Option<NonZeroU32>,
    max_memory: Option<Memory>,
    max_lifetime: Option<Span>,
    ready_check: Option<String>,
    check_interval: Option<Span>,
    check_timeout: Option<Span>,
    instance_env: Option<String>,
    compile_cache: Option<Compiled>,
    compile_cache_size: Option<u64>,
    admin: Option<String>,
    admin_hosts: Vec<String>,
    admin_token_file: Option<PathBuf>,
    /// What is done when something happens.
    on: Vec<String>,
    watch: Vec<Source>,
    reload_on: Vec<PathBuf>,
    /// What the service manager that has started this process is told of the cluster. None: nothing.
    systemd: Option<Told>,
}

/// Where a standard descriptor of a worker goes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Place {
    Ignore,
    Pipe,
    Fd(RawFd),
}

/// What a service manager is told.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Told {
    /// How the cluster does, and nothing of its end: a process goes on then as long as its program likes.
    ButForItsEnd,
}

/// Source that is watched.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Source {
    /// Where the server file is.
    Project,
    In(PathBuf),
}

/// Where compiled code is kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Compiled {
    /// Where the environment says.
    Usual,
    In(PathBuf),
}

/// How messages of workers are written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Writing {
    Json,
    Advanced,
}

/// What workers say of themselves.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Words {
    Off,
    Basic,
    Http,
}

impl From<Words> for WorkerMetrics {
    fn from(told: Words) -> Self {
        match told {
            Words::Off => Self::Off,
            Words::Basic => Self::Basic,
            Words::Http => Self::Http,
        }
    }
}

/// When a worker is ready.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum When {
    Listening,
    Started,
    Ready,
}

/// How connections reach workers.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    RoundRobin,
    Shared,
    Kernel,
    Sticky,
}

/// A span of time, in seconds.
struct Span(Duration);

/// How much memory a worker may use: in bytes, or a share in percent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Memory {
    Bytes(u64),
    Percent(NonZeroU8),
}

impl From<Memory> for MemoryLimit {
    fn from(memory: Memory) -> Self {
        match memory {
            Memory::Bytes(bytes) => Self::Bytes(bytes),
            Memory::Percent(percent) => Self::Percent(percent),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Place {
    fn stdio(&self) -> Result<Stdio, Box<dyn Error>> {
        Ok(match self {
            Self::Ignore => Stdio::Null,
            Self::Pipe => Stdio::Pipe,
            Self::Fd(number) => {
                let fd = sys::duplicate(*number);
                Stdio::Fd(Arc::new(fd.map_err(|error| format!("stdio: descriptor {number}: {error}"))?))
            }
        })
    }
}

impl Plan {
    /// Reads what the package has written.
    pub(crate) fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The admin listener that is to answer beside the cluster, if any.
    pub(crate) fn admin(&self) -> Result<Option<Options>, Box<dyn Error>> {
        let Some(address) = &self.admin else { return Ok(None) };
        let options = Options::at(address.parse().map_err(|error| format!("admin: {error}"))?);
        let options = self.admin_hosts.iter().fold(options, Options::host);
        Ok(Some(match &self.admin_token_file {
            Some(path) => options.token_file(path),
            None => options,
        }))
    }

    /// The cluster that it describes, without a receiver for its notes.
    pub(crate) fn builder(self) -> Result<ClusterBuilder, Box<dyn Error>> {
        let [input, output, errors] = &self.stdio;
        let stdio = [input.stdio()?, output.stdio()?, errors.stdio()?];
        let environment = self.env.iter().map(|(name, value)| (name.into(), value.into()));
        let mut builder = Cluster::builder(&self.server)
            .under_node()
            .node(&self.node)
            .args(&self.args)
            .node_args(&self.exec_argv)
            .environment(environment)
            .stdio(stdio)
            .own_group(self.own_group)
            .lends(Lender::whole_process())
            .serialization(match self.serialization {
                Writing::Json => Serialization::Json,
                Writing::Advanced => Serialization::Advanced,
            })
            .numbering(numbers::last())
            .keep_trying(true)
            .lateness(if self.late_fails { Lateness::FailsReloads } else { Lateness::IsReported });
        builder = self.env_files.iter().fold(builder, ClusterBuilder::env_file);
        builder = self.variables.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
        builder = with(builder, self.cwd.as_ref(), ClusterBuilder::directory);
        builder = with(builder, self.uid, ClusterBuilder::uid);
        builder = with(builder, self.gid, ClusterBuilder::gid);
        if let Some(variable) = &self.instance_env {
            builder =
                builder.instance_env(variable.parse().map_err(|error| format!("instanceEnv: {error}"))?);
        }
        builder = with(builder, self.compile_cache_size, ClusterBuilder::compile_cache_size);
        builder = match &self.compile_cache {
            None => builder,
            Some(Compiled::Usual) => builder.compile_cache(CompileCache::Usual),
            Some(Compiled::In(directory)) => {
                let builder = builder.compile_cache(CompileCache::In(directory.clone()));
                // It may be in the project, and workers write there.
                builder.never_watched([directory.clone()])
            }
        };
        let manager = self.systemd.and_then(|Told::ButForItsEnd| {
            ServiceManager::of_process().map(|manager| manager.outlives_cluster().keeps_no_sockets())
        });
        builder = with(builder, manager, ClusterBuilder::service_manager);
        builder = self.watch.iter().fold(builder, |builder, source| match source {
            Source::Project => builder.watch_project(),
            Source::In(path) => builder.watch(path),
        });
        builder = self.reload_on.iter().fold(builder, ClusterBuilder::reload_on);
        self.conduct(builder)
    }

    fn balance(&self) -> Result<Balance, ParseStickyByError> {
        Ok(match self.balance {
            Way::RoundRobin => Balance::RoundRobin,
            Way::Shared => Balance::Shared,
            Way::Kernel => Balance::Kernel,
            Way::Sticky => Balance::Sticky(self.sticky_by.as_deref().map_or(Ok(StickyBy::Ip), str::parse)?),
        })
    }

    fn peek_limits(&self) -> PeekLimits {
        let usual = PeekLimits::default();
        PeekLimits {
            bytes: self.peek_bytes.unwrap_or(usual.bytes),
            timeout: self.peek_timeout.as_ref().map_or(usual.timeout, |span| span.0),
            connections: self.peek_connections.unwrap_or(usual.connections),
        }
    }

    /// How its workers are replaced, watched and let go.
    fn conduct(self, builder: ClusterBuilder) -> Result<ClusterBuilder, Box<dyn Error>> {
        let mut builder = builder
            .workers(self.workers)
            .ready_when(match self.ready_when {
                When::Listening => ReadyWhen::Listening,
                When::Started => ReadyWhen::Started,
                When::Ready => ReadyWhen::Ready,
            })
            .balance(self.balance()?)
            .peek_limits(self.peek_limits())
            .surge(self.surge.map_or(Surge::All, Surge::AtMost))
            .attempts(self.attempts)
            .drain_http(self.drain_http)
            .timeout(self.timeout.0)
            .respawn(self.respawn.0)
            .ready_timeout(self.ready_timeout.0)
            .exit_grace(self.exit_grace.0)
            .kill_timeout(self.kill_timeout.0)
            .bake(self.bake.0)
            .accept_after_stop(self.accept_after_stop.0);
        builder = with(builder, self.backoff, |builder, Span(span)| builder.backoff(span));
        builder = with(builder, self.stop_timeout, |builder, Span(span)| builder.stop_timeout(span));
        builder = with(builder, self.idle_grace, |builder, Span(span)| builder.idle_grace(span));
        builder = with(builder, self.max_lifetime, |builder, Span(span)| builder.max_lifetime(span));
        builder = with(builder, self.check_interval, |builder, Span(span)| builder.check_interval(span));
        builder = with(builder, self.check_timeout, |builder, Span(span)| builder.check_timeout(span));
        builder = with(builder, self.worker_metrics.map(Into::into), ClusterBuilder::worker_metrics);
        builder = with(builder, self.boot_limit, ClusterBuilder::boot_limit);
        builder = with(builder, self.max_draining, ClusterBuilder::max_draining);
        builder = with(builder, self.max_memory, ClusterBuilder::max_memory);
        for hook in &self.on {
            builder = builder.hook(hook.parse().map_err(|error| format!("on: {error}"))?);
        }
        if let Some(check) = self.ready_check {
            builder = builder.ready_check(check.parse()?);
        }
        Ok(builder)
    }
}

/// Sets a value that was given; leaves the default where none was.
fn with<T>(
    builder: ClusterBuilder,
    value: Option<T>,
    say: impl FnOnce(ClusterBuilder, T) -> ClusterBuilder,
) -> ClusterBuilder {
    match value {
        Some(value) => say(builder, value),
        None => builder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan with this instead of, or beside, what the package always says.
    fn plan(more: &str) -> Result<Plan, serde_json::Error> {
        let mut said: serde_json::Map<_, _> = serde_json::from_str(
            r#"{ "server": "/srv/server.js", "node": "/usr/bin/node", "args": [], "execArgv": [], "env": {}, "variables": {}, "envFiles": [],
                 "stdio": ["ignore", { "fd": 1 }, "pipe"], "serialization": "json", "workers": 2, "readyWhen": "listening",
                 "balance": "round-robin", "drainHttp": true, "attempts": 3, "timeout": 1, "respawn": 0.5,
                 "readyTimeout": 60, "lateFails": false, "exitGrace": 1, "killTimeout": 5, "bake": 0, "acceptAfterStop": 0, "ownGroup": false, "on": [], "adminHosts": [], "watch": [], "reloadOn": [] }"#,
        )?;
        said.extend(serde_json::from_str::<serde_json::Map<_, _>>(more)?);
        Plan::parse(&serde_json::Value::from(said).to_string())
    }

    fn refusal(more: &str) -> String {
        match plan(more).map(Plan::builder) {
            Ok(Ok(_)) => "none".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_the_package_always_says_is_enough() {
        assert_eq!(refusal("{}"), "none");
        assert_eq!(plan("{}").unwrap().respawn.0, Duration::from_millis(500));
    }

    #[test]
    fn an_admin_listener_needs_an_address() {
        assert!(plan("{}").unwrap().admin().unwrap().is_none());
        assert!(plan(r#"{ "admin": "unix:/run/admin.sock" }"#).unwrap().admin().unwrap().is_some());
        let error = plan(r#"{ "admin": "udp:1" }"#).unwrap().admin().unwrap_err().to_string();
        assert!(error.starts_with("admin: 'udp:1' is no address"), "{error}");
    }

    #[test]
    fn what_nobody_understands_is_refused() {
        assert!(refusal(r#"{ "respwan": 1 }"#).starts_with("unknown field `respwan`"));
        assert!(refusal(r#"{ "timeout": -1 }"#).contains("negative"));
        assert!(refusal(r#"{ "balance": "sticky", "stickyBy": "sid" }"#).starts_with("'sid' is nothing"));
        assert!(refusal(r#"{ "surge": 0 }"#).contains("nonzero"));
        assert!(refusal(r#"{ "bootLimit": 0 }"#).contains("nonzero"));
        assert!(
            refusal(r#"{ "instanceEnv": "WORKER_ID" }"#).starts_with("instanceEnv: WORKER_ID is reserved")
        );
        assert!(refusal(r#"{ "readyCheck": "ftp:/" }"#).contains("'ftp:/' is no check"));
        assert!(
            refusal(r#"{ "on": ["crash=exec:x"] }"#)
                .starts_with("on: there is no event 'crash' for hooks; write")
        );
        assert_eq!(refusal(r#"{ "on": ["crashed=exec:x", "stopped=http://127.0.0.1:1/"] }"#), "none");
        assert!(
            refusal(r#"{ "stdio": ["ignore", "pipe", { "fd": 1000000 }] }"#).starts_with("stdio: descriptor")
        );
    }
}
