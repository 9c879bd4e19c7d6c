//! Has workers started: everything that a worker's process needs of the master. It decides nothing.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use recluster_core::{Generation, WorkerId};
use recluster_wire::env::{NodeDrain, Serialization};
use serde::{Deserialize, Serialize};

use crate::config::ready::ReadyWhen;
use crate::process::event::Event;
use crate::process::exit;
use crate::process::hands::Hands;
use crate::process::latest::Latest;
use crate::process::launch::{Launch, Launched, Notify, Parts};
use crate::process::launcher::Launcher;
use crate::process::outlets::Outlets;
use crate::process::passage::Known;
use crate::process::preload;
use crate::process::program::ResolvedProgram;
use crate::process::runtime::NodeKind;
use crate::process::{inspector, sd_notify, spawn, stdio};
use crate::sink::Sink;
use crate::socket::bind::{self, Bound};
use crate::supervisor::child::{Child, Place};
use crate::supervisor::generations::SpawnError;
use crate::supervisor::launches::Begun;
use crate::supervisor::spec::Spec;
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving};

/// What another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    /// The number of the next socket for what a worker says.
    next_socket: u64,
    warned_of_preload: Option<Generation>,
}

/// The name of the part.
const PART: &str = "spawner";

/// How every worker is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Habits {
    /// Its stderr is the master's own.
    pub(crate) raw_stdio: bool,
    /// Its stdout passes through the master.
    pub(crate) takes_stdout: bool,
    pub(crate) end_with_master: bool,
    /// By what the next master knows it.
    pub(crate) cluster: Option<Arc<OsStr>>,
}

/// What does not change while the cluster lives.
#[derive(Debug)]
pub(crate) struct Spawner {
    habits: Habits,
    /// What the master has bound itself, in the order in which workers number it.
    bound: Arc<[Bound]>,
    /// Says what has changed since a generation began.
    latest: Option<Latest>,
    /// Starts processes.
    launcher: Launcher,
    /// Takes what workers write.
    outlets: Outlets,
    /// Where processes report.
    events: Sink<Event>,
    /// What workers write, on its way there.
    passages: Vec<Known>,
    /// The last generation of which people were told that its workers have no preload.
    warned_of_preload: Option<Generation>,
}

/// A worker that has been started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    /// Our end of its channel.
    pub(crate) channel: OwnedFd,
    /// How messages are written on it.
    pub(crate) serialization: Serialization,
    /// Our ends of its standard descriptors, where these are pipes.
    pub(crate) pipes: [Option<OwnedFd>; 3],
    /// Where it listens for a debugger.
    pub(crate) inspector: Option<inspector::Place>,
}

/// The preload's file, and how a worker drains by it, if it does.
pub(crate) type PlacedPreload = (PathBuf, Option<NodeDrain>);

impl Spawner {
    pub(crate) fn new(
        habits: Habits,
        bound: Vec<Bound>,
        latest: Option<Latest>,
        (launcher, outlets): (Launcher, Outlets),
        events: Sink<Event>,
    ) -> Self {
        let bound = bound.into();
        let (passages, warned_of_preload) = (Vec::new(), None);
        Self { habits, bound, latest, launcher, outlets, events, passages, warned_of_preload }
    }

