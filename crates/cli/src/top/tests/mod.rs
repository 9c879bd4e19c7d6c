//! The whole of it without a terminal and without a master: what is told becomes a picture, and keys change it.

mod keys;
mod lines;
mod pictures;
mod told;

use std::time::{Duration, Instant};

use ratatui_core::backend::TestBackend;
use ratatui_core::terminal::Terminal;
use recluster::Status;
use serde_json::{Value, json};

use super::facts::Facts;
use super::scene::Scene;
use super::theme::Theme;
use super::ui::Ui;
use super::view::draw;

/// What is looked at, and when.
struct Desk {
    facts: Facts,
    ui: Ui,
    theme: Theme,
    now: Instant,
}

impl Desk {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            facts: Facts::new("shop".to_owned(), now),
            ui: Ui::default(),
            theme: Theme { colours: true },
            now,
        }
    }

    /// A second later the status is this.
    fn look(&mut self, status: &Value) -> &mut Self {
        self.now += Duration::from_secs(1);
        self.facts.look(serde_json::from_value(status.clone()).unwrap(), self.now);
        self
    }

    fn hear(&mut self, event: &Value) -> &mut Self {
        self.facts.hear(event.as_object().unwrap());
        self
    }

    fn scene(&self) -> Scene<'_> {
        Scene { facts: &self.facts, ui: &self.ui, theme: self.theme, now: self.now }
    }

    fn terminal(&self, width: u16, height: u16) -> TestBackend {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let scene = self.scene();
        let drawn = terminal.draw(|frame| {
            let area = frame.area();
            draw(frame.buffer_mut(), area, &scene);
        });
        drawn.unwrap();
        terminal.backend().clone()
    }

    /// What a terminal of this size shows, without what is blank at the right.
    fn shown(&self, width: u16, height: u16) -> String {
        let screen = self.terminal(width, height).to_string();
        let lines = screen.lines().map(|line| line.trim_matches('"').trim_end());
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// A worker that serves.
fn worker(id: u64, slot: u32) -> Value {
    json!({
        "id": id, "slot": slot, "generation": 2, "pid": 4700 + id, "state": "serving", "seconds_left": null,
        "uptime_seconds": 7265.2, "memory_bytes": 47_395_635, "cpu_seconds": 12.34, "connections": 7
    })
}

/// A cluster of two slots that serves.
fn status() -> Value {
    json!({
        "pid": 4700, "phase": "running", "generation": 2, "uptime_seconds": 93_784.0, "balance": "kernel",
        "reload": null, "workers": [worker(5, 0), worker(6, 1)], "listeners": [],
        "last_reload": {"generation": 2, "seconds_ago": 300.0, "verdict": "done"},
        "slots": [
            {"slot": 0, "active": 5, "restarts": 0, "connections": 1007},
            {"slot": 1, "active": 6, "restarts": 3, "connections": 998}
        ]
    })
}

/// The same, two seconds later: 20 connections more, and the first worker has kept half a processor busy.
fn later() -> Value {
    let mut status = status();
    status["uptime_seconds"] = json!(93_786.0);
    status["slots"][0]["connections"] = json!(1027);
    for at in 0..2 {
        status["workers"][at]["uptime_seconds"] = json!(7267.2);
    }
    status["workers"][0]["cpu_seconds"] = json!(13.34);
    status
}

/// In the middle of everything: a reload, a vacant slot, an old worker that finishes, one that came to nothing.
fn busy() -> Value {
    let mut status = later();
    status["uptime_seconds"] = json!(93_788.0);
    status["slots"][1]["connections"] = json!(1001);
    for at in 0..2 {
        status["workers"][at]["uptime_seconds"] = json!(7269.2);
    }
    status["workers"][1]["cpu_seconds"] = json!(14.8);
    status["reload"] = json!({"generation": 3, "serving": 1, "of": 3});
    let slots = status["slots"].as_array_mut().unwrap();
    slots.push(json!({"slot": 2, "active": null, "restarts": 12, "connections": 0}));
    slots[0]["active"] = json!(7);
    let workers = status["workers"].as_array_mut().unwrap();
    workers[0]["state"] = json!("draining");
    workers[0]["seconds_left"] = json!(4.0);
    workers[0]["held"] = json!({"connections": 5, "upgraded": 1, "requests": 2});
    workers[1]["status"] = json!("warming \u{1b}[2Jthe cache");
    let mut new = worker(7, 0);
    (new["generation"], new["uptime_seconds"]) = (json!(3), json!(1.5));
    workers.push(new);
    let mut starting = worker(8, 1);
    (starting["generation"], starting["state"], starting["seconds_left"]) =
        (json!(3), json!("starting"), json!(59.6));
    workers.push(starting);
    status
}

/// The same with what Node workers report of themselves; this look is the so many-th.
fn reported(look: u32) -> Value {
    let mut status = later();
    status["uptime_seconds"] = json!(93_786 + look);
    for (at, (busy, lag, errors)) in [(0.37, 0.001, 0), (1.0, 1.44, 12)].into_iter().enumerate() {
        let worker = &mut status["workers"][at];
        worker["uptime_seconds"] = json!(7267.2 + f64::from(look));
        worker["node"] =
            json!({"loop_utilization": busy, "loop_lag_seconds": lag, "heap_used_bytes": 12_345_678});
        worker["http"] =
            json!({"requests": 1000 + 120 * look, "errors": errors * look, "p99_seconds": 0.0124});
    }
    status["workers"][1]["http"]["p99_seconds"] = json!(null);
    status["slots"][1]["in_flight"] = json!(8);
    status
}

/// Some events, as the master tells them.
fn events() -> Vec<Value> {
    let time = "2026-11-26T12:01:03.658Z";
    let worker = json!({"generation": 2, "id": 5, "pid": 4705, "slot": 0});
    vec![
        json!({"time": time, "level": "info", "event": "generation_began", "generation": 3}),
        json!({"time": time, "level": "debug", "event": "spawned", "worker": worker}),
        json!({"time": time, "level": "warn", "event": "exit", "expected": false, "exit": {"code": 1}, "worker": worker}),
        json!({"time": time, "level": "warn", "event": "failed", "failure": {
            "worker": worker, "reason": "exited with status 1 before it served", "failures": 1, "stderr": ["no\u{7}"], "hint": null
        }}),
        json!({"time": time, "level": "error", "event": "hook_failed", "on": "crashed", "hook": "./tell \u{1b}[31m", "reason": null}),
    ]
}

fn read(status: &Value) -> Status {
    serde_json::from_value(status.clone()).unwrap()
}
