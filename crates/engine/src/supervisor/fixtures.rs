//! What the tests of the supervisor's parts have in common.

use std::path::PathBuf;
use std::time::Instant;

use recluster_core::{Action, Event, Generation, Notice, Settings, SlotId, WorkerId};
use rustix::process::{WaitId, WaitIdOptions};

use crate::config::balance::Balance;
use crate::config::drain_signal::DrainSignal;
use crate::process::program::ResolvedProgram;
use crate::process::runtime::{Because, NodeKind, Runtime};
use crate::process::spawn::{self, SpawnOptions};
use crate::supervisor::child::{ChannelUse, Child, Place};
use crate::supervisor::policy::{Clock, Policy};
use crate::supervisor::spec::{Draft, Spec};

/// A spec of a shell, with these settings.
pub(crate) fn spec(settings: Settings) -> Spec {
    let draft = Draft { settings, ..Draft::new(PathBuf::from("/bin/sh")) };
    draft.check(&Balance::default()).unwrap().0
}

/// A policy that has just begun, with these settings.
pub(crate) fn policy(settings: Settings, began: Instant) -> Policy {
    Policy::new(spec(settings).config, Clock::starting(began))
}

/// The first slot of a cluster.
pub(crate) fn slot() -> SlotId {
    policy(Settings::default(), Instant::now()).status().slots[0].slot
}

/// The generation that a reload begins.
pub(crate) fn second_generation() -> Generation {
    let now = Instant::now();
    let mut policy = policy(Settings::default(), now);
    policy.tell(Event::Reload { caller: None, config: None });
    std::iter::from_fn(|| policy.next_action(now))
        .find_map(|action| {
            let Action::Notify(Notice::GenerationBegan { generation }) = action else { return None };
            (generation != Generation::FIRST).then_some(generation)
        })
        .unwrap()
}

/// This program, run by node or one of its kind.
pub(crate) fn under(kind: NodeKind, mut program: ResolvedProgram) -> ResolvedProgram {
    let (binary, name) = ("/usr/bin/node".into(), "node".into());
    program.runtime = Runtime::Node { kind, binary, name, args: Vec::new(), because: Because::Said };
    program
}

/// A worker of the first slot and generation, with this number. Its process has ended and is not reaped, so that it can be
/// sent every signal.
pub(crate) fn child(number: u64) -> Child {
    let child = child_that_runs(number, ":");
    rustix::process::waitid(WaitId::Pid(child.process.pid()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        .unwrap();
    child
}

/// The same with a process that runs this script, in a group of its own.
pub(crate) fn child_that_runs(number: u64, script: &str) -> Child {
    let mut draft = Draft::new(PathBuf::from("/bin/sh"));
    draft.program.args = vec!["-c".into(), script.into()];
    let (_, program) = draft.check(&Balance::default()).unwrap();
    let options = SpawnOptions {
        worker: WorkerId::from_number(number),
        number,
        slot: 0,
        generation: 1,
        slots: 1,
        raw_stdio: false,
        takes_stdout: false,
        end_with_master: false,
        cluster: None,
        open_files: None,
        preload: None,
        inspect_port: None,
        sockets: Vec::new(),
        notify: None,
        watchdog: None,
        drain_signal: DrainSignal::default(),
    };
    let spawned = spawn::spawn(&program, &options).unwrap();
    let worker = WorkerId::from_number(number);
    let place = Place { worker, number, slot: slot(), generation: Generation::FIRST };
    Child::new(place, spawned.process, ChannelUse::Unproven, None)
}
