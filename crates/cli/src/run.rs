//! `run`: a cluster in the foreground. The library does the work; this adds what belongs to a command: a name, a
//! control socket, a pidfile, signals, a log and an exit status.

use std::env;
use std::os::fd::OwnedFd;
use std::process;
use std::time::{Duration, Instant};

use recluster::admin::{self, Admin, AdminError, Changed};
use recluster::configuration::Configuration;
use recluster::control::protocol::Request;
use recluster::control::{self, Asked, News, Server, Socket};
use recluster::host::{Came, Inheritance, Seat, Successor};
use recluster::{
    Cluster, ClusterBuilder, Ending, Event, Events, Gone, Heard, Scale, ScaleError, ServiceManager,
};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::args::Run;
use crate::claim::{Claim, claim};
use crate::config::{CommandLine, Reread, Said, Settings, changes_at_reload};
use crate::describe::{describe, set, stop_takes, with_inherited};
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::inherited::Inherited;
use crate::log::{Journal, Kept as Path, Note};
use crate::name::Name;
use crate::open_files;
use crate::orphans;
use crate::patience::Patience;
use crate::pidfile::{Fate, Pidfile, keeper};
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
    let anew = inherited.anew.take().map(|reason| Note::StartedAnew { reason });
    let left = left.map(Left::read).transpose()?;
    let mut signals =
        Signals::install(left.as_ref().map(|left| left.kept.terminal)).map_err(Error::Signals)?;
    if args.around.subreaper {
        orphans::adopt().map_err(Error::Subreaper)?;
    }
    let Begun { claim: Claim { name, mut socket, missing }, kept, mut inheritance, came, log } =
        Begun::of(&args, said, left, &signals)?;
    let admin = match args.admin.options() {
        Some(options) => Some(admin_of(options, inheritance.as_mut()).await?),
        None => None,
    };
    let pidfile = match &kept.pidfile {
        Some(path) if came.is_some() => Some(Pidfile::inherit(path.clone())),
        path => path.as_deref().map(Pidfile::write).transpose()?,
    };
    let mut journal = Journal::open(&name, &args.around, log)?;
    let around = Around::new(kept.clone(), signals.gate(), journal.flusher());
    let (notes, mut changes) = mpsc::unbounded_channel();
    let builder = with_inherited(describe(&args).name(name.as_str()), inherited)?;
    let builder =
        configured(builder, line.started(&args), settings, Place::new(&name, socket.as_ref()), notes);
    let builder = set(builder, worker_lines::style(&args, &name), ClusterBuilder::line_style);
    let builder = within_surroundings(builder.starts_on(seat), socket.as_ref(), &kept);
    let successor = Successor::new(env::args_os().collect(), came.as_ref(), kept.open_files, around.clone());
    let builder = builder.successor(successor).inherits(inheritance);
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
    let admin = admin.map(|admin| admin.serve(cluster.clone()));
    let mut admin = admin.transpose().map_err(AdminError::from)?;
    if let Some(admin) = &admin {
        around.has_admin(admin.leaver());
    }
    let mut server = socket.map(|socket| socket.serve(cluster.clone()));
    if let Some(server) = &server {
        journal.record(server.recorder());
        around.has_control(server.leaver());
    }
    let control = server.as_ref().map(|server| server.path().display().to_string());
    let admin_at = admin.as_ref().map(|admin| admin.address().to_string());
    if came.is_none() {
        journal.note(&Note::starting(&args, control, admin_at.clone()));
    }
    let exposed =
        admin_at.filter(|_| is_exposed && came.is_none()).map(|address| Note::AdminExposed { address });
    for note in anew.iter().chain(&Note::survivors(cluster.survivors())).chain(&exposed) {
        journal.note(note);
    }

    if came.is_none() {
        journal.hint_at_surroundings(missing, usual_stop_of_first_process(&args));
    }
    if args.following.clear_screen {
        journal.clear_screen();
    }
    if args.respawning.backoff.is_none() {
        journal.hint_at_backoff();
    }
    let patience = Patience::of_start(Instant::now());
    let stop = Stop::default();
    let (server_half, admin_half) = (server.as_mut(), admin.as_mut());
    let mut foreground = Foreground {
        cluster: &cluster,
        server: server_half,
        admin: admin_half,
        pidfile: pidfile.as_mut(),
        looked: Instant::now(),
        journal: &mut journal,
        stop,
        patience,
    };
    cluster.beside("the command's loop", foreground.run(&mut events, &mut signals, &mut changes)).await;
    // Where that has panicked, or the log has, the cluster is about to end.
    cluster.beside("the log", foreground.tell_the_rest(&mut events)).await;
    let ending = cluster.wait().await;

    if let Some(pidfile) = pidfile {
        pidfile.close().await;
    }
    if let Some(server) = server {
        server.close().await;
    }
    if let Some(admin) = admin {
        admin.close().await;
    }
    journal.close();
    conclude(ending, &args)
}

