//! Files whose change is a reload, as they are written.

use std::path::PathBuf;

use clap::Args;
use recluster::ClusterBuilder;

/// Files whose change is a reload.
#[derive(Args, Debug)]
#[command(next_help_heading = "Changed files")]
pub(crate) struct Following {
    #[arg(
        long,
        value_name = "PATH",
        help = "Reload when this file, symlink or directory changes; may be repeated",
        long_help = "Reload when this file, symlink or directory changes; may be repeated.\n\n\
                     For production: a release that a symlink leads to, a ConfigMap that Kubernetes mounts, a certificate. A change has \
                     a second to settle, and such reloads are ten seconds apart at least. The path need not be there yet"
    )]
    pub(crate) reload_on: Vec<PathBuf>,
}

impl Following {
    pub(crate) fn describe(&self, builder: ClusterBuilder) -> ClusterBuilder {
        self.reload_on.iter().fold(builder, ClusterBuilder::reload_on)
    }
}
