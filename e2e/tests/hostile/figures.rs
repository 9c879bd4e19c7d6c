//! What is measured in a siege. CI asserts the memory alone; a long run prints the rest.

use std::fmt;
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Figures {
    answers: Vec<Duration>,
    memory: Vec<(Duration, u64)>,
    peak: u64,
    obeyed: Option<Duration>,
    ended: Duration,
    unheard: usize,
    unread: usize,
}

/// How many figures of the memory are shown.
const SHOWN: usize = 12;

impl Figures {
    pub(crate) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// The status came after so long.
    pub(crate) fn answered(&mut self, after: Duration) {
        self.answers.push(after);
    }

    /// A client was sent away before it had said a word.
    pub(crate) fn unheard(&mut self) {
        self.unheard += 1;
    }

    /// A client was sent away though it had asked.
    pub(crate) fn unread(&mut self) {
        self.unread += 1;
    }

    /// Whether everybody who had asked was answered.
    pub(crate) fn all_were_read(&self) -> bool {
        self.unread == 0
    }

    /// The master used so many kilobytes then.
    pub(crate) fn uses(&mut self, at: Duration, kilobytes: u64) {
        self.memory.push((at, kilobytes));
    }

    pub(crate) fn peak(&mut self, kilobytes: u64) {
        self.peak = kilobytes;
    }

    /// It said that it stops so long after it was told to. None if it had ended by then.
    pub(crate) fn obeyed(&mut self, after: Option<Duration>) {
        self.obeyed = after;
    }

    pub(crate) fn ended(&mut self, after: Duration) {
        self.ended = after;
    }

    /// The time within which this part of all answers came.
    fn within(&self, part: f64) -> Duration {
        let mut sorted = self.answers.clone();
        sorted.sort();
        let last = sorted.len().saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index, from a part of it"
        )]
        let at = (last as f64 * part).round() as usize;
        sorted.get(at).copied().unwrap_or_default()
    }
}

impl Figures {
    /// What is known while a siege goes on, in one line.
    pub(crate) fn so_far(&self) -> String {
        let memory = self.memory.last().map(|(_, kilobytes)| *kilobytes).unwrap_or_default();
        format!("{}; {memory} kB", self.answers())
    }

    fn answers(&self) -> String {
        format!(
            "status, {} answers: half within {:?}, 99 of 100 within {:?}, all within {:?}",
            self.answers.len(),
            self.within(0.5),
            self.within(0.99),
            self.within(1.0)
        )
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.answers())?;
        writeln!(
            f,
            "sent away: {} who had not said a word in time, {} whose request nobody had read",
            self.unheard, self.unread
        )?;
        match self.obeyed {
            Some(after) => write!(f, "TERM: it stopped {after:?} after it")?,
            None => write!(f, "TERM: it had ended before it could be asked")?,
        }
        writeln!(f, ", and had ended after {:?}", self.ended)?;
        write!(f, "memory: at most {} kB; over time", self.peak)?;
        let step = self.memory.len().div_ceil(SHOWN).max(1);
        for (at, kilobytes) in self.memory.iter().step_by(step) {
            write!(f, ", {kilobytes} kB at {} s", at.as_secs())?;
        }
        Ok(())
    }
}
