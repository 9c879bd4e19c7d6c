//! The end after a panic. Nothing is sure of what was in hand then, the policy included, so that nothing of it goes on: all sockets and
//! channels are closed, at which workers of Node answer what they have and end; others are sent TERM. Who is there when the stop timeout is
//! over is sent TERM as well, and, when the kill timeout is over, KILL. Workers of a released cluster are left alone, as they were before.

use std::time::{Duration, Instant};

use recluster_core::{Phase, Settings, Signal, WorkerId};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::dataplane::Command;
use crate::guard::{Panicked, Part, attempt};
use crate::process::event::Event as Heard;
use crate::process::groups;
use crate::process::launcher::Outcome;
use crate::process::program::ResolvedProgram;
use crate::report::event::Event;
use crate::supervisor::Supervisor;
use crate::supervisor::herald::Seen;
use crate::supervisor::input::{Input, Request};
use crate::supervisor::status::phase_name;
use crate::supervisor::timers::FAR_AWAY;

/// How often what is left is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// How many workers are named.
const MOST_WORKERS: usize = 64;
/// Who is told may be what panics: the workers are ended all the same.
const PART: Part = Part::vital("who is told what happens");

/// How far the end has come.
#[derive(Clone, Copy, Debug)]
struct End {
    /// What was sent last.
    sent: Signal,
    /// When TERM is sent to those that were to end without it.
    term: Option<Instant>,
    /// When KILL is sent.
    kill: Instant,
    /// When nothing is waited for any more, if KILL was sent.
    last: Option<Instant>,
}

impl End {
    /// TERM is sent now, or, to some, when they had so much time.
    fn begun(now: Instant, patience: Duration, kill_timeout: Duration) -> Self {
        let term = later(now, patience);
        Self { sent: Signal::Term, term: Some(term), kill: later(term, kill_timeout), last: None }
    }

    /// When something is to be done next.
    fn due(&self) -> Instant {
        self.term.or(self.last).unwrap_or(self.kill)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| last <= now)
    }

    /// Whether TERM is to be sent now.
    fn terms(&mut self, now: Instant) -> bool {
        self.term.take_if(|term| *term <= now).is_some()
    }

    /// Somebody does not want to wait.
    fn hurry(&mut self, now: Instant) {
        (self.term, self.kill) = (None, now);
    }

    /// Whether KILL is to be sent now. What it does not end is waited for so long.
    fn kills(&mut self, now: Instant, end_timeout: Duration) -> bool {
        let kills = self.last.is_none() && self.kill <= now;
        if kills {
            (self.sent, self.last) = (Signal::Kill, Some(later(now, end_timeout)));
        }
        kills
    }
}

fn later(from: Instant, by: Duration) -> Instant {
    from.checked_add(by).unwrap_or_else(|| from + FAR_AWAY)
}

impl Supervisor {
    /// A part has panicked: people are told, and without one that everything rests on the cluster ends.
    pub(super) fn has_panicked(&mut self, panic: Panicked) {
        if panic.part.is_vital {
            self.panicked.get_or_insert(panic);
        } else {
            self.emit(told(panic));
        }
    }

    /// Ends every worker, and waits for that as long as it may take.
    pub(super) async fn abandon(&mut self, panic: Panicked, inbox: &mut mpsc::UnboundedReceiver<Input>) {
        let came = self.begin_anew(&panic, inbox).await;
        self.dataplane.close_remains();
        self.progress.send_modify(|progress| progress.panicked = true);
        let is_released = attempt(PART, || self.policy.phase() == Phase::Released) == Ok(true);
        if !is_released {
            self.let_programs_go();
        }
        self.tell_manager_of(&panic);
        let last_words = self.told_with_state(panic);
        self.say(last_words);
        if is_released {
            return;
        }
        let kept = self.left_to_manager();
        self.spawner.close();
        self.dataplane.tell(Command::CloseListeners { kept });
        // It closes the channels.
        self.dataplane.finish();
        let waiting = self.launches.all();
        for worker in waiting.into_iter().filter(|worker| self.spawner.cancel(*worker)) {
            self.launches.end(worker);
        }
        let Settings { stop_timeout, kill_timeout, end_timeout, .. } = *self.spec().settings();
        let mut end = End::begun(Instant::now(), stop_timeout, kill_timeout);
        for input in came {
            self.hear_at_the_end(Some(input), &mut end);
        }
        while !self.has_ended_all() && !end.is_over(Instant::now()) {
            tokio::select! {
                biased;
                input = inbox.recv() => self.hear_at_the_end(input, &mut end),
                () = sleep_until(end.due().min(Instant::now() + LOOK).into()) => {}
            }
            // What was in hand at the panic is lost, and may have been somebody's end.
            self.workers.unburied().into_iter().for_each(|worker| self.has_ended(worker));
            // A watchdog does not know that workers have their time to end. What comes of it has nobody to be told.
            let _ = attempt(PART, || self.herald.pass(Instant::now()));
            if end.terms(Instant::now()) {
                self.send_all(Signal::Term);
            }
            if end.kills(Instant::now(), end_timeout) {
                self.send_all(Signal::Kill);
            }
        }
    }

