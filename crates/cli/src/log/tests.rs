//! Every line that the log can have.

mod notes;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::{Duration, UNIX_EPOCH};

use recluster::control::protocol::Request;
use recluster::{Address, Event, Exit, Failure, Held, Stream, Verdict, Worker};
use recluster_json_page::{Page, Samples, every};
use serde_json::{Value, json};

use self::notes::notes;
use super::words::Narrator;
use super::*;
use crate::patience::Patience;
use crate::wishes::Wish;

fn worker(id: u64, generation: u64) -> Worker {
    serde_json::from_value(json!({"id": id, "slot": 1, "generation": generation, "pid": 4700 + id})).unwrap()
}

fn failure() -> Failure {
    let failure = json!({
        "worker": worker(9, 2), "reason": "exited with status 1 before it served", "failures": 3,
        "stderr": ["Error: boom"], "hint": "is the database up?"
    });
    serde_json::from_value(failure).unwrap()
}

const TAKEN: &str = "port 80 is taken by worker 4 of this cluster";

fn hinted(failure: &Failure, hint: &str) -> Failure {
    let mut failure = failure.clone();
    failure.hint = Some(hint.to_owned());
    failure
}

fn held() -> Held {
    serde_json::from_value(json!({"connections": 5, "upgraded": 1, "requests": 2})).unwrap()
}

/// What a worker has whose connections are gone.
fn alive() -> Held {
    let alive = json!([{"name": "TCPSocketWrap", "count": 2}, {"name": "Timeout", "count": 1}]);
    serde_json::from_value(json!({"connections": 0, "upgraded": 0, "requests": 0, "alive": alive})).unwrap()
}

fn start_hangs(worker: Worker) -> Event {
    let waited = Duration::from_secs(5);
    Event::StartHangs { worker, program: "/usr/bin/node".to_owned(), directory: "/srv".to_owned(), waited }
}

fn log_failed(failed: &'static str) -> Event {
    let (path, error) = ("/var/log/shop/1.log".into(), "no space left on device".to_owned());
    Event::WorkerLogFailed { slot: 1, path, failed, error }
}

/// Every event, in an order in which a cluster might emit them.
fn events() -> Vec<Event> {
    [until_a_verdict(), from_a_drain_on()].concat()
}

fn until_a_verdict() -> Vec<Event> {
    let (old, new, failure) = (worker(3, 1), worker(9, 2), failure());
    let tcp = |port| Address::Tcp(([127, 0, 0, 1], port).into());
    vec![
        Event::GenerationBegan { generation: 1 },
        Event::Spawned { worker: old },
        start_hangs(new),
        Event::InspectorMoved { worker: old, port: 9231, taken: 9229 },
        Event::Online { worker: old },
        Event::Listening { worker: old, address: tcp(8080) },
        Event::Listening { worker: old, address: tcp(8080) },
        Event::Listening { worker: old, address: Address::Unix("\0app\n".into()) },
        Event::Listening { worker: old, address: tcp(9090) },
        Event::Closed { address: tcp(9090) },
        Event::FileRestored { address: Address::Unix("/srv/app.sock".into()) },
        Event::FileLost { address: Address::Unix("/srv/app.sock".into()), is_taken: true },
        Event::FileLost { address: Address::Unix("/srv/app.sock".into()), is_taken: false },
        Event::Ready { worker: old },
        Event::Serving { worker: old, serving: 4, of: 4 },
        Event::Started { generation: 1, workers: 4 },
        Event::Message { worker: old, bytes: 7, text: None },
        Event::GenerationBegan { generation: 2 },
        Event::Failed { failure: failure.clone() },
        Event::AddressTaken { worker: new, reason: TAKEN.to_owned() },
        Event::Backgrounded { worker: old, reason: "it has put a process into the background".to_owned() },
        Event::ListenIgnored { addresses: vec![tcp(8080)], reason: "it listens on port 81".to_owned() },
        Event::Failed { failure: hinted(&failure, TAKEN) },
        Event::Failed { failure: hinted(&failure, "port 81 is taken") },
        Event::Exit { worker: new, exit: Exit::Code(1), expected: false, oom_killed: false },
        Event::Exit { worker: new, exit: Exit::Signal(9), expected: false, oom_killed: false },
        Event::Exit { worker: new, exit: Exit::Signal(35), expected: true, oom_killed: false },
        Event::Exit { worker: new, exit: Exit::Signal(9), expected: false, oom_killed: true },
        Event::Exit { worker: new, exit: Exit::Code(137), expected: true, oom_killed: true },
        Event::Respawning { worker: new, delay: Duration::from_micros(1_500_400) },
        Event::Superseded { generation: 2 },
        Event::Reloaded { generation: Some(3), verdict: Verdict::Done },
        Event::Reloaded { generation: Some(3), verdict: Verdict::RolledBack { failure: failure.clone() } },
        Event::Reloaded {
            generation: Some(3),
            verdict: Verdict::StoppedPartWay { replaced: 1, of: 4, failure: failure.clone() },
        },
        Event::Reloaded { generation: None, verdict: Verdict::Abandoned },
    ]
}

