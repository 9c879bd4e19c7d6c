//! The policy: four rules in order, applied to all facts after every event, again and again until nothing changes.
//!
//! 1. *escalate*: a deadline of a worker has passed;
//! 2. *conclude*: a generation has failed or is proven, a reload that waits may begin;
//! 3. *retire*: workers that are not wanted leave;
//! 4. *fill*: missing workers are started.

mod conclude;
mod escalate;
mod fill;
mod retire;

use crate::Cluster;

/// More rounds than any chain of consequences needs. The longest is that of a worker whose timeouts are all
/// zero: it is drained, sent TERM, sent KILL and given up in one round each.
const MOST_ROUNDS: usize = 16;

impl Cluster {
    pub(crate) fn reconcile(&mut self) {
        for _ in 0..MOST_ROUNDS {
            let before = self.clone();
            self.escalate();
            if self.supervises() {
                self.conclude();
            }
            self.retire();
            if self.supervises() {
                self.fill();
            }
            if *self == before {
                return;
            }
        }
    }
}