    /// The service manager hears that this is the end, and why.
    fn tell_manager_of(&mut self, Panicked { part, reason, .. }: &Panicked) {
        let status = format!("the cluster ends, since {} has panicked: {reason}", part.name);
        let seen = Seen { has_started: true, reloads: false, stops: true, status };
        let _ = attempt(PART, || self.herald.look(seen, Instant::now()));
    }

    /// Those that do not end with their channel are sent TERM.
    fn let_programs_go(&mut self) {
        let Self { workers, generations, .. } = self;
        let is_node = |generation| generations.program(generation).is_some_and(ResolvedProgram::is_node);
        workers.signal_some(Signal::Term, |generation| !is_node(generation));
        self.leftovers.signal(Signal::Term);
    }

    fn send_all(&mut self, signal: Signal) {
        self.workers.signal(signal);
        self.leftovers.signal(signal);
    }

    fn has_ended_all(&mut self) -> bool {
        if !self.leftovers.is_empty() {
            self.leftovers.reap(&groups::living());
        }
        self.workers.living().is_empty() && self.launches.all().is_empty() && self.leftovers.is_empty()
    }

    /// Of what comes now only ends matter, and what still begins. Who asks for something is told that the cluster is over, by the
    /// end of the channel.
    fn hear_at_the_end(&mut self, input: Option<Input>, end: &mut End) {
        match input {
            Some(Input::Process(Heard::Ended(worker))) => self.has_ended(worker),
            Some(Input::Left(generation, _)) => {
                for worker in self.told.left.finds(generation, None) {
                    self.has_ended(worker);
                }
            }
            Some(Input::Launched(outcome)) => self.has_begun_too_late(outcome, end.sent),
            Some(
                Input::Panicked(panic) | Input::Process(Heard::Panicked(panic) | Heard::Unheard(_, panic)),
            ) => self.say(told(panic)),
            Some(Input::Request(Request::Terminate)) => end.hurry(Instant::now()),
            Some(_) | None => {}
        }
    }

    fn has_ended(&mut self, worker: WorkerId) {
        let Some(child) = self.workers.bury(worker) else { return };
        let (about, exit) = (child.about(), child.process.exit());
        let is_node = self.generations.program(child.generation).is_some_and(ResolvedProgram::is_node);
        if is_node {
            child.process.reap();
        } else {
            self.leftovers.keep(child, Instant::now());
        }
        self.say(Event::Exit { worker: about, exit, expected: true, oom_killed: false });
    }

    fn has_begun_too_late(&mut self, (worker, outcome): Outcome, sent: Signal) {
        let Some(begun) = self.launches.end(worker) else { return };
        if let Ok(started) = self.spawner.take(begun, outcome) {
            let mut child = started.child;
            child.process.signal(sent);
            self.workers.insert(worker, child);
        }
    }

    /// What is told of the panic that ends the cluster, with what there was just before.
    pub(super) fn told_with_state(&self, Panicked { part, reason, place, calls }: Panicked) -> Event {
        let phase = attempt(PART, || phase_name(self.policy.phase())).ok();
        let workers = attempt(PART, || self.workers.living().into_iter().take(MOST_WORKERS).collect());
        let (workers, ends) = (workers.unwrap_or_default(), part.is_vital);
        Event::Panicked { part: part.name, reason, place, calls, phase, workers, ends, begins_anew: false }
    }

    /// As far as those who listen let us.
    pub(super) fn say(&self, event: Event) {
        // What came of it has nobody to be told.
        let _ = attempt(PART, || self.emit(event));
    }
}

/// What is told of a panic alone.
fn told(Panicked { part, reason, place, calls }: Panicked) -> Event {
    let (ends, begins_anew, workers) = (part.is_vital, false, Vec::new());
    Event::Panicked { part: part.name, reason, place, calls, phase: None, workers, ends, begins_anew }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_kill_does_not_end_is_waited_for_from_when_it_was_sent() {
        let begun = Instant::now();
        let mut end = End::begun(begun, 60 * SECOND, 3600 * SECOND);
        assert_eq!(end.due(), begun + 60 * SECOND);
        assert!(!end.terms(begun + 59 * SECOND) && end.terms(begun + 60 * SECOND));
        assert!(!end.terms(begun + 61 * SECOND), "once");
        assert_eq!(end.due(), begun + 3660 * SECOND);
        assert!(!end.kills(begun + 61 * SECOND, 10 * SECOND) && end.sent == Signal::Term);
        // Somebody does not want to wait for so long.
        let now = begun + 62 * SECOND;
        end.hurry(now);
        assert!(!end.is_over(now) && end.kills(now, 10 * SECOND) && end.sent == Signal::Kill);
        assert_eq!(end.due(), now + 10 * SECOND);
        assert!(!end.kills(now + SECOND, 10 * SECOND), "once");
        assert!(!end.is_over(now + 9 * SECOND) && end.is_over(now + 10 * SECOND));
    }
}
