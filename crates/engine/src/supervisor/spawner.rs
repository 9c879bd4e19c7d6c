//! Starts workers: everything that a worker's process needs of the master. It decides nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use recluster_core::Generation;
use recluster_wire::env::NodeDrain;

use crate::config::ready::ReadyWhen;
use crate::process::event::Event;
use crate::process::program::{NodeKind, ResolvedProgram};
use crate::process::spawn::{self, SpawnOptions};
use crate::process::stderr::Forwarder;
use crate::process::{preload, sd_notify};
use crate::sink::Sink;
use crate::socket::bind::{self, Bound};
use crate::supervisor::child::{ChannelUse, Child, Place};
use crate::supervisor::generations::SpawnError;
use crate::supervisor::spec::Spec;

/// What does not change while the cluster lives.
#[derive(Debug)]
pub(crate) struct Spawner {
    raw_stdio: bool,
    end_with_master: bool,
    /// What the master has bound itself, in the order in which workers number it.
    bound: Vec<Bound>,
    /// Takes the workers' stderr.
    forwarder: Forwarder,
    /// Where processes report.
    events: Sink<Event>,
    /// The last generation of which people were told that its workers have no preload.
    warned_of_preload: Option<Generation>,
}

/// A worker that has been started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    /// Our end of its channel.
    pub(crate) channel: OwnedFd,
    /// Our ends of its standard descriptors, where these are pipes.
    pub(crate) pipes: [Option<OwnedFd>; 3],
}

/// The preload's file, and what the preload is told.
pub(crate) type PlacedPreload = (PathBuf, NodeDrain);

impl Spawner {
    pub(crate) fn new(
        (raw_stdio, end_with_master): (bool, bool),
        bound: Vec<Bound>,
        forwarder: Forwarder,
        events: Sink<Event>,
    ) -> Self {
        Self { raw_stdio, end_with_master, bound, forwarder, events, warned_of_preload: None }
    }

    /// What the master has bound itself.
    pub(crate) fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// No worker is started any more: what the master has bound is closed, and only draining workers hold it.
    pub(crate) fn close(&mut self) {
        self.bound.clear();
    }

    /// Where processes report.
    pub(crate) fn events(&self) -> Sink<Event> {
        self.events.clone()
    }

    /// The preload for a worker, where it takes one. An error is why there is none, once for a generation: to serve with a
    /// drain that may lose a request is better than not to serve.
    pub(crate) fn place_preload(
        &mut self,
        generation: Generation,
        program: &ResolvedProgram,
        spec: &Spec,
    ) -> Result<Option<PlacedPreload>, io::Error> {
        let takes_preload = program.node_kind() == Some(NodeKind::Node);
        let Some(preload) = spec.preload.filter(|_| takes_preload) else { return Ok(None) };
        match preload::place() {
            Ok(path) => Ok(Some((path, preload.settings()))),
            Err(_) if self.warned_of_preload == Some(generation) => Ok(None),
            Err(error) => {
                self.warned_of_preload = Some(generation);
                Err(error)
            }
        }
    }

    /// Starts a worker of a cluster of so many slots.
    pub(crate) fn spawn(
        &self,
        place: Place,
        slots: u32,
        program: &ResolvedProgram,
        spec: &Spec,
        preload: Option<PlacedPreload>,
    ) -> Result<Started, SpawnError> {
        self.try_spawn(place, slots, program, spec, preload).map_err(|error| SpawnError {
            failure: spawn::failure_of(&error),
            reason: spawn::spawn_error(&error),
        })
    }

