//! Words for what workers are started with, and for starts that do not come to an end.

use std::time::Duration;

use recluster::Worker;

pub(super) fn spawned(worker: &Worker) -> String {
    format!("was started, generation {}", worker.generation)
}

/// A start for which the kernel still waits.
pub(super) fn hangs(program: &str, directory: &str, waited: Duration) -> String {
    format!(
        "does not run {waited:.0?} after its start began: the kernel still waits for {program}, or for its directory {directory}; a file \
         system that does not answer keeps it, and until then nothing else is started"
    )
}

pub(super) fn inspector_moved(port: u16, taken: u16) -> String {
    format!("listens for a debugger on port {port}, since port {taken} is taken still")
}

pub(super) fn preload_missing(reason: &str) -> String {
    format!(
        "Node workers drain as Node does, and may lose requests: the file that prevents it cannot be written: {reason} (hint: a tmpfs at /tmp, /run or /dev/shm)"
    )
}

pub(super) fn compile_cache_off(reason: &str) -> String {
    format!("workers keep no compiled code: {reason}")
}
