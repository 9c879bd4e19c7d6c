//! How the cluster is run now, how it will be run, and how it was; and what each generation runs.
//!
//! Only the program belongs to a generation: it is resolved once, when the generation begins. Everything else that a
//! [`Spec`] says is in force for all workers from the beginning of the generation that it came with.
//!
//! The policy keeps the settings of before as well, and needs them itself: a rollback puts them in force in the middle of
//! one decision, before this shell hears of the verdict. Both come from the same spec, and both are put back by the same
//! verdict.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recluster_core as core;
use recluster_core::{Generation, SpawnFailure};
use serde::{Deserialize, Serialize};

use crate::config::ready::ReadyWhen;
use crate::config::variable::Variables;
use crate::process::program::{Program, ResolvedProgram};
use crate::process::{advice, spawn};
use crate::report::error::{ProgramError, StartError};
use crate::report::variable::EnvFileError;
use crate::supervisor::spec::Spec;
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving};

/// Why a worker could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SpawnError {
    pub(crate) failure: SpawnFailure,
    pub(crate) reason: String,
}

/// What was said for a reload: nothing, where it is to what the latest one was.
#[derive(Debug)]
pub(crate) struct Said {
    /// The settings of the policy.
    pub(crate) config: Option<core::Config>,
    /// What only a restart changes.
    pub(crate) needs_restart: Vec<String>,
}

/// What was said for a reload that waits to begin.
#[derive(Clone, Debug, Default)]
struct Pending {
    spec: Option<Spec>,
    /// Variables beside those that reloads have set before.
    set: Variables,
}

/// The specs of a cluster, and the programs of its generations.
#[derive(Debug)]
pub(crate) struct Generations {
    in_force: Spec,
    /// What was said for the reload that waits to begin. It becomes a spec then, since a rollback may come first.
    pending: Option<Pending>,
    /// What was in force before the reload that is running.
    before: Option<Spec>,
    programs: BTreeMap<Generation, Result<Arc<ResolvedProgram>, SpawnError>>,
    /// What people were told of the program that was run last.
    told: Vec<Cow<'static, str>>,
}

/// What another program goes on with. How the cluster is run it finds out as at a start, but for this: what the policy goes by, what
/// reloads have set, and what each generation runs.
#[derive(Serialize, Deserialize)]
pub(super) struct Left {
    config: core::Config,
    set_at_reloads: Variables,
    programs: Vec<(Generation, Result<Arc<ResolvedProgram>, SpawnError>)>,
    told: Vec<String>,
}

const PART: &str = "generations";

