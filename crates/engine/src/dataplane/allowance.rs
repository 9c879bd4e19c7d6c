//! How often something may be done: so many times a second, and so many at once.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Allowance {
    a_second: u32,
    at_once: u32,
    left: u32,
    filled_at: Option<Instant>,
}

impl Allowance {
    pub(super) const fn new(a_second: u32, at_once: u32) -> Self {
        Self { a_second, at_once, left: at_once, filled_at: None }
    }

    /// Whether it may be done once more; then it counts as done.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }

    fn fill(&mut self, now: Instant) {
        let each = Duration::from_secs(1) / self.a_second.max(1);
        let filled_at = *self.filled_at.get_or_insert(now);
        let new = now.saturating_duration_since(filled_at).as_nanos() / each.as_nanos().max(1);
        let new = u32::try_from(new).unwrap_or(self.at_once).min(self.at_once);
        // What is over the limit is forgotten, and a part of one is not.
        self.filled_at = Some(if new == self.at_once { now } else { filled_at + each * new });
        self.left = self.left.saturating_add(new).min(self.at_once);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_limited_in_a_second_and_at_once() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(2000, 64);
        let mut count = |from: u64, to: u64| {
            let takes = |micros| allowance.take(begin + Duration::from_micros(micros));
            (from..to).map(takes).filter(|taken| *taken).count()
        };
        assert_eq!((0..200).map(|_| count(0, 1)).sum::<usize>(), 64, "at once");
        let second = count(0, 1_000_000);
        assert!((1999..=2000).contains(&second), "{second} in a second");
        assert_eq!((0..200).map(|_| count(60_000_000, 60_000_001)).sum::<usize>(), 64, "after a minute");
    }
}
