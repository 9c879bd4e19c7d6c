//! Orphans: processes whose parent has ended become children of the nearest ancestor that takes them, which is the master
//! where it is the first process of a container, or was told to be a subreaper. The library reaps them, by the thread that
//! starts workers (`Cluster::reap_orphans`).

use rustix::io;
use rustix::process::{getpid, set_child_subreaper};

/// Takes the orphans of all processes below this one from now on.
pub(crate) fn adopt() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))
}
