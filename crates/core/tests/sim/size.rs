//! How many slots there are, and which settings hold, while reloads bring others, give way and are rolled back.

use recluster_core::Verdict;

use crate::model::{Model, Reloading, Waiting};
use crate::rule::{Held, SIZE, TRUTH, hold};

impl Model {
    /// How many slots there were before a reload that begins, and are to be after it. The settings count where they name
    /// another number than those of before, which are those of a superseded reload only where a request has changed the number since.
    pub(crate) fn slots_of(&self, waiting: &Waiting, older: Option<&Reloading>) -> (usize, usize) {
        let open = older.and_then(|older| Some((older.slots?, older.before.workers)));
        let from = open.map_or(self.seats.len(), |((from, _), _)| from);
        let known = open.map_or(self.settings.workers, |(_, known)| known);
        let Some(settings) = waiting.settings else {
            return (from, open.map_or(from, |((_, to), _)| to));
        };
        let says_another = settings.workers != known && !waiting.scaled;
        (from, if says_another { settings.workers as usize } else { from })
    }

    /// A request asked for it, or a reload begins or ends.
    pub(crate) fn scaled(&mut self, from: usize, to: usize) -> Held {
        if let Some(so) = self.step.scaled.take() {
            return hold(so == (from, to), TRUTH, || {
                format!("{from} slots are said to be {to}, so it is {so:?}")
            });
        }
        let slots = self.reload.as_ref().and_then(|reload| reload.slots);
        let moved =
            from == self.seats.len() && slots.is_some_and(|(before, after)| to == before || to == after);
        hold(moved, SIZE, || format!("{from} slots become {to}, and the reload is to bring {slots:?}"))?;
        self.resize(to);
        Ok(())
    }

    /// While a reload runs there are as many slots as the larger number of the two.
    pub(crate) fn size_holds(&self) -> Held {
        let slots = self.reload.as_ref().and_then(|reload| reload.slots);
        let most = slots.map_or(self.seats.len(), |(from, to)| from.max(to));
        hold(self.seats.len() == most, SIZE, || format!("there are {} slots: {slots:?}", self.seats.len()))
    }

    /// A reload ends: how many slots there are now, and the settings from now on.
    pub(crate) fn settle_settings(&mut self, reload: &Reloading, verdict: Verdict) -> Held {
        let is = self.seats.len();
        let (from, to) = reload.slots.unwrap_or((is, is));
        let expected = match verdict {
            Verdict::Done => to,
            Verdict::RolledBack(_) => from,
            Verdict::StoppedPartWay { .. } | Verdict::Abandoned => from.max(to),
        };
        match verdict {
            Verdict::RolledBack(_) => {
                self.settings = reload.before;
                self.let_go_anew(self.settings.timeout);
            }
            Verdict::StoppedPartWay { .. } if to < from => self.settings.workers = reload.before.workers,
            Verdict::Done | Verdict::StoppedPartWay { .. } | Verdict::Abandoned => {}
        }
        if let Verdict::StoppedPartWay { of, .. } = verdict {
            hold(of as usize == to, SIZE, || format!("it stopped among {to} slots, and {of} are said"))?;
        }
        hold(is == expected, SIZE, || format!("{is} slots after {verdict:?} of {:?}", reload.slots))
    }
}
