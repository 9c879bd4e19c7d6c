//! What workers write to stdout and stderr: it passes through the master, and a slow or closed reader blocks no worker.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeReader, Read as _};
use std::path::PathBuf;
use std::thread::JoinHandle;

use recluster_e2e::{Event, Home, Launch, Master, Process, eventually, on};
use rustix::process::Signal;

fn writes_both(home: &Home) -> Launch {
    let text = "console.log('to stdout'); console.error('to stderr'); setInterval(() => {}, 1e9)";
    let server = home.write("server.js", text);
    Launch::of(server).home(home).workers(1).option("--ready-when", "started")
}

#[test]
fn what_workers_write_passes_through() {
    let master = writes_both(&Home::new()).start();
    master.wait_stdout("to stdout");
    master.wait_stderr("to stderr");
}

#[test]
fn with_raw_stdio_it_passes_through_as_well() {
    let master = writes_both(&Home::new()).flag("--raw-stdio").start();
    master.wait_stdout("to stdout");
    master.wait_stderr("to stderr");
}

#[test]
fn with_raw_stdio_workers_have_the_master_s_stderr() {
    let master = writes_both(&Home::new()).flag("--raw-stdio").start();
    let worker = master.worker(&master.wait(on("online")));
    assert_eq!(worker.descriptor(2), master.process().descriptor(2));
    let other = writes_both(&Home::new()).start();
    let worker = other.worker(&other.wait(on("online")));
    assert_ne!(worker.descriptor(2), other.process().descriptor(2), "a pipe that the master reads");
}

/// A worker that writes 16,384 lines of 1 KiB to a pipe that is not read yet; and the pipe.
fn chatters(home: &Home) -> (Launch, PipeReader) {
    let (unread, stderr) = std::io::pipe().expect("a pipe");
    let launch = Launch::fixture("chatters.js").home(home).workers(1).option("--ready-when", "started");
    (launch.option("--log-file", &home.join("log").to_string_lossy()).stderr(stderr), unread)
}

/// Reads to the end, in a thread of its own; how many lines of 1 KiB there were.
fn count(unread: PipeReader) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let lines = BufReader::new(unread).lines().map(|line| line.expect("text"));
        lines.filter(|line| line.len() == 1023 && line.bytes().all(|byte| byte == b'x')).count()
    })
}

#[test]
fn a_slow_reader_loses_lines_but_does_not_block_workers_and_is_told_how_many() {
    let home = Home::new();
    let (launch, unread) = chatters(&home);
    let mut master = launch.start();
    let line = master.wait_stdout("said everything");
    let kilobytes = |line| -> usize {
        let line = master.process().status_line(line);
        line.trim_end_matches(" kB").parse().expect("a number of kilobytes")
    };
    // The program's own pages are as many as the build has.
    let peak = kilobytes("VmHWM") - kilobytes("RssFile");
    assert!(peak < 16 * 1024, "{peak} kB, and 4 MiB may wait");
    let read = count(unread);
    let pid = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("the line ends with a pid");
    Process::open(pid).expect("the worker lives").signal(Signal::KILL);
    eventually("it is told", || home.read_if_there("log").contains("\"lines_lost\""));
    master.signal(Signal::QUIT);
    master.expect_end(0);
    let log = home.read("log");
    let events: Vec<Event> = log.lines().filter_map(Event::parse).collect();
    let lost: u64 =
        events.iter().filter(|event| event.name() == "lines_lost").map(|event| event.number("/lines")).sum();
    let workers = events.iter().filter(|event| event.name() == "spawned").count() as u64;
    drop(master);
    assert!(lost > 8 * 1024 && lost <= workers * 16 * 1024);
    assert!(read.join().expect("no panic") > 4000, "what waited is read");
}

#[test]
fn a_worker_may_wait_for_a_slow_reader() {
    let home = Home::new();
    let (launch, unread) = chatters(&home);
    let mut master = launch.option("--stderr", "wait").start();
    let log = || home.read_if_there("log");
    eventually("the worker runs", || log().contains("\"online\""));
    let online = log().lines().filter_map(Event::parse).find(|event| event.name() == "online");
    let io = format!("/proc/{}/io", online.expect("it runs").pid());
    let written = || {
        let io = std::fs::read_to_string(&io).expect("the worker lives");
        let count = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a count");
        count.parse::<u64>().expect("a number")
    };
    eventually("as much waits as may", || written() > 4_000_000);
    let read = count(unread);
    master.wait_stdout("said everything");
    master.signal(Signal::QUIT);
    master.expect_end(0);
    drop(master);
    assert_eq!(read.join().expect("no panic"), 16 * 1024);
    assert!(!log().contains("lines_lost"));
}

/// A cluster whose stderr is a file, and the file.
fn to_a_file(home: &Home, server: &str) -> (Launch, PathBuf) {
    let path = home.join("stderr");
    let file = File::create(&path).expect("a file");
    let launch = Launch::of(home.write("server.js", server)).home(home).option("--ready-when", "started");
    (launch.option("--log-file", &home.join("log").to_string_lossy()).stderr(file), path)
}

