//! Actions in short words, so that a test compares sentences.

use std::time::Duration;

use recluster_core::{
    Action, Caller, Cause, Due, Exit, Failure, Notice, Signal, SpawnFailure, Time, Verdict,
};

/// What stands before the callers of a verdict, and in no other notice.
pub(crate) const FOR_CALLERS: &str = " for ";

/// What was done or reported, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Spawned(String),
    Drained(String),
    Signalled(String),
    Notice(String),
    Asked(String),
}

pub(crate) fn word(action: &Action, now: Time) -> Word {
    match action {
        Action::Spawn { worker, slot, generation } => {
            Word::Spawned(format!("{worker} in slot {slot} of generation {generation}"))
        }
        Action::Drain { worker, until } => Word::Drained(format!("{worker} until {until}")),
        Action::Signal { worker, signal: sent } => {
            Word::Signalled(format!("{} to {worker} at {now}", signal(*sent)))
        }
        Action::Reload(change) => Word::Asked(format!("{change:?} at {now}")),
        Action::Notify(reported) => Word::Notice(notice(reported)),
    }
}

fn notice(notice: &Notice) -> String {
    match notice {
        Notice::GenerationBegan { generation } => format!("generation {generation} began"),
        Notice::Serving { worker, serving, of, .. } => format!("{worker} serves, {serving} of {of}"),
        Notice::Respawning { worker, slot, delay } => {
            format!("{worker} must be replaced in slot {slot}, in {delay:?}")
        }
        Notice::Held { worker, slot } => format!("{worker} in slot {slot} waits for a reload"),
        Notice::Failed(failed) => format!("failed: {}", failure(failed)),
        Notice::Late { worker, .. } => format!("{worker} is late"),
        Notice::Overdue { due: late, signal: sent, .. } => {
            format!("overdue: {}, {}", due(*late), signal(*sent))
        }
        Notice::Gone { worker, exit: how, expected, .. } => {
            format!("{worker} is gone{}, {}", if *expected { " as expected" } else { "" }, exit(*how))
        }
        Notice::Unkillable { worker, .. } => format!("{worker} cannot be killed"),
        Notice::Started { generation } => format!("generation {generation} started"),
        Notice::StartFailed(failed) => format!("start failed: {}", failure(failed)),
        Notice::Superseded { generation } => format!("generation {generation} superseded"),
        Notice::Verdict { generation, callers, verdict: ended } => {
            let generation = generation.map_or("no generation".to_owned(), |it| format!("generation {it}"));
            let callers: Vec<u64> = callers.iter().map(|Caller(caller)| *caller).collect();
            format!("{generation}{FOR_CALLERS}{callers:?}: {}", verdict(ended))
        }
        Notice::Scaled { from, to } => format!("scaled from {from} to {to}"),
        Notice::ReplaceFailed(failed) => format!("replace failed: {}", failure(failed)),
        other => format!("{other:?}"),
    }
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Done => "done".to_owned(),
        Verdict::RolledBack(failed) => format!("rolled back, {}", failure(failed)),
        Verdict::StoppedPartWay { replaced, of, failure: failed } => {
            format!("stopped at {replaced} of {of}, {}", failure(failed))
        }
        Verdict::Abandoned => "abandoned".to_owned(),
    }
}

fn failure(failure: &Failure) -> String {
    let Failure { worker, slot, cause, failures } = failure;
    let cause = match cause {
        Cause::Exited(how) => exit(*how),
        Cause::ReadyTimeout => "not ready in time".to_owned(),
        Cause::SpawnFailed(SpawnFailure::Temporary) => "not spawned now".to_owned(),
        Cause::SpawnFailed(SpawnFailure::Hopeless) => "not spawned ever".to_owned(),
        Cause::Retired => "retired".to_owned(),
    };
    format!("{worker} in slot {slot} {cause}, failure {failures}")
}

fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
    }
}

pub(crate) fn due(due: Due) -> String {
    match due {
        Due::Ready(worker) => format!("ready {worker}"),
        Due::Bake(worker) => format!("bake {worker}"),
        Due::Drain(worker) => format!("drain {worker}"),
        Due::Surplus(worker) => format!("surplus {worker}"),
        Due::Exit(worker) => format!("exit {worker}"),
        Due::Kill(worker) => format!("kill {worker}"),
        Due::End(worker) => format!("end {worker}"),
        Due::Respawn => "respawn".to_owned(),
        Due::Reload => "reload".to_owned(),
        Due::Changes => "changes".to_owned(),
    }
}

const fn signal(signal: Signal) -> &'static str {
    match signal {
        Signal::Term => "TERM",
        Signal::Kill => "KILL",
    }
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