fn unkillable(
    worker: Worker,
    (process, state): (Option<u32>, Option<char>),
    traced_by: Option<u32>,
    of_user: Option<u32>,
) -> Event {
    Event::Unkillable { worker, process, state, traced_by, of_user }
}

fn panicked(part: &'static str, place: Option<String>, (ends, begins_anew): (bool, bool)) -> Event {
    let (reason, phase) = ("index out of bounds".to_owned(), ends.then_some("running"));
    let calls =
        if ends { vec!["recluster::one".to_owned(), "recluster::other".to_owned()] } else { Vec::new() };
    let workers = if ends { vec![worker(3, 1), worker(4, 1)] } else { Vec::new() };
    Event::Panicked { part, reason, place, calls, phase, workers, ends, begins_anew }
}

fn from_a_drain_on() -> Vec<Event> {
    let (old, failure) = (worker(3, 1), failure());
    let second = Duration::from_secs(1);
    vec![
        Event::Disconnect { worker: old },
        Event::Draining { worker: old, timeout: 30 * second },
        Event::Overdue { worker: old, due: "ready", signal: "SIGTERM", held: None },
        Event::Overdue { worker: old, due: "drain", signal: "SIGTERM", held: None },
        Event::Overdue { worker: old, due: "drain", signal: "SIGTERM", held: Some(held()) },
        Event::Overdue { worker: old, due: "exit", signal: "SIGTERM", held: None },
        Event::Overdue { worker: old, due: "exit", signal: "SIGTERM", held: Some(alive()) },
        Event::Overdue { worker: old, due: "kill", signal: "SIGKILL", held: None },
        Event::Overdue { worker: old, due: "surplus", signal: "SIGTERM", held: None },
        Event::OutOfTime { worker: old, due: "surplus", kill_timeout: 5 * second, held: None },
        Event::OutOfTime { worker: old, due: "drain", kill_timeout: 5 * second, held: None },
        Event::OutOfTime { worker: old, due: "exit", kill_timeout: 5 * second, held: Some(alive()) },
        Event::KeepAliveTooLong { worker: old, keep_alive: 65 * second, timeout: 30 * second },
        unkillable(old, (old.pid, Some('D')), None, None),
        unkillable(old, (Some(9), Some('Z')), Some(77), None),
        unkillable(old, (Some(9), Some('S')), None, Some(0)),
        unkillable(old, (None, None), None, None),
        Event::LeftBehind { worker: old, timeout: 30 * second },
        Event::Overdue { worker: old, due: "rest", signal: "SIGKILL", held: None },
        Event::Exit { worker: old, exit: Exit::Code(0), expected: true, oom_killed: false },
        Event::CutOff { worker: old, reason: "its line is too long".to_owned() },
        Event::MessageUnheard { worker: old, kind: "log4js:message".to_owned() },
        Event::MessageSkipped { worker: old, bytes: 104_857_600, ended: true },
        Event::MessageSkipped { worker: old, bytes: 1_610_612_737, ended: false },
        Event::LinesLost { worker: old, stream: Stream::Stderr, lines: 12 },
        Event::LinesLost { worker: old, stream: Stream::Stdout, lines: 12 },
        log_failed("write"),
        log_failed("reopen"),
        log_failed("rotate"),
        Event::WorkerLogResumed { slot: 1, lines: 12 },
        Event::MessagesLost { messages: 900 },
        Event::Moved {
            generation: 1,
            gone: "/srv/releases/1/server.js".to_owned(),
            server: "/srv/releases/2/server.js".to_owned(),
        },
        Event::PreloadMissing { reason: "Read-only file system (os error 30)".to_owned() },
        Event::Held { worker: old },
        Event::FilesChanged { files: vec!["/srv/shop/app.js".to_owned()], more: 2 },
        Event::WatchLimited { reason: "files are looked at every second: inotify cannot be had".to_owned() },
        Event::Upgraded { from: "2.1.0".to_owned(), to: "2.2.0".to_owned(), rested: second / 80 },
        Event::UpgradeFailed { reason: "a reload is going on".to_owned() },
        Event::CompileCacheOff {
            worker: old,
            reason: "/cache belongs to another user (uid 1000)".to_owned(),
        },
        Event::AcceptingUntilStop { accepting: 5 * second },
        Event::Scaled { from: 4, to: 2 },
        Event::ReplaceFailed { failure: failure.clone() },
        Event::StartFailed { failure },
        Event::Stopping,
        Event::HookFailed {
            on: "crashed",
            hook: "exec:curl …".to_owned(),
            reason: "it ended with status 7: no route to host".to_owned(),
        },
        panicked("the data plane", Some("src/it.rs:1:1".to_owned()), (true, false)),
        panicked("the supervisor", None, (true, true)),
        panicked("a conversation on the control socket", None, (false, false)),
        Event::Over,
    ]
}