#[test]
fn the_last_words_of_dying_workers_reach_a_file_wholly_and_line_by_line() {
    let home = Home::new();
    let server = "const fs = require('node:fs'), who = process.pid, words = [];
        for (let i = 0; i < 2000; i++) words.push(`${who} says line ${String(i).padStart(4, '0')} before it dies\\n`);
        let rest = Buffer.from(words.join(''));
        while (rest.length) rest = rest.subarray(fs.writeSync(2, rest));
        fs.writeSync(2, `${who} dies`);
        process.kill(who, 'SIGKILL');";
    let (launch, path) = to_a_file(&home, server);
    let mut master = launch.workers(4).option("--attempts", "2").option("--bake", "1h").start();
    master.expect_end(3);
    let text = std::fs::read_to_string(path).expect("the file");
    let mut said: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains(" says ") || line.contains(" dies")) {
        let (who, what) = line.split_once(' ').expect("two words");
        said.entry(who).or_default().push(what);
    }
    assert!(said.len() >= 4);
    let numbered = (0..2000).map(|number| format!("says line {number:04} before it dies"));
    let all: Vec<String> = numbered.chain(["dies".to_owned()]).collect();
    for (who, what) in &said {
        // The others are killed by the master when it gives up.
        assert_eq!(what[..], all[..what.len()], "{who}");
    }
    assert!(said.values().filter(|what| what.len() == all.len()).count() >= 2);
    let log = home.read("log");
    let failed = log.lines().filter_map(Event::parse).find(|event| event.name() == "start_failed");
    let failed = failed.expect("why it is given up");
    let tail = failed.at("/failure/stderr").as_array().expect("the tail");
    assert!(
        tail.last().and_then(|last| last.as_str()).is_some_and(|last| last.ends_with(" dies")),
        "{tail:?}"
    );
}

#[test]
fn two_hundred_thousand_lines_reach_a_file() {
    let home = Home::new();
    let server = "const fs = require('node:fs');
        for (let i = 0; i < 200000; i++) fs.writeSync(2, `line ${i}\\n`);
        console.log('said everything'); setInterval(() => {}, 1e9)";
    let (launch, path) = to_a_file(&home, server);
    let mut master = launch.workers(1).start();
    master.wait_stdout("said everything");
    master.signal(Signal::QUIT);
    master.expect_end(0);
    let text = std::fs::read_to_string(path).expect("the file");
    assert!(text.lines().eq((0..200_000).map(|number| format!("line {number}"))), "{}", text.lines().count());
    assert!(!home.read("log").contains("lines_lost"));
}

#[test]
fn a_closed_reader_changes_nothing() {
    let home = Home::new();
    let (reader, stderr) = std::io::pipe().expect("a pipe");
    drop(reader);
    let launch = Launch::fixture("chatters.js").home(&home).workers(1).option("--ready-when", "started");
    let master = launch.option("--log-file", &home.join("log").to_string_lossy()).stderr(stderr).start();
    master.wait_stdout("said everything");
    master.client(&["status"]).expect_code(0);
}

/// A cluster of one that is told to stop when it serves and much waits in its stdout; and what can be read of that.
fn stops_with_a_full_stdout(home: &Home) -> (Master, PipeReader) {
    let server = home.write(
        "server.js",
        "require('node:http').createServer().listen(0, '127.0.0.1', () => process.stdout.write('x'.repeat(1 << 20)))",
    );
    let (unread, stdout) = std::io::pipe().expect("a pipe");
    let launch = Launch::of(server).home(home).workers(1).stdout(stdout);
    let launch = launch.option("--log-file", &home.join("log").to_string_lossy());
    let master = launch.option("--exit-grace", "1h").option("--stop-timeout", "1h").start();
    eventually("it serves", || home.read_if_there("log").contains("\"started\""));
    master.signal(Signal::TERM);
    (master, unread)
}

#[test]
fn a_stdout_that_nobody_reads_does_not_hold_a_stop_up() {
    let home = Home::new();
    let (mut master, unread) = stops_with_a_full_stdout(&home);
    master.expect_end(0);
    let log = home.read("log");
    let exit = log.lines().filter_map(Event::parse).find(|event| event.name() == "exit");
    assert_eq!(exit.expect("the worker has ended").number("/exit/code"), 0);
    drop(unread);
}

#[test]
fn a_stdout_that_is_read_late_is_read_wholly() {
    let home = Home::new();
    let (mut master, mut unread) = stops_with_a_full_stdout(&home);
    let mut text = String::new();
    // Its other end is open in the master and in the worker alone.
    unread.read_to_string(&mut text).expect("it is read");
    assert_eq!(text.matches('x').count(), 1 << 20);
    master.expect_end(0);
}
