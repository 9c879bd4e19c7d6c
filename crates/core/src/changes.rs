//! Files have changed: when that becomes a reload. It has settled by then, and reloads of this kind are not too frequent.

use std::time::Duration;

use crate::{Change, Time};

/// How changes of one kind are taken.
struct Pace {
    /// So long after the last change it has settled.
    settles: Duration,
    /// What never settles is taken as it is so long after the first change.
    patience: Duration,
    /// The least time between two reloads for such changes.
    spacing: Duration,
}

impl Change {
    const ALL: [Self; 2] = [Self::Source, Self::Deployed];

    const fn pace(self) -> Pace {
        match self {
            Self::Source => Pace {
                settles: Duration::from_millis(100),
                patience: Duration::from_secs(2),
                spacing: Duration::ZERO,
            },
            Self::Deployed => Pace {
                settles: Duration::from_secs(1),
                patience: Duration::from_secs(30),
                spacing: Duration::from_secs(10),
            },
        }
    }
}

/// The changes that wait to become a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Changes {
    source: Waiting,
    deployed: Waiting,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Waiting {
    /// The first and the last change that wait.
    span: Option<(Time, Time)>,
    /// When the last reload was asked for.
    last: Option<Time>,
}

impl Changes {
    pub(crate) fn note(&mut self, change: Change, now: Time) {
        let span = &mut self.of(change).span;
        *span = Some((span.map_or(now, |(first, _)| first), now));
    }

    /// The next moment at which something is due.
    pub(crate) fn due(&self) -> Option<Time> {
        Change::ALL.into_iter().filter_map(|change| self.due_of(change)).min()
    }

    /// One kind of changes that is due, which waits no more.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<Change> {
        let is_due = |change: &Change| self.due_of(*change).is_some_and(|due| due <= now);
        let change = Change::ALL.into_iter().find(is_due)?;
        *self.of(change) = Waiting { span: None, last: Some(now) };
        Some(change)
    }

    pub(crate) fn forget(&mut self) {
        (self.source.span, self.deployed.span) = (None, None);
    }

    fn due_of(&self, change: Change) -> Option<Time> {
        let waiting = match change {
            Change::Source => self.source,
            Change::Deployed => self.deployed,
        };
        let (first, last) = waiting.span?;
        let pace = change.pace();
        let settled = (last + pace.settles).min(first + pace.patience);
        Some(waiting.last.map_or(settled, |before| settled.max(before + pace.spacing)))
    }

    const fn of(&mut self, change: Change) -> &mut Waiting {
        match change {
            Change::Source => &mut self.source,
            Change::Deployed => &mut self.deployed,
        }
    }
}
