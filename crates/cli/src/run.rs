//! `run`: a cluster in the foreground. The library does the work; this adds what belongs to a command: a name, a
//! control socket, a pidfile, signals, a log and an exit status.

use std::env;
use std::process;
use std::time::{Duration, Instant};

use recluster::admin::{self, Admin, AdminError, Changed};
use recluster::control::protocol::Request;
use recluster::control::{self, Asked, News, Server, Socket};
use recluster::host::{self, AfterPanic, Anew, Came, Inheritance, Seat, Successor};
use recluster::{
    Address, Cluster, ClusterBuilder, Ending, Event, Events, Gone, Heard, Scale, ScaleError, ServiceManager,
};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::args::{AfterPanicArg, Run};
use crate::begun::Begun;
use crate::claim::Claim;
use crate::config::{CommandLine, Said, Settings};
use crate::describe::{describe, set, stop_takes, with_inherited};
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::inherited::Inherited;
use crate::log::{Journal, Kept as Path, Note};
use crate::orphans;
use crate::patience::Patience;
use crate::pidfile::{Fate, keeper};
use crate::rereading::{Place, configured};
use crate::signals::{self, Signals};
use crate::upgrading::{Around, Kept, Left, Return};
use crate::wishes::Wish;
use crate::worker_lines;

/// How long after the beginning of a drain people are told of it: by then workers have said what they have.
const DRAINS: Duration = Duration::from_millis(250);

/// The process that the kernel starts first, in a container as well.
const FIRST_PROCESS: u32 = 1;

/// Runs a cluster until it has ended; its processes are started by whoever has this seat for it. Everything that can be wrong beforehand is found before a worker is started.
pub(crate) async fn run(
    args: Run,
    (settings, said): (Settings, Said),
    line: CommandLine,
    mut inherited: Inherited,
    seat: Seat,
    left: Option<(Inheritance, Return)>,
) -> Result<ExitStatus, Error> {
    let (left, back) = left.unzip();
    let anew = inherited.anew.take();
    let left = left.map(Left::read).transpose()?;
    let mut signals =
        Signals::install(left.as_ref().map(|left| left.kept.terminal)).map_err(Error::Signals)?;
    if args.around.subreaper {
        orphans::adopt().map_err(Error::Subreaper)?;
    }
    let mut begun = Begun::of(&args, said, left, &signals, line.wants_json())?;
    let admin = begun.admin(&args).await?;
    let (pidfile, mut journal) = begun.written(&args, line.wants_json())?;
    let Begun { claim: Claim { name, mut socket, missing }, kept, inheritance, came, .. } = begun;
    let around = Around::new(kept.clone(), signals.gate(), &journal);
    let (notes, mut changes) = mpsc::unbounded_channel();
    let builder = with_inherited(describe(&args).name(name.as_str()), inherited)?;
    let builder =
        configured(builder, line.started(&args), settings, Place::new(&name, socket.as_ref()), notes);
    let builder = set(builder, worker_lines::style(&args, &name), ClusterBuilder::line_style);
    let builder = within_surroundings(builder.starts_on(seat), socket.as_ref(), &kept);
    let successor = Successor::new(env::args_os().collect(), came.as_ref(), kept.open_files, around.clone());
    let has_panicked = anew.as_ref().is_some_and(|anew| anew.has_panicked);
    let builder = builder.successor(successor).inherits(inheritance);
    let builder = set(builder, after_panic(&args, has_panicked, &around)?, ClusterBuilder::after_panic);
    let mut events = builder.subscribe();
    let cluster = builder.start().await?;
    let outcome = came.as_ref().map(Came::outcome);
    back.iter().for_each(Return::is_over);
    signals.gate().release();
    let mut pidfile = pidfile.map(|pidfile| keeper::Keeper::of(pidfile.own()));
    if let (Some(socket), Some(outcome)) = (&mut socket, outcome) {
        socket.upgraded(outcome);
    }
    let is_exposed = admin.as_ref().is_some_and(Admin::is_exposed);
    let (mut server, mut admin) = serve(&cluster, (socket, admin), &around)?;
    if let Some(server) = &server {
        journal.record(server.recorder());
    }
    let at = (server.as_ref(), admin.as_ref().map(|admin| (admin.address(), is_exposed)));
    if came.is_some() {
        host::trim_heap();
    } else {
        introduce(&mut journal, &args, at, missing);
    }
    tell_of_before(&mut journal, anew, &cluster);
    if args.following.clear_screen {
        journal.clear_screen();
    }
    if args.respawning.backoff.is_none() {
        journal.hint_at_backoff();
    }
    let (server_half, admin_half) = (server.as_mut(), admin.as_mut());
    let mut foreground = Foreground {
        cluster: &cluster,
        server: server_half,
        admin: admin_half,
        pidfile: pidfile.as_mut(),
        looked: Instant::now(),
        journal: &mut journal,
        stop: Stop::default(),
        patience: Patience::of_start(Instant::now()),
    };
    cluster.beside("the command's loop", foreground.run(&mut events, &mut signals, &mut changes)).await;
    // Where that has panicked, or the log has, the cluster is about to end.
    cluster.beside("the log", foreground.tell_the_rest(&mut events)).await;
    let ending = cluster.wait().await;

    close(pidfile, server, admin).await;
    journal.close();
    conclude(ending, &args)
}

