//! What `run` starts and `check` examines: the one description of a cluster, made from the arguments of `run`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recluster::{Checked, Cluster, ClusterBuilder, CompileCache, Messages, Unread, WorkerLog};

use crate::args::{
    Around, CacheIn, InstanceIn, Leaving, Readiness, Run, Running, Switch, Verbosity, WhenUnread,
};
use crate::error::Error;
use crate::inherited::{Given, Inherited};

/// The drain timeout in production, where a worker may have long requests: an hour, as ever with this name.
const PRODUCTION_TIMEOUT: Duration = Duration::from_secs(3600);

/// The cluster that these arguments describe.
pub(crate) fn describe(args: &Run) -> ClusterBuilder {
    let Run {
        server,
        args: arguments,
        running,
        balancing,
        readiness,
        leaving,
        respawning,
        recycling,
        following,
        env,
        around,
        privileges,
        admin,
    } = args;
    let builder =
        Cluster::builder(server).args(arguments).end_with_master(true).messages(match around.verbosity() {
            Verbosity::Verbose => Messages::Logged,
            Verbosity::Normal | Verbosity::Quiet => Messages::Unheard,
        });
    let builder = around.on.iter().cloned().fold(builder, ClusterBuilder::hook);
    let builder = env.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
    let builder = privileges.describe(describe_running(builder, running, &privileges.start()));
    let builder = following.describe(builder.never_watched(written(running, around)));
    let builder = builder.worker_metrics(admin.worker_metrics.into());
    let builder = builder.balance(balancing.balance()).peek_limits(balancing.peek_limits());
    let builder = describe_readiness(builder, readiness);
    // A file that cannot be read is refused at the start.
    let for_workers = builder.worker_environment().unwrap_or_default();
    let in_production = for_workers.get(OsStr::new("NODE_ENV")).is_some_and(|value| value == "production");
    let builder = describe_leaving(builder, leaving, in_production);
    let builder = builder.respawn(respawning.respawn);
    let builder = set(builder, respawning.backoff, ClusterBuilder::backoff);
    let builder = set(builder, recycling.max_memory, ClusterBuilder::max_memory);
    set(builder, recycling.max_lifetime, ClusterBuilder::max_lifetime)
}

/// What the master writes, and what becomes of its workers' output.
fn written(running: &Running, around: &Around) -> Vec<PathBuf> {
    let cache = match &running.compile_cache {
        CacheIn::Place(CompileCache::In(directory)) => Some(directory),
        CacheIn::Place(_) | CacheIn::Nothing => None,
    };
    let files = [&around.log_file, &around.pidfile, &running.worker_log].into_iter().flatten();
    files.chain(cache).cloned().collect()
}

/// Adds the sockets that the master was started with.
pub(crate) fn with_inherited(builder: ClusterBuilder, inherited: Inherited) -> Result<ClusterBuilder, Error> {
    let Inherited { activated, lender, anew: _ } = inherited;
    activated.into_iter().try_fold(builder.lends(lender), |builder, Given { socket, name }| {
        builder.adopt(socket, name.as_deref()).map_err(Error::Inherited)
    })
}

/// `start` is where relative paths begin.
fn describe_running(builder: ClusterBuilder, running: &Running, start: &Path) -> ClusterBuilder {
    let builder = builder
        .node_args(&running.node_arg)
        .workers(running.workers.get())
        .raw_stdio(running.raw_stdio)
        .stderr(match running.stderr {
            WhenUnread::Wait => Unread::Wait,
            WhenUnread::Lose => Unread::Lose,
        });
    let builder = match &running.instance_env {
        InstanceIn::Nothing => builder,
        InstanceIn::Variable(variable) => builder.instance_env(variable.clone()),
    };
    let builder = match &running.compile_cache {
        CacheIn::Nothing => builder,
        CacheIn::Place(place) => {
            let place = match place {
                CompileCache::In(path) => CompileCache::In(start.join(path)),
                usual @ (CompileCache::Usual | _) => usual.clone(),
            };
            builder.compile_cache(place).compile_cache_size(running.compile_cache_size)
        }
    };
    let builder = set(builder, worker_log(running), ClusterBuilder::worker_log);
    let builder = running.env_file.iter().fold(builder, ClusterBuilder::env_file);
    // A name alone is looked up in PATH.
    let is_path = |node: &&PathBuf| node.as_os_str().as_encoded_bytes().contains(&b'/');
    let node = running.node.as_ref().map(|node| if is_path(&node) { start.join(node) } else { node.clone() });
    let builder = set(builder, node, ClusterBuilder::node);
    running.listen.iter().cloned().fold(builder, ClusterBuilder::listen)
}

fn worker_log(running: &Running) -> Option<WorkerLog> {
    let log = WorkerLog::new(running.worker_log.as_ref()?).keep(running.worker_log_keep);
    Some(match running.worker_log_size {
        None => log,
        Some(size) => log.size(size),
    })
}

fn describe_readiness(builder: ClusterBuilder, readiness: &Readiness) -> ClusterBuilder {
    let builder = builder
        .ready_timeout(readiness.ready_timeout)
        .bake(readiness.bake)
        .attempts(readiness.attempts.get())
        .keep_trying(readiness.keep_trying)
        .check_interval(readiness.check_interval)
        .check_timeout(readiness.check_timeout);
    let builder = set(builder, readiness.ready_when.map(Into::into), ClusterBuilder::ready_when);
    let builder = set(builder, readiness.ready_check.clone(), ClusterBuilder::ready_check);
    let builder = set(builder, readiness.check_listen.clone(), ClusterBuilder::check_listen);
    set(builder, readiness.watchdog, ClusterBuilder::watchdog)
}

fn describe_leaving(builder: ClusterBuilder, leaving: &Leaving, in_production: bool) -> ClusterBuilder {
    let builder = builder
        .surge(leaving.surge)
        .drain_http(leaving.drain_http == Switch::On)
        .drain_signal(leaving.drain_signal.into())
        .accept_after_stop(leaving.accept_after_stop)
        .exit_grace(leaving.exit_grace)
        .kill_timeout(leaving.kill_timeout);
    let builder = set(builder, leaving.boot_limit, ClusterBuilder::boot_limit);
    let builder = set(builder, leaving.max_draining, ClusterBuilder::max_draining);
    let builder = set(builder, leaving.stop_timeout, ClusterBuilder::stop_timeout);
    let builder = set(builder, leaving.idle_grace, ClusterBuilder::idle_grace);
    let by_default = (in_production && leaving.timeout.is_none()).then_some(PRODUCTION_TIMEOUT);
    let builder = set(builder, by_default, ClusterBuilder::node_timeout);
    set(builder, leaving.timeout, ClusterBuilder::timeout)
}

/// Sets a value that was given; leaves the default where none was.
pub(crate) fn set<T>(
    builder: ClusterBuilder,
    value: Option<T>,
    say: impl FnOnce(ClusterBuilder, T) -> ClusterBuilder,
) -> ClusterBuilder {
    match value {
        Some(value) => say(builder, value),
        None => builder,
    }
}

/// The longest that a stop may take.
pub(crate) fn stop_takes(run: &Run, checked: &Checked) -> Duration {
    let leaving = &run.leaving;
    leaving.accept_after_stop.saturating_add(checked.stop_timeout).saturating_add(leaving.kill_timeout)
}
