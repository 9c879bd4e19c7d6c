//! Everything that the engine serialises, as `docs/json.md` describes it.

use std::time::{Duration, UNIX_EPOCH};

use recluster_core::{Due, Phase, State, Time, WorkerId};
use recluster_json_page::{OF_ENGINE, Page, Samples, every};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::admin::history::History;
use crate::config::balance::{Balance, StickyBy};
use crate::config::variable::Variables;
use crate::config::which::Which;
use crate::control::protocol::{LogLine, Progress, Reply, Request};
use crate::report::configuration::{Configuration, Difference, Origin, Setting};
use crate::report::counts::{Flow, Measured};
use crate::report::event::{Event, Exit, RecycleReason};
use crate::report::record::Record;
use crate::report::status::{
    HttpStatus, LastReload, ListenerStatus, MasterStatus, NodeStatus, ReloadStatus, SlotStatus, Status,
    WorkerStatus,
};
use crate::report::stream::Stream;
use crate::report::verdict::{Failure, Replaced, Verdict};
use crate::report::worker::{Address, Held, Resource, Worker};
use crate::supervisor::explain::late_for;
use crate::supervisor::status::{phase_name, state_name};
use crate::supervisor::tally::Tally;

/// Both that a worker can be: one whose process could not be started has no pid.
fn workers() -> [Worker; 2] {
    [Some(4703), None].map(|pid| Worker { id: 3, slot: 1, generation: 1, pid })
}

/// All that a failure can be.
fn failures() -> Vec<Failure> {
    let hints = [None, Some("is the database up?".to_owned())];
    let failures = workers().into_iter().zip(hints).map(|(worker, hint)| Failure {
        worker,
        reason: "exited with status 1 before it served".to_owned(),
        failures: 3,
        stderr: vec!["Error: boom".to_owned()],
        hint,
    });
    failures.collect()
}

/// What a worker has that drains, or, when it closed its channel, what keeps it alive.
fn held(is_closed: bool) -> Held {
    let alive = is_closed.then(|| Resource::new("Timeout", 1)).into_iter().collect();
    Held { connections: 5, upgraded: 1, requests: 2, alive }
}

fn addresses() -> Vec<Address> {
    let localhost = ([127, 0, 0, 1], 8080).into();
    every! {
        Address::Tcp(_) => [Address::Tcp(localhost)],
        Address::Udp(_) => [Address::Udp(localhost)],
        Address::Unix(_) => [Address::Unix("/run/app.sock".into())],
        Address::Fd(_) => [Address::Fd(3)],
    }
}

fn verdicts() -> Vec<Verdict> {
    let of_failures =
        |verdict: fn(Failure) -> Verdict| failures().into_iter().map(verdict).collect::<Vec<_>>();
    every! {
        Verdict::Done => [Verdict::Done],
        Verdict::RolledBack { .. } => of_failures(|failure| Verdict::RolledBack { failure }),
        Verdict::StoppedPartWay { .. } => {
            of_failures(|failure| Verdict::StoppedPartWay { replaced: 1, of: 4, failure })
        },
        Verdict::Abandoned => [Verdict::Abandoned],
        Verdict::Refused { .. } => [Verdict::Refused { reason: "no such file".to_owned() }],
    }
}

fn recycle_reasons() -> Vec<RecycleReason> {
    every! {
        RecycleReason::Memory { .. } => [RecycleReason::Memory { bytes: 600, limit: 512 }],
        RecycleReason::Age { .. } => [RecycleReason::Age { seconds: 3600 }],
    }
}

fn lines_lost(worker: Worker) -> [Event; 2] {
    [Stream::Stdout, Stream::Stderr].map(|stream| Event::LinesLost { worker, stream, lines: 9 })
}

fn log_failed() -> Event {
    let error = "No space left on device (os error 28)".to_owned();
    Event::WorkerLogFailed { slot: 1, path: "/var/log/shop/1.log".into(), failed: "write", error }
}

fn unkillable(worker: Worker) -> Vec<Event> {
    let states = ['D', 'Z', 'S', 'T', 't', 'I', 'R'].map(Some).into_iter().chain([None]);
    let event = |state: Option<char>| Event::Unkillable {
        worker,
        process: state.map(|_| 4703),
        state,
        traced_by: state.filter(|state| *state == 'Z').map(|_| 7),
        of_user: state.filter(|state| *state == 'S').map(|_| 0),
    };
    states.map(event).collect()
}

