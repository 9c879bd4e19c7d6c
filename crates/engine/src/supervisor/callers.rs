//! Those who wait for the verdict of a reload.

use std::collections::BTreeMap;

use recluster_core::Caller;
use tokio::sync::oneshot;

use crate::report::verdict::Verdict;

/// Everyone who waits, by the name that the policy knows them by.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    waiting: BTreeMap<Caller, oneshot::Sender<Verdict>>,
    last: u64,
}

impl Callers {
    /// One more waits; returns its name. Who has stopped to wait is forgotten.
    pub(crate) fn add(&mut self, reply: oneshot::Sender<Verdict>) -> Caller {
        self.waiting.retain(|_, waiting| !waiting.is_closed());
        self.last += 1;
        let caller = Caller(self.last);
        self.waiting.insert(caller, reply);
        caller
    }

    /// Gives these their verdict.
    pub(crate) fn answer(&mut self, callers: &[Caller], verdict: &Verdict) {
        for reply in callers.iter().filter_map(|caller| self.waiting.remove(caller)) {
            // A caller that no longer waits does not need the answer.
            let _ = reply.send(verdict.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_reaches_those_whom_it_concerns_once() {
        let mut callers = Callers::default();
        let (first, mut first_hears) = oneshot::channel();
        let (second, mut second_hears) = oneshot::channel();
        let (first, second) = (callers.add(first), callers.add(second));
        assert_ne!(first, second);
        callers.answer(&[first], &Verdict::Done);
        assert!(matches!(first_hears.try_recv(), Ok(Verdict::Done)));
        assert!(second_hears.try_recv().is_err(), "its reload still runs");
        callers.answer(&[first, second], &Verdict::Abandoned);
        assert!(matches!(second_hears.try_recv(), Ok(Verdict::Abandoned)));
    }

    #[test]
    fn who_stops_waiting_is_not_kept() {
        let mut callers = Callers::default();
        for _ in 0..100 {
            let (reply, _) = oneshot::channel();
            callers.add(reply);
        }
        let (reply, _hears) = oneshot::channel();
        callers.add(reply);
        assert_eq!(callers.waiting.len(), 1);
    }

    #[test]
    fn the_end_of_the_cluster_is_the_end_of_every_wait() {
        let mut callers = Callers::default();
        let (reply, mut hears) = oneshot::channel();
        callers.add(reply);
        drop(callers);
        assert_eq!(hears.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
    }
}
