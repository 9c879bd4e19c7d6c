//! Upgrades while clients ask: each of them is answered, and nothing is left behind.

use std::io::{PipeReader, Read as _};
use std::time::Duration;

use recluster_e2e::{Home, Launch, Load, Master, eventually, get, on};
use rustix::process::{Pid, Signal, kill_process};

use super::{NEXT, VERSION, next, upgrade};

/// How many clients there are at once.
const CLIENTS: usize = 4;

/// Between two versions there and back, under load.
fn upgrades_under_load(launch: Launch, times: usize) {
    let home = Home::new();
    let next = next(&home);
    let master = launch.serve();
    let address = master.address();
    let workers = master.active_pids();
    let load = Load::begin(CLIENTS, move || get(address, "/").map(|answer| answer.text("generation")));
    load.go_on(50);
    let mut reloads = 0;
    for time in 0..times {
        let binary = if time % 2 == 0 { next.as_path() } else { recluster_e2e::recluster() };
        let done = upgrade(&master, binary);
        done.expect_code(0);
        let (from, to) = if time % 2 == 0 { (VERSION, NEXT) } else { (NEXT, VERSION) };
        assert_eq!((&done.json()["from"], &done.json()["to"]), (&from.into(), &to.into()));
        load.go_on(20);
        if times > 2 && time == times / 3 {
            master.signal(Signal::USR2);
            reloads += 1;
            master.wait_all(reloads, on("reloaded").with("/verdict", "done"));
        }
        if times > 2 && time == times / 2 {
            crash_one(&master.active_pids());
            eventually("it is replaced", || {
                let status = master.status();
                status["slots"]
                    .as_array()
                    .is_some_and(|slots| slots.iter().all(|slot| !slot["active"].is_null()))
            });
        }
    }
    load.go_on(20);
    let tally = load.end();
    // A worker that crashes takes with it what it was asked.
    let losable = if times > 2 { CLIENTS } else { 0 };
    assert!(tally.lost.len() <= losable, "lost: {:?}", tally.lost);
    if reloads == 0 {
        assert_eq!(master.active_pids(), workers);
    }
    let status = master.status();
    assert_eq!(status["master"]["upgrades"], times);
    assert_eq!(status["pid"], master.process().pid());
}

fn crash_one(workers: &[u32]) {
    let pid = workers.first().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    kill_process(pid.expect("a worker"), Signal::KILL).expect("it lives");
}

#[test]
fn an_upgrade_loses_no_connection_that_the_kernel_hands_out() {
    upgrades_under_load(Launch::fixture("server.js").option("--balance", "kernel"), 2);
}

#[test]
fn an_upgrade_loses_no_connection_that_the_master_hands_out() {
    upgrades_under_load(Launch::fixture("server.js").option("--balance", "round-robin"), 2);
}

#[test]
fn an_upgrade_loses_no_connection_of_clients_that_stick_to_their_workers() {
    upgrades_under_load(Launch::fixture("server.js").option("--balance", "sticky"), 2);
}

#[test]
fn twenty_upgrades_go_well_with_a_reload_and_a_crash_between() {
    upgrades_under_load(Launch::fixture("server.js"), 20);
}

#[test]
fn no_descriptor_is_left_by_an_upgrade() {
    let home = Home::new();
    let next = next(&home);
    let master = Launch::fixture("server.js").serve();
    let workers = master.active_pids();
    let before = master.process().open_files();
    for binary in [next.as_path(), recluster_e2e::recluster(), &next] {
        upgrade(&master, binary).expect_code(0);
        eventually("it has no more than before", || master.process().open_files() <= before);
    }
    assert_eq!(master.active_pids(), workers);
}

#[test]
fn nobody_is_turned_away_at_the_admin_listener() {
    let home = Home::new();
    let next = next(&home);
    let master = Launch::fixture("server.js").with_admin().serve();
    let admin = master.admin();
    let load = Load::begin(2, move || get(admin, "/livez").map(|answer| answer.status.to_string()));
    for binary in [next.as_path(), recluster_e2e::recluster(), &next] {
        load.go_on(10);
        upgrade(&master, binary).expect_code(0);
    }
    load.go_on(10);
    let tally = load.end();
    // Those that were connected are cut off.
    let refused = tally.lost.iter().filter(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    assert_eq!(refused.count(), 0, "{:?}", tally.lost);
    assert!(tally.answers.iter().all(|status| status == "200"), "{:?}", tally.answers);
}

/// What a master may use beside its program, in kilobytes.
const BUDGET: u64 = 64 * 1024;

/// How many workers write more than is read.
const FLOODS: u32 = 4;

/// What workers have written and nobody has read yet is up to 16 MiB, and need not be text.
#[test]
fn what_waits_for_a_slow_reader_makes_no_master_large() {
    let home = Home::new();
    let next = next(&home);
    let (reader, stderr) = std::io::pipe().expect("a pipe");
    let launch =
        Launch::fixture("floods-stderr.js").home(&home).workers(FLOODS).option("--ready-when", "started");
    let log = home.join("log");
    let mut master = launch.option("--log-file", &log.to_string_lossy()).stderr(stderr).start();
    let read = std::thread::spawn(move || read_slowly(reader));
    eventually("more waits than may", || home.read_if_there("log").contains("\"lines_lost\""));
    let next = next.to_str().expect("a path of ours is text");
    master.client(&["upgrade", "--wait", "--dry-run", "--binary", next]).expect_code(0);
    assert!(peak(&master) < BUDGET, "{} kB when it was saved", peak(&master));
    master.client(&["upgrade", "--wait", "--binary", next]).expect_code(0);
    assert!(peak(&master) < BUDGET, "{} kB when it was taken over", peak(&master));
    master.signal(Signal::TERM);
    master.expect_end(0);
    drop(master);
    let cut = read.join().expect("what is read is what was written");
    assert!(cut <= FLOODS, "{cut} lines are cut, and {FLOODS} workers may have died within one");
}

fn peak(master: &Master) -> u64 {
    let kilobytes = |line| -> u64 {
        let line = master.process().status_line(line);
        line.trim_end_matches(" kB").parse().expect("a number of kilobytes")
    };
    // The program's own pages are as many as the build has.
    kilobytes("VmHWM").saturating_sub(kilobytes("RssFile"))
}

/// Reads to the end, slower than workers write: lines of one length. Returns how many are shorter, as of a worker that dies within one.
fn read_slowly(mut reader: PipeReader) -> u32 {
    let mut cut = 0;
    let mut piece = vec![0; 16 * 1024];
    let mut column = 0;
    loop {
        let count = reader.read(&mut piece).expect("a pipe can be read");
        if count == 0 {
            return cut;
        }
        for byte in &piece[..count] {
            let ends = *byte == b'\n';
            assert!(ends || column < 1023, "column {column}");
            cut += u32::from(ends && column < 1023);
            column = if ends { 0 } else { column + 1 };
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
