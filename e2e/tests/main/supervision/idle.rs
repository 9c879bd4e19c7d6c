//! A master that has nothing to do does nothing.

use std::fs;

#[cfg(target_arch = "x86_64")]
use recluster_e2e::on;
use recluster_e2e::{Home, Launch, Master, eventually};

/// A cluster with a socket of each kind.
fn cluster(balance: &str) -> Master {
    let home = Home::new();
    let launch = Launch::fixture("idle.js").home(&home).option("--balance", balance);
    launch.env("SOCKET", home.join("idle.sock")).serve()
}

/// While a worker takes its time to answer on an open connection, its master sleeps, and so do those of which nobody wants anything.
/// (Shortly after the start they are still told of what has come.) What is tested is a time without a wake-up; it may be any
/// such time, so a busy machine makes the test longer and no other.
#[test]
fn nothing_wakes_a_master_of_which_nobody_wants_anything() {
    let masters = ["round-robin", "shared", "kernel"].map(cluster);
    let mut connection = masters[0].connect();
    let wakes = || masters.iter().map(|master| master.process().switches()).collect::<Vec<_>>();
    eventually("all masters sleep for as long as an answer takes", || {
        let before = wakes();
        assert_eq!(connection.get("/later").expect("an answer").body, "later");
        before == wakes()
    });
}

/// Whether a thread waits for ten seconds at least or until something happens, by the arguments of its system call.
#[cfg(target_arch = "x86_64")]
fn waits_long(thread: &std::path::Path) -> bool {
    const LONG_MS: i32 = 10_000;
    const EPOLL_WAIT: u32 = 232;
    const EPOLL_PWAIT: u32 = 281;
    const PPOLL: u32 = 271;
    const FUTEX: u32 = 202;
    let Ok(call) = fs::read_to_string(thread.join("syscall")) else { return false };
    let mut words = call.split_whitespace();
    let number = words.next().and_then(|number| number.parse().ok());
    let arguments: Vec<u64> = words
        .map_while(|word| word.strip_prefix("0x"))
        .map_while(|digits| u64::from_str_radix(digits, 16).ok())
        .collect();
    let argument = |at: usize| arguments.get(at).copied().expect("a system call has six arguments");
    match number {
        // It is an int, of which the kernel shows a register.
        Some(EPOLL_WAIT | EPOLL_PWAIT) => {
            let timeout =
                u32::try_from(argument(3) & u64::from(u32::MAX)).expect("it has 32 bits").cast_signed();
            !(0..LONG_MS).contains(&timeout)
        }
        // No time, or one that only the thread knows.
        Some(PPOLL) => argument(2) == 0,
        Some(FUTEX) => argument(3) == 0,
        // It runs, or does something else that ends soon.
        _ => false,
    }
}

/// Not how often it wakes up is looked at, which takes as long as it lasts, but for how long its threads mean to sleep.
#[test]
#[cfg(target_arch = "x86_64")]
fn an_idle_master_means_to_sleep_for_ten_seconds_and_more() {
    let home = Home::new();
    let server =
        Launch::fixture("idle.js").option("--balance", "kernel").env("SOCKET", home.join("idle.sock"));
    let program = Launch::fixture("program.sh");
    for launch in [server, program] {
        let master = launch.serve();
        master.reload().expect_code(0);
        master.wait_all(2, on("exit"));
        eventually("all threads of the master wait for long", || {
            let tasks =
                fs::read_dir(format!("/proc/{}/task", master.process().pid())).expect("the master lives");
            tasks.into_iter().all(|task| waits_long(&task.expect("a thread").path()))
        });
    }
}