fn panicked() -> [Event; 2] {
    [None, Some("crates/engine/src/lib.rs:1:1".to_owned())].map(|place| Event::Panicked {
        part: "the data plane",
        reason: "index out of bounds".to_owned(),
        ends: place.is_some(),
        begins_anew: false,
        calls: place.iter().map(|_| "recluster::supervisor::run".to_owned()).collect(),
        phase: place.as_ref().map(|_| "running"),
        workers: place.iter().flat_map(|_| workers()).collect(),
        place,
    })
}

fn start_hangs(worker: Worker) -> Event {
    let waited = Duration::from_secs(5);
    Event::StartHangs { worker, program: "/srv/server".to_owned(), directory: "/srv".to_owned(), waited }
}

fn hook_failed(reason: String) -> Event {
    Event::HookFailed { on: "crashed", hook: "exec:curl …".to_owned(), reason }
}

fn reloaded(verdict: &Verdict) -> [Event; 2] {
    [None, Some(3)].map(|generation| Event::Reloaded { generation, verdict: verdict.clone() })
}

/// Every event about this worker.
#[expect(clippy::too_many_lines, reason = "a line for each event")]
fn events(worker: Worker) -> Vec<Event> {
    let second = Duration::from_secs(1);
    let id = WorkerId::from_number(worker.id);
    let late_at_drain = [Due::Drain(id), Due::Exit(id), Due::Surplus(id)];
    let late = [Due::Ready(id), Due::Kill(id), Due::Drain(id), Due::Exit(id), Due::Surplus(id)];
    let reason = "its line is too long".to_owned();
    let failed = |event: fn(Failure) -> Event| failures().into_iter().map(event).collect::<Vec<_>>();
    let held_by = |due| ["drain", "exit"].contains(&due).then(|| held(due == "exit"));
    let overdue = |due| Event::Overdue { worker, due, signal: "SIGTERM", held: held_by(due) };
    let bound = |name: Option<&str>, address| Event::Bound { name: name.map(str::to_owned), address };
    let listening = |address| Event::Listening { worker, address };
    let recycling = |excess| Event::Recycling { worker, excess };
    let skipped = |ended| Event::MessageSkipped { worker, bytes: 1 << 24, ended };
    let message = |text: Option<&str>| Event::Message { worker, bytes: 7, text: text.map(str::to_owned) };
    every! {
        Event::GenerationBegan { .. } => [Event::GenerationBegan { generation: 1 }],
        Event::Bound { .. } => {
            addresses().into_iter().flat_map(|address| [bound(None, address.clone()), bound(Some("web"), address)]).collect::<Vec<_>>()
        },
        Event::ListenUnused { .. } => [Event::ListenUnused { addresses: addresses() }],
        Event::ListenIgnored { .. } => [Event::ListenIgnored { addresses: addresses(), reason: reason.clone() }],
        Event::Moved { .. } => [Event::Moved { generation: 1, gone: "/srv/1/server.js".into(), server: "/srv/2/server.js".into() }],
        Event::Caveat { .. } => [Event::Caveat { caveat: "text".into() }],
        Event::Spawned { .. } => [Event::Spawned { worker }],
        Event::StartHangs { .. } => [start_hangs(worker)],
        Event::InspectorMoved { .. } => [Event::InspectorMoved { worker, port: 9231, taken: 9229 }],
        Event::Online { .. } => [Event::Online { worker }],
        Event::Listening { .. } => addresses().into_iter().map(listening).collect::<Vec<_>>(),
        Event::Closed { .. } => addresses().into_iter().map(|address| Event::Closed { address }).collect::<Vec<_>>(),
        Event::FileRestored { .. } => addresses().into_iter().map(|address| Event::FileRestored { address }).collect::<Vec<_>>(),
        Event::FileLost { .. } => addresses().into_iter().map(|address| Event::FileLost { address, is_taken: true }).collect::<Vec<_>>(),
        Event::Ready { .. } => [Event::Ready { worker }],
        Event::Serving { .. } => [Event::Serving { worker, serving: 1, of: 2 }],
        Event::Message { .. } => [Some("\"ready\""), None].map(message),
        Event::Disconnect { .. } => [Event::Disconnect { worker }],
        Event::Draining { .. } => [Event::Draining { worker, timeout: second }],
        Event::Exit { .. } => [Exit::Code(1), Exit::Signal(9)].map(|exit| Event::Exit { worker, exit, expected: true, oom_killed: exit == Exit::Signal(9) }),
        Event::Late { .. } => [Event::Late { worker }],
        Event::Overdue { .. } => late.map(late_for).into_iter().chain(["rest"]).map(overdue).collect::<Vec<_>>(),
        Event::OutOfTime { .. } => {
            late_at_drain.map(late_for).map(|due| Event::OutOfTime { worker, due, kill_timeout: second, held: held_by(due) })
        },
        Event::KeepAliveTooLong { .. } => [Event::KeepAliveTooLong { worker, keep_alive: 65 * second, timeout: second }],
        Event::Unkillable { .. } => unkillable(worker),
        Event::LeftBehind { .. } => [Event::LeftBehind { worker, timeout: second }],
        Event::Respawning { .. } => [Event::Respawning { worker, delay: second }],
        Event::AddressTaken { .. } => [Event::AddressTaken { worker, reason: reason.clone() }],
        Event::Backgrounded { .. } => [Event::Backgrounded { worker, reason: reason.clone() }],
        Event::Failed { .. } => failed(|failure| Event::Failed { failure }),
        Event::PreloadMissing { .. } => [Event::PreloadMissing { reason: reason.clone() }],
        Event::CompileCacheOff { .. } => [Event::CompileCacheOff { worker, reason: reason.clone() }],
        Event::Held { .. } => [Event::Held { worker }],
        Event::FilesChanged { .. } => [Event::FilesChanged { files: vec!["/srv/app.js".to_owned()], more: 2 }],
        Event::WatchLimited { .. } => [Event::WatchLimited { reason: reason.clone() }],
        Event::AcceptingUntilStop { .. } => [Event::AcceptingUntilStop { accepting: second }],
        Event::Recycling { .. } => recycle_reasons().into_iter().map(recycling).collect::<Vec<_>>(),
        Event::Unhealthy { .. } => [Event::Unhealthy { worker, reason: reason.clone() }],
        Event::NotStored { .. } => [Event::NotStored { worker }],
        Event::Hung { .. } => [Event::Hung { worker, silent: second }],
        Event::CutOff { .. } => [Event::CutOff { worker, reason: reason.clone() }],
        Event::Upgraded { .. } => {
            [Event::Upgraded { from: "2.1.0".to_owned(), to: "2.2.0".to_owned(), rested: second }]
        },
        Event::UpgradeFailed { .. } => [Event::UpgradeFailed { reason: reason.clone() }],
        Event::Started { .. } => [Event::Started { generation: 1, workers: 2 }],
        Event::StartFailed { .. } => failed(|failure| Event::StartFailed { failure }),
        Event::Superseded { .. } => [Event::Superseded { generation: 2 }],
        Event::Reloaded { .. } => verdicts().iter().flat_map(reloaded).collect::<Vec<_>>(),
        Event::Scaled { .. } => [Event::Scaled { from: 2, to: 4 }],
        Event::ReplaceFailed { .. } => failed(|failure| Event::ReplaceFailed { failure }),
        Event::MessagesLost { .. } => [Event::MessagesLost { messages: 9 }],
        Event::MessageUnheard { .. } => [Event::MessageUnheard { worker, kind: "log4js:message".to_owned() }],
        Event::MessageSkipped { .. } => [true, false].map(skipped),
        Event::Stopping => [Event::Stopping],
        Event::HookFailed { .. } => [hook_failed(reason.clone())],
        Event::LinesLost { .. } => lines_lost(worker),
        Event::WorkerLogFailed { .. } => [log_failed()],
        Event::WorkerLogResumed { .. } => [Event::WorkerLogResumed { slot: 1, lines: 9 }],
        Event::Panicked { .. } => panicked(),
        Event::Over => [Event::Over],
    }
}