/// Says why the master begins anew, if it does, and which workers there are of one before it.
fn tell_of_before(journal: &mut Journal, anew: Option<Anew>, cluster: &Cluster) {
    let anew = anew.map(|Anew { reason, has_panicked, .. }| {
        let what = if has_panicked { "master" } else { "version before" };
        Note::StartedAnew { reason, what }
    });
    for note in anew.iter().chain(&Note::survivors(cluster.survivors())) {
        journal.note(note);
    }
}

/// What a panic of the master leads to, if not to the end of the cluster.
fn after_panic(args: &Run, has_panicked: bool, around: &Around) -> Result<Option<AfterPanic>, Error> {
    let begins = args.around.after_panic == AfterPanicArg::Restart;
    let words = || env::args_os().collect();
    let after = begins.then(|| AfterPanic::new(words(), around.open_files(), has_panicked, around.clone()));
    after.transpose().map_err(Error::Executable)
}

/// Gives back by what others have reached this process.
async fn close(pidfile: Option<keeper::Keeper>, server: Option<Server>, admin: Option<admin::Server>) {
    if let Some(pidfile) = pidfile {
        pidfile.close().await;
    }
    if let Some(server) = server {
        server.close().await;
    }
    if let Some(admin) = admin {
        admin.close().await;
    }
}

/// Answers at the control socket and at the admin listener, if there are any.
fn serve(
    cluster: &Cluster,
    (socket, admin): (Option<Socket>, Option<Admin>),
    around: &Around,
) -> Result<(Option<Server>, Option<admin::Server>), Error> {
    let admin = admin.map(|admin| admin.serve(cluster.clone())).transpose().map_err(AdminError::from)?;
    if let Some(admin) = &admin {
        around.has_admin(admin.leaver());
    }
    let server = socket.map(|socket| socket.serve(cluster.clone()));
    if let Some(server) = &server {
        around.has_control(server.leaver());
    }
    Ok((server, admin))
}

/// The first lines of a log: what begins, where it is reached, and what people should know of that.
fn introduce(
    journal: &mut Journal,
    args: &Run,
    (server, admin): (Option<&Server>, Option<(&Address, bool)>),
    missing: Option<String>,
) {
    let control = server.map(|server| server.path().display().to_string());
    let (address, is_exposed) = admin.unzip();
    let address = address.map(ToString::to_string);
    journal.note(&Note::starting(args, control, address.clone()));
    if let Some(address) = address.filter(|_| is_exposed == Some(true)) {
        journal.note(&Note::AdminExposed { address });
    }
    journal.hint_at_surroundings(missing, usual_stop_of_first_process(args));
}

/// A cluster that knows what there is around this process, and by what the next master will know its workers.
fn within_surroundings(builder: ClusterBuilder, socket: Option<&Socket>, kept: &Kept) -> ClusterBuilder {
    let builder = set(builder, kept.open_files, ClusterBuilder::open_files);
    let builder = set(builder, ServiceManager::of_process(), ClusterBuilder::service_manager);
    set(builder, socket.map(Socket::path), ClusterBuilder::cluster)
}

/// Writes the log and obeys signals until the cluster is over.
struct Foreground<'a> {
    cluster: &'a Cluster,
    server: Option<&'a mut Server>,
    admin: Option<&'a mut admin::Server>,
    pidfile: Option<&'a mut keeper::Keeper>,
    /// When it was looked at last.
    looked: Instant,
    journal: &'a mut Journal,
    stop: Stop,
    patience: Patience,
}

/// What people know of a stop that a signal has asked for.
#[derive(Debug, Default)]
enum Stop {
    /// Nothing is to be told.
    #[default]
    Nothing,
    /// It begins later (`--accept-after-stop`).
    Later,
    /// They are to be told then what it waits for.
    Due(Instant),
}

