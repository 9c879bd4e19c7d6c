//! The limit on open files. Every connection on its way is one, so the master takes what it can get; its workers have the limit that
//! it was started with, since some programs go through every number below their limit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process's soft limit to its hard one. Returns what it was before, if it was another.
pub(crate) fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // A sandbox may forbid it, and then all stays as it was.
    current.filter(|_| raised.is_ok() && current != maximum)
}
