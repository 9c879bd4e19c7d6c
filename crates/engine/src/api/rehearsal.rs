//! The dry run of an upgrade: each room reads what it would be left, and begins nothing.

use crate::api::builder::ClusterBuilder;
use crate::dataplane;
use crate::process::slot_files;
use crate::report::error::StartError;
use crate::socket::bind;
use crate::supervisor::beginning::{self, BALANCE};
use crate::upgrade::Inheritance;

impl ClusterBuilder {
    /// Whether such a cluster could go on with what another program has left of it, as far as that can be seen before it does.
    ///
    /// # Errors
    ///
    /// The first thing that it could not go on with, or what cannot be run as it is said now.
    pub fn rehearse(self, inheritance: &mut Inheritance) -> Result<(), StartError> {
        let balance = inheritance.needed(BALANCE)?;
        let (spec, _) = self.draft.check(&balance)?;
        if let Some(log) = &self.output.log {
            let directory = log.directory.clone();
            slot_files::check(log, spec.settings().workers)
                .map_err(|source| StartError::WorkerLog { directory, source })?;
        }
        bind::read_all(inheritance)?;
        beginning::read(spec, &self.output, inheritance)?;
        Ok(dataplane::rehearse(inheritance)?)
    }
}
