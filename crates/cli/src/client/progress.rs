//! The progress of a reload for the caller who waits for it: one line that changes on a terminal, a line for each event
//! anywhere else, and the verdict at the end.

use std::io::{self, IsTerminal as _, Write as _};

use recluster::control::protocol::Progress;
use recluster::{Failure, Verdict};

use crate::exit_code::ExitStatus;
use crate::paint::{Paint, printable};

/// Where progress is shown.
#[derive(Debug)]
pub(super) struct Screen {
    paint: Paint,
    /// A line can be written over.
    live: bool,
    /// A line is there that can be written over.
    pending: bool,
}

impl Screen {
    pub(super) fn on_stderr() -> Self {
        let stderr = io::stderr();
        Self { paint: Paint::for_stream(&stderr), live: stderr.is_terminal(), pending: false }
    }

    /// Shows how far it has come.
    pub(super) fn progress(&mut self, progress: &Progress) {
        let lasting = matches!(progress, Progress::Failed { .. } | Progress::Superseded { .. });
        if self.live && !lasting {
            write(&format!("\r\x1b[K{}", summary(progress)));
            self.pending = true;
        } else {
            self.settle();
            write(&format!("{}\n", line(progress)));
        }
    }

    /// Shows how it ended.
    pub(super) fn verdict(&mut self, generation: Option<u64>, verdict: &Verdict) {
        self.settle();
        write(&conclusion(generation, verdict, self.paint));
    }

    /// Says what the reload has left as it was.
    pub(super) fn needs_restart(&self, settings: &[String]) {
        if !settings.is_empty() {
            write(&unchanged(settings, self.paint));
        }
    }

    /// Takes away the line that changes: what follows is there to stay.
    pub(super) fn settle(&mut self) {
        if self.pending {
            write("\r\x1b[K");
            self.pending = false;
        }
    }
}

/// The exit status for a verdict.
pub(super) fn exit_status(verdict: &Verdict) -> ExitStatus {
    match verdict {
        Verdict::Done => ExitStatus::Success,
        Verdict::RolledBack { .. } | Verdict::StoppedPartWay { .. } | Verdict::Refused { .. } => {
            ExitStatus::NotServing
        }
        Verdict::Abandoned => ExitStatus::NoAnswer,
    }
}

/// One line an event.
fn line(progress: &Progress) -> String {
    match progress {
        Progress::Serving { worker, serving, of } => {
            let pid = worker.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
            format!("worker {} (slot {}{pid}) serves, {serving} of {of}", worker.id, worker.slot)
        }
        Progress::Failed { failure } => printable(&failure.to_string()),
        Progress::Began { .. } | Progress::Superseded { .. } => summary(progress),
    }
}

/// How far it has come, in one line for all.
fn summary(progress: &Progress) -> String {
    match progress {
        Progress::Began { generation } => format!("generation {generation} begins"),
        Progress::Serving { worker, serving, of } => {
            format!("generation {}: {serving} of {of} serve", worker.generation)
        }
        Progress::Failed { failure } => printable(&failure.to_string()),
        Progress::Superseded { generation } => format!("generation {generation} gives way to a newer reload"),
    }
}

/// The verdict, with everything that helps to mend what failed.
fn conclusion(generation: Option<u64>, verdict: &Verdict, paint: Paint) -> String {
    let generation =
        generation.map_or("the new generation".to_owned(), |number| format!("generation {number}"));
    let error = paint.red("error:");
    match verdict {
        Verdict::Done => format!("{} {generation} serves\n", paint.green("reloaded:")),
        Verdict::RolledBack { failure } => {
            format!(
                "{error} {generation} was rolled back, the old workers serve on\n{}",
                details(failure, paint)
            )
        }
        Verdict::StoppedPartWay { replaced, of, failure } => {
            let rest = of.saturating_sub(*replaced);
            format!(
                "{error} {generation} was stopped part-way: {replaced} of {of} workers run the new code, {rest} the \
                 old\n{}",
                details(failure, paint)
            )
        }
        Verdict::Refused { reason } => {
            format!("{error} the reload was refused, nothing was touched\n  {}\n", printable(reason))
        }
        Verdict::Abandoned => format!("{error} the cluster was told to end before the reload was done\n"),
    }
}

/// Settings that were said to be other ones, and that no reload changes.
fn unchanged(settings: &[String], paint: Paint) -> String {
    let settings = printable(&settings.join(", "));
    format!("{} a reload does not change {settings}: restart recluster for that\n", paint.yellow("warning:"))
}

