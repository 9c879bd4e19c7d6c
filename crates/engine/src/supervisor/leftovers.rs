//! What programs leave behind: processes of a worker's group that live on when its first one has ended.
//!
//! A server of several processes may end its first one and let the others finish what they have. They get the time that the
//! whole worker had. Then they are sent TERM, if they were not sent that before, and then KILL. What a released cluster's
//! workers leave is left alone, as the workers were.
//!
//! The first process is not reaped while any of the others lives: its number is the group's, and only a number that is
//! taken is sure to mean this group and none that came later.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::{MOST_SPARED, Phase, Settings, State};
use serde::{Deserialize, Serialize};

use crate::process::awaited::Awaited;
use crate::process::unkillable;
use crate::report::event::Event;
use crate::report::signal::name_of;
use crate::report::worker::Worker;
use crate::supervisor::child::{self, Child};
use crate::supervisor::policy::Clock;
use crate::supervisor::timers::FAR_AWAY;
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, plain};

/// How often the groups are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A group that ends so soon after its first process, or after KILL, is no news.
const SOON: Duration = Duration::from_millis(50);

/// A worker whose first process has ended, and whose group has not.
#[derive(Debug)]
pub(crate) struct Leftover {
    pub(crate) worker: Worker,
    pub(crate) child: Child,
    /// When the first process ended.
    since: Instant,
    next: Step,
    /// People were told of it.
    is_known: bool,
    /// How often it had its time once more after KILL, because it was about to end.
    spared: u8,
}