impl Foreground<'_> {
    async fn run(
        &mut self,
        events: &mut Events,
        signals: &mut Signals,
        changes: &mut mpsc::UnboundedReceiver<Note>,
    ) {
        self.reap_orphans();
        let mut has_log = true;
        loop {
            let looks = self.looks();
            tokio::select! {
                // What was asked for is written before what follows from it.
                biased;
                Some(news) = told(self.server.as_deref_mut()) => self.told(news),
                Some(news) = told_of(self.admin.as_deref_mut()) => self.told_at_admin(news),
                () = at(looks) => self.look(),
                fate = looked(self.pidfile.as_deref_mut()) => self.pidfile_has(fate),
                Some(change) = changes.recv() => self.journal.note(&change),
                heard = signals.next() => match heard {
                    signals::Heard::Signal { name, wish } => self.obey(name, wish).await,
                    signals::Heard::HungUp => self.hang_up(),
                    signals::Heard::StopSettled => self.tell_what_is_waited_for().await,
                    signals::Heard::ChildEnded => self.reap_orphans(),
                },
                () = due(&self.stop) => self.tell_what_is_waited_for().await,
                () = at(self.patience.due()) => self.tell_again().await,
                () = self.journal.fails(), if has_log => {
                    has_log = false;
                    self.cluster.fail("the thread that writes the log", "no line is written any more".to_owned());
                }
                () = at(self.journal.due()) => self.journal.look(Instant::now()),
                heard = events.next() => match heard {
                    Some(Heard::Event(event)) => {
                        self.note(&event);
                        if let Event::Reloaded { .. } = event {
                            self.look();
                            signals.reload_has_ended();
                        }
                    }
                    Some(Heard::Missed(events)) => self.journal.note(&Note::EventsMissed { events }),
                    None => return,
                },
            }
        }
    }

    async fn tell_the_rest(&mut self, events: &mut Events) {
        while let Some(heard) = events.next().await {
            if let Heard::Event(event) = heard {
                self.journal.event(&event);
            }
        }
    }

    fn told(&mut self, news: News) {
        match news {
            News::Asked(asked) => self.asked(asked),
            News::Kept(kept) => {
                let path = self.server.as_ref().map(|server| server.path().display().to_string());
                self.kept(Path::Control, path.unwrap_or_default(), kept);
            }
            _ => {}
        }
    }

    fn told_at_admin(&mut self, news: admin::News) {
        match news {
            admin::News::Changed(changed) => self.changed(changed),
            admin::News::Kept(kept) => {
                let path = self.admin.as_ref().map(|admin| admin.address().to_string());
                let path = path.unwrap_or_default().trim_start_matches("unix:").to_owned();
                self.kept(Path::Admin, path, kept);
            }
            _ => {}
        }
    }

    fn asked(&mut self, asked: Asked) {
        if asked.request == Request::Stop {
            self.patience.stop(Instant::now());
        }
        self.journal.note(&Note::asked(asked));
    }

    fn changed(&mut self, changed: Changed) {
        if changed.request == Request::Stop {
            self.patience.stop(Instant::now());
        }
        self.journal.note(&Note::changed(changed));
    }

    /// When the pidfile is to be looked at.
    fn looks(&self) -> Option<Instant> {
        self.pidfile.as_ref().map(|pidfile| self.looked + pidfile.every())
    }

    /// Has the files looked at by which others reach this process.
    fn look(&mut self) {
        self.looked = Instant::now();
        if let Some(server) = &self.server {
            server.look();
        }
        if let Some(admin) = &self.admin {
            admin.look();
        }
        if let Some(pidfile) = &mut self.pidfile {
            pidfile.look();
        }
    }

    /// Something has become of the pidfile.
    fn pidfile_has(&mut self, fate: Fate) {
        let path = self.pidfile.as_ref().map(|pidfile| pidfile.path().display().to_string());
        let (what, path) = (Path::Pidfile, path.unwrap_or_default());
        self.journal.note(&match fate {
            Fate::Restored => Note::PathRestored { what, path },
            Fate::Lost { reason } => Note::PathLost { what, path, reason },
        });
    }

    /// Something has become of a socket's path.
    fn kept(&mut self, what: Path, path: String, kept: control::Kept) {
        match kept {
            control::Kept::Restored => self.journal.note(&Note::PathRestored { what, path }),
            control::Kept::Lost { reason } => self.journal.note(&Note::PathLost { what, path, reason }),
            _ => {}
        }
    }

    /// People are told what is waited for, and are told again if it goes on.
    async fn tell_again(&mut self) {
        // An error says that the cluster is over already.
        if let Ok(status) = self.cluster.status().await {
            let start = || Note::start_waits(&status, &self.patience);
            if let Some(note) = Note::stop_waits(&status).or_else(start) {
                self.journal.note(&note);
            }
        }
        self.patience.told(Instant::now());
    }

    fn note(&mut self, event: &Event) {
        self.patience.hear(event, Instant::now());
        self.journal.event(event);
        if matches!(event, Event::Serving { serving, of, .. } if serving == of) {
            // To read arguments and files took much for a moment.
            host::trim_heap();
        }
        if matches!((event, &self.stop), (Event::Draining { .. }, Stop::Later)) {
            self.stop = Stop::Due(Instant::now() + DRAINS);
        }
    }

    /// People are told what the stop waits for, if it has begun.
    async fn tell_what_is_waited_for(&mut self) {
        // An error says that the cluster is over already.
        let note = self.cluster.status().await.ok().and_then(|status| Note::stop_waits(&status));
        self.stop = if note.is_some() { Stop::Nothing } else { Stop::Later };
        if let Some(note) = note {
            self.journal.note(&note);
        }
    }

    async fn obey(&mut self, name: &'static str, wish: Wish) {
        self.journal.note(&Note::signal(name, wish));
        let obeyed = match wish {
            Wish::Reload => self.cluster.request_reload(),
            Wish::Stop => {
                self.patience.stop(Instant::now());
                self.cluster.request_stop()
            }
            Wish::Terminate => self.cluster.request_terminate(),
            Wish::MoreWorkers => self.scale(1).await,
            Wish::FewerWorkers => self.scale(-1).await,
            Wish::ReopenLog => {
                self.journal.reopen();
                self.look();
                self.cluster.reopen_worker_log()
            }
            // systemd waits for the end of what it has asked for, whoever has asked for the same before.
            Wish::Repeated if signals::asks_for_reload(name) => self.cluster.confirm_reload(),
            Wish::Repeated => Ok(()),
        };
        // An error says that the cluster is over already, which the loop is about to see.
        let _: Result<(), Gone> = obeyed;
    }

    /// A program in the foreground ends with its terminal.
    fn hang_up(&mut self) {
        self.journal.note(&Note::hung_up());
        self.patience.stop(Instant::now());
        // An error says that the cluster is over already, which the loop is about to see.
        let _: Result<(), Gone> = self.cluster.request_stop();
    }

    /// Has all children reaped that have ended and are no workers.
    fn reap_orphans(&self) {
        // An error says that the cluster is over already.
        let _: Result<(), Gone> = self.cluster.reap_orphans();
    }

    async fn scale(&mut self, by: i32) -> Result<(), Gone> {
        match self.cluster.scale(Scale::By(by)).await {
            Ok(_) => Ok(()),
            Err(ScaleError::Gone(gone)) => Err(gone),
            Err(refusal) => {
                self.journal.note(&Note::NotScaled { reason: refusal.to_string() });
                Ok(())
            }
        }
    }
}

