//! How a cluster is run, as far as a reload may change it; and the changing.

use recluster_core as core;
use recluster_core::{Config, Generation};

use crate::supervisor::Supervisor;
use crate::supervisor::input::Reloaded;
use crate::supervisor::spec::Spec;

impl Supervisor {
    /// Asks how the cluster is to be run after a reload: as this says, or as is said now. Nothing changes before that reload
    /// begins. If it cannot be, the reason is returned; else what the policy is to know.
    pub(crate) fn reread(&mut self, with: Option<Reloaded>) -> Result<Option<Config>, String> {
        let said = match (with, &mut self.shell.reread) {
            (Some(said), _) => *said?,
            (None, Some(reread)) => reread.say()?,
            (None, None) => return Ok(None),
        };
        let config = said.config;
        // Reloads that wait begin as one, and what was said last counts.
        self.said = Some(said);
        Ok(Some(config))
    }

    /// A generation begins, by what was said for it. The policy has the same settings in force from here on.
    pub(crate) fn begin_generation(&mut self) {
        if let Some(said) = self.said.take() {
            let before = self.run_by(said);
            // What was proven is kept while one reload gives way to another.
            self.fallback.get_or_insert(before);
        }
    }

    /// A reload has ended, or will never begin. After a rollback everything is as it was before.
    pub(crate) fn end_generation(&mut self, generation: Option<Generation>, verdict: core::Verdict) {
        if generation.is_none() {
            self.said = None;
            return;
        }
        let fallback = self.fallback.take();
        if let (core::Verdict::RolledBack(_), Some(before)) = (verdict, fallback) {
            self.run_by(before);
        }
    }

    /// How many slots there are for the workers of a generation, as far as that is known.
    pub(crate) fn slots_for(&self, generation: Generation) -> u32 {
        let status = self.policy.status();
        let reload = status.reload.filter(|reload| reload.generation == generation);
        reload.map_or(u32::try_from(status.slots.len()).unwrap_or(u32::MAX), |reload| reload.of)
    }

    /// Puts this in force; returns what was before.
    fn run_by(&mut self, spec: Spec) -> Spec {
        let before = std::mem::replace(&mut self.shell.spec, spec);
        self.watch_limits();
        before
    }
}