/// A status with as much as there can be, and one with as little.
fn statuses() -> Vec<Status> {
    let balances = every! {
        Balance::RoundRobin => [Balance::RoundRobin],
        Balance::Shared => [Balance::Shared],
        Balance::Kernel => [Balance::Kernel],
        Balance::Sticky(_) => [Balance::Sticky(StickyBy::Ip)],
    };
    let phases = every! {
        Phase::Starting => [Phase::Starting],
        Phase::Running => [Phase::Running],
        Phase::Stopping => [Phase::Stopping],
        Phase::Terminating => [Phase::Terminating],
        Phase::Released => [Phase::Released],
        Phase::Over => [Phase::Over],
    };
    let pairs = phases.into_iter().map(phase_name).zip(balances.into_iter().cycle());
    let all = pairs.enumerate().map(|(number, (phase, balance))| {
        let is_full = number == 0;
        Status {
            name: is_full.then(|| "shop".to_owned()),
            pid: 4700,
            master: MasterStatus {
                version: "2.1.0".to_owned(),
                since: "2026-11-27T14:31:37.004Z".to_owned(),
                upgrades: 1,
            },
            phase: phase.to_owned(),
            generation: 1,
            reload: is_full.then_some(ReloadStatus { generation: 2, serving: 1, of: 2 }),
            last_reload: None,
            uptime_seconds: 1.0,
            balance: balance.to_string(),
            sticky_by: balance.sticky_by().map(ToString::to_string),
            stolen: 0,
            requeued: 0,
            server: "/srv/releases/2/server.js".to_owned(),
            server_link: is_full.then(|| "/srv/current/server.js".to_owned()),
            env: if is_full { vec!["LOG_LEVEL".to_owned()] } else { Vec::new() },
            slots: [None, Some(3)]
                .map(|active| SlotStatus { slot: 1, active, restarts: 0, connections: active, in_flight: 0 })
                .into(),
            workers: worker_statuses(),
            listeners: vec![ListenerStatus {
                address: "127.0.0.1:8080".to_owned(),
                balance: balance.to_string(),
                reason: is_full.then(|| "the kernel refuses it".to_owned()),
                handing_out: is_full,
            }],
        }
    });
    let bare: Vec<Status> = all.collect();
    let last = |verdict: Verdict| {
        [None, Some(2)].map(|generation| LastReload {
            generation,
            seconds_ago: 1.0,
            verdict: verdict.clone(),
        })
    };
    let ended = verdicts().into_iter().flat_map(last).zip(bare.iter().cycle());
    let ended = ended.map(|(last, status)| Status { last_reload: Some(last), ..status.clone() });
    ended.chain(bare.iter().cloned()).collect()
}

