//! Failures in words: what a person needs to mend them.

use std::time::Duration;

use recluster_core as core;
use recluster_core::{Cause, Due, Exit};

use crate::config::ready::ReadyWhen;
use crate::report::signal::signal_name;
use crate::report::verdict::{Failure, Verdict};
use crate::socket::holder::Holder;
use crate::socket::short_path::PATH_LIMIT;
use crate::supervisor::child::DeadWorker;

/// What the worker that failed was held to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) ready_when: ReadyWhen,
    pub(crate) ready_timeout: Duration,
    /// Its server file needs a Node that strips types.
    pub(crate) is_typescript: bool,
}

/// A verdict, its failure explained.
pub(crate) fn verdict(verdict: core::Verdict, explain: impl FnOnce(core::Failure) -> Failure) -> Verdict {
    match verdict {
        core::Verdict::Done => Verdict::Done,
        core::Verdict::RolledBack(failure) => Verdict::RolledBack { failure: explain(failure) },
        core::Verdict::StoppedPartWay { replaced, of, failure } => {
            Verdict::StoppedPartWay { replaced, of, failure: explain(failure) }
        }
        core::Verdict::Abandoned => Verdict::Abandoned,
    }
}

/// Why a worker did not come to serve.
pub(crate) fn failure(failure: core::Failure, worker: DeadWorker, expected: Expected) -> Failure {
    Failure {
        worker: worker.worker,
        reason: reason(failure.cause, &worker, expected.ready_timeout),
        failures: failure.failures,
        hint: in_the_way(&worker)
            .or_else(|| in_use(failure.cause, &worker))
            .or_else(|| worker.left.clone())
            .or_else(|| wants_memory(&worker))
            .or_else(|| overlong(&worker))
            .or_else(|| stopped(failure.cause, &worker))
            .or_else(|| said_by_a_stranger(failure.cause, &worker, expected))
            .or_else(|| hint(failure.cause, &worker, expected).map(str::to_owned)),
        stderr: worker.stderr,
    }
}

/// What a worker was late for.
pub(crate) fn late_for(due: Due) -> &'static str {
    match due {
        Due::Ready(_) => "ready",
        Due::Bake(_) => "bake",
        Due::Drain(_) => "drain",
        Due::Surplus(_) => "surplus",
        Due::Exit(_) => "exit",
        Due::Kill(_) => "kill",
        Due::End(_) => "end",
        Due::Respawn => "respawn",
        Due::Reload => "reload",
        Due::Changes => "changes",
    }
}

/// What happened, with the exception that the worker has ended with.
fn reason(cause: Cause, worker: &DeadWorker, ready_timeout: Duration) -> String {
    let exception = worker.exception.as_ref().map(|exception| format!(": {exception}")).unwrap_or_default();
    match cause {
        Cause::Exited(Exit::Code(code)) if worker.oom_killed => {
            format!(
                "exited with status {code} before it served: the kernel killed what it ran, out of memory"
            )
        }
        Cause::Exited(Exit::Signal(_)) if worker.oom_killed => {
            "was killed by the kernel before it served, out of memory".to_owned()
        }
        Cause::Exited(Exit::Code(code)) => format!("exited with status {code} before it served{exception}"),
        Cause::Exited(Exit::Signal(signal)) => {
            format!("was ended by {} before it served{exception}", signal_name(signal))
        }
        Cause::ReadyTimeout => {
            let failure = worker.check_failure.as_ref();
            let check = failure.map(|why| format!("; its check failed: {why}")).unwrap_or_default();
            let held_up = worker.spawn_error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("was not ready within {ready_timeout:?}{held_up}{check}")
        }
        Cause::SpawnFailed(_) => {
            let error = worker.spawn_error.as_deref().unwrap_or("unknown error");
            format!("could not be started: {error}")
        }
        Cause::Retired => "asked to be replaced before it served".to_owned(),
    }
}

/// Who has the address that the worker did not get.
fn in_use(cause: Cause, worker: &DeadWorker) -> Option<String> {
    let Cause::Exited(_) = cause else { return None };
    worker.taken.clone()
}

/// That a worker has ended, and this is what it has started.
pub(crate) fn in_background(left: &Holder) -> String {
    format!(
        "it has put a process into the background {}, which is no worker: run the server in the foreground (gunicorn without \
         --daemon, nginx with `daemon off;`), and have a script end in `exec` with the server's command",
        left.in_brackets()
    )
}

/// What to do where memory was wanting.
fn wants_memory(worker: &DeadWorker) -> Option<String> {
    worker.oom_killed.then(|| {
        "its control group (the container, the service) or the machine has too little memory for so many workers: fewer by \
         --workers, fewer at once by --surge or --boot-limit, or a higher limit"
            .to_owned()
    })
}