/// Waits for this moment, if there is one.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// When people are to be told of a stop.
async fn due(stop: &Stop) {
    match stop {
        Stop::Due(moment) => at(Some(*moment)).await,
        Stop::Nothing | Stop::Later => at(None).await,
    }
}

/// What has become of the pidfile, if there is one.
async fn looked(pidfile: Option<&mut keeper::Keeper>) -> Fate {
    match pidfile {
        Some(pidfile) => pidfile.looked().await,
        None => std::future::pending().await,
    }
}

/// What happens next at the control socket, if there is one.
async fn told(server: Option<&mut Server>) -> Option<News> {
    server?.told().await
}

/// What happens next at the admin listener, if there is one.
async fn told_of(server: Option<&mut admin::Server>) -> Option<admin::News> {
    server?.told().await
}

/// How long a stop may take where this is the first process of a container and nobody has said so.
fn usual_stop_of_first_process(args: &Run) -> Option<Duration> {
    let is_meant = process::id() == FIRST_PROCESS && args.leaving.stop_timeout.is_none();
    let checked = is_meant.then(|| describe(args).check().ok()).flatten()?;
    Some(stop_takes(args, &checked))
}

fn conclude(ending: Ending, args: &Run) -> Result<ExitStatus, Error> {
    match ending {
        Ending::Asked => Ok(ExitStatus::Success),
        // A log on stderr has said why already; one in a file may not be looked at.
        Ending::StartFailed(failure) if args.around.log_file.is_some() => Err(Error::NeverServed(failure)),
        Ending::StartFailed(_) => Ok(ExitStatus::NeverServed),
        Ending::Unkillable(workers) if args.around.log_file.is_some() => Err(Error::Unkillable(workers)),
        Ending::Unkillable(_) => Ok(ExitStatus::Failure),
        Ending::Lost => Err(Error::Lost),
    }
}
