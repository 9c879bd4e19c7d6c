//! What signals come to, one after the other: which one repeats the one before, and which one insists.
//!
//! One wish can arrive as several signals: `timeout` signals the program and then its whole group, a terminal and a
//! wrapper such as npm both pass on a ^C. These come within milliseconds and count once; a person who insists takes longer.

use std::time::{Duration, Instant};

/// Signals that ask for the same within this time are one wish. It is counted from the first of them.
const ONE_WISH: Duration = Duration::from_millis(250);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Reload,
    Stop,
    Terminate,
    MoreWorkers,
    FewerWorkers,
    ReopenLog,
    /// The same as a signal just before it, which has been obeyed.
    Repeated,
}

/// What was asked for so far.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    stop: Asked,
    reload: Asked,
}

/// Whether something was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    Never,
    /// Until this moment it is the same wish still.
    Just(Instant),
    Before,
}

impl Wishes {
    /// What a signal that asks for this comes to. A stop that is asked for a second time is insisted on.
    pub(crate) fn hear(&mut self, wish: Wish, now: Instant) -> Wish {
        let asked = match wish {
            Wish::Stop => &mut self.stop,
            Wish::Reload => &mut self.reload,
            // These add up (one worker more, and one more), or change nothing the second time.
            Wish::Terminate | Wish::MoreWorkers | Wish::FewerWorkers | Wish::ReopenLog | Wish::Repeated => {
                return wish;
            }
        };
        match (*asked, wish) {
            (Asked::Just(_), _) => Wish::Repeated,
            (Asked::Before, Wish::Stop) => Wish::Terminate,
            (Asked::Never | Asked::Before, _) => {
                *asked = Asked::Just(now + ONE_WISH);
                wish
            }
        }
    }

    /// A reload has its verdict: a signal that comes now has seen it, and asks for another one.
    pub(crate) fn reload_has_ended(&mut self) {
        if let Asked::Just(_) = self.reload {
            self.reload = Asked::Before;
        }
    }

    /// When [`Wishes::pass`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let until = |asked| if let Asked::Just(until) = asked { Some(until) } else { None };
        [self.stop, self.reload].into_iter().filter_map(until).min()
    }

    /// It is this late, and every signal that has arrived was heard: what follows is another wish. Returns whether from now
    /// on a signal would insist on the stop.
    ///
    /// Not the clock alone decides: on a machine that is starved, two signals of one moment may be heard long after it.
    pub(crate) fn pass(&mut self, now: Instant) -> bool {
        let passes = |asked: &mut Asked| {
            let is_over = matches!(*asked, Asked::Just(until) if until <= now);
            if is_over {
                *asked = Asked::Before;
            }
            is_over
        };
        passes(&mut self.reload);
        passes(&mut self.stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What signals that ask for this at these milliseconds come to. The loop is never late.
    fn heard(signals: &[(u64, Wish)]) -> Vec<Wish> {
        let begin = Instant::now();
        let mut wishes = Wishes::default();
        let hear = |&(at, wish): &(u64, Wish)| {
            let now = begin + Duration::from_millis(at);
            while wishes.deadline().is_some_and(|due| due <= now) {
                wishes.pass(now);
            }
            wishes.hear(wish, now)
        };
        signals.iter().map(hear).collect()
    }

    #[test]
    fn stops_within_a_quarter_of_a_second_are_one() {
        use Wish::{Repeated, Stop};
        assert_eq!(heard(&[(0, Stop), (1, Stop)]), [Stop, Repeated]);
        assert_eq!(
            heard(&[(0, Stop), (0, Stop), (100, Stop), (249, Stop)]),
            [Stop, Repeated, Repeated, Repeated]
        );
    }

    #[test]
    fn a_stop_that_is_asked_for_later_is_insisted_on() {
        use Wish::{Repeated, Stop, Terminate};
        assert_eq!(heard(&[(0, Stop), (250, Stop)]), [Stop, Terminate]);
        assert_eq!(heard(&[(0, Stop), (60_000, Stop), (60_001, Stop)]), [Stop, Terminate, Terminate]);
        // The first one counts, so that whoever hammers on ^C gets through.
        assert_eq!(heard(&[(0, Stop), (200, Stop), (400, Stop)]), [Stop, Repeated, Terminate]);
    }

    #[test]
    fn who_wants_an_end_at_once_has_it() {
        use Wish::{Repeated, Stop, Terminate};
        assert_eq!(heard(&[(0, Terminate)]), [Terminate]);
        assert_eq!(heard(&[(0, Stop), (1, Terminate), (2, Stop)]), [Stop, Terminate, Repeated]);
    }

    #[test]
    fn reloads_within_a_quarter_of_a_second_are_one_and_later_ones_are_others() {
        use Wish::{Reload, Repeated, Stop};
        assert_eq!(heard(&[(0, Reload), (3, Reload), (250, Reload)]), [Reload, Repeated, Reload]);
        assert_eq!(
            heard(&[(0, Reload), (1, Stop), (2, Reload), (3, Stop)]),
            [Reload, Stop, Repeated, Repeated]
        );
    }

    #[test]
    fn a_reload_that_is_asked_for_behind_a_verdict_is_another_one() {
        use Wish::{Reload, Repeated};
        let now = Instant::now();
        let mut wishes = Wishes::default();
        wishes.reload_has_ended();
        assert_eq!([(); 2].map(|()| wishes.hear(Reload, now)), [Reload, Repeated]);
        wishes.reload_has_ended();
        assert_eq!([(); 2].map(|()| wishes.hear(Reload, now)), [Reload, Repeated]);
    }

    #[test]
    fn what_adds_up_is_heard_each_time() {
        let adding = [Wish::MoreWorkers, Wish::FewerWorkers, Wish::ReopenLog].map(|wish| (0, wish));
        let twice = [adding, adding].concat();
        assert_eq!(heard(&twice), twice.iter().map(|(_, wish)| *wish).collect::<Vec<_>>());
    }

    /// A loop that was held up hears both at once, long after they came.
    #[test]
    fn signals_that_are_heard_late_are_not_two_wishes() {
        let begin = Instant::now();
        let late = begin + Duration::from_secs(5);
        let mut wishes = Wishes::default();
        assert_eq!(wishes.hear(Wish::Stop, begin), Wish::Stop);
        assert_eq!(wishes.hear(Wish::Stop, late), Wish::Repeated);
        assert!(!wishes.pass(begin + ONE_WISH / 2));
        assert!(wishes.pass(late));
        assert!(!wishes.pass(late), "it is said once");
        assert_eq!(wishes.deadline(), None);
        assert_eq!(wishes.hear(Wish::Stop, late), Wish::Terminate);
    }
}