    /// Leaves to another program what that needs to start workers as this one does, and what they write.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        bind::save_all(&self.bound, saving)?;
        exit::save_passages(&self.passages, saving)?;
        self.outlets.save(saving)?;
        let left = Left { next_socket: sd_notify::next_number(), warned_of_preload: self.warned_of_preload };
        saving.put(PART, &left)
    }

    /// Whether what was left can be read.
    pub(crate) fn read(inheritance: &mut Inheritance) -> Result<(), AdoptError> {
        inheritance.needed::<Left>(PART).map(drop)
    }

    /// Goes on with what was left, beside what was bound and what workers write.
    pub(crate) fn go_on(&mut self, inheritance: &mut Inheritance) -> Result<(), AdoptError> {
        let Left { next_socket, warned_of_preload } = inheritance.needed(PART)?;
        sd_notify::go_on_from(next_socket);
        self.warned_of_preload = warned_of_preload;
        Ok(())
    }

    /// What workers write passes on from now on, these beside others; and the files of sockets belong to this program.
    pub(crate) fn begin(&mut self, passages: Vec<Known>) {
        self.passages.extend(passages);
        self.bound.iter().filter_map(|bound| bound.file.as_ref()).for_each(|file| file.keep());
        self.outlets.go_on();
    }

    /// Where what workers write goes.
    pub(crate) fn outlets(&self) -> &Outlets {
        &self.outlets
    }

    /// Who starts workers.
    pub(crate) fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    /// What the master has bound itself.
    pub(crate) fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// No worker is started any more: what the master has bound is closed, and only draining workers hold it.
    pub(crate) fn close(&mut self) {
        self.bound = Arc::new([]);
    }

    /// Who starts processes.
    pub(crate) fn hands(&self) -> Hands {
        self.launcher.hands()
    }

    /// Reaps children that have ended and that nobody here waits for.
    pub(crate) fn reap_others(&self) {
        self.launcher.reap_others();
    }

    /// Waits until what workers wrote has been written, if that does not take too long. No more is expected.
    pub(crate) async fn flush(&self) {
        self.outlets.flush().await;
        self.outlets.ring().close();
    }

    /// Opens the files of what workers write anew.
    pub(crate) fn reopen_log(&self) {
        self.outlets.reopen();
    }

    /// Where processes report.
    pub(crate) fn events(&self) -> Sink<Event> {
        self.events.clone()
    }

    /// The preload for a worker, where it takes one: to drain by it, or to tell what it writes to a stderr that is not ours to
    /// see. An error is why there is none, once for a generation: to serve with a drain that may lose a request is better than
    /// not to serve.
    pub(crate) fn place_preload(
        &mut self,
        generation: Generation,
        program: &ResolvedProgram,
        spec: &Spec,
    ) -> Result<Option<PlacedPreload>, io::Error> {
        let tells = !stdio::passes_stderr(&program.stdio, self.habits.raw_stdio);
        if program.node_kind() != Some(NodeKind::Node) || !(tells || spec.preload.is_some()) {
            return Ok(None);
        }
        let path = self.once(generation, preload::place())?;
        let Habits { raw_stdio, takes_stdout, .. } = self.habits;
        let inherits = stdio::inherits(&program.stdio, raw_stdio, takes_stdout);
        Ok(path.map(|path| (path, spec.preload.map(|preload| preload.settings(inherits)))))
    }

    /// Nothing in the place of an error that this generation has had.
    fn once(&mut self, generation: Generation, placed: io::Result<PathBuf>) -> io::Result<Option<PathBuf>> {
        match placed {
            Err(_) if self.warned_of_preload == Some(generation) => Ok(None),
            Err(error) => {
                self.warned_of_preload = Some(generation);
                Err(error)
            }
            Ok(path) => Ok(Some(path)),
        }
    }

    /// Has a worker of a cluster of so many slots started.
    pub(crate) fn launch(
        &self,
        place: Place,
        slots: u32,
        program: Arc<ResolvedProgram>,
        spec: &Spec,
        preload: Option<PlacedPreload>,
    ) {
        let Place { worker, number, slot, generation } = place;
        let is_node = program.is_node();
        let notify = notify_by(&program, spec);
        self.launcher.launch(Launch {
            worker,
            number,
            slot: slot.get(),
            generation: generation.get(),
            slots,
            program,
            latest: self.latest.clone(),
            raw_stdio: self.habits.raw_stdio,
            takes_stdout: self.habits.takes_stdout,
            end_with_master: self.habits.end_with_master,
            cluster: self.habits.cluster.clone(),
            preload,
            bound: Arc::clone(&self.bound),
            own: spec.check_listen.clone().filter(|_| !is_node),
            notify,
            watchdog: spec.watchdog,
            drain_signal: spec.drain_signal,
        });
    }

    /// Does not start this worker; false if it is being started already.
    pub(crate) fn cancel(&self, worker: WorkerId) -> bool {
        self.launcher.cancel(worker)
    }

    /// What became of the start of a worker: it is watched from now on.
    pub(crate) fn take(
        &mut self,
        begun: Begun,
        outcome: io::Result<Launched>,
    ) -> Result<Started, SpawnError> {
        self.launcher.heard();
        let started = outcome.and_then(|launched| self.watch(begun, launched));
        started.map_err(|error| SpawnError {
            failure: spawn::failure_of(&error),
            reason: spawn::spawn_error(&error),
        })
    }

    fn watch(&mut self, begun: Begun, launched: Launched) -> io::Result<Started> {
        let Begun { place, channel_use, patience, .. } = begun;
        let Some(parts) = launched.take() else { return Err(io::ErrorKind::NotFound.into()) };
        let Parts { process, channel, serialization, watch, pipes, notify, own, told, inspector } = parts;
        let mut child = Child::new(place, process, channel_use, patience);
        (child.preload, child.own_listener) = (told, own);
        if let Some(socket) = notify {
            // Without it the worker is merely not heard there.
            child.notify = socket.start(place.worker, child.process.kin(), self.events.clone()).ok();
        }
        match watch.start(&self.outlets, self.events.clone()) {
            Ok(passages) => {
                self.passages.retain(|known| !known.is_over());
                self.passages.extend(passages);
            }
            Err(error) => {
                // Without a watch its end would not be seen, so it must end here.
                child.process.kill_and_reap();
                return Err(error);
            }
        }
        Ok(Started { child, channel, serialization, pipes, inspector })
    }
}

