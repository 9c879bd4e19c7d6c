//! Files whose change is a reload, as they are written.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use recluster::ClusterBuilder;

/// Files whose change is a reload.
#[derive(Args, Debug)]
#[command(next_help_heading = "Changed files")]
pub(crate) struct Following {
    #[arg(
        long,
        value_name = "PATH|auto",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = WatchAt::AUTO,
        value_hint = ValueHint::FilePath,
        help = "For development: reload when source in this directory, or this file, changes; auto, or nothing: the directory of the \
                nearest package.json; may be repeated",
        long_help = "For development: reload when source in this directory, or this file, changes; auto, or nothing: the directory of \
                     the nearest package.json; may be repeated.\n\n\
                     What .gitignore names, node_modules, .git and files of editors do not count. There is one worker, which has no time \
                     to drain, unless --workers and --timeout say otherwise. Code that does not start is rolled back at once; a worker \
                     that ends is started again by the next change"
    )]
    pub(crate) watch: Vec<WatchAt>,

    #[arg(
        long,
        help = "With --watch: clear the terminal before a reload by a changed file",
        long_help = "With --watch: clear the terminal before a reload by a changed file, so that what is on it is of the new code. Where \
                     the log goes elsewhere, nothing is cleared"
    )]
    pub(crate) clear_screen: bool,

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

/// Where source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WatchAt {
    /// Around the server file.
    Auto,
    Path(PathBuf),
}

impl WatchAt {
    pub(crate) const AUTO: &str = "auto";
}

impl From<OsString> for WatchAt {
    fn from(text: OsString) -> Self {
        if text == Self::AUTO { Self::Auto } else { Self::Path(text.into()) }
    }
}

impl Following {
    pub(crate) fn describe(&self, builder: ClusterBuilder) -> ClusterBuilder {
        let builder = self.watch.iter().fold(builder, |builder, at| match at {
            WatchAt::Auto => builder.watch_project(),
            WatchAt::Path(path) => builder.watch(path),
        });
        self.reload_on.iter().fold(builder, ClusterBuilder::reload_on)
    }

    /// Whether somebody is writing the server.
    pub(crate) fn is_development(&self) -> bool {
        !self.watch.is_empty()
    }
}
