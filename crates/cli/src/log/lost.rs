//! Words for what workers wrote and nobody has.

use std::path::Path;

use recluster::{Event, Stream};

/// Lines that were dropped for want of a reader.
pub(super) fn lines(stream: Stream, lines: u64) -> String {
    format!("wrote {lines} lines to its {} that are missing: nobody read them in time", stream.name())
}

/// What is said of the files that have what workers write.
pub(super) fn of_log(event: &Event) -> String {
    if let Event::WorkerLogFailed { slot, path, failed, error } = event {
        return failure(*slot, path, failed, error);
    }
    if let Event::WorkerLogResumed { slot, lines } = event {
        return format!("the worker log of slot {slot} can be written again: {lines} lines are missing");
    }
    // The library may add events before this command has words for them.
    format!("{event:?}")
}

fn failure(slot: u32, path: &Path, failed: &str, error: &str) -> String {
    let path = path.display();
    match failed {
        "reopen" => {
            format!("the worker log {path} cannot be opened anew, and the old file is written on: {error}")
        }
        "rotate" => format!("the worker log {path} is full and cannot be moved away, so it grows: {error}"),
        _ => format!(
            "the worker log {path} cannot be written, and what workers of slot {slot} write is lost until it can: {error}"
        ),
    }
}
