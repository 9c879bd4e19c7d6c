//! `run`: a cluster in the foreground. The library does the work; this adds what belongs to a command: a name, a
//! control socket, a pidfile, signals, a log and an exit status.

mod claim;
pub(crate) mod inherited;
pub(crate) mod name;
pub(crate) mod pidfile;
pub(crate) mod signals;

use std::env;
use std::ffi::OsString;
use std::mem;
use std::time::Duration;

use recluster::control::{Asked, Server};
use recluster::{Cluster, ClusterBuilder, Ending, Events, Gone, Heard, Scale};
use tokio::sync::mpsc;

use self::claim::{Claim, claim};
use self::inherited::{Given, Inherited};
use self::pidfile::Pidfile;
use self::signals::{Signals, Wish};
use crate::args::{Leaving, Readiness, Run, Running, Switch};
use crate::config::{CommandLine, Settings, changes_at_reload};
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::log::{Journal, Note};

/// The drain timeout in production, where a worker may have long requests: an hour, as ever with this name.
const PRODUCTION_TIMEOUT: Duration = Duration::from_secs(3600);

/// Runs a cluster until it has ended. Everything that can be wrong beforehand is found before a worker is started.
pub(crate) async fn run(mut args: Run, line: CommandLine, inherited: Inherited) -> Result<ExitStatus, Error> {
    let mut signals = Signals::install().map_err(Error::Signals)?;
    let Claim { name, socket } = claim(&args)?;
    let pidfile = args.around.pidfile.as_deref().map(Pidfile::write).transpose()?;
    let mut journal = Journal::open(&name, &args.around)?;
    let (tell, mut changes) = mpsc::unbounded_channel();
    let mut builder = describe(&args).reread(reread(line, mem::take(&mut args.settings), tell));
    for Given { socket, name } in inherited {
        builder = builder.adopt(socket, name.as_deref()).map_err(Error::Inherited)?;
    }
    let mut events = builder.subscribe();
    let cluster = builder.start().await?;
    let mut server = socket.map(|socket| socket.serve(cluster.clone()));
    let control = server.as_ref().map(|server| server.path().display().to_string());
    journal.note(&Note::starting(&args, control));

    Supervisor { cluster: &cluster, server: server.as_mut(), journal: &mut journal, stopping: false }
        .run(&mut events, &mut signals, &mut changes)
        .await;

    drop(pidfile);
    if let Some(server) = server {
        server.close().await;
    }
    journal.close();
    conclude(cluster.wait().await, &args)
}

/// Reads the config file again when a reload begins, and tells what it changes: a reload cannot change everything.
fn reread(
    line: CommandLine,
    running: Settings,
    tell: mpsc::UnboundedSender<Note>,
) -> impl FnMut() -> Result<ClusterBuilder, String> + Send {
    move || {
        let (run, changed) = line.reread(&running).map_err(|error| error.to_string())?;
        let (changed, needs_restart): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|key| changes_at_reload(key));
        if !(changed.is_empty() && needs_restart.is_empty()) {
            // The log is gone only when the cluster is over.
            let _ = tell.send(Note::Configured { changed, needs_restart });
        }
        Ok(describe(&run))
    }
}

/// Says to the library what was said on the command line.
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
        env,
        around: _,
        settings: _,
    } = args;
    let builder = Cluster::builder(server)
        .args(arguments)
        // The runtime is the main thread, which lives as long as the process.
        .end_with_master(true);
    let builder = env.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
    let builder = describe_running(builder, running);
    let builder = builder.balance(balancing.balance()).peek_limits(balancing.peek_limits());
    let builder = describe_readiness(builder, readiness);
    let node_env = env.get("NODE_ENV").map(OsString::from).or_else(|| env::var_os("NODE_ENV"));
    let in_production = node_env.is_some_and(|value| value == "production");
    let builder = describe_leaving(builder, leaving, in_production);
    let builder = builder.respawn(respawning.respawn);
    let builder = set(builder, respawning.backoff, ClusterBuilder::backoff);
    let builder = set(builder, recycling.max_memory, ClusterBuilder::max_memory);
    set(builder, recycling.max_lifetime, ClusterBuilder::max_lifetime)
}