fn style(format: LogFormat) -> Style {
    Style { format, cluster: "shop".to_owned() }
}

/// The verbosity that a line needs, and the line without the beginning that all lines share.
fn narrated() -> String {
    let mut narrator = Narrator::new(4700);
    let line = |words: &str| {
        let line = style(LogFormat::Text).line(UNIX_EPOCH, words, &Note::LogReopened);
        line.strip_prefix("1970-01-01T00:00:00.000Z shop ").unwrap().to_owned()
    };
    let mut lines = Vec::new();
    for note in &notes() {
        lines.push(format!("{:?} {}", note.needs(), line(&narrator.line(note.words()))));
    }
    for event in &events() {
        lines.push(format!("{:?} {}", words::needs(event), line(&narrator.words(event))));
    }
    lines.concat()
}

#[test]
fn every_line_for_people() {
    insta::assert_snapshot!(narrated());
}

#[test]
fn what_the_master_binds_is_served_where_workers_listen_there() {
    let mut narrator = Narrator::new(4700);
    let bound = |address| Event::Bound { name: None, address };
    let listening = |address| Event::Listening { worker: worker(3, 1), address };
    let at = |ip: [u8; 4], port| Address::Tcp((ip, port).into());
    let everywhere = Address::Tcp("[::]:8080".parse().unwrap());
    for event in [
        bound(everywhere),
        bound(at([127, 0, 0, 1], 8081)),
        bound(at([127, 0, 0, 1], 8082)),
        listening(at([0, 0, 0, 0], 8080)),
        listening(Address::Fd(5)),
        listening(at([127, 0, 0, 2], 8080)),
    ] {
        narrator.words(&event);
    }
    let unused = Event::ListenUnused { addresses: vec![at([127, 0, 0, 1], 8081)] };
    assert_eq!(
        narrator.words(&unused),
        "[4700] no worker listens on 127.0.0.1:8081, which --listen or a service manager asked for: clients wait there in \
         vain. A Node server gets that socket by listening on the same address, or on its descriptor, and one in Rust also by \
         the name that `--listen NAME=ADDRESS` gives it"
    );
    assert_eq!(
        narrator.words(&Event::Started { generation: 1, workers: 2 }),
        "[4700] 2 workers serve generation 1 on [::]:8080, 127.0.0.1:8082, 127.0.0.2:8080"
    );
}

