//! Workers that the kernel kills for want of memory are told from those that somebody has sent SIGKILL.

use recluster_e2e::{Event, Home, Launch, Master, eventually, get, on};
use rustix::process::Signal;

/// A program that grows beyond every limit when it is sent USR1.
const GROWS: &str = "#!/usr/bin/env python3
import os, signal
def grow(*_):
    kept = [bytearray(b'x') * (1 << 20) for _ in range(4096)]
signal.signal(signal.SIGUSR1, grow)
print('armed %d' % os.getpid(), flush=True)
while True:
    signal.pause()
";

/// The same behind a shell that waits for it.
const BEHIND_A_SHELL: &str = "#!/bin/sh
trap : USR1
./grows &
while :; do wait $!; status=$?; kill -0 $! 2>/dev/null || exit $status; done
";

/// A cluster in a group of its own, where there is room for its workers as they are.
fn in_a_group(server: &str) -> Master {
    let home = Home::new();
    home.program("grows", GROWS);
    let server = home.program("server", server);
    let launch = Launch::of(server).home(&home).started_by("in-a-memory-group.py");
    launch.env("MEMORY", (192 << 20).to_string()).with_admin().serve()
}

/// The worker's end, which this signal brings about.
fn ends_by(master: &Master, worker: &Event, signal: Signal) -> Event {
    master.worker(worker).signal(signal);
    master.wait(on("exit").id(worker.id()))
}

fn is_oom(exit: &Event) -> bool {
    exit.at("/oom_killed") == true
}

#[test]
#[cfg_attr(not(has = "memory-groups"), ignore = "no control group that limits memory can be made here")]
fn a_worker_that_the_kernel_killed_for_want_of_memory_is_told_from_one_that_was_sent_sigkill() {
    let master = in_a_group(GROWS);
    let workers = master.wait_all(2, on("serving"));
    for worker in &workers {
        master.wait_stdout(&format!("armed {}", worker.pid()));
    }
    let grown = ends_by(&master, &workers[0], Signal::USR1);
    assert_eq!((grown.at("/exit/signal") == 9, is_oom(&grown)), (true, true), "{grown}");
    let killed = ends_by(&master, &workers[1], Signal::KILL);
    assert_eq!((killed.at("/exit/signal") == 9, is_oom(&killed)), (true, false), "{killed}");
    let admin = master.admin();
    eventually("both are counted, each by its cause", || {
        let metrics = get(admin, "/metrics").expect("an answer").body;
        ["oom", "signal"]
            .iter()
            .all(|cause| metrics.contains(&format!("recluster_worker_exits_total{{cause=\"{cause}\"}} 1\n")))
    });
}

#[test]
#[cfg_attr(not(has = "memory-groups"), ignore = "no control group that limits memory can be made here")]
fn a_shell_that_ends_with_the_status_of_what_was_killed_is_one_too() {
    let mut master = in_a_group(BEHIND_A_SHELL);
    let worker = master.wait(on("serving"));
    let shell = worker.pid();
    master.wait_stdout("armed");
    // The child has the shell's group, and the whole group is sent the signal.
    let group = rustix::process::Pid::from_raw(shell.cast_signed()).expect("a pid");
    eventually("its program can grow", || {
        master.stdout().iter().filter(|line| line.contains("armed")).count() >= 2
    });
    rustix::process::kill_process_group(group, Signal::USR1).expect("it lives");
    let exit = master.wait(on("exit").id(worker.id()));
    assert_eq!((exit.at("/exit/code") == 137, is_oom(&exit)), (true, true), "{exit}");
    // What the shells have started ends with the cluster, and not where it is killed.
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
}