/// That it is the cluster itself that has the address which was in use.
fn in_the_way(worker: &DeadWorker) -> Option<String> {
    let own = worker.in_the_way.as_ref()?;
    worker.in_use.as_ref().map(|_| {
        format!(
            "it is the cluster itself that listens on {own}: let the server listen on the same address, or stop the cluster \
             and start it anew"
        )
    })
}

/// That the unix socket which the worker did not get has too long a path: what its program says of that is no more than a code.
fn overlong(worker: &DeadWorker) -> Option<String> {
    let said = &worker.exception.as_ref()?.line;
    if !["EINVAL", "ENAMETOOLONG"].iter().any(|code| said.contains(code)) {
        return None;
    }
    let path = said.split_whitespace().find(|word| word.starts_with('/') && word.len() > PATH_LIMIT)?;
    let length = path.len();
    Some(format!(
        "the address of a unix socket has room for {PATH_LIMIT} bytes, and this path has {length}: let the server listen on a \
         shorter one, or on a relative one that is shorter"
    ))
}

/// That the worker does nothing, since it was stopped.
fn stopped(cause: Cause, worker: &DeadWorker) -> Option<String> {
    (cause == Cause::ReadyTimeout && worker.is_stopped).then(|| {
        "its process is stopped: by SIGSTOP, or because it has used the terminal from the background, where every worker is. A \
         passphrase that it asks for there has to come from a file or a variable"
            .to_owned()
    })
}

/// That another process said what the worker was waited for to say.
fn said_by_a_stranger(cause: Cause, worker: &DeadWorker, expected: Expected) -> Option<String> {
    let awaited = cause == Cause::ReadyTimeout && expected.ready_when == ReadyWhen::Notify;
    let stranger = worker.stranger.as_ref().filter(|_| awaited)?;
    Some(format!(
        "another process {} spoke on its socket, and was not heard: READY=1 counts from the worker and from its process \
         group",
        stranger.in_brackets()
    ))
}