#[test]
fn a_worker_that_fails_while_it_drains_is_told_and_one_that_leaves_is_not() {
    let needs =
        |exit| words::needs(&Event::Exit { worker: worker(3, 1), exit, expected: true, oom_killed: false });
    for fault in [Exit::Code(1), Exit::Code(7), Exit::Signal(6), Exit::Signal(11)] {
        assert_eq!(needs(fault), Verbosity::Normal, "{fault:?}");
    }
    // By itself, by the signal that it was sent or sends itself, or by the status of a program that was sent one.
    for end in [Exit::Code(0), Exit::Code(143), Exit::Signal(2), Exit::Signal(9), Exit::Signal(15)] {
        assert_eq!(needs(end), Verbosity::Verbose, "{end:?}");
    }
}

#[test]
fn every_line_for_programs() {
    let style = style(LogFormat::Json);
    let notes: String = notes().iter().map(|note| style.line(UNIX_EPOCH, "", note)).collect();
    let events: String = events().iter().map(|event| style.line(UNIX_EPOCH, "", event)).collect();
    insta::assert_snapshot!(notes + &events);
}

#[test]
fn a_stop_names_some_of_those_it_waits_for_once_it_has_begun() {
    let status = |phase: &str, state: &str, workers: u32| -> recluster::Status {
        let worker = |slot| {
            json!({
                "id": slot + 1, "slot": slot, "generation": 1, "pid": 4701, "state": state,
                "seconds_left": f64::from(slot), "uptime_seconds": 1.0, "memory_bytes": null,
                "cpu_seconds": null, "connections": 0
            })
        };
        let workers: Vec<Value> = (0..workers).map(worker).collect();
        serde_json::from_value(json!({
            "pid": 4700, "phase": phase, "generation": 1, "reload": null, "uptime_seconds": 1.0,
            "balance": "kernel", "slots": [], "workers": workers, "listeners": []
        }))
        .unwrap()
    };
    assert!(Note::stop_waits(&status("running", "draining", 2)).is_none());
    let accepts = status("stopping", "serving", 2);
    assert!(Note::stop_waits(&accepts).is_none(), "it accepts connections for a while");
    assert!(Note::stop_waits(&status("stopping", "draining", 0)).is_none());
    let named = |workers| match Note::stop_waits(&status("stopping", "draining", workers)) {
        Some(Note::StopWaits { workers, others, seconds_left }) => (workers.len(), others, seconds_left),
        other => panic!("{other:?}"),
    };
    assert_eq!(named(2), (2, 0, Some(1.0)));
    assert_eq!(named(1000), (16, 984, Some(999.0)));
}

#[test]
fn a_start_names_the_workers_that_it_waits_for_and_what_each_lacks() {
    let worker = |id: u64, generation: u64, state: &str, left: Option<f64>| {
        json!({
            "id": id, "slot": 0, "generation": generation, "pid": 4700, "state": state, "seconds_left": left,
            "uptime_seconds": 1.0, "memory_bytes": null, "cpu_seconds": null, "connections": 0
        })
    };
    let status = |phase: &str, reload: Value| -> recluster::Status {
        let workers = [
            worker(1, 1, "serving", None),
            worker(2, 2, "starting", Some(50.0)),
            worker(3, 2, "ready", None),
            worker(4, 2, "starting", Some(40.0)),
        ];
        serde_json::from_value(json!({
            "pid": 4700, "phase": phase, "generation": 1, "reload": reload, "uptime_seconds": 1.0,
            "balance": "kernel", "slots": [], "workers": workers, "listeners": []
        }))
        .unwrap()
    };
    let mut patience = Patience::of_start(Instant::now());
    let online: Worker =
        serde_json::from_value(json!({"id": 2, "slot": 0, "generation": 2, "pid": 4700})).unwrap();
    patience.hear(&Event::Online { worker: online }, Instant::now());
    assert!(Note::start_waits(&status("running", Value::Null), &patience).is_none());
    let reload = json!({"generation": 2, "serving": 0, "of": 3});
    let note = Note::start_waits(&status("running", reload), &patience).unwrap();
    insta::assert_snapshot!(note.words(), @"the reload to generation 2 waits for worker 2 (slot 0, pid 4700): it runs and has not begun to listen, nor said that it is ready; worker 3 (slot 0, pid 4700): it is ready, and has to live on for the rest of --bake; worker 4 (slot 0, pid 4700): its process does not run yet; the first has 40 s left; the old workers serve on, and a newer reload takes its place");
    let note = Note::start_waits(&status("starting", Value::Null), &patience).unwrap();
    insta::assert_snapshot!(note.words(), @"the start waits for a worker that is started next; ^C or SIGTERM ends it");
}

