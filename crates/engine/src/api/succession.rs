//! What a master and the next one have in common: the part of the builder and of the handle about a master that was killed.

use std::ffi::OsStr;

use crate::api::builder::ClusterBuilder;
use crate::api::cluster::Cluster;

impl ClusterBuilder {
    /// What this cluster has and no other, as long as a master of it lives: the path of its control socket. Workers have it in their
    /// environment (`RECLUSTER_CLUSTER`); by it the next master knows those that a killed one has left ([`Cluster::survivors`]),
    /// and waits a moment for an address that they still have. Default none.
    #[must_use]
    pub fn cluster(mut self, cluster: impl AsRef<OsStr>) -> Self {
        self.cluster = Some(cluster.as_ref().into());
        self
    }
}

impl Cluster {
    /// The first processes of workers that were there when the cluster started, because the master that had started them was killed.
    /// They answer what they have, and end. Without [`ClusterBuilder::cluster`] it is not known.
    #[must_use]
    pub fn survivors(&self) -> &[u32] {
        &self.survivors
    }
}
