//! The command's own lines, some of each kind.

use recluster::control::protocol::Request;
use recluster::{Held, Which};

use super::super::note::{Awaited, Kept, Lacking, Note};
use super::{BACKOFF, alive, held};

/// A stop that waits for workers in these slots, which have this.
fn stop_waits(workers: &[(u32, Option<Held>)], others: usize, seconds_left: Option<f64>) -> Note {
    let awaited = |(slot, held): &(u32, Option<Held>)| Awaited {
        id: u64::from(*slot) + 3,
        slot: *slot,
        pid: (*slot == 0).then_some(4703),
        held: held.clone(),
    };
    Note::StopWaits { workers: workers.iter().map(awaited).collect(), others, seconds_left }
}

/// A start, or a reload to a later generation, that waits for these.
fn start_waits(generation: u64, workers: Vec<Lacking>, others: usize, seconds_left: Option<f64>) -> Note {
    Note::StartWaits { generation, reload: generation > 1, workers, others, seconds_left }
}

fn lacking(pid: Option<u32>, lacks: &'static str) -> Lacking {
    Lacking { id: 3, slot: 1, pid, lacks }
}

/// What became of a file by which others reach the master; a reason where it is lost.
fn path(lost: Option<&str>, what: Kept) -> Note {
    let path = match what {
        Kept::Admin => "/run/shop-admin.sock".to_owned(),
        Kept::Control => "/run/recluster/shop.sock".to_owned(),
        Kept::Pidfile => "/run/shop.pid".to_owned(),
    };
    match lost {
        None => Note::PathRestored { what, path },
        Some(reason) => Note::PathLost { what, path, reason: reason.to_owned() },
    }
}

fn starting(workers: u32, control: Option<&str>, admin: Option<&str>) -> Note {
    Note::Starting {
        version: "1.2.3",
        pid: 4700,
        server: "/srv/app/server.js".to_owned(),
        workers,
        control: control.map(str::to_owned),
        admin: admin.map(str::to_owned),
    }
}

pub(super) fn notes() -> Vec<Note> {
    let asked = |request, pid| Note::Asked { request, env: Vec::new(), pid, uid: 7 };
    let by_http = |request| Note::AskedByHttp { request, from: "127.0.0.1:40000".to_owned() };
    vec![
        starting(4, Some("/run/recluster/shop.sock"), Some("127.0.0.1:9464")),
        starting(1, None, None),
        Note::StartedAnew {
            reason: "the program that was to take over ended by SIGABRT before it served".to_owned(),
            what: "version before",
        },
        Note::StartedAnew {
            reason: "the data plane had panicked: index out of bounds".to_owned(),
            what: "master",
        },
        Note::Survivors { workers: 1, pids: vec![4711] },
        Note::Survivors { workers: 19, pids: vec![4711, 4712] },
        Note::AdminExposed { address: "0.0.0.0:9464".to_owned() },
        Note::ControlMissing { reason: "the directory is not usable".to_owned() },
        Note::StopIsLong { seconds: 30.0 },
        Note::Signal { signal: "SIGHUP", meaning: "reload" },
        stop_waits(&[(0, Some(held())), (1, None)], 0, Some(24.8)),
        stop_waits(&[(1, Some(alive()))], 3, None),
        start_waits(1, vec![lacking(Some(4703), "online"), lacking(None, "listening")], 0, Some(54.6)),
        start_waits(2, vec![lacking(Some(4703), "ready"), lacking(Some(4703), "bake")], 3, None),
        start_waits(1, Vec::new(), 0, None),
        Note::RespawnRow { respawns: 20, seconds: 19.4, over: false, hint: Some(BACKOFF) },
        Note::RespawnRow { respawns: 20, seconds: 19.4, over: false, hint: None },
        Note::RespawnRow { respawns: 23, seconds: 22.0, over: true, hint: None },
        asked(Request::reload(true), Some(4800)),
        Note::Asked {
            request: Request::reload(true),
            env: vec!["LOG_LEVEL".to_owned(), "TOKEN".to_owned()],
            pid: None,
            uid: 7,
        },
        asked(Request::Status, Some(4800)),
        asked(Request::Configuration { diff: true }, Some(4800)),
        asked(Request::Events { follow: true, last: Some(10) }, Some(4800)),
        asked(Request::Events { follow: false, last: None }, Some(4800)),
        asked(Request::Logs { follow: true, last: Some(10), slot: Some(1) }, Some(4800)),
        asked(Request::Logs { follow: false, last: None, slot: None }, Some(4800)),
        asked(Request::Replace { which: Which::Slot(2) }, Some(4800)),
        asked(Request::Replace { which: Which::Pid(4711) }, None),
        asked(Request::ScaleTo { workers: 3 }, Some(4800)),
        asked(Request::ScaleBy { workers: 2 }, Some(4800)),
        asked(Request::Upgrade { binary: None, dry_run: true, wait: false }, Some(4800)),
        asked(Request::Upgrade { binary: Some("/new".into()), dry_run: false, wait: true }, None),
        asked(Request::Stop, None),
        asked(Request::Terminate, Some(4800)),
        by_http(Request::reload(false)),
        by_http(Request::ScaleBy { workers: -1 }),
        Note::Configured {
            changed: vec!["timeout".to_owned(), "env.KEY".to_owned()],
            needs_restart: vec!["listen".to_owned()],
        },
        Note::NotScaled { reason: "the cluster is about to end".to_owned() },
        path(None, Kept::Control),
        path(None, Kept::Admin),
        path(None, Kept::Pidfile),
        path(Some("a running cluster has the control socket /run/recluster/shop.sock"), Kept::Control),
        path(Some("a file is there, and no socket: remove it, or name another path"), Kept::Admin),
        path(Some("process 4711, which the pidfile /run/shop.pid names, is still running"), Kept::Pidfile),
        Note::LogReopened,
        Note::LogNotReopened { error: "permission denied".to_owned() },
        Note::EventsMissed { events: 7 },
        Note::LinesMissed { lines: 7 },
    ]
}
