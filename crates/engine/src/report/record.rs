//! [`Record`]: something that happened, as one line of JSON with its time.

use std::time::SystemTime;

use humantime::format_rfc3339_millis;
use serde::Serialize;

use crate::report::level::Level;

/// Something that happened, in the form that clients and hooks are told it.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a, A, W> {
    /// What stands before all else.
    #[serde(flatten)]
    pub(crate) head: A,
    time: String,
    level: Level,
    #[serde(flatten)]
    what: &'a W,
}

impl<'a, A: Serialize, W: Serialize> Record<'a, A, W> {
    pub(crate) fn new(head: A, level: Level, what: &'a W, now: SystemTime) -> Self {
        Self { head, time: format_rfc3339_millis(now).to_string(), level, what }
    }

    /// It as one line. What has no form in JSON, such as a path that is no text, is said to have none.
    pub(crate) fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self).or_else(|error| {
            let what = NotJson { event: "not_json", error: error.to_string() };
            let Self { head, time, level, .. } = self;
            serde_json::to_vec(&Record { head, time: time.clone(), level: *level, what: &what })
        })?;
        line.push(b'\n');
        Ok(line)
    }
}

/// What those are told who hear of what happens, in the place of so many events that were gone before they heard of them.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "events_missed")]
pub(crate) struct EventsMissed {
    pub(crate) events: u64,
}

#[derive(Serialize)]
struct NotJson {
    event: &'static str,
    error: String,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::time::UNIX_EPOCH;

    use serde_json::{Value, json};

    use super::*;
    use crate::report::event::Event;
    use crate::report::worker::Address;

    fn line(event: &Event) -> Value {
        let record = Record::new(json!({"reply": "event"}), event.level(), event, UNIX_EPOCH);
        serde_json::from_slice(&record.line().unwrap()).unwrap()
    }

    #[test]
    fn a_record_is_an_event_with_its_time() {
        let expected =
            json!({"reply": "event", "time": "1970-01-01T00:00:00.000Z", "level": "info", "event": "over"});
        assert_eq!(line(&Event::Over), expected);
    }

    #[test]
    fn what_is_no_text_is_told_all_the_same() {
        let path = OsString::from_vec(b"/run/\xff.sock".to_vec());
        let line = line(&Event::Closed { address: Address::Unix(path.into()) });
        assert_eq!((&line["event"], &line["level"]), (&json!("not_json"), &json!("debug")));
        assert!(line["error"].is_string());
    }
}