/// Whether a worker has a socket for what it tells by `sd_notify`. A Node worker has its channel for that, unless it is to
/// say there that it is ready, or that it is alive.
fn notify_by(program: &ResolvedProgram, spec: &Spec) -> Notify {
    if spec.ready_when(program) == ReadyWhen::Notify || spec.watchdog.is_some() {
        Notify::Needed
    } else if program.is_node() {
        Notify::Off
    } else {
        Notify::IfPossible
    }
}

#[cfg(test)]
mod tests {
    use recluster_core::{Exit, Settings, SpawnFailure};
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::balance::Balance;
    use crate::config::output::Output;
    use crate::process::launcher::Outcome;
    use crate::process::stdio::Stdio;
    use crate::report::worker::Address;
    use crate::supervisor::child::ChannelUse;
    use crate::supervisor::fixtures;
    use crate::supervisor::spec::Draft;

    struct Bench {
        spawner: Spawner,
        outcomes: mpsc::UnboundedReceiver<Outcome>,
        events: mpsc::UnboundedReceiver<Event>,
    }

    fn bench() -> Bench {
        let (send, events) = mpsc::unbounded_channel();
        let sink = Sink::new(move |event| drop(send.send(event)));
        let (send, outcomes) = mpsc::unbounded_channel();
        let outcome = Sink::new(move |outcome| drop(send.send(outcome)));
        let launcher = Launcher::start(None, None, Sink::new(|_| {}), outcome, Sink::new(|_| {})).unwrap();
        let means = (launcher, Outlets::start(Output::default(), 1, true, None, sink.clone()).unwrap());
        Bench { spawner: Spawner::new(Habits::default(), Vec::new(), None, means, sink), outcomes, events }
    }

    impl Bench {
        async fn spawn(&mut self, spec: &Spec, program: ResolvedProgram) -> Result<Started, SpawnError> {
            let (place, channel_use) = (place(), ChannelUse::of(&program));
            let begun = Begun::new(place, channel_use, false, None);
            self.spawner.launch(place, 2, Arc::new(program), spec, None);
            let (worker, outcome) = self.outcomes.recv().await.unwrap();
            assert_eq!(worker, place.worker);
            self.spawner.take(begun, outcome)
        }
    }

    fn place() -> Place {
        let worker = WorkerId::from_number(1);
        Place { worker, number: 7, slot: fixtures::slot(), generation: Generation::FIRST }
    }

    /// A shell that runs this script.
    fn script(script: &str) -> (Spec, ResolvedProgram) {
        let mut draft = Draft::new("/bin/sh".into());
        draft.program.args = vec!["-c".into(), script.into()];
        draft.check(&Balance::default()).unwrap()
    }

    #[tokio::test]
    async fn a_worker_knows_its_place_and_its_end_is_reported() {
        let mut bench = bench();
        let (spec, program) = script("echo \"$WORKER_ID of $RECLUSTER_WORKERS\" >&2; exit 3");
        let Started { child, .. } = bench.spawn(&spec, program).await.unwrap();
        assert!(child.notify.is_some(), "a program that is not Node may notify");
        assert_eq!(child.channel_use, ChannelUse::Unproven);
        let Event::Ended(worker) = bench.events.recv().await.unwrap() else { panic!() };
        assert_eq!(worker, place().worker);
        assert_eq!(child.process.exit(), Exit::Code(3));
        assert_eq!(child.process.tail.lines().len(), 1, "{:?}", child.process.tail.lines());
        child.process.reap();
    }

    #[tokio::test]
    async fn what_cannot_be_started_says_why_and_whether_to_try_again() {
        let mut bench = bench();
        let (spec, mut program) = script("");
        program.directory = "/nowhere".into();
        let error = bench.spawn(&spec, program).await.unwrap_err();
        assert_eq!(error.failure, SpawnFailure::Hopeless);
        assert!(error.reason.contains("No such file"), "{}", error.reason);
    }

