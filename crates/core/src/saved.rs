//! A cluster as plain data, for a master that goes on as another program: saved at any moment between two events, and
//! loaded by a reader that believes nothing it cannot check.
//!
//! The names of the fields are a format that other versions read. What is renamed keeps its old name as an alias, and what is
//! new has a default: `tests/golden` holds what earlier versions wrote.

use std::collections::VecDeque;
use std::time::Duration;

use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::backoff::Backoff;
use crate::changes::Changes;
use crate::reload::{Pending, Reload};
use crate::slot::Slot;
use crate::worker::Workers;
use crate::{Cluster, Config, ConfigError, Generation, Phase, Settings, Time};

/// All that a [`Cluster`] is made of when every action was taken.
#[derive(Serialize, Deserialize)]
pub(crate) struct Saved {
    settings: Settings,
    now: Time,
    phase: Phase,
    slots: Vec<Slot>,
    workers: Workers,
    generation: Generation,
    newest: Generation,
    began: Time,
    started: bool,
    reload: Option<Reload>,
    pending: Option<Pending>,
    changes: Changes,
    generation_spacing: Duration,
    backoff: Backoff,
}

/// Fails while actions wait to be polled: they would be lost.
impl Serialize for Cluster {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.actions.is_empty() {
            return Err(S::Error::custom("actions of the cluster wait to be polled"));
        }
        Saved::of(self.clone()).serialize(serializer)
    }
}

impl Saved {
    fn of(cluster: Cluster) -> Self {
        let Cluster {
            settings,
            now,
            phase,
            slots,
            workers,
            generation,
            newest,
            began,
            started,
            reload,
            pending,
            changes,
            generation_spacing,
            backoff,
            actions: _,
        } = cluster;
        Self {
            settings,
            now,
            phase,
            slots,
            workers,
            generation,
            newest,
            began,
            started,
            reload,
            pending,
            changes,
            generation_spacing,
            backoff,
        }
    }

    /// What is wrong with it, if anything is.
    fn fault(&self) -> Option<&'static str> {
        let known = |generation: Generation| generation >= Generation::FIRST && generation <= self.newest;
        let lives = |slot: &Slot| {
            [slot.holder, slot.candidate].into_iter().flatten().all(|id| self.workers.get(id).is_some())
        };
        let begun = self.workers.iter().all(|(_, worker)| known(worker.generation));
        let reload = self.reload.as_ref();
        let settings = [Some(self.settings), reload.map(|reload| reload.before)];
        let checks = [
            (
                settings.into_iter().flatten().all(|settings| Config::new(settings).is_ok()),
                "settings are not valid",
            ),
            (self.phase != Phase::Over, "its phase is none that a cluster is in"),
            (!self.slots.is_empty(), "it has no slot"),
            (self.slots.len() <= Config::MOST_WORKERS as usize, "it has more slots than a cluster may have"),
            (
                self.slots.iter().zip(0..).all(|(slot, id)| slot.id.0 == id),
                "its slots are not in their order",
            ),
            (self.slots.iter().all(lives), "a slot names a worker that there is not"),
            (self.workers.are_named(), "it would use the name of a worker again"),
            (begun && known(self.generation), "it names a generation that was not begun"),
            (reload.is_none_or(|reload| known(reload.generation)), "its reload was not begun"),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map(|(_, fault)| fault)
    }
}

impl TryFrom<Saved> for Cluster {
    type Error = &'static str;

    fn try_from(saved: Saved) -> Result<Self, Self::Error> {
        if let Some(fault) = saved.fault() {
            return Err(fault);
        }
        let Saved {
            settings,
            now,
            phase,
            slots,
            workers,
            generation,
            newest,
            began,
            started,
            reload,
            pending,
            changes,
            generation_spacing,
            backoff,
        } = saved;
        Ok(Self {
            settings,
            now,
            phase,
            slots,
            workers,
            generation,
            newest,
            began,
            started,
            reload,
            pending,
            changes,
            generation_spacing,
            backoff,
            actions: VecDeque::new(),
        })
    }
}

impl TryFrom<Settings> for Config {
    type Error = ConfigError;

    fn try_from(settings: Settings) -> Result<Self, ConfigError> {
        Self::new(settings)
    }
}
