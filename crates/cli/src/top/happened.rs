//! Events, as lines that are short enough for a part of a screen.

use serde_json::{Map, Value};

use crate::paint::printable;

/// An event as a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Happened {
    /// The slots that it is about.
    pub(super) slot: Option<u64>,
    pub(super) level: Importance,
    /// `12:01:03`, UTC.
    pub(super) time: String,
    pub(super) words: String,
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Importance {
    Routine,
    News,
    Warning,
    Failure,
}

/// Fields that stand elsewhere, or say nothing in a line.
const ELSEWHERE: [&str; 9] =
    ["time", "level", "event", "worker", "failure", "cluster", "hint", "stderr", "process"];

/// An event as the master tells it.
pub(super) fn happened(event: &Map<String, Value>) -> Happened {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or("-");
    let failure = event.get("failure").and_then(Value::as_object);
    let worker = event.get("worker").or_else(|| failure?.get("worker"));
    let mut words = text("event").replace('_', " ");
    let mut add = |more: &str| {
        words.push(' ');
        words.push_str(more);
    };
    if let Some(worker) = worker {
        add(&who(worker));
    }
    for (name, value) in event.iter().filter(|(name, _)| !ELSEWHERE.contains(&name.as_str())) {
        if let Some(value) = plain(value) {
            add(&format!("{name}={value}"));
        }
    }
    if let Some(reason) = failure.and_then(|failure| failure.get("reason")).and_then(Value::as_str) {
        add(&format!("- {reason}"));
    }
    Happened {
        slot: worker.and_then(|worker| worker.get("slot")).and_then(Value::as_u64),
        level: importance(text("level")),
        time: printable(text("time").get(11..19).unwrap_or("--:--:--")),
        words: printable(&words),
    }
}

fn importance(level: &str) -> Importance {
    match level {
        "debug" => Importance::Routine,
        "warn" => Importance::Warning,
        "error" => Importance::Failure,
        _ => Importance::News,
    }
}

fn who(worker: &Value) -> String {
    let number = |name: &str| worker.get(name).and_then(Value::as_u64);
    let pid = number("pid").map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let slot = number("slot").map_or_else(|| "-".to_owned(), |slot| slot.to_string());
    format!("slot {slot}{pid}")
}

/// A value in one word or few. What is not there is left out; what has parts shows those that are plain.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(match number.as_f64() {
            Some(fraction) if number.is_f64() => format!("{fraction:.1}"),
            _ => number.to_string(),
        }),
        Value::Bool(bool) => Some(bool.to_string()),
        Value::Array(values) => Some(values.iter().filter_map(plain).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let parts = fields.iter().filter_map(|(name, value)| Some(format!("{name}:{}", plain(value)?)));
            Some(parts.collect::<Vec<_>>().join(","))
        }
    }
}