    #[tokio::test]
    async fn each_worker_has_a_listener_of_its_own_for_checks() {
        let mut bench = bench();
        let (spec, program) = script(":");
        let spec = Spec { check_listen: Some("127.0.0.1:0".parse().unwrap()), ..spec };
        let mut ports = Vec::new();
        for _ in 0..2 {
            let started = bench.spawn(&spec, program.clone()).await.unwrap();
            ports.push(started.child.own_listener.unwrap().port());
            assert!(matches!(bench.events.recv().await, Some(Event::Ended(_))));
            started.child.process.reap();
        }
        assert_ne!(ports[0], ports[1]);
    }

    #[tokio::test]
    async fn one_that_has_ended_is_not_listened_to() {
        let mut bench = bench();
        let (spec, program) = script(":");
        let mut child = bench.spawn(&spec, program).await.unwrap().child;
        assert!(child.notify.is_some());
        child.ends();
        assert!(child.notify.is_none());
        assert!(matches!(bench.events.recv().await, Some(Event::Ended(_))));
        child.process.reap();
    }

    #[tokio::test]
    async fn one_that_waits_for_its_start_can_be_cancelled() {
        let mut bench = bench();
        let (spec, program) = script(":");
        let (program, numbers) = (Arc::new(program), [1, 2, 3].map(WorkerId::from_number));
        for worker in numbers {
            bench.spawner.launch(Place { worker, ..place() }, 2, Arc::clone(&program), &spec, None);
        }
        for _ in 0..2 {
            assert!(bench.outcomes.recv().await.unwrap().1.is_ok());
        }
        assert!(bench.spawner.cancel(numbers[2]), "the first two were not heard of yet");
        assert!(!bench.spawner.cancel(numbers[2]) && !bench.spawner.cancel(numbers[0]));
    }

    #[test]
    fn what_is_bound_is_there_until_no_worker_is_started_any_more() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(socket.local_addr().unwrap());
        let bound = Bound::adopt(socket.into(), None).unwrap();
        let Spawner { launcher, outlets, events, .. } = bench().spawner;
        let mut spawner = Spawner::new(Habits::default(), vec![bound], None, (launcher, outlets), events);
        assert!(matches!(spawner.bound(), [bound] if bound.address == address));
        spawner.close();
        assert!(spawner.bound().is_empty());
    }

    #[test]
    fn whoever_may_be_silent_for_a_time_needs_a_socket_to_speak_on() {
        let (spec, program) = script(":");
        assert_eq!(notify_by(&program, &spec), Notify::IfPossible);
        let watched = Spec { watchdog: Some(std::time::Duration::from_secs(1)), ..spec.clone() };
        assert_eq!(notify_by(&program, &watched), Notify::Needed);
        let ready = Spec { ready_when: Some(ReadyWhen::Notify), ..spec.clone() };
        assert_eq!(notify_by(&program, &ready), Notify::Needed);
        assert_eq!(notify_by(&fixtures::under(NodeKind::Node, program), &spec), Notify::Off);
    }

    #[test]
    fn a_preload_without_a_place_is_told_once_for_a_generation() {
        let mut spawner = bench().spawner;
        let (first, second) = (Generation::FIRST, fixtures::second_generation());
        let fails = || Err(io::ErrorKind::ReadOnlyFilesystem.into());
        assert!(spawner.once(first, fails()).is_err());
        assert!(spawner.once(first, fails()).unwrap().is_none());
        assert!(spawner.once(second, fails()).is_err());
        assert!(spawner.once(second, Ok("there".into())).unwrap().is_some());
    }

    #[test]
    fn only_node_takes_the_preload() {
        let mut spawner = bench().spawner;
        let (_, program) = script(":");
        let spec = fixtures::spec(Settings::default());
        assert!(spec.preload.is_some());
        assert!(spawner.place_preload(Generation::FIRST, &program, &spec).unwrap().is_none());
        assert!(spawner.bound().is_empty());
    }

    #[test]
    fn node_takes_the_preload_to_drain_or_to_tell_of_its_stderr() {
        let mut spawner = bench().spawner;
        let mut program = fixtures::under(NodeKind::Node, script(":").1);
        let drains = fixtures::spec(Settings::default());
        let drains_not = Spec { preload: None, ..fixtures::spec(Settings::default()) };
        let mut drain = |program: &ResolvedProgram, spec: &Spec| {
            let placed = spawner.place_preload(Generation::FIRST, program, spec).unwrap();
            placed.map(|(_, drain)| drain.is_some())
        };
        assert_eq!((drain(&program, &drains), drain(&program, &drains_not)), (Some(true), None));
        program.stdio = [Stdio::Null, Stdio::Inherit, Stdio::Inherit];
        assert_eq!((drain(&program, &drains), drain(&program, &drains_not)), (Some(true), Some(false)));
    }
}