impl Generations {
    /// Leaves them to another program.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        let Self { in_force, pending, before, programs, told } = self;
        if pending.is_some() || before.is_some() {
            return Err(SaveError::Refused("a reload is going on".to_owned()));
        }
        let left = Left {
            config: in_force.config,
            set_at_reloads: in_force.program.set_at_reloads.clone(),
            programs: programs.iter().map(|(generation, program)| (*generation, program.clone())).collect(),
            told: told.iter().map(|told| told.clone().into_owned()).collect(),
        };
        saving.put(PART, &left)
    }

    /// Goes on with what was left, under a spec that was found out as at a start.
    pub(crate) fn adopt(mut spec: Spec, inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        let Left { config, set_at_reloads, programs, told } = inheritance.needed(PART)?;
        (spec.config, spec.program.set_at_reloads) = (config, set_at_reloads);
        let programs = programs.into_iter().collect();
        let told = told.into_iter().map(Cow::Owned).collect();
        Ok(Self { in_force: spec, pending: None, before: None, programs, told })
    }

    /// What the newest generation runs, of what was left.
    pub(crate) fn program_left(inheritance: &Inheritance) -> Result<Option<ResolvedProgram>, AdoptError> {
        let left: Option<Left> = inheritance.see(PART)?;
        let programs = left.into_iter().flat_map(|left| left.programs);
        Ok(programs.filter_map(|(_, program)| program.ok()).last().map(Arc::unwrap_or_clone))
    }

    /// The first generation runs this program, which its check has resolved.
    pub(crate) fn new(spec: Spec, first: ResolvedProgram) -> Self {
        let programs = BTreeMap::from([(Generation::FIRST, Ok(Arc::new(first)))]);
        Self { in_force: spec, pending: None, before: None, programs, told: Vec::new() }
    }

    /// How the cluster is run now.
    pub(crate) fn spec(&self) -> &Spec {
        &self.in_force
    }

    /// The next generation is run as this says, or as the one before where nothing is said, and with these variables beside
    /// those that reloads have set before. Reloads that wait begin as one: the last spec counts, and all variables. An error
    /// says why it cannot be run so.
    pub(crate) fn specify(&mut self, said: Option<Box<Spec>>, set: Variables) -> Result<Said, String> {
        let Pending { spec: waiting, set: earlier } = self.pending.clone().unwrap_or_default();
        let set = earlier.on_top(set);
        let said = said.map(|said| said.watched_as(&self.in_force)).transpose()?;
        let all = self.in_force.program.set_at_reloads.clone().on_top(set.clone());
        all.check_bound().map_err(|error| error.to_string())?;
        let told = Said {
            config: said.as_ref().map(|spec| spec.config),
            needs_restart: said.as_ref().map(|spec| spec.needs_restart.clone()).unwrap_or_default(),
        };
        // Whoever says how to run it has had the files read.
        if told.config.is_none() {
            let mut program = waiting.as_ref().unwrap_or(&self.in_force).program.clone();
            program.set_at_reloads = all;
            program.variables().map_err(|error| error.to_string())?;
        }
        self.pending = Some(Pending { spec: said.map(|said| *said).or(waiting), set });
        Ok(told)
    }

    /// A generation begins, by what was said for it, and its program is resolved. Generations older than the oldest that
    /// is still in use are forgotten.
    pub(crate) fn begin(&mut self, generation: Generation, oldest: Generation) {
        if let Some(Pending { spec, set }) = self.pending.take() {
            let set = self.in_force.program.set_at_reloads.clone().on_top(set);
            let mut spec = spec.unwrap_or_else(|| self.in_force.clone());
            spec.program.set_at_reloads = set;
            let before = std::mem::replace(&mut self.in_force, spec);
            // What was proven is kept while one reload gives way to another.
            self.before.get_or_insert(before);
        }
        self.programs.entry(generation).or_insert_with(|| resolve(&self.in_force));
        self.programs.retain(|known, _| *known >= oldest);
    }

    /// A reload has ended, or will never begin. After a rollback everything is as it was before.
    pub(crate) fn end(&mut self, generation: Option<Generation>, verdict: core::Verdict) {
        if generation.is_none() {
            self.pending = None;
            return;
        }
        let before = self.before.take();
        if let (core::Verdict::RolledBack(_), Some(before)) = (verdict, before) {
            self.in_force = before;
        }
    }

    /// What a worker of this generation is started with. Where the machine was short of something when the generation
    /// began, it is asked again.
    pub(crate) fn program_for_spawn(
        &mut self,
        generation: Generation,
    ) -> Result<Arc<ResolvedProgram>, SpawnError> {
        let forgotten = || SpawnError {
            failure: SpawnFailure::Hopeless,
            reason: format!("generation {generation} is forgotten"),
        };
        let program = self.programs.get_mut(&generation).ok_or_else(forgotten)?;
        if matches!(program, Err(SpawnError { failure: SpawnFailure::Temporary, .. })) {
            *program = resolve(&self.in_force);
        }
        program.clone()
    }

    /// If what a generation runs is there no more, it runs from here on what the paths lead to now, as they were given for
    /// it: the server file, the directory and node at once. Returns what is gone and the server file that there is instead.
    pub(crate) fn follow(
        &mut self,
        generation: Generation,
    ) -> Result<Option<(PathBuf, PathBuf)>, SpawnError> {
        let Some(Ok(program)) = self.programs.get_mut(&generation) else { return Ok(None) };
        let Some(gone) = program.gone().map(Path::to_owned) else { return Ok(None) };
        let anew = resolve_as(&program.said, &self.in_force).map_err(|SpawnError { failure, reason }| {
            SpawnError { failure, reason: format!("{} is gone, and {reason}", gone.display()) }
        })?;
        let server = anew.server.clone();
        *program = anew;
        Ok(Some((gone, server)))
    }

    /// What the generation with this number runs, where that is known.
    pub(crate) fn program_numbered(&self, number: u64) -> Option<&ResolvedProgram> {
        let (_, program) = self.programs.iter().find(|(generation, _)| generation.get() == number)?;
        program.as_deref().ok()
    }

    /// What people should know of what a generation runs, and were not told of the one before.
    pub(crate) fn new_caveats(
        &mut self,
        generation: Generation,
        has_listeners: bool,
    ) -> Vec<Cow<'static, str>> {
        let caveats = self.program(generation).map(|program| advice::caveats(program, has_listeners));
        let told = std::mem::replace(&mut self.told, caveats.unwrap_or_default());
        self.told.iter().filter(|caveat| !told.contains(caveat)).cloned().collect()
    }

    /// When a worker of a generation is ready.
    pub(crate) fn ready_when(&self, generation: Generation) -> ReadyWhen {
        self.program(generation).map_or(ReadyWhen::Started, |program| self.in_force.ready_when(program))
    }

    /// What this generation runs, or, where that cannot be run, what the last one does that can.
    pub(crate) fn latest_program(&self, generation: Generation) -> Option<&ResolvedProgram> {
        let others = || self.programs.values().rev().find_map(|program| program.as_deref().ok());
        self.program(generation).or_else(others)
    }

    /// What a generation runs, where that is known.
    pub(crate) fn program(&self, generation: Generation) -> Option<&ResolvedProgram> {
        self.programs.get(&generation)?.as_deref().ok()
    }
}

/// What the path leads to now, if it can be run as it is said.
fn resolve(spec: &Spec) -> Result<Arc<ResolvedProgram>, SpawnError> {
    resolve_as(&spec.program, spec)
}

fn resolve_as(program: &Program, spec: &Spec) -> Result<Arc<ResolvedProgram>, SpawnError> {
    let unresolved =
        |error: ProgramError| SpawnError { failure: failure_of(&error), reason: error.to_string() };
    let unsuited =
        |error: StartError| SpawnError { failure: SpawnFailure::Hopeless, reason: error.to_string() };
    let program = program.resolve().map_err(unresolved)?;
    spec.suits(&program).map_err(unsuited)?;
    Ok(Arc::new(program))
}

/// Whether trying again may help: it does where the machine was short of descriptors.
fn failure_of(error: &ProgramError) -> SpawnFailure {
    match error {
        ProgramError::NotRunnable { source, .. }
        | ProgramError::NodeNotRunnable { source, .. }
        | ProgramError::Directory { source, .. }
        | ProgramError::User { source, .. }
        | ProgramError::Limit { source, .. }
        | ProgramError::EnvFile(EnvFileError::Unreadable { source, .. }) => spawn::failure_of(source),
        ProgramError::NotFound { .. }
        | ProgramError::NodeNotFound { .. }
        | ProgramError::EnvFile(EnvFileError::Wrong { .. })
        | ProgramError::NoGroup { .. }
        | ProgramError::Variable(_) => SpawnFailure::Hopeless,
    }
}

#[cfg(test)]
mod tests;