/// What is done next, and when, if the group has not ended by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    /// It is sent TERM.
    Term(#[serde(with = "plain")] Instant),
    /// It is sent KILL.
    Kill(#[serde(with = "plain")] Instant),
    /// It was sent KILL, and is waited for no longer. It may hold sockets until then.
    Forget(#[serde(with = "plain")] Instant),
}

impl Step {
    /// What is due to a worker is due to what it leaves. None where that is left alone.
    fn after_end(
        state: Option<State>,
        phase: Phase,
        sent: Option<core::Signal>,
        settings: &Settings,
        clock: Clock,
        now: Instant,
    ) -> Option<Self> {
        if sent == Some(core::Signal::Kill) {
            return Some(Self::forgotten_after(settings.end_timeout, now));
        }
        let until = match state {
            Some(State::Terminating { until }) => return Some(Self::Kill(clock.instant(until))),
            Some(State::Draining { until }) => until,
            Some(State::Starting { .. } | State::Ready { .. } | State::Killed { .. } | State::Unkillable)
            | None => {
                if phase == Phase::Released {
                    return None;
                }
                clock.time(now) + drain_timeout(phase, settings)
            }
        };
        Some(match sent {
            None => Self::Term(clock.instant(until)),
            Some(_) => Self::Kill(clock.instant(until + settings.kill_timeout)),
        })
    }

    fn forgotten_after(end_timeout: Duration, now: Instant) -> Self {
        Self::Forget(now.checked_add(end_timeout).unwrap_or_else(|| now + FAR_AWAY))
    }

    /// The same, but no later than this.
    fn by(self, term: Instant, kill: Instant) -> Self {
        match self {
            Self::Term(at) => Self::Term(at.min(term)),
            Self::Kill(at) => Self::Kill(at.min(kill)),
            Self::Forget(_) => self,
        }
    }
}

/// The drain timeout in this phase.
fn drain_timeout(phase: Phase, settings: &Settings) -> Duration {
    match phase {
        Phase::Starting | Phase::Running | Phase::Released => settings.timeout,
        Phase::Stopping | Phase::Terminating | Phase::Over => settings.stop_timeout,
    }
}

impl Leftover {
    /// When the next signal is due, if there is one.
    pub(crate) fn signal_due(&self) -> Option<Instant> {
        match self.next {
            Step::Term(at) | Step::Kill(at) => Some(at),
            Step::Forget(_) => None,
        }
    }

    /// When to look at it.
    fn look_due(&self, now: Instant) -> Instant {
        let next = if self.is_known { now + LOOK } else { self.since + SOON };
        self.signal_due().map_or_else(|| now + SOON, |at| at.min(next))
    }

    fn kill(&mut self, end_timeout: Duration, now: Instant) {
        if self.signal_due().is_some() {
            self.child.process.signal(core::Signal::Kill);
            self.next = Step::forgotten_after(end_timeout, now);
        }
    }

    /// It is waited for no longer.
    fn is_forgotten(&self, now: Instant) -> bool {
        matches!(self.next, Step::Forget(at) if at <= now)
    }

    /// Does what is due; returns what people are to be told.
    fn step(&mut self, settings: &Settings, now: Instant) -> Option<Event> {
        let signal = match self.next {
            Step::Forget(_) => return None,
            Step::Term(at) | Step::Kill(at) if now < at => return self.make_known(at - now, now),
            Step::Term(_) => {
                self.child.process.signal(core::Signal::Term);
                let kill_at = now.checked_add(settings.kill_timeout);
                self.next = Step::Kill(kill_at.unwrap_or_else(|| now + FAR_AWAY));
                core::Signal::Term
            }
            Step::Kill(_) => {
                self.kill(settings.end_timeout, now);
                core::Signal::Kill
            }
        };
        self.is_known = true;
        Some(Event::Overdue { worker: self.worker, due: "rest", signal: name_of(signal), held: None })
    }

    fn make_known(&mut self, timeout: Duration, now: Instant) -> Option<Event> {
        let is_news = !self.is_known && now.saturating_duration_since(self.since) >= SOON;
        self.is_known |= is_news;
        is_news.then_some(Event::LeftBehind { worker: self.worker, timeout })
    }
}

/// Everything that has been left behind.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    waited_for: Vec<Leftover>,
    /// What cannot be killed.
    unkillable: Vec<Leftover>,
}

/// What another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
struct Left {
    worker: Worker,
    child: child::Left,
    #[serde(with = "plain")]
    since: Instant,
    next: Step,
    is_known: bool,
    spared: u8,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct All {
    waited_for: Vec<Left>,
    unkillable: Vec<Left>,
}

const PART: &str = "leftovers";

impl Leftover {
    fn save(&self, saving: &mut Saving) -> Result<Left, SaveError> {
        let Self { worker, child, since, next, is_known, spared } = self;
        let (worker, child) = (*worker, child.save(saving)?);
        Ok(Left { worker, child, since: *since, next: *next, is_known: *is_known, spared: *spared })
    }
}

impl Left {
    fn adopt(self, awaited: &Awaited, inheritance: &mut Inheritance) -> Result<Leftover, AdoptError> {
        let Self { worker, child, since, next, is_known, spared } = self;
        let child = child.adopt(awaited, inheritance)?.child;
        Ok(Leftover { worker, child, since, next, is_known, spared })
    }
}

impl Leftovers {
    /// Leaves all of it to another program.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        let mut save = |list: &[Leftover]| {
            list.iter().map(|leftover| leftover.save(saving)).collect::<Result<Vec<_>, SaveError>>()
        };
        let left = All { waited_for: save(&self.waited_for)?, unkillable: save(&self.unkillable)? };
        saving.put(PART, &left)
    }

    /// Whether what was left can be read.
    pub(crate) fn read(inheritance: &mut Inheritance) -> Result<(), AdoptError> {
        inheritance.needed::<All>(PART).map(drop)
    }

    /// Goes on with what was left.
    pub(crate) fn adopt(awaited: &Awaited, inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        let All { waited_for, unkillable } = inheritance.needed(PART)?;
        let mut adopt =
            |list: Vec<Left>| list.into_iter().map(|left| left.adopt(awaited, inheritance)).collect();
        let waited_for: Result<Vec<Leftover>, AdoptError> = adopt(waited_for);
        Ok(Self { waited_for: waited_for?, unkillable: adopt(unkillable)? })
    }

    /// A worker's first process has ended in this state. It is reaped when it has left no others, or where those are left
    /// alone.
    pub(crate) fn take(
        &mut self,
        mut child: Child,
        (state, phase): (Option<State>, Phase),
        settings: &Settings,
        (clock, now): (Clock, Instant),
    ) {
        let worker = child.about();
        child.ends();
        let step = |child: &Child| Step::after_end(state, phase, child.process.sent, settings, clock, now);
        if step(&child).is_some() && !child.process.told {
            // The others would go on accepting.
            child.process.let_go();
        }
        match step(&child) {
            Some(next) => {
                self.waited_for.push(Leftover {
                    worker,
                    child,
                    since: now,
                    next,
                    is_known: false,
                    spared: 0,
                });
            }
            None => child.process.reap(),
        }
    }

    /// Reaps workers whose group does not live any more, and does what is due to the others. Returns what people are to
    /// be told.
    pub(crate) fn look(&mut self, living: &BTreeSet<i32>, settings: &Settings, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        let has_ended = |leftover: &mut Leftover| !living.contains(&leftover.child.pid());
        self.unkillable.extract_if(.., has_ended).for_each(|leftover| leftover.child.process.reap());
        for mut leftover in std::mem::take(&mut self.waited_for) {
            let group = leftover.child.pid();
            let lives = living.contains(&group);
            if !lives || leftover.is_forgotten(now) {
                match lives.then(|| unkillable::in_group(group)).flatten() {
                    None => leftover.child.process.reap(),
                    Some(remnant) if remnant.is_stuck() || leftover.spared == MOST_SPARED => {
                        events.push(unkillable::told(leftover.worker, Some(remnant)));
                        self.unkillable.push(leftover);
                    }
                    Some(_) => {
                        leftover.spared += 1;
                        leftover.next = Step::forgotten_after(settings.end_timeout, now);
                        self.waited_for.push(leftover);
                    }
                }
                continue;
            }
            events.extend(leftover.step(settings, now));
            self.waited_for.push(leftover);
        }
        events
    }

    /// A stop begins: none has more time than it gives.
    pub(crate) fn hurry(&mut self, settings: &Settings, clock: Clock, now: Instant) {
        let term = clock.time(now) + settings.stop_timeout;
        let (term, kill) = (clock.instant(term), clock.instant(term + settings.kill_timeout));
        for leftover in &mut self.waited_for {
            leftover.next = leftover.next.by(term, kill);
        }
    }

    /// Kills them all at once.
    pub(crate) fn kill(&mut self, end_timeout: Duration, now: Instant) {
        self.waited_for.iter_mut().for_each(|leftover| leftover.kill(end_timeout, now));
    }

    /// After a panic: what a worker leaves whose first process has ended now. It was sent what its group is to be sent.
    pub(crate) fn keep(&mut self, mut child: Child, now: Instant) {
        let worker = child.about();
        child.ends();
        self.waited_for.push(Leftover {
            worker,
            child,
            since: now,
            next: Step::Kill(now),
            is_known: false,
            spared: 0,
        });
    }

    /// After a panic: all of them are sent this signal, unless they were sent it or a stronger one.
    pub(crate) fn signal(&mut self, signal: core::Signal) {
        let children = self.waited_for.iter_mut().map(|leftover| &mut leftover.child);
        for child in children.filter(|child| child.process.sent < Some(signal)) {
            child.process.signal(signal);
        }
    }

    /// Reaps workers whose group does not live any more.
    pub(crate) fn reap(&mut self, living: &BTreeSet<i32>) {
        let has_ended = |leftover: &mut Leftover| !living.contains(&leftover.child.pid());
        self.waited_for.extract_if(.., has_ended).for_each(|leftover| leftover.child.process.reap());
    }

    /// When to look at them next.
    pub(crate) fn look_due(&self, now: Instant) -> Option<Instant> {
        self.waited_for.iter().map(|leftover| leftover.look_due(now)).min()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waited_for.is_empty()
    }

    /// What cannot be killed and has not ended, as far as the last look goes. None of it is waited for.
    pub(crate) fn unkillable(&self) -> &[Leftover] {
        &self.unkillable
    }

    /// Those that people were told of.
    pub(crate) fn known(&self) -> impl Iterator<Item = &Leftover> {
        self.waited_for.iter().filter(|leftover| leftover.is_known)
    }
}

#[cfg(test)]
mod tests;
