//! The settings of the policy, from its beginning and from reloads that change them. A [`Config`] is always valid.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// The settings of the policy, not checked yet: [`Config::new`] does that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[expect(clippy::exhaustive_structs, reason = "built with struct update syntax from the default")]
pub struct Settings {
    /// How many slots to begin with. Default 1.
    pub workers: u32,
    /// How many extra workers a reload may run at once. Default all.
    pub surge: Surge,
    /// How many workers may boot at a time: the others of a generation are started when those are ready. Default no limit.
    pub boot_limit: Option<NonZeroU32>,
    /// How many failures of one slot end a generation on trial. Default 3.
    pub attempts: u32,
    /// A first start is never given up. Default off.
    pub keep_trying: bool,
    /// What has ended is not started again before the next reload: somebody is changing the code that ended. A first start is never given
    /// up then. Default off.
    pub hold: bool,
    /// At a reload the old worker of a slot is gone before its new one is started: both want something that only one can have. [`Surge::All`]
    /// holds then, whatever is said. Default off.
    pub gone_first: bool,
    /// What becomes of a worker that is not ready in time. Default [`Lateness::Fails`].
    pub lateness: Lateness,
    /// How long a ready worker must live before it serves. Default 1 s.
    pub bake: Duration,
    /// A worker that is not ready so long after its start has failed. Default 60 s.
    pub ready_timeout: Duration,
    /// The drain timeout of a reload, a scale-down, a replacement and a worker's own leaving. Default 30 s.
    pub timeout: Duration,
    /// The drain timeout of a stop. Default 25 s.
    pub stop_timeout: Duration,
    /// From a closed channel to TERM, never beyond the drain timeout. Default 5 s.
    pub exit_grace: Duration,
    /// From TERM to KILL. Default 5 s.
    pub kill_timeout: Duration,
    /// From KILL to giving up a worker that lives on all the same. Default 10 s.
    pub end_timeout: Duration,
    /// How many draining generations are kept at once; the oldest beyond that is sent TERM. Default no cap.
    pub max_draining: Option<NonZeroU32>,
    /// The least time between two respawns in the whole cluster. Default 1 s.
    pub respawn: Duration,
    /// The most time between respawns: the spacing doubles with each one up to this. Default off.
    pub backoff: Option<Duration>,
}

/// What becomes of a worker that is not ready in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "from the strictest to the mildest")]
pub enum Lateness {
    /// It has failed.
    Fails,
    /// It has failed if a reload waits for it. Else it has a notice and may go on.
    FailsReloads,
    /// It has a notice and may go on, also where a reload waits for it.
    IsReported,
}

/// How many workers beyond the slots a reload may run at once; draining ones do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "the two ways a reload can go")]
pub enum Surge {
    /// The whole new generation beside the old one; no old worker leaves before all of it serves.
    All,
    /// This many at a time; an old worker leaves when the new one of its slot serves.
    AtMost(NonZeroU32),
}

impl Surge {
    /// How many of so many slots may be replaced at the same time, each by an extra worker.
    #[must_use]
    pub fn limit(self, slots: usize) -> usize {
        match self {
            Self::All => slots,
            Self::AtMost(extra) => usize::try_from(extra.get()).unwrap_or(usize::MAX),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 1,
            surge: Surge::All,
            boot_limit: None,
            attempts: 3,
            keep_trying: false,
            hold: false,
            gone_first: false,
            lateness: Lateness::Fails,
            bake: Duration::from_secs(1),
            ready_timeout: Duration::from_secs(60),
            timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(25),
            exit_grace: Duration::from_secs(5),
            kill_timeout: Duration::from_secs(5),
            end_timeout: Duration::from_secs(10),
            max_draining: None,
            respawn: Duration::from_secs(1),
            backoff: None,
        }
    }
}

/// Checked settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "Settings"))]
pub struct Config(Settings);

impl Config {
    /// The most slots a cluster may have.
    pub const MOST_WORKERS: u32 = 1024;

    /// Checks the settings. The error names the first one that is wrong.
    pub fn new(settings: Settings) -> Result<Self, ConfigError> {
        let Settings { workers, attempts, ready_timeout, respawn, backoff, .. } = settings;
        if workers == 0 {
            return Err(ConfigError::NoWorkers);
        }
        if workers > Self::MOST_WORKERS {
            return Err(ConfigError::TooManyWorkers { workers });
        }
        if attempts == 0 {
            return Err(ConfigError::NoAttempts);
        }
        if ready_timeout.is_zero() {
            return Err(ConfigError::NoReadyTimeout);
        }
        if let Some(backoff) = backoff.filter(|backoff| *backoff < respawn) {
            return Err(ConfigError::BackoffBelowRespawn { backoff, respawn });
        }
        let surge = if settings.gone_first { Surge::All } else { settings.surge };
        Ok(Self(Settings { surge, ..settings }))
    }

    /// What was checked.
    pub fn settings(&self) -> &Settings {
        &self.0
    }

    pub(crate) fn into_settings(self) -> Settings {
        self.0
    }
}

/// Why settings are refused. Displayed as one line that says what is wrong and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigError {
    /// No slot at all.
    NoWorkers,
    /// More slots than a cluster may have.
    TooManyWorkers {
        /// How many were asked for.
        workers: u32,
    },
    /// A generation that may not be tried once.
    NoAttempts,
    /// No worker could ever be ready in time.
    NoReadyTimeout,
    /// The most time between respawns is less than the least.
    BackoffBelowRespawn {
        /// The most.
        backoff: Duration,
        /// The least.
        respawn: Duration,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorkers => write!(f, "workers is 0: a cluster needs at least 1"),
            Self::TooManyWorkers { workers } => {
                write!(f, "workers is {workers}: a cluster may have at most {}", Config::MOST_WORKERS)
            }
            Self::NoAttempts => {
                write!(f, "attempts is 0: a generation must be tried at least once")
            }
            Self::NoReadyTimeout => write!(f, "the ready timeout is 0: no worker could be ready in time"),
            Self::BackoffBelowRespawn { backoff, respawn } => {
                write!(
                    f,
                    "backoff is {backoff:?}, less than respawn, which is {respawn:?}: it must be at least as long"
                )
            }
        }
    }
}

impl std::error::Error for ConfigError {}
