//! Those who wait for the verdict of a reload, and the last verdict.

use std::collections::BTreeMap;
use std::time::Instant;

use recluster_core::Caller;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::report::status::LastReload;
use crate::report::verdict::{Told, Verdict};
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, plain};

/// Everyone who waits, by the name that the policy knows them by; and how the last reload ended.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    waiting: BTreeMap<Caller, Waiting>,
    last: u64,
    last_concluded: Option<Concluded>,
    concluded: u64,
}

#[derive(Debug)]
struct Waiting {
    reply: oneshot::Sender<Told>,
    /// What the settings said for this reload that no reload changes.
    needs_restart: Vec<String>,
}

/// A reload that has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Concluded {
    #[serde(with = "plain")]
    at: Instant,
    generation: Option<u64>,
    verdict: Verdict,
}

/// What another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    /// How many there were who have waited.
    last: u64,
    last_concluded: Option<Concluded>,
    concluded: u64,
}

const PART: &str = "callers";

impl Callers {
    /// Leaves the last verdict to another program. Nobody is to wait for one.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        if self.waiting.values().any(|waiting| !waiting.reply.is_closed()) {
            return Err(SaveError::Refused("the verdict of a reload is waited for".to_owned()));
        }
        let last_concluded = self.last_concluded.clone();
        saving.put(PART, &Left { last: self.last, last_concluded, concluded: self.concluded })
    }

    /// Goes on with what was left.
    pub(crate) fn adopt(inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        let Left { last, last_concluded, concluded } = inheritance.needed(PART)?;
        Ok(Self { waiting: BTreeMap::new(), last, last_concluded, concluded })
    }

    /// One more waits; returns its name. Who has stopped to wait is forgotten.
    pub(crate) fn add(&mut self, reply: oneshot::Sender<Told>, needs_restart: Vec<String>) -> Caller {
        self.waiting.retain(|_, waiting| !waiting.reply.is_closed());
        self.last += 1;
        let caller = Caller(self.last);
        self.waiting.insert(caller, Waiting { reply, needs_restart });
        caller
    }

    /// Gives these their verdict.
    pub(crate) fn answer(&mut self, callers: &[Caller], verdict: &Verdict) {
        for waiting in callers.iter().filter_map(|caller| self.waiting.remove(caller)) {
            let Waiting { reply, needs_restart } = waiting;
            // A caller that no longer waits does not need the answer.
            let _ = reply.send(Told { verdict: verdict.clone(), needs_restart });
        }
    }

    /// A reload has ended so.
    pub(crate) fn conclude(&mut self, generation: Option<u64>, verdict: Verdict, at: Instant) {
        self.last_concluded = Some(Concluded { at, generation, verdict });
        self.concluded += 1;
    }

    /// How many reloads have ended.
    pub(crate) fn concluded(&self) -> u64 {
        self.concluded
    }

    /// How the last reload ended, if there was one.
    pub(crate) fn last_reload(&self, now: Instant) -> Option<LastReload> {
        let Concluded { at, generation, verdict } = self.last_concluded.as_ref()?;
        Some(LastReload {
            generation: *generation,
            seconds_ago: now.saturating_duration_since(*at).as_secs_f64(),
            verdict: verdict.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_verdict_reaches_those_whom_it_concerns_once() {
        let mut callers = Callers::default();
        let (first, mut first_hears) = oneshot::channel();
        let (second, mut second_hears) = oneshot::channel();
        let (first, second) =
            (callers.add(first, vec!["listen".to_owned()]), callers.add(second, Vec::new()));
        assert_ne!(first, second);
        callers.answer(&[first], &Verdict::Done);
        let Ok(Told { verdict: Verdict::Done, needs_restart }) = first_hears.try_recv() else { panic!() };
        assert_eq!(needs_restart, ["listen"]);
        assert!(second_hears.try_recv().is_err(), "its reload still runs");
        callers.answer(&[first, second], &Verdict::Abandoned);
        let Ok(Told { verdict: Verdict::Abandoned, needs_restart }) = second_hears.try_recv() else {
            panic!()
        };
        assert!(needs_restart.is_empty());
    }

    #[test]
    fn who_stops_waiting_is_not_kept() {
        let mut callers = Callers::default();
        for _ in 0..100 {
            let (reply, _) = oneshot::channel();
            callers.add(reply, Vec::new());
        }
        let (reply, _hears) = oneshot::channel();
        callers.add(reply, Vec::new());
        assert_eq!(callers.waiting.len(), 1);
    }

    #[test]
    fn the_end_of_the_cluster_is_the_end_of_every_wait() {
        let mut callers = Callers::default();
        let (reply, mut hears) = oneshot::channel();
        callers.add(reply, Vec::new());
        drop(callers);
        assert_eq!(hears.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
    }

    #[test]
    fn the_last_verdict_is_kept_and_grows_old() {
        let mut callers = Callers::default();
        let began = Instant::now();
        assert!(callers.last_reload(began).is_none());
        callers.conclude(Some(2), Verdict::Abandoned, began);
        callers.conclude(Some(3), Verdict::Done, began + Duration::from_secs(1));
        let last = callers.last_reload(began + Duration::from_secs(6)).unwrap();
        assert_eq!(
            (last.generation, Duration::from_secs_f64(last.seconds_ago)),
            (Some(3), Duration::from_secs(5))
        );
        assert!(matches!(last.verdict, Verdict::Done));
    }
}