/// What is decided before anything is started: here, or by the program before.
struct Begun {
    claim: Claim,
    kept: Kept,
    inheritance: Option<Inheritance>,
    came: Option<Came>,
    log: Option<OwnedFd>,
}

impl Begun {
    fn of(args: &Run, said: Said, left: Option<Left>, signals: &Signals) -> Result<Self, Error> {
        if let Some(Left { inheritance, came, kept, name, socket, log }) = left {
            let claim = Claim { name, socket, missing: None };
            return Ok(Self { claim, kept, inheritance: Some(inheritance), came: Some(came), log });
        }
        let claim = claim(args)?;
        let kept = Kept {
            name: claim.name.to_string(),
            open_files: open_files::raise(),
            terminal: signals.terminal(),
            pidfile: args.around.pidfile.clone(),
            said,
        };
        Ok(Self { claim, kept, inheritance: None, came: None, log: None })
    }
}

/// The admin listener that was left, or a new one.
async fn admin_of(options: admin::Options, left: Option<&mut Inheritance>) -> Result<Admin, Error> {
    if let Some(inheritance) = left
        && let Some(admin) = Admin::adopt(options.clone(), inheritance)?
    {
        return Ok(admin);
    }
    Ok(Admin::bind(options).await?)
}

/// A cluster that knows what there is around this process, and by what the next master will know its workers.
fn within_surroundings(builder: ClusterBuilder, socket: Option<&Socket>, kept: &Kept) -> ClusterBuilder {
    let builder = set(builder, kept.open_files, ClusterBuilder::open_files);
    let builder = set(builder, ServiceManager::of_process(), ClusterBuilder::service_manager);
    set(builder, socket.map(Socket::path), ClusterBuilder::cluster)
}

/// A cluster that says with which settings it runs, and reads the config file again.
fn configured(
    builder: ClusterBuilder,
    line: CommandLine,
    settings: Settings,
    place: Place,
    notes: mpsc::UnboundedSender<Note>,
) -> ClusterBuilder {
    builder
        .configuration(place.add_to(settings.told()))
        .configuration_now(look(line.clone(), place.clone()))
        .reread(reread(line, settings, place, notes))
}

/// Reads the config file again when a reload begins, and logs which settings change now and which need a restart.
fn reread(
    line: CommandLine,
    running: Settings,
    place: Place,
    notes: mpsc::UnboundedSender<Note>,
) -> impl FnMut() -> Result<ClusterBuilder, String> + Send {
    move || {
        let Reread { run, settings, changed } = line.reread(&running).map_err(|error| error.to_string())?;
        let in_force = place.add_to(settings.told_in_force(&running));
        let (changed, needs_restart): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|key| changes_at_reload(key));
        if !(changed.is_empty() && needs_restart.is_empty()) {
            // The log is gone only when the cluster is over.
            let _ = notes.send(Note::Configured { changed, needs_restart: needs_restart.clone() });
        }
        Ok(describe(&run).needs_restart(needs_restart).configuration(in_force))
    }
}

/// What the config file, the command line and the environment say now, for whoever asks how that differs.
fn look(line: CommandLine, place: Place) -> impl Fn() -> Result<Configuration, String> + Send + Sync {
    move || {
        let said = line.read().map_err(|error| error.to_string())?;
        Ok(place.add_to(said.settings.told()))
    }
}

/// Where the cluster is found, which nobody needs to say.
#[derive(Clone, Debug)]
struct Place {
    name: String,
    control: String,
}

impl Place {
    fn new(name: &Name, socket: Option<&Socket>) -> Self {
        let control = socket.map_or("none".to_owned(), |socket| socket.path().display().to_string());
        Self { name: name.to_string(), control }
    }

    fn add_to(&self, mut said: Configuration) -> Configuration {
        said.work_out("name", &self.name);
        said.work_out("control", &self.control);
        said
    }
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
