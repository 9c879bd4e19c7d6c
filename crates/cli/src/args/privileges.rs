//! As whom workers run, and what they are allowed, as it is written.

use std::path::PathBuf;

use clap::Args;
use recluster::{Account, ClusterBuilder, Group, Limit, logical_directory};

use super::values;

/// As whom workers run, and what they are allowed.
#[derive(Args, Debug)]
#[command(next_help_heading = "Privileges")]
pub(crate) struct Privileges {
    /// Run workers, checks and hooks as this user, by name or number; the master binds addresses and keeps its own
    /// [default: the master's]
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<Account>,

    /// Run them in this group [default: that of --user's account, else the master's]
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<Group>,

    /// Permissions that files of workers do not have, in octal, such as 027 [default: the master's]
    #[arg(long, value_name = "MODE", value_parser = values::umask)]
    pub(crate) umask: Option<u32>,

    /// Run workers in this directory [default: the master's]
    #[arg(long, value_name = "DIR")]
    pub(crate) chdir: Option<PathBuf>,

    #[arg(
        long,
        value_name = "NAME=VALUE",
        help = "A limit of workers, such as nofile=65536 or core=0; may be repeated [default: those of the master]",
        long_help = "A limit of workers, such as nofile=65536 or core=0; may be repeated [default: those of the master].\n\n\
                     Names: as, core, cpu, data, fsize, memlock, nofile, nproc, stack. NAME=SOFT:HARD sets the two apart, and \
                     unlimited is a value. Those in bytes may end in K, M, G, T; cpu is in seconds"
    )]
    pub(crate) rlimit: Vec<Limit>,
}

impl Privileges {
    /// Where relative paths begin: empty where that is where workers run as well.
    pub(crate) fn start(&self) -> PathBuf {
        if self.chdir.is_some() { logical_directory() } else { PathBuf::new() }
    }

    pub(crate) fn describe(&self, builder: ClusterBuilder) -> ClusterBuilder {
        let builder = match (&self.user, self.group) {
            (Some(user), Some(group)) => builder.account(user.clone().with_group(group)),
            (Some(user), None) => builder.account(user.clone()),
            (None, Some(group)) => builder.group(group).warn_of_root(),
            (None, None) => builder.warn_of_root(),
        };
        let builder = match self.umask {
            Some(mask) => builder.umask(mask),
            None => builder,
        };
        let builder = match &self.chdir {
            Some(directory) => builder.directory(directory),
            None => builder,
        };
        self.rlimit.iter().copied().fold(builder, ClusterBuilder::limit)
    }
}
