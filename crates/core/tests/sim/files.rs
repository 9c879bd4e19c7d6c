//! Files that change: what is to become a reload, and when.

use std::time::Duration;

use recluster_core::{Change, Time};

use crate::model::Model;
use crate::rule::{FILES, Held, hold};

/// The changes of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Files {
    first: Option<Time>,
    latest: Option<Time>,
    /// When the shell was last told to ask for a reload.
    asked: Option<Time>,
}

impl Files {
    /// Settled for so long, or waited for so long; and so long after the one before.
    fn due(self, change: Change) -> Option<Time> {
        let (settled, patience, apart) = match change {
            Change::Source => (100, 2_000, 0),
            Change::Deployed => (1_000, 30_000, 10_000),
        };
        let [settled, patience, apart] = [settled, patience, apart].map(Duration::from_millis);
        let at = (self.latest? + settled).min(self.first? + patience);
        Some(self.asked.map_or(at, |asked| at.max(asked + apart)))
    }
}

impl Model {
    pub(crate) fn file_changed(&mut self, change: Change) {
        if self.supervises() {
            let now = self.now;
            let files = self.files.entry(change).or_default();
            (files.first, files.latest) = (files.first.or(Some(now)), Some(now));
        }
    }

    pub(crate) fn files_due(&self) -> impl Iterator<Item = Time> {
        let due = self.files.iter().filter_map(|(change, files)| files.due(*change));
        due.filter(|_| self.supervises())
    }

    /// 17: it has settled, and the one before was long ago.
    pub(crate) fn asks_for_reload(&mut self, change: Change) -> Held {
        let now = self.now;
        let files = self.files.entry(change).or_default();
        let due = files.due(change);
        hold(due.is_some_and(|due| due <= now), FILES, || {
            format!("{change:?} becomes a reload at {now}, which was due at {due:?}")
        })?;
        *files = Files { asked: Some(now), ..Files::default() };
        Ok(())
    }

    /// 17: nothing that has settled still waits.
    pub(crate) fn files_are_seen(&self) -> Held {
        let due = self.files_due().find(|due| *due <= self.now);
        hold(due.is_none(), FILES, || format!("files were to become a reload at {due:?}"))
    }
}
