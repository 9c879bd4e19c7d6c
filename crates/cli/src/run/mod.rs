//! `run`: a cluster in the foreground. The library does the work; this adds what belongs to a command: a name, a
//! control socket, a pidfile, signals, a log and an exit status.

mod claim;
pub(crate) mod inherited;
pub(crate) mod name;
pub(crate) mod pidfile;
pub(crate) mod signals;

use std::env;
use std::time::Duration;

use recluster::control::{Asked, Server};
use recluster::{Cluster, ClusterBuilder, Ending, Events, Gone, Heard, Scale};

use self::claim::{Claim, claim};
use self::inherited::Inherited;
use self::pidfile::Pidfile;
use self::signals::{Signals, Wish};
use crate::args::{Run, Switch};
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::log::{Journal, Note};

/// The drain timeout in production, where a worker may have long requests: an hour, as ever with this name.
const PRODUCTION_TIMEOUT: Duration = Duration::from_secs(3600);

/// Runs a cluster until it has ended. Everything that can be wrong beforehand is found before a worker is started.
pub(crate) async fn run(args: Run, inherited: Inherited) -> Result<ExitStatus, Error> {
    let mut signals = Signals::install().map_err(Error::Signals)?;
    let Claim { name, socket } = claim(&args)?;
    let pidfile = args.around.pidfile.as_deref().map(Pidfile::write).transpose()?;
    let mut journal = Journal::open(&name, &args.around)?;
    let mut builder = describe(&args);
    for (number, socket) in inherited {
        builder = builder.inherit(number, socket);
    }
    let mut events = builder.subscribe();
    let cluster = builder.start().await?;
    let mut server = socket.map(|socket| socket.serve(cluster.clone()));
    let control = server.as_ref().map(|server| server.path().display().to_string());
    journal.note(&Note::starting(&args, control));

    Supervisor { cluster: &cluster, server: server.as_mut(), journal: &mut journal, stopping: false }
        .run(&mut events, &mut signals)
        .await;

    drop(pidfile);
    if let Some(server) = server {
        server.close().await;
    }
    journal.close();
    conclude(cluster.wait().await, &args)
}

/// Says to the library what was said on the command line.
fn describe(args: &Run) -> ClusterBuilder {
    let Run { server, args: arguments, running, readiness, leaving, respawning, around: _ } = args;
    let mut builder = Cluster::builder(server)
        .args(arguments)
        .node(&running.node)
        .node_args(&running.node_arg)
        .workers(running.workers.get())
        .balance(running.balance.into())
        .raw_stdio(running.raw_stdio)
        // The runtime is the main thread, which lives as long as the process.
        .end_with_master(true)
        .ready_timeout(readiness.ready_timeout)
        .bake(readiness.bake)
        .attempts(readiness.attempts.get())
        .keep_trying(readiness.keep_trying)
        .surge(leaving.surge)
        .drain_http(leaving.drain_http == Switch::On)
        .accept_after_stop(leaving.accept_after_stop)
        .exit_grace(leaving.exit_grace)
        .kill_timeout(leaving.kill_timeout)
        .respawn(respawning.respawn);
    if let Some(ready_when) = readiness.ready_when {
        builder = builder.ready_when(ready_when.into());
    }
    if let Some(generations) = leaving.max_draining {
        builder = builder.max_draining(generations);
    }
    if let Some(grace) = leaving.idle_grace {
        builder = builder.idle_grace(grace);
    }
    if let Some(backoff) = respawning.backoff {
        builder = builder.backoff(backoff);
    }
    if let Some(timeout) = leaving.stop_timeout {
        builder = builder.stop_timeout(timeout);
    }
    let in_production = env::var_os("NODE_ENV").is_some_and(|value| value == "production");
    let by_default = (in_production && builder.runs_under_node()).then_some(PRODUCTION_TIMEOUT);
    match leaving.timeout.or(by_default) {
        Some(timeout) => builder.timeout(timeout),
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
    async fn run(&mut self, events: &mut Events, signals: &mut Signals) {
        loop {
            tokio::select! {
                heard = events.next() => match heard {
                    Some(Heard::Event(event)) => self.journal.event(&event),
                    Some(Heard::Missed(events)) => self.journal.note(&Note::EventsMissed { events }),
                    None => return,
                },
                Some(asked) = asked(self.server.as_deref_mut()) => self.journal.note(&Note::asked(asked)),
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
