//! How a worker ended, or that it does not, in words.

use recluster::{Event, Exit, signal_name};

/// What its end was, by the event of it.
pub(super) fn ended(event: &Event) -> String {
    let Event::Exit { exit, expected, oom_killed, .. } = event else { return String::new() };
    let when = if *expected { " when it was let go" } else { "" };
    match *exit {
        Exit::Code(code) if *oom_killed => {
            format!("exited with status {code}{when}: the kernel killed what it ran, out of memory")
        }
        Exit::Code(code) => format!("exited with status {code}{when}"),
        Exit::Signal(signal) if *oom_killed => {
            format!("was killed by the kernel{when}, out of memory ({})", signal_name(signal))
        }
        Exit::Signal(signal) => format!("was ended by {}{when}", signal_name(signal)),
    }
}

/// The worker's own process and the one that lives on, what state that is in, who traces it, and whose it is if not ours.
pub(super) fn unkillable(
    (worker, process): (Option<u32>, Option<u32>),
    state: Option<char>,
    (traced_by, of_user): (Option<u32>, Option<u32>),
) -> String {
    let Some(process) = process else {
        return "could not be started in all this time, nothing waits for it any more".to_owned();
    };
    let what = if worker == Some(process) {
        String::new()
    } else {
        format!("is gone, but process {process} of it ")
    };
    if let Some(user) = of_user {
        return format!(
            "{what}lives on: it runs as user {user}, and the master may not send it signals; nothing waits for it any more"
        );
    }
    let why = match (state, traced_by) {
        (_, Some(tracer)) => format!(": process {tracer} traces it and has to let it go"),
        (Some('D'), None) => {
            ": it waits in the kernel, for a disk, a file system or a frozen cgroup".to_owned()
        }
        (Some('R'), None) => ": it still runs, and does not come to its end".to_owned(),
        _ => String::new(),
    };
    let state = state.map(|state| format!(" in state {state}")).unwrap_or_default();
    format!("{what}lives on after SIGKILL{state}{why}; nothing waits for it any more")
}
