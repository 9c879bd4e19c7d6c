//! The simulator's own reckoning of how far apart respawns must be.

use std::time::Duration;

use recluster_core::{Settings, Time};

/// When the next respawn may come, at the earliest.
#[derive(Clone, Debug)]
pub(crate) struct Limiter {
    least: Duration,
    most: Option<Duration>,
    spacing: Duration,
    /// When the latest generation began.
    batch: Time,
    last: Option<Time>,
}

impl Limiter {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            least: settings.respawn,
            most: settings.backoff,
            spacing: settings.respawn,
            batch: Time::ZERO,
            last: None,
        }
    }

    pub(crate) fn generation_began(&mut self, now: Time) {
        self.batch = now;
    }

    /// The earliest moment of the next respawn. Calm shrinks the spacing only after a time that is longer than it.
    pub(crate) fn earliest(&self) -> Time {
        let after_batch = self.batch + self.least;
        self.last.map_or(after_batch, |last| after_batch.max(last + self.spacing))
    }

    pub(crate) fn respawned(&mut self, now: Time) {
        self.spacing = self.spacing_at(now);
        if let Some(most) = self.most {
            self.spacing = doubled(self.spacing, self.least).min(most);
        }
        self.last = Some(now);
    }

    fn spacing_at(&self, now: Time) -> Duration {
        let (Some(most), Some(last)) = (self.most, self.last) else { return self.spacing };
        let mut calm = now.since(last);
        let mut spacing = self.spacing;
        while calm >= most && spacing > self.least {
            calm -= most;
            spacing = (spacing / 2).max(self.least);
        }
        spacing
    }
}

/// Twice as long; where the least is nothing, a tenth of a second at least.
pub(crate) fn doubled(spacing: Duration, least: Duration) -> Duration {
    let step = if least.is_zero() { Duration::from_millis(100) } else { least };
    spacing.saturating_mul(2).max(step)
}
