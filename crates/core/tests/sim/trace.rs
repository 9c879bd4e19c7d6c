//! What happened in one run, to find the reason of a failure.

use std::fmt;

use recluster_core::{Action, Event, Time};

/// How many lines of its end are shown of a run that failed.
const SHOWN: usize = 60;

/// One line of a trace.
#[derive(Clone, Debug)]
enum Line {
    Event(Time, Event),
    Action(Action),
    Stage(&'static str),
}

/// Everything in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Vec<Line>);

impl Trace {
    pub(crate) fn event(&mut self, now: Time, event: Event) {
        self.0.push(Line::Event(now, event));
    }

    pub(crate) fn action(&mut self, action: &Action) {
        self.0.push(Line::Action(action.clone()));
    }

    pub(crate) fn stage(&mut self, name: &'static str) {
        self.0.push(Line::Stage(name));
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        let skipped = self.0.len().saturating_sub(SHOWN);
        let head = if skipped == 0 { String::new() } else { format!("… {skipped} lines before\n") };
        self.0[skipped..].iter().fold(head, |text, line| format!("{text}{line}\n"))
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(now, event) => write!(f, "{now:>8} {event:?}"),
            Self::Action(Action::Notify(notice)) => write!(f, "             · {notice:?}"),
            Self::Action(action) => write!(f, "             → {action:?}"),
            Self::Stage(name) => write!(f, "— {name}"),
        }
    }
}
