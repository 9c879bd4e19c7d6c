//! A reload: one that runs, and one that waits.

use crate::{Caller, Config, Generation, Settings};

/// A reload that has begun and is not decided yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Reload {
    /// What it starts.
    pub(crate) generation: Generation,
    /// Who waits for its verdict.
    pub(crate) callers: Vec<Caller>,
    /// The settings of what was proven last, which a rollback brings back.
    pub(crate) before: Settings,
    /// What it does to the number of slots; nothing after a request to scale.
    pub(crate) sizing: Option<Sizing>,
}

/// What a reload does to the number of slots. While it runs there are as many as the larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Sizing {
    /// Before, and again after a rollback.
    pub(crate) from: u32,
    /// When it is done.
    pub(crate) to: u32,
}

impl Reload {
    /// How many of so many slots its workers are to serve in. Those that are to go when it is done need none.
    pub(crate) fn covers(&self, slots: u32) -> u32 {
        self.sizing.map_or(slots, |sizing| sizing.to.min(slots))
    }
}

/// The one reload that waits to begin, for all requests so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Pending {
    /// Who asked.
    pub(crate) waiting: Vec<Caller>,
    /// The settings that it brings: those of the latest request.
    pub(crate) config: Option<Config>,
    /// A request to scale came after these settings.
    pub(crate) overruled: bool,
}

impl Pending {
    pub(crate) fn ask(&mut self, caller: Option<Caller>, config: Option<Config>) {
        self.waiting.extend(caller);
        if config.is_some() {
            (self.config, self.overruled) = (config, false);
        }
    }
}