#[test]
fn a_slot_that_serves_again_is_said_to() {
    insta::assert_snapshot!(words::serves_again(&worker(9, 2), Duration::from_millis(1240)), @"[4709] worker 9 (slot 1) serves again, 1.2 s after the last one of its slot was gone");
}

#[test]
fn every_signal_is_said() {
    let wishes = [
        Wish::Reload,
        Wish::Stop,
        Wish::Terminate,
        Wish::MoreWorkers,
        Wish::FewerWorkers,
        Wish::ReopenLog,
        Wish::Repeated,
    ];
    let notes = wishes.map(|wish| Note::signal("SIGX", wish)).into_iter().chain([Note::hung_up()]);
    insta::assert_snapshot!(notes.map(|note| note.words()).collect::<Vec<_>>().join("\n"));
}

/// The lines of these as `docs/json.md` has them.
fn as_json(record: &impl Leveled) -> Value {
    serde_json::from_str(&style(LogFormat::Json).line(UNIX_EPOCH, "", record)).unwrap()
}

/// The notes above, and some of each that there is.
fn notes_of_every_kind() -> Vec<Note> {
    let of = |is_meant: fn(&Note) -> bool| notes().into_iter().filter(is_meant).collect::<Vec<_>>();
    let wishes = every! {
        Wish::Reload => [Wish::Reload],
        Wish::Stop => [Wish::Stop],
        Wish::Terminate => [Wish::Terminate],
        Wish::MoreWorkers => [Wish::MoreWorkers],
        Wish::FewerWorkers => [Wish::FewerWorkers],
        Wish::ReopenLog => [Wish::ReopenLog],
        Wish::Repeated => [Wish::Repeated],
    };
    every! {
        Note::Starting { .. } => of(|note| matches!(note, Note::Starting { .. })),
        Note::StartedAnew { .. } => of(|note| matches!(note, Note::StartedAnew { .. })),
        Note::Survivors { .. } => of(|note| matches!(note, Note::Survivors { .. })),
        Note::ControlMissing { .. } => of(|note| matches!(note, Note::ControlMissing { .. })),
        Note::StopIsLong { .. } => of(|note| matches!(note, Note::StopIsLong { .. })),
        Note::Signal { .. } => {
            let notes = wishes.into_iter().map(|wish| Note::signal("SIGX", wish));
            notes.chain([Note::hung_up()]).collect::<Vec<_>>()
        },
        Note::StopWaits { .. } => of(|note| matches!(note, Note::StopWaits { .. })),
        Note::StartWaits { .. } => of(|note| matches!(note, Note::StartWaits { .. })),
        Note::RespawnRow { .. } => of(|note| matches!(note, Note::RespawnRow { .. })),
        Note::Asked { .. } => of(|note| matches!(note, Note::Asked { .. })),
        Note::AdminExposed { .. } => of(|note| matches!(note, Note::AdminExposed { .. })),
        Note::AskedByHttp { .. } => [
            Request::reload(true),
            Request::ScaleTo { workers: 3 },
            Request::ScaleBy { workers: 1 },
            Request::Stop,
            Request::Terminate,
        ]
        .map(|request| Note::AskedByHttp { request, from: "127.0.0.1:40000".to_owned() }),
        Note::Configured { .. } => of(|note| matches!(note, Note::Configured { .. })),
        Note::NotScaled { .. } => of(|note| matches!(note, Note::NotScaled { .. })),
        Note::PathRestored { .. } => [Kept::Control, Kept::Admin, Kept::Pidfile]
            .map(|what| Note::PathRestored { what, path: "/run/it".to_owned() }),
        Note::PathLost { .. } => [Kept::Control, Kept::Admin, Kept::Pidfile]
            .map(|what| Note::PathLost { what, path: "/run/it".to_owned(), reason: "it is taken".to_owned() }),
        Note::LogReopened => [Note::LogReopened],
        Note::LogNotReopened { .. } => of(|note| matches!(note, Note::LogNotReopened { .. })),
        Note::EventsMissed { .. } => [Note::EventsMissed { events: 7 }],
        Note::LinesMissed { .. } => [Note::LinesMissed { lines: 7 }],
    }
}