fn details(failure: &Failure, paint: Paint) -> String {
    let mut lines = vec![format!("  {}", printable(&failure.to_string()))];
    if !failure.stderr.is_empty() {
        lines.push("  it wrote to its stderr:".to_owned());
        lines.extend(failure.stderr.iter().map(|line| paint.dim(&format!("    {}", printable(line)))));
    }
    if let Some(hint) = &failure.hint {
        lines.push(format!("  {} {}", paint.bold("hint:"), printable(hint)));
    }
    lines.join("\n") + "\n"
}

fn write(text: &str) {
    // If it cannot be written, the exit status still says how the reload ended.
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NONE: Value = Value::Null;

    fn failure(stderr: &[&str], hint: &Value) -> Failure {
        let worker = json!({"id": 7, "slot": 1, "generation": 3, "pid": 4711});
        let reason = "exited with status 1 before it served";
        let failure =
            json!({"worker": worker, "reason": reason, "failures": 3, "stderr": stderr, "hint": hint});
        serde_json::from_value(failure).unwrap()
    }

    fn lines(progress: &Progress) -> String {
        format!("{}\n{}", line(progress), summary(progress))
    }

    fn concluded(verdict: &Verdict) -> String {
        conclusion(Some(3), verdict, Paint::new(false))
    }

    #[test]
    fn progress_as_lines_and_as_one() {
        let worker = failure(&[], &NONE).worker;
        insta::assert_snapshot!(lines(&Progress::Began { generation: 3 }), @r"
        generation 3 begins
        generation 3 begins
        ");
        insta::assert_snapshot!(lines(&Progress::Serving { worker, serving: 2, of: 4 }), @r"
        worker 7 (slot 1, pid 4711) serves, 2 of 4
        generation 3: 2 of 4 serve
        ");
        insta::assert_snapshot!(lines(&Progress::Failed { failure: failure(&[], &NONE) }), @r"
        worker 7 (slot 1, pid 4711) exited with status 1 before it served, failure 3 of its slot
        worker 7 (slot 1, pid 4711) exited with status 1 before it served, failure 3 of its slot
        ");
        insta::assert_snapshot!(lines(&Progress::Superseded { generation: 3 }), @r"
        generation 3 gives way to a newer reload
        generation 3 gives way to a newer reload
        ");
    }

    #[test]
    fn every_verdict() {
        insta::assert_snapshot!(concluded(&Verdict::Done), @"reloaded: generation 3 serves");
        let why = failure(&["Error: boom", "    at \u{1b}[2Jserver.js:1"], &json!("is the database up?"));
        insta::assert_snapshot!(concluded(&Verdict::RolledBack { failure: why }), @r"
        error: generation 3 was rolled back, the old workers serve on
          worker 7 (slot 1, pid 4711) exited with status 1 before it served, failure 3 of its slot
          it wrote to its stderr:
            Error: boom
                at �[2Jserver.js:1
          hint: is the database up?
        ");
        let stopped = Verdict::StoppedPartWay { replaced: 1, of: 4, failure: failure(&[], &NONE) };
        insta::assert_snapshot!(concluded(&stopped), @r"
        error: generation 3 was stopped part-way: 1 of 4 workers run the new code, 3 the old
          worker 7 (slot 1, pid 4711) exited with status 1 before it served, failure 3 of its slot
        ");
        insta::assert_snapshot!(concluded(&Verdict::Abandoned), @"error: the cluster was told to end before the reload was done");
    }

    #[test]
    fn a_verdict_without_a_generation() {
        let verdict = Verdict::RolledBack { failure: failure(&[], &NONE) };
        insta::assert_snapshot!(conclusion(None, &verdict, Paint::new(false)), @r"
        error: the new generation was rolled back, the old workers serve on
          worker 7 (slot 1, pid 4711) exited with status 1 before it served, failure 3 of its slot
        ");
    }

    #[test]
    fn what_only_a_restart_changes() {
        let settings = ["listen", "name"].map(str::to_owned);
        insta::assert_snapshot!(unchanged(&settings, Paint::new(false)), @"warning: a reload does not change listen, name: restart recluster for that");
    }

    #[test]
    fn every_verdict_has_its_status() {
        let failure = || failure(&[], &NONE);
        assert_eq!(exit_status(&Verdict::Done), ExitStatus::Success);
        assert_eq!(exit_status(&Verdict::RolledBack { failure: failure() }), ExitStatus::NotServing);
        let stopped = Verdict::StoppedPartWay { replaced: 1, of: 2, failure: failure() };
        assert_eq!(exit_status(&stopped), ExitStatus::NotServing);
        assert_eq!(exit_status(&Verdict::Abandoned), ExitStatus::NoAnswer);
    }
}
