//! With which settings a cluster runs, for people: the part of the builder, and of the handle, that is about it.

use std::sync::Arc;

use crate::api::builder::ClusterBuilder;
use crate::api::cluster::Cluster;
use crate::report::configuration::{Configuration, Difference};
use crate::supervisor::input::Request;
use crate::supervisor::spec::Look;

impl ClusterBuilder {
    /// Names settings that differ from those that the cluster runs with and that no reload changes, for a builder that
    /// [`reread`](Self::reread) returns: whoever waits for the reload is told of them. Default none.
    #[must_use]
    pub fn needs_restart(mut self, settings: impl IntoIterator<Item = String>) -> Self {
        self.draft.needs_restart = settings.into_iter().collect();
        self
    }

    /// The settings as they were said, with their origins, for those who ask the cluster. It is for people alone: nothing else
    /// follows from it. A builder that [`reread`](Self::reread) returns has its own; after a rollback that of before is in force
    /// again. Default none.
    #[must_use]
    pub fn configuration(mut self, said: Configuration) -> Self {
        self.draft.said = Some(Arc::new(said));
        self
    }

    /// Says how the cluster would be configured if it were started now: a config file may have changed. It may block, and
    /// changes nothing. Default none.
    #[must_use]
    pub fn configuration_now(
        mut self,
        say: impl Fn() -> Result<Configuration, String> + Send + Sync + 'static,
    ) -> Self {
        self.look = Some(Look::new(say));
        self
    }
}

impl Cluster {
    /// The settings in force, and, if that is asked for, where those that are said now differ.
    pub(crate) async fn configuration(
        &self,
        diff: bool,
    ) -> Result<(Configuration, Option<Vec<Difference>>), String> {
        let unsaid = || "the program that runs this cluster does not say with which settings".to_owned();
        let in_force = self.ask(Request::Configuration).await.map_err(|gone| gone.to_string())?;
        let in_force = in_force.ok_or_else(unsaid)?;
        if !diff {
            return Ok((in_force.shown, None));
        }
        let now = self.look.as_ref().ok_or_else(unsaid)?.say().await?;
        let differences = now.differences_from(&in_force.said);
        Ok((in_force.shown, Some(differences)))
    }
}
