//! How lines of workers look with `--log-prefix`: slot and pid before them, or, where the log is JSON, an object.

use std::io::IsTerminal as _;
use std::io::{stderr, stdout};
use std::time::SystemTime;

use humantime::format_rfc3339_millis;
use recluster::{LineStyle, Stream, WorkerLine};
use serde::Serialize;

use crate::args::{LogFormat, Run};
use crate::name::Name;
use crate::paint::{Paint, printable_json, printable_line};

/// How they look, if they are not to be as workers write them.
pub(crate) fn style(args: &Run, cluster: &Name) -> Option<LineStyle> {
    if !args.running.log_prefix {
        return None;
    }
    Some(match args.around.log_format {
        LogFormat::Json => {
            let cluster = cluster.to_string();
            LineStyle::new(move |line, out| json(&cluster, line, SystemTime::now(), out))
        }
        // Nobody looks at a file with a terminal's eyes.
        LogFormat::Text if args.running.worker_log.is_some() => {
            LineStyle::new(|line, out| text(None, line, out))
        }
        LogFormat::Text => {
            let [on_stdout, on_stderr] = [
                stdout().is_terminal().then(|| Paint::for_stream(&stdout())),
                stderr().is_terminal().then(|| Paint::for_stream(&stderr())),
            ];
            LineStyle::new(move |line, out| {
                let terminal = match line.stream {
                    Stream::Stdout => on_stdout,
                    Stream::Stderr => on_stderr,
                };
                text(terminal, line, out);
            })
        }
    })
}

/// A line for people. On a terminal it has colours, and nothing that a worker could move the cursor with.
fn text(terminal: Option<Paint>, line: &WorkerLine<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(prefix(terminal, line.worker.slot, line.worker.pid).as_bytes());
    match terminal {
        Some(paint) => out.extend_from_slice(printable_line(line.text, paint).as_bytes()),
        None => out.extend_from_slice(line.text),
    }
    out.push(b'\n');
}

/// What stands before a line: who has written it.
pub(crate) fn prefix(terminal: Option<Paint>, slot: u32, pid: Option<u32>) -> String {
    let prefix = format!("{slot} {} |", pid.unwrap_or_default());
    terminal.map_or(prefix.clone(), |paint| paint.of_slot(slot, &prefix)) + " "
}

/// A line as JSON.
#[derive(Serialize)]
struct Record<'a> {
    time: String,
    cluster: &'a str,
    event: &'static str,
    slot: u32,
    pid: Option<u32>,
    generation: u64,
    stream: Stream,
    line: &'a str,
    /// The rest follows as a line of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

fn json(cluster: &str, line: &WorkerLine<'_>, now: SystemTime, out: &mut Vec<u8>) {
    let record = Record {
        time: format_rfc3339_millis(now).to_string(),
        cluster,
        event: "line",
        slot: line.worker.slot,
        pid: line.worker.pid,
        generation: line.worker.generation,
        stream: line.stream,
        line: &String::from_utf8_lossy(line.text),
        partial: !line.is_whole,
    };
    // Text and numbers are always JSON.
    if let Ok(json) = serde_json::to_string(&record) {
        out.extend_from_slice(printable_json(json).as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use recluster::Worker;
    use recluster_json_page::Page;
    use serde_json::{Value, json};

    use super::*;

    fn written(text: &[u8], write: impl Fn(&WorkerLine<'_>, &mut Vec<u8>)) -> Vec<u8> {
        let worker: Worker =
            serde_json::from_value(json!({"id": 1, "slot": 7, "generation": 2, "pid": 551})).unwrap();
        let mut out = Vec::new();
        write(&WorkerLine::new(worker, Stream::Stderr, text), &mut out);
        out
    }

    #[test]
    fn a_line_has_its_slot_and_pid_and_is_otherwise_as_it_was() {
        assert_eq!(written(b"\xff\x1b[2J", |line, out| text(None, line, out)), b"7 551 | \xff\x1b[2J\n");
    }

    #[test]
    fn on_a_terminal_it_does_nothing_but_stand_there() {
        let coloured = written(b"a\x1b[2J\rb", |line, out| text(Some(Paint::new(true)), line, out));
        let coloured = String::from_utf8(coloured).unwrap();
        assert_eq!(coloured, "\x1b[33m7 551 |\x1b[0m a\u{fffd}[2J\u{fffd}b\n");
        let plain = written(b"a", |line, out| text(Some(Paint::new(false)), line, out));
        assert_eq!(plain, b"7 551 | a\n");
    }

    #[test]
    fn the_page_describes_the_object() {
        let line = written(b"\xff \"", |line, out| json("shop", line, SystemTime::now(), out));
        let mut whole: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&whole["line"], &whole["event"]), (&json!("\u{fffd} \""), &json!("line")));
        let mut partial = whole.clone();
        partial["partial"] = json!(true);
        let mut unstarted = whole.clone();
        unstarted["pid"] = Value::Null;
        whole["stream"] = json!("stdout");
        let faults = Page::read().compare_fields("lines-of-workers", &[whole, partial, unstarted]);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