fn worker_statuses() -> Vec<WorkerStatus> {
    let moment = Time::ZERO;
    let states = every! {
        State::Starting { .. } => [State::Starting { until: Some(moment) }],
        State::Ready { .. } => [State::Ready { since: moment }],
        State::Draining { .. } => [State::Draining { until: moment }],
        State::Terminating { .. } => [State::Terminating { until: moment }],
        State::Killed { .. } => [State::Killed { until: moment }],
        State::Unkillable => [State::Unkillable],
    };
    let names = states.into_iter().flat_map(|state| [false, true].map(|serves| state_name(state, serves)));
    let all = names.chain(["leftover"]).enumerate().map(|(number, state)| {
        let is_full = number == 0;
        WorkerStatus {
            id: 3,
            slot: 1,
            generation: 1,
            pid: is_full.then_some(4703),
            state: state.to_owned(),
            stopped: is_full,
            seconds_left: is_full.then_some(1.0),
            uptime_seconds: 1.0,
            memory_bytes: is_full.then_some(1),
            cpu_seconds: is_full.then_some(1.0),
            status: is_full.then(|| "warm".to_owned()),
            notifications_ignored: 0,
            held: (is_full || state == "terminating").then(|| held(!is_full)),
            connections: is_full.then_some(7),
            node: is_full.then_some(NodeStatus {
                loop_utilization: 0.1,
                loop_lag_seconds: 0.001,
                heap_used_bytes: 1,
            }),
            http: (is_full || state == "terminating").then(|| HttpStatus {
                requests: 2,
                errors: 1,
                p99_seconds: is_full.then_some(0.1),
            }),
        }
    });
    all.collect()
}