#[test]
fn the_page_describes_every_line() {
    let page = Page::read();
    let lines: Vec<Value> = notes_of_every_kind().iter().map(as_json).collect();
    let samples = Samples::by_tag("event", &["time", "cluster", "level"], lines.clone());
    let mut faults = page.compare("Events of the command", &samples);
    let levels = ["debug", "info", "warn", "error"].map(|level| {
        let mut line = as_json(&Note::LogReopened);
        line["level"] = level.into();
        line
    });
    faults.extend(page.compare_fields("log-lines", &levels));
    let not_utf8 = OsString::from_vec(b"/run/\xff.sock".to_vec());
    let bound = Event::Bound { name: None, address: Address::Unix(not_utf8.into()) };
    faults.extend(page.compare_fields("lines-that-are-no-json", &[as_json(&bound)]));
    // What the engine serialises is compared there: here, that a line adds nothing else.
    for line in events().iter().map(as_json) {
        faults.extend(page.check("Events of the cluster", line["event"].as_str().unwrap(), &line));
    }
    assert!(faults.is_empty(), "docs/json.md:\n{}", faults.join("\n"));
}

/// What a journal with these options has written of these events.
fn journal_of(options: &[&str], events: &[Event]) -> String {
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().to_str().unwrap();
    let args =
        ["recluster", "run", "server.js", "--log-file", path].into_iter().chain(options.iter().copied());
    let matches = crate::args::matches(&args.map(Into::into).collect::<Vec<OsString>>()).unwrap();
    let run = crate::args::typed(&matches).unwrap().into_run().unwrap();
    let mut journal = Journal::open(&"shop".parse().unwrap(), &run.around, None, Memory::default()).unwrap();
    journal.memory.lock().narrator = Narrator::new(4700);
    for event in events {
        journal.event(event);
    }
    journal.close();
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_failure_says_the_end_of_a_worker_and_its_hint_once() {
    let exit =
        |id| Event::Exit { worker: worker(id, 2), exit: Exit::Code(1), expected: false, oom_killed: false };
    let late = Event::Overdue { worker: worker(9, 2), due: "ready", signal: "SIGTERM", held: None };
    let failed = || Event::Failed { failure: failure() };
    let rolled_back = Verdict::RolledBack { failure: failure() };
    let events = [
        exit(9),
        failed(),
        exit(8),
        late,
        failed(),
        Event::Reloaded { generation: Some(2), verdict: rolled_back },
        Event::GenerationBegan { generation: 3 },
        failed(),
        exit(7),
    ];
    let lines = |options: &[&str]| {
        let log = journal_of(options, &events);
        let words = |line: &str| line.split_once(" shop ").unwrap().1.to_owned();
        log.lines().map(words).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(lines(&[]));
    for options in [["-v"].as_slice(), ["--log-format", "json"].as_slice()] {
        assert_eq!(journal_of(options, &events).lines().count(), events.len(), "{options:?}");
    }
}

#[test]
fn what_waits_to_be_said_again_is_written_after_a_moment() {
    let mut aside = super::aside::Aside::default();
    let now = Instant::now();
    let exit = Event::Exit { worker: worker(3, 1), exit: Exit::Code(1), expected: false, oom_killed: false };
    aside.put(&exit, "line".to_owned(), now);
    aside.forget_what_is_said_again(&Event::Failed { failure: failure() });
    assert!(aside.due().is_some_and(|due| due > now), "another worker has failed");
    assert_eq!((aside.take().as_deref(), aside.due()), (Some("line"), None));
}

#[test]
fn a_failure_is_a_warning_or_worse_and_what_is_routine_is_not() {
    let of_cluster = events().into_iter().map(|event| (words::needs(&event), event.level()));
    let of_command = notes().into_iter().map(|note| (note.needs(), note.level()));
    for (needs, level) in of_cluster.chain(of_command) {
        match needs {
            Verbosity::Quiet => assert!(level >= Level::Warn),
            Verbosity::Normal => assert!(level >= Level::Info),
            Verbosity::Verbose => assert!(level <= Level::Warn),
        }
    }
}
