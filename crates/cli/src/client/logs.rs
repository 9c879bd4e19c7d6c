//! `logs`: what workers have written lately, and what they write, a line for each.

use std::io::{self, IsTerminal as _, Write as _};

use recluster::Stream;
use recluster::control::protocol::{LogLine, Reply, Request};

use super::connect::{connect, unexpected};
use super::output::{Reader, print, print_json};
use crate::args::LogsArgs;
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::paint::{Paint, printable_line};
use crate::worker_lines::prefix;

/// How many of the last lines come first where more follow.
const BEFORE_THE_NEXT: u32 = 10;

/// Prints the last lines of workers, and with `--follow` each that comes, until the cluster has ended.
pub(crate) async fn logs(args: LogsArgs) -> Result<ExitStatus, Error> {
    let LogsArgs { follow, lines, slot, timestamps, target } = args;
    let (mut client, _) = connect(&target).await?;
    let last = lines.or(follow.then_some(BEFORE_THE_NEXT));
    client.send(&Request::Logs { follow, last, slot }).await?;
    let terminal = io::stdout().is_terminal().then(|| Paint::for_stream(&io::stdout()));
    let mut sheet = Sheet { terminal, timestamps, open: None };
    loop {
        let reply = client.next().await?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "none of the others answers what was asked")]
        let reader = match &reply {
            Reply::Streams { streams } => {
                without(streams).for_each(say);
                Reader::Reads
            }
            Reply::Line(_) | Reply::LinesMissed { .. } if target.json => print_json(&reply)?,
            Reply::Line(line) => print(&sheet.line(line))?,
            Reply::LinesMissed { slot, lines } => {
                let reader = print(sheet.end())?;
                say(&format!(
                    "{lines} lines of slot {slot} are missing here: they came faster than they were read"
                ));
                reader
            }
            Reply::LinesEnd => {
                print(sheet.end())?;
                return Ok(ExitStatus::Success);
            }
            _ => return Err(unexpected(reply)),
        };
        if reader == Reader::Left {
            return Ok(ExitStatus::Success);
        }
    }
}

/// What people are told of each stream that does not pass through the master.
fn without(streams: &[Stream]) -> impl Iterator<Item = &'static str> {
    let words = [
        (
            Stream::Stdout,
            "the stdout of workers is not among these lines, since it does not pass through the master: \
             --log-prefix or --worker-log, where the cluster is started, adds it",
        ),
        (
            Stream::Stderr,
            "the stderr of workers is not among these lines, since it does not pass through the master",
        ),
    ];
    words.into_iter().filter(|(stream, _)| !streams.contains(stream)).map(|(_, words)| words)
}

/// Tells people something beside the lines.
fn say(words: &str) {
    let note = Paint::for_stream(&io::stderr()).dim("note:");
    // Without a stderr there is nobody to tell.
    let _ = writeln!(io::stderr(), "{note} {words}");
}

/// Lines as people see them, one after the other.
struct Sheet {
    terminal: Option<Paint>,
    timestamps: bool,
    /// Whose line has begun there and not ended.
    open: Option<Writer>,
}

type Writer = (u32, Option<u32>, Stream);

impl Sheet {
    /// A line, or a piece of one, as it is shown behind what is there.
    fn line(&mut self, line: &LogLine) -> String {
        let LogLine { time, slot, pid, generation: _, stream, line: text, partial, continued } = line;
        let writer = (*slot, *pid, *stream);
        let mut shown = String::new();
        if !(*continued && self.open == Some(writer)) {
            shown.push_str(self.end());
            if self.timestamps {
                shown.extend([time.as_str(), " "]);
            }
            shown.push_str(&prefix(self.terminal, *slot, *pid));
        }
        match self.terminal {
            Some(paint) => shown.push_str(&printable_line(text.as_bytes(), paint)),
            None => shown.push_str(text),
        }
        self.open = partial.then_some(writer);
        if !partial {
            shown.push('\n');
        }
        shown
    }

    /// The end of a line that has begun.
    fn end(&mut self) -> &'static str {
        if self.open.take().is_some() { "\n" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(slot: u32, text: &str) -> LogLine {
        LogLine {
            time: "2026-11-26T00:57:13.658Z".to_owned(),
            slot,
            pid: Some(551),
            generation: 2,
            stream: Stream::Stderr,
            line: text.to_owned(),
            partial: false,
            continued: false,
        }
    }

    fn sheet(terminal: Option<Paint>) -> Sheet {
        Sheet { terminal, timestamps: false, open: None }
    }

    #[test]
    fn a_line_says_whose_it_is_and_when_it_was_written_if_that_is_wanted() {
        assert_eq!(
            sheet(None).line(&line(0, "\x1b[2J")),
            "0 551 | \x1b[2J\n",
            "a file gets what was written"
        );
        let mut with_time = Sheet { timestamps: true, ..sheet(None) };
        assert_eq!(with_time.line(&line(1, "it")), "2026-11-26T00:57:13.658Z 1 551 | it\n");
    }

    #[test]
    fn on_a_terminal_a_line_does_nothing_but_stand_there() {
        let coloured = sheet(Some(Paint::new(true))).line(&line(0, "\x1b[31ma\x1b[2J\rb"));
        assert_eq!(coloured, "\x1b[36m0 551 |\x1b[0m \x1b[31ma\u{fffd}[2J\u{fffd}b\x1b[0m\n");
        assert_eq!(sheet(Some(Paint::new(false))).line(&line(0, "\x1b[31ma")), "0 551 | \u{fffd}[31ma\n");
    }

    #[test]
    fn pieces_of_a_line_are_one_line_unless_another_comes_between() {
        let begun = LogLine { partial: true, ..line(0, "a prompt> ") };
        let rest = LogLine { continued: true, ..line(0, "an answer") };
        let mut page = sheet(None);
        assert_eq!(page.line(&begun) + &page.line(&rest), "0 551 | a prompt> an answer\n");
        assert_eq!(page.line(&begun) + &page.line(&line(0, "next")), "0 551 | a prompt> \n0 551 | next\n");
        let between = page.line(&begun) + &page.line(&line(1, "b")) + &page.line(&rest);
        assert_eq!(between, "0 551 | a prompt> \n1 551 | b\n0 551 | an answer\n");
        page.line(&begun);
        assert_eq!((page.end(), page.end()), ("\n", ""));
    }

    #[test]
    fn what_does_not_pass_is_said() {
        assert_eq!(without(&[Stream::Stdout, Stream::Stderr]).count(), 0);
        let words: Vec<&str> = without(&[Stream::Stderr]).collect();
        assert!(words.len() == 1 && words[0].contains("--log-prefix or --worker-log"), "{words:?}");
    }
}
