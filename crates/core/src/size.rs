//! The number of slots. Requests to scale change it, and so do the settings of a reload: the later one counts.

use crate::reload::{Pending, Reload, Sizing};
use crate::slot::{Slot, count};
use crate::{Cluster, Config, Generation, Notice, SlotId};

impl Cluster {
    /// How many slots there are.
    pub(crate) fn size(&self) -> u32 {
        count(self.slots.iter())
    }

    /// In how many slots the workers of this generation are to serve.
    pub(crate) fn size_for(&self, generation: Generation) -> u32 {
        let reload = self.reload.as_ref().filter(|reload| reload.generation == generation);
        reload.map_or(self.size(), |reload| reload.covers(self.size()))
    }

    /// A request to scale.
    pub(crate) fn scale(&mut self, workers: u32) {
        if self.supervises() {
            if let Some(reload) = &mut self.reload {
                reload.sizing = None;
            }
            if let Some(pending) = &mut self.pending {
                pending.overruled = true;
            }
            self.resize(workers);
        }
    }

    /// The highest slots go, and their workers with them. New ones get workers of the proven generation, or of the
    /// reload that is running.
    pub(crate) fn resize(&mut self, workers: u32) {
        let (from, to) = (self.size(), workers.clamp(1, Config::MOST_WORKERS));
        if from != to {
            let generation = self.generation;
            self.slots.truncate(SlotId(to).index());
            self.slots.extend((from..to).map(|id| Slot::new(SlotId(id), generation)));
            self.notify(Notice::Scaled { from, to });
        }
    }

    /// What a reload that begins does to the number of slots, and to what an older one did that it supersedes.
    ///
    /// Settings change the number only where they name another one than the settings before them.
    pub(crate) fn sizing(&self, newer: &Pending, older: Option<&Reload>) -> Sizing {
        let undone = older.and_then(|older| Some((older.sizing?, older.before.workers)));
        let (from, named) =
            undone.map_or((self.size(), self.settings.workers), |(sizing, named)| (sizing.from, named));
        let to = match newer.config.filter(|_| !newer.overruled) {
            Some(config) if config.settings().workers != named => config.settings().workers,
            Some(_) => from,
            None => undone.map_or(from, |(sizing, _)| sizing.to),
        };
        Sizing { from, to }
    }
}
