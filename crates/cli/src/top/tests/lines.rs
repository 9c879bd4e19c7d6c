//! What the workers of a slot have written.

use recluster::Stream;
use recluster::control::protocol::LogLine;

use super::super::ui::Page;
use super::super::written::{LINES, Told, Written};
use super::*;

/// Somebody looks at the lines of slot 0.
fn looking() -> Desk {
    let mut desk = Desk::new();
    desk.look(&status()).look(&later());
    (desk.ui.chosen, desk.ui.page) = (Some(0), Page::Lines);
    desk.facts.written = Some(Written::of(0));
    desk
}

fn line(pid: u32, text: &str) -> LogLine {
    let line = json!({
        "time": "2026-11-26T12:01:03.658Z", "slot": 0, "pid": pid, "generation": 2, "stream": "stderr", "line": text
    });
    serde_json::from_value(line).unwrap()
}

impl Desk {
    fn read(&mut self, told: impl IntoIterator<Item = Told>) -> &mut Self {
        told.into_iter().for_each(|told| self.facts.read(0, told));
        self
    }

    /// The part of the screen below the header.
    fn lines(&self) -> Vec<String> {
        let shown = self.shown(80, 24);
        let lines = shown.lines().skip_while(|line| !line.starts_with("SLOT 0, LAST LINES")).skip(1);
        lines.map(str::to_owned).collect()
    }
}

#[test]
fn the_last_lines_of_a_slot_with_their_times_and_processes() {
    let mut desk = looking();
    desk.read([
        Told::Begins(vec![Stream::Stderr]),
        Told::Line(line(4690, "bye")),
        Told::Missed(12),
        Told::Line(line(4705, "\u{1b}[31mred\u{1b}[m \u{1b}[2J\tof nothing")),
        Told::Line(LogLine { partial: true, ..line(4705, "a prompt> ") }),
        Told::Line(LogLine { continued: true, ..line(4705, "an answer") }),
        Told::Line(LogLine {
            continued: true,
            ..line(4705, "a line of its own, since the one before has ended")
        }),
        Told::Line(line(4705, &"long ".repeat(30))),
    ]);
    insta::assert_snapshot!(desk.shown(80, 24));
}

#[test]
fn what_is_not_told_is_said() {
    let mut desk = looking();
    assert_eq!(desk.lines()[0], "asked for");
    desk.read([Told::Begins(vec![Stream::Stdout, Stream::Stderr])]);
    assert_eq!(desk.lines()[..2], ["nothing was written so far", ""]);
    desk.read([Told::Line(line(1, "first")), Told::Ends("the master went away".to_owned())]);
    assert_eq!(desk.lines()[..2], ["the master went away", "12:01:03       1 first"], "they stay");
    desk.read([
        Told::Begins(vec![Stream::Stdout, Stream::Stderr]),
        Told::Line(line(2, "of the next master")),
    ]);
    assert_eq!(desk.lines()[..2], ["12:01:03       2 of the next master", ""]);
    desk.facts.read(1, Told::Line(line(3, "of another slot, asked for before")));
    assert_eq!(desk.lines()[1], "");
}

#[test]
fn however_much_is_written_the_last_of_it_is_kept_and_shown() {
    let mut desk = looking();
    desk.read([Told::Begins(vec![Stream::Stdout, Stream::Stderr])]);
    desk.read((0..3 * LINES).map(|number| Told::Line(line(4705, &format!("line {number}")))));
    let lines = desk.lines();
    assert_eq!(lines[lines.len() - 2], format!("12:01:03    4705 line {}", 3 * LINES - 1));
    // A line that never ends is no reason to keep all of it.
    let piece = LogLine { partial: true, continued: true, ..line(4705, &"é".repeat(1000)) };
    desk.read((0..100).map(|_| Told::Line(piece.clone())));
    assert!(format!("{:?}", desk.facts.written).len() < 100 * LINES + 100_000);
}
