//! The disk on which the master writes is full: lines and files are lost, and nothing that runs minds.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use recluster_e2e::{Home, Launch, Master, eventually, get, recluster};
use rustix::process::Signal;

/// The master has this directory of the home on a disk of its own.
fn on_a_disk(home: &Home, launch: Launch, options: &str) -> Launch {
    fs::create_dir(home.join("disk")).expect("the directory is ours");
    launch.home(home).started_by("on-a-disk.py").env("DISK", home.join("disk")).env("OPTIONS", options)
}

/// The disk, as the master sees it.
fn disk(home: &Home, master: &Master) -> PathBuf {
    let path = home.join("disk");
    let path = path.strip_prefix("/").expect("it is absolute");
    Path::new("/proc").join(master.process().pid().to_string()).join("root").join(path)
}

/// Writes until there is no room.
fn fill(file: &Path) {
    let mut file = File::options().append(true).create(true).open(file).expect("a file");
    for size in [4096, 1] {
        loop {
            match file.write_all(&[b' '; 4096][..size]) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull);
                    break;
                }
            }
        }
    }
}

fn kill_one(master: &Master) {
    let pid = master.active_pids()[0];
    recluster_e2e::Process::open(pid).expect("it lives").signal(Signal::KILL);
    eventually("it is replaced", || master.active_pids().len() == 2 && !master.active_pids().contains(&pid));
}

/// The log, the pidfile and what workers write are there. The acts of a master one by one: each is done, whatever cannot be written.
#[test]
#[cfg_attr(not(has = "mounts"), ignore = "file systems cannot be mounted here")]
fn a_full_disk_costs_lines_and_nothing_that_runs() {
    let home = Home::new();
    let path = |name: &str| home.join("disk").join(name).to_string_lossy().into_owned();
    let launch = on_a_disk(&home, Launch::fixture("server.js"), "size=1m");
    let launch = launch.option("--log-file", &path("log")).option("--pidfile", &path("it.pid"));
    let mut master = launch.option("--worker-log", &path("")).start();
    eventually("it serves", || master.client(&["status"]).code() == 0);
    let disk = disk(&home, &master);
    let log = || fs::read_to_string(disk.join("log")).unwrap_or_default();
    let address = master.status()["listeners"][0]["address"].clone();
    let address = address["address"].as_str().or_else(|| address.as_str()).expect("an address").parse();
    let address = address.expect("of TCP");
    // What a first reload and a further slot leave open is left once.
    master.client(&["reload"]).expect_code(0);
    master.client(&["scale", "3"]).expect_code(0);
    master.client(&["scale", "2"]).expect_code(0);
    fs::remove_file(disk.join("it.pid")).expect("it is there");
    fill(&disk.join("full"));
    let files = master.process().open_files();
    master.signal(Signal::USR1);
    kill_one(&master);
    // It says on stderr why it ends.
    drop(get(address, "/throw"));
    master.client(&["reload"]).expect_code(0);
    master.client(&["upgrade", "--binary", &recluster().to_string_lossy()]).expect_code(0);
    kill_one(&master);
    master.client(&["scale", "3"]).expect_code(0);
    master.client(&["scale", "2"]).expect_code(0);
    assert_eq!(get(address, "/").expect("an answer").status, 200);
    assert!(!disk.join("it.pid").exists(), "there is no room for it");
    eventually("no descriptor is left", || master.process().open_files() <= files);
    // There is room again, and everything is written.
    fs::remove_file(disk.join("full")).expect("it is there");
    master.signal(Signal::USR1);
    eventually("the pidfile is there", || {
        fs::read_to_string(disk.join("it.pid"))
            .is_ok_and(|pid| pid.trim() == master.process().pid().to_string())
    });
    let before = log().lines().count();
    master.client(&["reload"]).expect_code(0);
    eventually("the log goes on", || log().lines().skip(before).any(|line| line.contains("\"reloaded\"")));
    drop(get(address, "/throw"));
    let written = || {
        fs::read_dir(&disk)
            .expect("it is there")
            .flatten()
            .any(|file| fs::read_to_string(file.path()).is_ok_and(|text| text.contains("asked to throw")))
    };
    eventually("what workers write is there", written);
    master.signal(Signal::TERM);
    master.expect_end(0);
}

/// There is room for no file at all.
#[test]
#[cfg_attr(not(has = "mounts"), ignore = "file systems cannot be mounted here")]
fn a_file_that_is_asked_for_and_has_no_room_is_an_error_before_anything_starts() {
    for (option, what) in [("--control", "control socket"), ("--pidfile", "pidfile"), ("--log-file", "log")] {
        let home = Home::new();
        let launch = on_a_disk(&home, Launch::fixture("server.js"), "size=64k,nr_inodes=1,mode=700");
        let refused = launch.option(option, &home.join("disk/it").to_string_lossy()).refused();
        refused.expect_code(2);
        assert!(refused.stderr.contains(what) && refused.stderr.contains("No space left"), "{refused:#?}");
    }
}