/// With all that may be in it and all that may not.
fn history() -> Value {
    let mut history = History::new(4700, UNIX_EPOCH);
    // Of a slot without a worker nothing is known.
    let idle = statuses().into_iter().map(|status| {
        let slots = status.slots.into_iter().take(1).collect();
        Status { workers: Vec::new(), slots, ..status }
    });
    for (at, mut status) in (0..).zip(statuses().into_iter().chain(idle)) {
        (1..).zip(&mut status.workers).for_each(|(id, worker)| worker.id = id);
        let measured = Measured { status, counts: Tally::default().counts(), flow: Flow::default() };
        history.sample(Duration::from_secs(at), &measured);
    }
    history.note(Duration::from_secs(9), &Event::Over, UNIX_EPOCH);
    serde_json::from_slice(&history.since(0, Duration::from_millis(9500))).expect("it is JSON")
}

fn requests() -> Vec<Request> {
    every! {
        Request::Reload { .. } => {
            let env = Variables::new([("LOG_LEVEL", "debug")]).expect("a variable");
            [Request::reload(true), Request::Reload { wait: true, env }]
        },
        Request::Status => [Request::Status],
        Request::Configuration { .. } => [Request::Configuration { diff: true }],
        Request::Events { .. } => [None, Some(10)].map(|last| Request::Events { follow: true, last }),
        Request::Logs { .. } => [None, Some(1)].map(|slot| Request::Logs { follow: true, last: slot, slot }),
        Request::Replace { .. } => [Which::Slot(1), Which::Pid(4703)].map(|which| Request::Replace { which }),
        Request::ScaleTo { .. } => [Request::ScaleTo { workers: 2 }],
        Request::ScaleBy { .. } => [Request::ScaleBy { workers: -2 }],
        Request::Upgrade { .. } => [(None, false), (Some("/new".into()), true)]
            .map(|(binary, yes)| Request::Upgrade { binary, dry_run: yes, wait: yes }),
        Request::Stop => [Request::Stop],
        Request::Terminate => [Request::Terminate],
    }
}

fn progress() -> Vec<Progress> {
    let failed = failures().into_iter().map(|failure| Progress::Failed { failure });
    every! {
        Progress::Began { .. } => [Progress::Began { generation: 2 }],
        Progress::Serving { .. } => workers().map(|worker| Progress::Serving { worker, serving: 1, of: 2 }),
        Progress::Failed { .. } => failed.collect::<Vec<_>>(),
        Progress::Superseded { .. } => [Progress::Superseded { generation: 2 }],
    }
}

fn replies() -> Vec<Reply> {
    let verdict = |verdict| {
        let needs_restart = |generation: Option<u64>| generation.map(|_| "listen".to_owned()).into_iter();
        [None, Some(3)].map(|generation| Reply::Verdict {
            generation,
            verdict: Verdict::clone(&verdict),
            needs_restart: needs_restart(generation).collect(),
        })
    };
    every! {
        Reply::Progress(_) => progress().into_iter().map(Reply::Progress).collect::<Vec<_>>(),
        Reply::Verdict { .. } => verdicts().into_iter().flat_map(verdict).collect::<Vec<_>>(),
        Reply::Accepted => [Reply::Accepted],
        Reply::Status(_) => statuses().into_iter().map(|status| Reply::Status(Box::new(status))).collect::<Vec<_>>(),
        Reply::Configuration { .. } => [None, Some(differences())].map(|differences| {
            let (file, settings) = (differences.as_ref().map(|_| "f".to_owned()), settings());
            Reply::Configuration { file, settings, differences }
        }),
        Reply::Event(_) => [Reply::Event(told(&Event::Over))],
        Reply::EventsEnd => [Reply::EventsEnd],
        Reply::Streams { .. } => [Reply::Streams { streams: vec![Stream::Stdout, Stream::Stderr] }],
        Reply::Line(_) => log_lines().map(Reply::Line),
        Reply::LinesMissed { .. } => [Reply::LinesMissed { slot: 1, lines: 7 }],
        Reply::LinesEnd => [Reply::LinesEnd],
        Reply::Replaced(_) => workers().map(|by| Reply::Replaced(Replaced { worker: by, by })),
        Reply::ReplaceFailed { .. } => {
            failures().into_iter().map(|failure| Reply::ReplaceFailed { failure }).collect::<Vec<_>>()
        },
        Reply::Scaled { .. } => [Reply::Scaled { workers: 2 }],
        Reply::Upgraded { .. } => {
            let (from, to) = ("2.1.0".to_owned(), "2.2.0".to_owned());
            [Reply::Upgraded { from, to, rested_seconds: 0.0125 }]
        },
        Reply::Upgradable { .. } => [Reply::Upgradable { from: "2.1.0".to_owned(), to: "2.2.0".to_owned() }],
        Reply::NotUpgraded { .. } => [Reply::NotUpgraded { reason: "it is a script".to_owned() }],
        Reply::Ended => [Reply::Ended],
        Reply::Refused { .. } => [Reply::Refused { reason: "too many".to_owned() }],
    }
}