/// What is probably wrong, where it is something that people often meet.
fn hint(cause: Cause, worker: &DeadWorker, expected: Expected) -> Option<&'static str> {
    let says = |word: &str| worker.stderr.iter().any(|line| line.contains(word));
    if expected.is_typescript && (says("ERR_UNKNOWN_FILE_EXTENSION") || says("SyntaxError")) {
        return Some(
            "Node runs TypeScript files by itself from version 22.18 on; with an older one use \
             --node-arg=--import=tsx, or compile the file",
        );
    }
    if cause != Cause::ReadyTimeout || worker.spawn_error.is_some() {
        return None;
    }
    if expected.ready_when == ReadyWhen::Notify && worker.check_failure.is_none() {
        return Some(
            "it never said READY=1 on the socket that NOTIFY_SOCKET names: does it speak sd_notify, and has that \
             to be turned on?",
        );
    }
    if expected.ready_when == ReadyWhen::Listening && worker.seen.online && !worker.seen.listening {
        return Some(
            "it runs, but no server of it listens through the cluster: does it listen with `exclusive` or \
             `reusePort`, or start the server in another process? --ready-when started or ready does not wait \
             for a listen",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use recluster_core::{SlotId, SpawnFailure};

    use super::*;
    use crate::process::exception::Exception;
    use crate::report::worker::Worker;
    use crate::supervisor::readiness::Seen;

    const EXPECTED: Expected = Expected {
        ready_when: ReadyWhen::Listening,
        ready_timeout: Duration::from_secs(60),
        is_typescript: false,
    };

    fn worker() -> DeadWorker {
        DeadWorker::unknown(Worker { id: 7, slot: 1, generation: 2, pid: Some(42) })
    }

    fn explained(cause: Cause, worker: DeadWorker, expected: Expected) -> Failure {
        let failed =
            core::Failure { worker: core::WorkerId::from_number(7), slot: slot(), cause, failures: 3 };
        failure(failed, worker, expected)
    }

    fn slot() -> SlotId {
        let config = core::Config::new(core::Settings::default()).unwrap();
        core::Cluster::new(config, core::Time::ZERO).status().slots.first().unwrap().slot
    }

    #[test]
    fn a_stranger_that_spoke_for_a_worker_is_named() {
        let stranger = Holder { pid: 42, command: "setsid -f notify".into() };
        let hint = |cause, ready_when| {
            let worker = DeadWorker { stranger: Some(stranger.clone()), ..worker() };
            explained(cause, worker, Expected { ready_when, ..EXPECTED }).hint.unwrap_or_default()
        };
        let said = hint(Cause::ReadyTimeout, ReadyWhen::Notify);
        assert!(said.contains("another process (process 42: setsid -f notify)"), "{said}");
        assert!(!hint(Cause::ReadyTimeout, ReadyWhen::Started).contains("42"));
        assert!(!hint(Cause::Exited(Exit::Code(1)), ReadyWhen::Notify).contains("42"));
    }

    #[test]
    fn a_worker_that_was_stopped_is_said_to_be() {
        let hint = |cause| {
            let stopped = DeadWorker { is_stopped: true, ..worker() };
            explained(cause, stopped, EXPECTED).hint.unwrap_or_default()
        };
        assert!(hint(Cause::ReadyTimeout).starts_with("its process is stopped: "));
        assert_eq!(hint(Cause::Retired), "");
    }

    #[test]
    fn what_a_worker_was_late_for_has_a_word() {
        let id = core::WorkerId::from_number(7);
        let of_workers =
            [Due::Ready(id), Due::Bake(id), Due::Drain(id), Due::Surplus(id), Due::Exit(id), Due::Kill(id)];
        assert_eq!(of_workers.map(late_for), ["ready", "bake", "drain", "surplus", "exit", "kill"]);
        assert_eq!([Due::Respawn, Due::Reload, Due::Changes].map(late_for), ["respawn", "reload", "changes"]);
    }

    #[test]
    fn every_cause_has_its_words() {
        let reason = |cause, worker: DeadWorker| explained(cause, worker, EXPECTED).reason;
        assert_eq!(reason(Cause::Exited(Exit::Code(3)), worker()), "exited with status 3 before it served");
        assert_eq!(reason(Cause::Exited(Exit::Signal(9)), worker()), "was ended by SIGKILL before it served");
        let killed = || DeadWorker { oom_killed: true, ..worker() };
        let [by_signal, by_status] =
            [Exit::Signal(9), Exit::Code(137)].map(|exit| explained(Cause::Exited(exit), killed(), EXPECTED));
        assert_eq!(by_signal.reason, "was killed by the kernel before it served, out of memory");
        assert!(by_status.reason.ends_with("the kernel killed what it ran, out of memory"), "{by_status}");
        assert!(by_signal.hint.is_some_and(|hint| hint.contains("--workers")));
        assert_eq!(reason(Cause::ReadyTimeout, worker()), "was not ready within 60s");
        assert_eq!(reason(Cause::Retired, worker()), "asked to be replaced before it served");
        let queued = DeadWorker { spawn_error: Some("its turn has not come".into()), ..worker() };
        let notify = Expected { ready_when: ReadyWhen::Notify, ..EXPECTED };
        let late = explained(Cause::ReadyTimeout, queued, notify);
        assert_eq!(late.reason, "was not ready within 60s: its turn has not come");
        assert_eq!(late.hint, None, "it had nothing to say yet");
        let failed_check = DeadWorker { check_failure: Some("no answer".into()), ..worker() };
        assert_eq!(
            reason(Cause::ReadyTimeout, failed_check),
            "was not ready within 60s; its check failed: no answer"
        );
        let spawn_error = Cause::SpawnFailed(SpawnFailure::Hopeless);
        assert_eq!(reason(spawn_error, worker()), "could not be started: unknown error");
        let refused = DeadWorker { spawn_error: Some("too many".into()), ..worker() };
        assert_eq!(reason(spawn_error, refused), "could not be started: too many");
    }

    #[test]
    fn what_is_known_of_the_worker_is_passed_on() {
        let spoke = DeadWorker { stderr: vec!["Error: no".into()], ..worker() };
        let failure = explained(Cause::Exited(Exit::Code(1)), spoke, EXPECTED);
        assert_eq!((failure.worker.id, failure.failures), (7, 3));
        assert_eq!((failure.stderr, failure.hint), (vec!["Error: no".to_owned()], None));
    }

    #[test]
    fn the_exception_that_ended_a_worker_is_in_its_reason() {
        let line = "Error: no database".to_owned();
        let exception = Exception { line, place: Some("/srv/server.js:7:5".to_owned()) };
        let thrown = || DeadWorker { exception: Some(exception.clone()), ..worker() };
        let failure = explained(Cause::Exited(Exit::Code(1)), thrown(), EXPECTED);
        assert_eq!(
            failure.reason,
            "exited with status 1 before it served: Error: no database (at /srv/server.js:7:5)"
        );
        assert_eq!(failure.hint, None);
        assert_eq!(explained(Cause::ReadyTimeout, thrown(), EXPECTED).reason, "was not ready within 60s");
    }

    #[test]
    fn who_has_an_address_that_is_in_use_is_the_hint_of_an_exit() {
        let words = "port 80 is taken: process 7 has it: nginx".to_owned();
        let dead = || DeadWorker { taken: Some(words.clone()), ..worker() };
        let exited = Cause::Exited(Exit::Code(1));
        let hint = |cause, worker| explained(cause, worker, EXPECTED).hint;
        assert_eq!(hint(exited, dead()).as_ref(), Some(&words));
        assert_eq!(hint(Cause::ReadyTimeout, dead()), None);
        assert_eq!(hint(exited, worker()), None);
    }

    #[test]
    fn typescript_on_an_old_node_is_recognised_in_typescript_files_alone() {
        let says = |line: &str| DeadWorker { stderr: vec![line.to_owned()], ..worker() };
        let typescript = Expected { is_typescript: true, ..EXPECTED };
        let exited = Cause::Exited(Exit::Code(1));
        for line in ["TypeError [ERR_UNKNOWN_FILE_EXTENSION]: .ts", "SyntaxError: Unexpected token ':'"] {
            assert!(explained(exited, says(line), typescript).hint.is_some_and(|hint| hint.contains("tsx")));
            assert_eq!(explained(exited, says(line), EXPECTED).hint, None);
        }
        assert_eq!(explained(exited, says("ReferenceError: x"), typescript).hint, None);
    }

    #[test]
    fn a_worker_that_never_listens_is_explained_unless_it_did_or_never_ran() {
        let seen =
            |online, listening| DeadWorker { seen: Seen { online, listening, ready: false }, ..worker() };
        let hint = |worker, expected| explained(Cause::ReadyTimeout, worker, expected).hint;
        assert!(hint(seen(true, false), EXPECTED).is_some_and(|hint| hint.contains("exclusive")));
        assert_eq!(hint(seen(false, false), EXPECTED), None);
        assert_eq!(hint(seen(true, true), EXPECTED), None);
        assert_eq!(hint(seen(true, false), Expected { ready_when: ReadyWhen::Ready, ..EXPECTED }), None);
        assert_eq!(explained(Cause::Retired, seen(true, false), EXPECTED).hint, None);
    }

    #[test]
    fn a_worker_that_never_notifies_is_explained_unless_its_check_failed() {
        let expected = Expected { ready_when: ReadyWhen::Notify, ..EXPECTED };
        let hint = |worker| explained(Cause::ReadyTimeout, worker, expected).hint;
        assert!(hint(worker()).is_some_and(|hint| hint.contains("READY=1")));
        assert_eq!(hint(DeadWorker { check_failure: Some("status 500".into()), ..worker() }), None);
    }

    #[test]
    fn an_address_that_the_cluster_itself_has_is_named_where_the_worker_died_of_it() {
        let own = crate::report::worker::Address::Tcp(([127, 0, 0, 1], 8080).into());
        let hint = |in_use: Option<&str>| {
            let in_use = in_use.map(str::to_owned);
            let died = DeadWorker { in_the_way: Some(own.clone()), in_use, ..worker() };
            explained(Cause::Exited(Exit::Code(1)), died, EXPECTED).hint
        };
        let expected = "it is the cluster itself that listens on 127.0.0.1:8080: let the server listen on the same address, or stop \
                        the cluster and start it anew";
        assert_eq!(hint(Some("Error: bind EADDRINUSE 0.0.0.0:8080")).as_deref(), Some(expected));
        assert_eq!(hint(None), None);
    }

    #[test]
    fn a_path_that_is_too_long_for_a_socket_is_explained() {
        let hint = |line: String| {
            let died = DeadWorker { exception: Some(Exception { line, place: None }), ..worker() };
            explained(Cause::Exited(Exit::Code(1)), died, EXPECTED).hint
        };
        let (short, long) = (format!("/{}", "x".repeat(106)), format!("/{}", "x".repeat(107)));
        for code in ["bind EINVAL", "listen ENAMETOOLONG"] {
            assert!(
                hint(format!("Error: {code} {long}")).is_some_and(|hint| hint.contains("this path has 108"))
            );
            assert_eq!(hint(format!("Error: {code} {short}")), None);
        }
        assert_eq!(hint(format!("Error: ENOENT {long}")), None);
    }

    #[test]
    fn a_verdict_explains_its_failure() {
        let failed = core::Failure {
            worker: core::WorkerId::from_number(7),
            slot: slot(),
            cause: Cause::Retired,
            failures: 1,
        };
        let explain = |failed| failure(failed, worker(), EXPECTED);
        assert!(matches!(verdict(core::Verdict::Done, explain), Verdict::Done));
        assert!(matches!(verdict(core::Verdict::Abandoned, explain), Verdict::Abandoned));
        assert!(matches!(
            verdict(core::Verdict::RolledBack(failed), explain),
            Verdict::RolledBack { failure } if failure.worker.id == 7
        ));
        assert!(matches!(
            verdict(core::Verdict::StoppedPartWay { replaced: 1, of: 2, failure: failed }, explain),
            Verdict::StoppedPartWay { replaced: 1, of: 2, .. }
        ));
    }
}
