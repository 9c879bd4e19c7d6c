//! What the supervisor begins with: nothing yet, or what a program before has left.

use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use serde::{Deserialize, Serialize};

use crate::config::output::Output;
use crate::process::awaited::Awaited;
use crate::process::event::Event;
use crate::process::exit::{self, Outliving, Watching};
use crate::process::oom_kills::OomKills;
use crate::process::outlets::{self, Outlets};
use crate::process::passage::Known;
use crate::process::program::ResolvedProgram;
use crate::process::successor::Came;
use crate::process::{health_check, sd_notify};
use crate::sink::Sink;
use crate::supervisor::audience::Audience;
use crate::supervisor::caches::Caches;
use crate::supervisor::callers::Callers;
use crate::supervisor::changes::Changes;
use crate::supervisor::child::{self, Numbering};
use crate::supervisor::generations::Generations;
use crate::supervisor::herald::Herald;
use crate::supervisor::hooks::Hooks;
use crate::supervisor::ignored::Ignored;
use crate::supervisor::leftovers::Leftovers;
use crate::supervisor::policy::{Clock, Policy};
use crate::supervisor::spawner::Spawner;
use crate::supervisor::spec::Spec;
use crate::supervisor::timers::Timers;
use crate::supervisor::told::Told;
use crate::supervisor::workers::Workers;
use crate::upgrade::{AdoptError, Inheritance};

/// The parts that know how the cluster is.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) policy: Policy,
    pub(super) generations: Generations,
    pub(super) workers: Workers,
    pub(super) leftovers: Leftovers,
    pub(super) oom_kills: OomKills,
    pub(super) callers: Callers,
    pub(super) caches: Caches,
    pub(super) timers: Timers,
    pub(super) rest: Rest,
    /// None where there was no program before.
    pub(super) adopted: Option<Adopted>,
}

/// What belongs to no part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Rest {
    pub(super) told: Told,
    pub(super) ignored: Ignored,
    pub(super) warned_of_keep_alive: Option<(Duration, Duration)>,
    /// The first start is complete.
    pub(super) has_started: bool,
}

/// The name of the part in which that is left.
pub(super) const PART: &str = "supervisor";
/// How connections reach workers, which only a restart changes.
pub(crate) const BALANCE: &str = "balance";

/// What goes on when the program before is not gone back to any more.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) watching: Vec<Watching>,
    pub(super) outliving: Outliving,
    pub(super) passages: Vec<Known>,
    pub(super) notifies: Vec<(WorkerId, sd_notify::Adopted)>,
    pub(super) checks: Vec<(WorkerId, health_check::Left)>,
    pub(super) came: Came,
}

/// What runs already, of what was left.
pub(crate) fn program_left(inheritance: &Inheritance) -> Result<Option<ResolvedProgram>, AdoptError> {
    Generations::program_left(inheritance)
}

/// Whether this program can read all that another has left of its supervisor, under this spec, before it takes any of it over.
pub(crate) fn read(spec: Spec, output: &Output, inheritance: &mut Inheritance) -> Result<(), AdoptError> {
    Policy::adopt(inheritance)?;
    Generations::adopt(spec, inheritance)?;
    Workers::read(inheritance)?;
    Leftovers::read(inheritance)?;
    OomKills::adopt(inheritance)?;
    Callers::adopt(inheritance)?;
    Caches::adopt(inheritance)?;
    Timers::adopt(inheritance)?;
    Hooks::read(inheritance)?;
    Audience::read(inheritance)?;
    Changes::read(inheritance)?;
    Herald::read(inheritance)?;
    Spawner::read(inheritance)?;
    exit::read_passages(inheritance)?;
    outlets::Left::read(output, inheritance)?;
    inheritance.needed::<Rest>(PART).map(drop)
}

impl Beginning {
    /// A cluster that has just begun, and runs this first.
    pub(super) fn new(spec: Spec, first: ResolvedProgram, numbering: Numbering) -> Self {
        Self {
            policy: Policy::new(spec.config, Clock::starting(Instant::now())),
            generations: Generations::new(spec, first),
            workers: Workers::new(numbering),
            leftovers: Leftovers::default(),
            oom_kills: OomKills::watch(),
            callers: Callers::default(),
            caches: Caches::default(),
            timers: Timers::default(),
            rest: Rest::default(),
            adopted: None,
        }
    }

    /// What was left. Nothing is read, written or ended before it is begun.
    pub(super) fn adopt(
        spec: Spec,
        numbering: Numbering,
        awaited: &Awaited,
        (outlets, events): (&Outlets, &Sink<Event>),
        inheritance: &mut Inheritance,
    ) -> Result<Self, AdoptError> {
        let (mut workers, living) = Workers::adopt(numbering, awaited, inheritance)?;
        let (mut watched, mut notifies, mut checks) = (Vec::new(), Vec::new(), Vec::new());
        for (worker, adopted) in living {
            let child::Adopted { child, watched: pidfd, checks: of, notify } = adopted;
            watched.push((worker, pidfd, child.process.tail.clone()));
            notifies.extend(notify.map(|notify| (worker, notify)));
            checks.extend(of.map(|of| (worker, of)));
            workers.insert(worker, child);
        }
        let exit::Adopted { watching, outliving, passages } =
            exit::adopt(watched, outlets, events, inheritance)?;
        Ok(Self {
            policy: Policy::adopt(inheritance)?,
            generations: Generations::adopt(spec, inheritance)?,
            workers,
            leftovers: Leftovers::adopt(awaited, inheritance)?,
            oom_kills: OomKills::adopt(inheritance)?,
            callers: Callers::adopt(inheritance)?,
            caches: Caches::adopt(inheritance)?,
            timers: Timers::adopt(inheritance)?,
            rest: inheritance.needed(PART)?,
            adopted: Some(Adopted {
                watching,
                outliving,
                passages,
                notifies,
                checks,
                came: Came::of(inheritance)?,
            }),
        })
    }
}
