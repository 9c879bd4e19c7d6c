//! Events as the command logs them, and patterns that name the one a test waits for.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// One event of the log: a JSON object with the field `event`.
#[derive(Clone, Debug)]
pub struct Event(Value);

impl Event {
    /// Parses a line of the log; `None` where it is no event.
    pub fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        value.get("event")?.as_str()?;
        Some(Self(value))
    }

    /// A field by its JSON pointer, such as `/worker/pid`; null where it is missing.
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// A field that must be a string.
    #[track_caller]
    pub fn text(&self, pointer: &str) -> &str {
        let text = self.at(pointer).as_str();
        assert!(text.is_some(), "no text at {pointer} in {self}");
        text.unwrap_or_default()
    }

    /// A field that must be a whole number.
    #[track_caller]
    pub fn number(&self, pointer: &str) -> u64 {
        let number = self.at(pointer).as_u64();
        assert!(number.is_some(), "no whole number at {pointer} in {self}");
        number.unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.at("/event").as_str().unwrap_or_default()
    }

    /// The number of the worker that it is about.
    #[track_caller]
    pub fn id(&self) -> u64 {
        self.number("/worker/id")
    }

    /// The slot of the worker that it is about.
    #[track_caller]
    pub fn slot(&self) -> u64 {
        self.number("/worker/slot")
    }

    /// The process of the worker that it is about.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        u32::try_from(self.number("/worker/pid")).expect("a pid is small")
    }

    /// When it was logged.
    #[track_caller]
    pub fn time(&self) -> SystemTime {
        humantime::parse_rfc3339(self.text("/time")).expect("a time")
    }

    /// How long after another event it was logged.
    #[track_caller]
    pub fn since(&self, earlier: &Self) -> Duration {
        let span = self.time().duration_since(earlier.time());
        span.expect("it should be the later event")
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an event must look like: its name, and what some of its fields hold.
#[derive(Clone, Debug)]
pub struct Pattern {
    name: &'static str,
    fields: Vec<(&'static str, Value)>,
}

/// The pattern of all events with this name.
pub fn on(name: &'static str) -> Pattern {
    Pattern { name, fields: Vec::new() }
}

impl Pattern {
    /// Only where the field at this JSON pointer holds this value.
    #[must_use]
    pub fn with(mut self, pointer: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((pointer, value.into()));
        self
    }

    /// Only of the worker with this number.
    #[must_use]
    pub fn id(self, id: u64) -> Self {
        self.with("/worker/id", id)
    }

    /// Only of workers in this slot.
    #[must_use]
    pub fn slot(self, slot: u64) -> Self {
        self.with("/worker/slot", slot)
    }

    /// Only of workers of this generation.
    #[must_use]
    pub fn generation(self, generation: u64) -> Self {
        self.with("/worker/generation", generation)
    }

    /// Whether this event is meant.
    pub fn matches(&self, event: &Event) -> bool {
        event.name() == self.name && self.fields.iter().all(|(pointer, value)| event.at(pointer) == value)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.name)?;
        for (pointer, value) in &self.fields {
            write!(f, " {pointer}={value}")?;
        }
        Ok(())
    }
}
