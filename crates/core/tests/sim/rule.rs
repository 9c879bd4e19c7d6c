//! The rules that every run is held to, by number and sentence, and what is said when one is broken.

use std::fmt;

/// One sentence of the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule(pub(crate) u8, pub(crate) &'static str);

pub(crate) const NO_PANIC: Rule = Rule(0, "no event makes the policy panic");
pub(crate) const RETIRE: Rule = Rule(1, "a serving worker leaves only when what replaces it serves");
pub(crate) const SEATS: Rule =
    Rule(2, "one wanted worker a slot, and one beside it while it is being replaced");
pub(crate) const ONCE: Rule =
    Rule(3, "a worker is spawned, drained, sent TERM and sent KILL once at most, in this order");
pub(crate) const NO_SPAWN: Rule = Rule(4, "nothing is spawned after a stop, a terminate or a release");
pub(crate) const DONE: Rule =
    Rule(5, "a reload is done exactly when a worker of its generation serves in every slot");
pub(crate) const QUIET: Rule = Rule(6, "a second tick at the same moment changes nothing");
pub(crate) const DEADLINE: Rule = Rule(7, "the next deadline lies in the future, and none is missing");
pub(crate) const LIVE: Rule = Rule(
    8,
    "when faults cease every slot serves in bounded time; after an end nothing is left that can be killed",
);
pub(crate) const VERDICT: Rule =
    Rule(9, "every reload ends, and every caller hears the one verdict of the reload it ended up in");
pub(crate) const PACE: Rule =
    Rule(10, "no more workers than the surge allows, and no faster than the limiter allows");
pub(crate) const ROLLBACK: Rule = Rule(11, "a failed generation takes no other worker down with it");
pub(crate) const PROVEN: Rule = Rule(12, "a respawn belongs to the generation that its slot was proven with");
pub(crate) const TRUTH: Rule = Rule(13, "notices and status say what is so");
pub(crate) const DUE: Rule =
    Rule(14, "a signal is sent, and a worker given up, when it is due, neither earlier nor later");
pub(crate) const TRIAL: Rule =
    Rule(15, "a generation on trial fails exactly when one slot has used up its attempts, or at once");
pub(crate) const SIZE: Rule =
    Rule(16, "a reload brings more slots at once and fewer when it is done, unless a request says how many");

pub(crate) const FILES: Rule =
    Rule(17, "files that have changed become one reload when they have settled, and not too often");

pub(crate) const HOLD: Rule = Rule(
    18,
    "where that is wanted, what has ended waits for the next reload, and a new worker until the old one is gone",
);

#[cfg(feature = "serde")]
pub(crate) const SAVED: Rule = Rule(19, "what is saved and loaded, at any moment, is the same cluster");

/// A rule was broken.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) rule: Rule,
    pub(crate) detail: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} ({}): {}", self.rule.0, self.rule.1, self.detail)
    }
}

/// What every check answers.
pub(crate) type Held = Result<(), Broken>;

/// Holds `rule`, or says in `detail` what broke it.
pub(crate) fn hold(kept: bool, rule: Rule, detail: impl FnOnce() -> String) -> Held {
    if kept { Ok(()) } else { Err(Broken { rule, detail: detail() }) }
}
