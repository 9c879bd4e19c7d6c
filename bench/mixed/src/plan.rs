//! When each request is to begin. Std and a seeded generator only: the same seed is the same plan, for every contender.

use std::num::NonZeroU32;
use std::time::Duration;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is answered at once, and its latency counts.
    Fast,
    /// Its worker stands still before it answers.
    Blocking,
}

/// How many requests are begun in a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) fast: NonZeroU32,
    pub(crate) blocking: NonZeroU32,
}

/// A request and its moment, from the beginning of the load on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) kind: Kind,
}

/// All requests of a load, in order.
pub(crate) fn plan(rates: Rates, span: Duration, seed: u64) -> Vec<Planned> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut plan = one_kind(Kind::Fast, rates.fast, span, &mut random);
    plan.extend(one_kind(Kind::Blocking, rates.blocking, span, &mut random));
    plan.sort_by_key(|planned| planned.at);
    plan
}

/// Each request has a stretch of its own, all are as long, and somewhere in it it begins. At even distances the requests
/// could keep step with a balancer that counts workers off: every blocking one would meet the same worker.
fn one_kind(kind: Kind, rate: NonZeroU32, span: Duration, random: &mut fastrand::Rng) -> Vec<Planned> {
    let stretch = Duration::from_secs(1) / rate.get();
    let mut begin = Duration::ZERO;
    let mut plan = Vec::new();
    while begin + stretch <= span {
        plan.push(Planned { at: begin + stretch.mul_f64(random.f64()), kind });
        begin += stretch;
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(2);

    fn rates() -> Rates {
        let rate = |number| NonZeroU32::new(number).expect("a rate");
        Rates { fast: rate(300), blocking: rate(10) }
    }

    #[test]
    fn the_rates_hold_and_the_order_too() {
        let plan = plan(rates(), SPAN, 1);
        let blocking = plan.iter().filter(|planned| planned.kind == Kind::Blocking).count();
        assert_eq!((plan.len() - blocking, blocking), (600, 20));
        assert!(plan.is_sorted_by_key(|planned| planned.at));
        assert!(plan.iter().all(|planned| planned.at < SPAN));
    }

    #[test]
    fn every_stretch_has_its_request() {
        let plan = plan(rates(), SPAN, 1);
        let blocking = plan.iter().filter(|planned| planned.kind == Kind::Blocking);
        let stretches: Vec<u128> = blocking.map(|planned| planned.at.as_millis() / 100).collect();
        assert_eq!(stretches, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(plan(rates(), SPAN, 7), plan(rates(), SPAN, 7));
        assert_ne!(plan(rates(), SPAN, 7), plan(rates(), SPAN, 8));
    }
}