fn settings() -> Vec<Setting> {
    let origins = every! {
        Origin::CommandLine => [Origin::CommandLine],
        Origin::Environment { .. } => [Origin::Environment { variable: "WEB_CONCURRENCY".to_owned() }],
        Origin::File { .. } => [Origin::File { path: "f".to_owned(), line: 3 }],
        Origin::Default { .. } => [None, Some("off".to_owned())].map(|words| Origin::Default { words }),
        Origin::Scale => [Origin::Scale],
        Origin::Reload => [Origin::Reload],
    };
    let open = origins.into_iter().map(|origin| Setting::new("workers", vec!["2".to_owned()], origin, true));
    let secret = Setting::new("env.TOKEN", vec!["x".to_owned()], Origin::Reload, true).shown_as(None);
    open.chain([secret]).collect()
}

/// One of each kind.
fn differences() -> Vec<Difference> {
    let configuration = |settings| Configuration::new(None, settings);
    let setting =
        |name: &str, value: &str| Setting::new(name, vec![value.to_owned()], Origin::CommandLine, true);
    let old = configuration(vec![setting("a", "1"), setting("b", "1")]);
    configuration(vec![setting("a", "2"), setting("c", "1")]).differences_from(&old)
}

fn log_lines() -> [LogLine; 2] {
    [(Stream::Stdout, None, false), (Stream::Stderr, Some(4703), true)].map(|(stream, pid, is_piece)| {
        LogLine {
            time: "1970-01-01T00:00:00.000Z".to_owned(),
            slot: 1,
            pid,
            generation: 2,
            stream,
            line: "GET /".to_owned(),
            partial: is_piece,
            continued: is_piece,
        }
    })
}

/// An event as a client is told it.
fn told(event: &Event) -> Map<String, Value> {
    let line = Record::new(json!({}), event.level(), event, UNIX_EPOCH).line().expect("it is JSON");
    serde_json::from_slice(&line).expect("it is an object")
}

fn values<T: Serialize>(all: &[T]) -> Vec<Value> {
    all.iter().map(|one| json!(one)).collect()
}

/// Requests as they stand on the wire.
fn encoded() -> Vec<Value> {
    let line = |request: &Request| serde_json::from_slice(&request.encode().unwrap()).unwrap();
    requests().iter().map(line).collect()
}

#[test]
fn the_page_describes_what_is_serialised_and_nothing_else() {
    let page = Page::read();
    let (of_progress, of_replies): (Vec<_>, Vec<_>) =
        values(&replies()).into_iter().partition(|reply| reply["reply"] == "progress");
    let events = workers().into_iter().flat_map(events).collect::<Vec<_>>();
    let (of_library, of_cluster): (Vec<_>, Vec<_>) =
        values(&events).into_iter().partition(|event| event["event"] == "late");
    let faults = OF_ENGINE.map(|part| match part {
        "Events of the cluster" => page.compare(part, &Samples::by_tag("event", &[], of_cluster.clone())),
        "Events of the library" => page.compare(part, &Samples::by_tag("event", &[], of_library.clone())),
        "Status" => page.compare_fields("status", &values(&statuses())),
        "History" => page.compare_fields("history", &[history()]),
        "Requests" => page.compare(part, &Samples::by_tag("request", &["version"], encoded())),
        "Replies" => page.compare(part, &Samples::by_tag("reply", &[], of_replies.clone())),
        "Progress of a reload" => {
            page.compare(part, &Samples::by_tag("progress", &["reply"], of_progress.clone()))
        }
        // What the others consist of.
        "Objects" => page.unused_objects(),
        other => vec![format!("{other}: nothing is compared with it")],
    });
    let faults = [page.faults(), faults.concat()].concat();
    assert!(faults.is_empty(), "docs/json.md:\n{}", faults.join("\n"));
}