fn describe_running(builder: ClusterBuilder, running: &Running) -> ClusterBuilder {
    let builder = builder
        .node(&running.node)
        .node_args(&running.node_arg)
        .workers(running.workers.get())
        .raw_stdio(running.raw_stdio);
    running.listen.iter().cloned().fold(builder, ClusterBuilder::listen)
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
    let builder = set(builder, leaving.max_draining, ClusterBuilder::max_draining);
    let builder = set(builder, leaving.stop_timeout, ClusterBuilder::stop_timeout);
    let builder = set(builder, leaving.idle_grace, ClusterBuilder::idle_grace);
    let by_default = (in_production && builder.runs_under_node()).then_some(PRODUCTION_TIMEOUT);
    set(builder, leaving.timeout.or(by_default), ClusterBuilder::timeout)
}

/// Says what was said, and nothing where nothing was.
fn set<T>(
    builder: ClusterBuilder,
    value: Option<T>,
    say: impl FnOnce(ClusterBuilder, T) -> ClusterBuilder,
) -> ClusterBuilder {
    match value {
        Some(value) => say(builder, value),
        None => builder,
    }
}

/// Writes the log and obeys signals until the cluster is over.
struct Supervisor<'a> {
    cluster: &'a Cluster,
    server: Option<&'a mut Server>,
    journal: &'a mut Journal,
    /// A signal has asked for a stop already: the next one means it.
    stopping: bool,
}

impl Supervisor<'_> {
    async fn run(
        &mut self,
        events: &mut Events,
        signals: &mut Signals,
        changes: &mut mpsc::UnboundedReceiver<Note>,
    ) {
        loop {
            tokio::select! {
                heard = events.next() => match heard {
                    Some(Heard::Event(event)) => self.journal.event(&event),
                    Some(Heard::Missed(events)) => self.journal.note(&Note::EventsMissed { events }),
                    None => return,
                },
                Some(asked) = asked(self.server.as_deref_mut()) => self.journal.note(&Note::asked(asked)),
                Some(change) = changes.recv() => self.journal.note(&change),
                heard = signals.next() => self.obey(heard).await,
            }
        }
    }

    async fn obey(&mut self, heard: signals::Heard) {
        let wish = if heard.wish == Wish::Stop && self.stopping { Wish::Terminate } else { heard.wish };
        self.stopping |= wish == Wish::Stop;
        self.journal.note(&Note::signal(heard.name, wish));
        let obeyed = match wish {
            Wish::Reload => self.cluster.request_reload(),
            Wish::Stop => self.cluster.request_stop(),
            Wish::Terminate => self.cluster.request_terminate(),
            Wish::MoreWorkers => self.cluster.scale(Scale::By(1)).await.map(drop),
            Wish::FewerWorkers => self.cluster.scale(Scale::By(-1)).await.map(drop),
            Wish::ReopenLog => {
                self.journal.reopen();
                Ok(())
            }
        };
        // An error says that the cluster is over already, which the loop is about to see.
        let _: Result<(), Gone> = obeyed;
    }
}

/// The next request on the control socket, if there is one.
async fn asked(server: Option<&mut Server>) -> Option<Asked> {
    server?.asked().await
}

fn conclude(ending: Ending, args: &Run) -> Result<ExitStatus, Error> {
    match ending {
        Ending::Asked => Ok(ExitStatus::Success),
        // Whoever started it may not look into the log file; on stderr the log has said it already.
        Ending::StartFailed(failure) if args.around.log_file.is_some() => Err(Error::NeverServed(failure)),
        Ending::StartFailed(_) => Ok(ExitStatus::NeverServed),
        Ending::Lost => Ok(ExitStatus::Failure),
    }
}
