//! `events`: what has happened in a cluster, a line for each.

use std::fmt::Write as _;

use recluster::control::protocol::{Reply, Request};
use serde_json::{Map, Value};

use super::connect::{connect, unexpected};
use super::output::{Reader, print, print_json};
use crate::args::EventsArgs;
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::paint::printable;

/// How many of the last events come first where more follow.
const BEFORE_THE_NEXT: u32 = 10;

/// Prints the last events, and with `--follow` each that comes, until the cluster has ended.
pub(crate) async fn events(args: EventsArgs) -> Result<ExitStatus, Error> {
    let EventsArgs { follow, lines, target } = args;
    let (mut client, _) = connect(&target).await?;
    let last = lines.or(follow.then_some(BEFORE_THE_NEXT));
    client.send(&Request::Events { follow, last }).await?;
    loop {
        let reply = client.next().await?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "none of the others answers what was asked")]
        let reader = match &reply {
            Reply::EventsEnd => return Ok(ExitStatus::Success),
            Reply::Event(_) if target.json => print_json(&reply)?,
            Reply::Event(event) => print(&(printable(&words(event)) + "\n"))?,
            _ => return Err(unexpected(reply)),
        };
        if reader == Reader::Left {
            return Ok(ExitStatus::Success);
        }
    }
}

/// An event as a line: its time, its level and its name, then its fields.
fn words(event: &Map<String, Value>) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or("-");
    let mut words = format!("{} {:<5} {}", text("time"), text("level"), text("event"));
    let fields = event.iter().filter(|(name, _)| !["time", "level", "event"].contains(&name.as_str()));
    for (name, value) in fields {
        add(&mut words, name, value);
    }
    words
}

/// Adds a field as `name=value`, and those of an object one by one. What is not there is left out.
fn add(words: &mut String, name: &str, value: &Value) {
    // Writing to a text cannot fail.
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (inner, value) in fields {
                add(words, &format!("{name}.{inner}"), value);
            }
        }
        Value::String(text) if !text.is_empty() && text.chars().all(is_plain) => {
            let _ = write!(words, " {name}={text}");
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            let _ = write!(words, " {name}={value}");
        }
    }
}

/// Whether a text of such characters needs no quotes.
fn is_plain(character: char) -> bool {
    !character.is_whitespace() && !character.is_control() && !['"', '=', '\\'].contains(&character)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(event: &Value) -> String {
        words(event.as_object().unwrap())
    }

    #[test]
    fn an_event_is_a_line_with_its_fields() {
        let time = "2026-11-26T00:57:13.658Z";
        let exit = json!({"time": time, "level": "warn", "event": "exit", "expected": false, "exit": {"code": 1},
            "worker": {"generation": 2, "id": 5, "pid": 4711, "slot": 0}});
        let expected = "2026-11-26T00:57:13.658Z warn  exit exit.code=1 expected=false worker.generation=2 worker.id=5 \
                        worker.pid=4711 worker.slot=0";
        assert_eq!(line(&exit), expected);
        let failed = json!({"time": time, "level": "error", "event": "x", "hint": null, "reason": "it \"broke\"",
            "stderr": ["a b"], "empty": ""});
        let expected = r#"2026-11-26T00:57:13.658Z error x empty="" reason="it \"broke\"" stderr=["a b"]"#;
        assert_eq!(line(&failed), expected);
        assert_eq!(line(&json!({})), "- -     -", "a master of another version may leave things out");
    }
}
