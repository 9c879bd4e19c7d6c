//! Words for what workers and the master are started with, and for starts that do not come to an end.

use std::time::Duration;

use recluster::{Event, Worker};

/// What is said of the start of a worker; none where it is another event.
pub(super) fn of_worker(event: &Event) -> Option<(&Worker, String)> {
    if let Event::Spawned { worker } = event {
        return Some((worker, format!("was started, generation {}", worker.generation)));
    }
    if let Event::StartHangs { worker, program, directory, waited } = event {
        return Some((worker, hangs(program, directory, *waited)));
    }
    if let Event::InspectorMoved { worker, port, taken } = event {
        let words = format!("listens for a debugger on port {port}, since port {taken} is taken still");
        return Some((worker, words));
    }
    None
}

/// The same of what all workers are started with.
pub(super) fn words(event: &Event) -> Option<String> {
    if let Event::PreloadMissing { reason } = event {
        return Some(format!(
            "Node workers drain as Node does, and may lose requests: the file that prevents it cannot be written: {reason} (hint: a tmpfs at /tmp, /run or /dev/shm)"
        ));
    }
    if let Event::CompileCacheOff { reason, .. } = event {
        return Some(format!("workers keep no compiled code: {reason}"));
    }
    None
}

fn hangs(program: &str, directory: &str, waited: Duration) -> String {
    format!(
        "does not run {waited:.0?} after its start began: the kernel still waits for {program}, or for its directory {directory}; a file \
         system that does not answer keeps it, and until then nothing else is started"
    )
}

/// The master has no control socket.
pub(super) fn control_missing(reason: &str) -> String {
    format!(
        "there is no control socket, so `recluster reload`, `status` and `stop` do not reach this cluster; signals do: \
         {reason} (hint: a tmpfs at /run, /tmp or /dev/shm, or --control PATH)"
    )
}

/// It may take longer to stop than a container is given.
pub(super) fn stop_is_long(seconds: f64) -> String {
    format!(
        "a stop may take {seconds:.0} s, and `docker stop` kills a container after 10 s: give it that time \
         (docker run --stop-timeout {seconds:.0}, stop_grace_period: {seconds:.0}s), or say a shorter --stop-timeout here"
    )
}