    fn try_spawn(
        &self,
        place: Place,
        slots: u32,
        program: &ResolvedProgram,
        spec: &Spec,
        preload: Option<PlacedPreload>,
    ) -> io::Result<Started> {
        let Place { worker, number, slot, generation } = place;
        let is_node = program.is_node();
        let notify = open_notify(is_node, spec)?;
        let own = spec.check_listen.as_ref().filter(|_| !is_node).map(bind::bind).transpose()?;
        let told = preload.as_ref().map(|(_, told)| *told);
        let options = SpawnOptions {
            worker,
            number,
            slot: slot.get(),
            generation: generation.get(),
            slots,
            raw_stdio: self.raw_stdio,
            end_with_master: self.end_with_master,
            preload,
            sockets: self.bound.iter().chain(&own).collect(),
            notify: notify.as_ref().map(|socket| socket.path().to_owned()),
            watchdog: spec.watchdog,
            drain_signal: spec.drain_signal,
        };
        let spawned = spawn::spawn(program, &options)?;
        let mut child = Child::new(place, spawned.process, ChannelUse::of(program), spec.watchdog);
        child.preload = told;
        child.own_listener = own.as_ref().and_then(|own| own.address.ip());
        if let Some(socket) = notify {
            // Without it the worker is merely not heard there.
            child.notify = socket.start(worker, child.process.pid, self.events.clone()).ok();
        }
        if let Err(error) = spawned.watch.start(self.forwarder.clone(), self.events.clone()) {
            // Without a watch its end would not be seen, so it must end here.
            child.process.kill_and_reap();
            return Err(error);
        }
        Ok(Started { child, channel: spawned.channel, pipes: spawned.pipes })
    }
}

/// A socket for what the worker tells by `sd_notify`. A Node worker has its channel for that, unless it is to say here that
/// it is ready, or that it is alive.
fn open_notify(is_node: bool, spec: &Spec) -> io::Result<Option<sd_notify::Socket>> {
    let is_needed = spec.ready_when == ReadyWhen::Notify || spec.watchdog.is_some();
    if is_node && !is_needed {
        return Ok(None);
    }
    match sd_notify::Socket::open() {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if is_needed => Err(error),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use recluster_core::{Exit, Settings, SpawnFailure, WorkerId};
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::balance::Balance;
    use crate::supervisor::fixtures;
    use crate::supervisor::spec::Draft;

    fn spawner() -> (Spawner, mpsc::UnboundedReceiver<Event>) {
        let (send, events) = mpsc::unbounded_channel();
        let sink = Sink::new(move |event| drop(send.send(event)));
        (Spawner::new((false, false), Vec::new(), Forwarder::start().unwrap(), sink), events)
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
        let (spawner, mut events) = spawner();
        let (spec, program) = script("echo \"$WORKER_ID of $RECLUSTER_WORKERS\" >&2; exit 3");
        let Started { child, .. } = spawner.spawn(place(), 2, &program, &spec, None).unwrap();
        assert!(child.notify.is_some(), "a program that is not Node may notify");
        assert_eq!(child.channel_use, ChannelUse::Unproven);
        let Event::Ended(worker) = events.recv().await.unwrap() else { panic!() };
        assert_eq!(worker, place().worker);
        assert_eq!(child.process.exit(), Exit::Code(3));
        assert_eq!(child.process.tail.lines().len(), 1, "{:?}", child.process.tail.lines());
        child.process.reap();
    }

    #[tokio::test]
    async fn what_cannot_be_started_says_why_and_whether_to_try_again() {
        let (spawner, _events) = spawner();
        let (spec, mut program) = script("");
        program.directory = "/nowhere".into();
        let error = spawner.spawn(place(), 1, &program, &spec, None).unwrap_err();
        assert_eq!(error.failure, SpawnFailure::Hopeless);
        assert!(error.reason.contains("No such file"), "{}", error.reason);
    }

    #[tokio::test]
    async fn each_worker_has_a_listener_of_its_own_for_checks() {
        let (spawner, mut events) = spawner();
        let (spec, program) = script(":");
        let spec = Spec { check_listen: Some("127.0.0.1:0".parse().unwrap()), ..spec };
        let own = || spawner.spawn(place(), 1, &program, &spec, None).unwrap().child.own_listener.unwrap();
        assert_ne!(own().port(), own().port());
        for _ in 0..2 {
            assert!(matches!(events.recv().await, Some(Event::Ended(_))));
        }
    }

    #[test]
    fn only_node_takes_the_preload() {
        let (send, _events) = mpsc::unbounded_channel();
        let sink = Sink::new(move |event: Event| drop(send.send(event)));
        let mut spawner = Spawner::new((false, false), Vec::new(), Forwarder::start().unwrap(), sink);
        let (_, program) = script(":");
        let spec = fixtures::spec(Settings::default());
        assert!(spec.preload.is_some());
        assert!(spawner.place_preload(Generation::FIRST, &program, &spec).unwrap().is_none());
        assert!(spawner.bound().is_empty());
    }
}
