//! What workers write where the master is asked to tell whose it is: a prefix, JSON, files.

use std::fs;
use std::path::Path;

use recluster_e2e::{Event, Home, Launch, Master, eventually, on};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

/// A server that says this when it has started.
fn says(home: &Home, script: &str) -> Launch {
    let script = format!("const fs = require('node:fs'); {script}; setInterval(() => {{}}, 1e9)");
    let server = home.write("server.js", &script);
    Launch::of(server).home(home).workers(1).option("--ready-when", "started").option("--bake", "0s")
}

/// The lines of a stream of workers, where the master makes objects of them.
fn lines(master: &Master, stream: &str) -> Vec<Event> {
    let of_stdout = master.stdout();
    let of_stdout = of_stdout.iter().map(|line| Event::parse(line).expect("an object"));
    let all = of_stdout.chain(master.log()).filter(|event| event.name() == "line");
    all.filter(|event| event.text("/stream") == stream).collect()
}

#[test]
fn before_each_line_stands_whose_it_is() {
    let home = Home::new();
    let launch = says(&home, "console.log('to stdout'); console.error('to stderr')").workers(2);
    let master = launch.flag("--log-prefix").option("--log-format", "text").start();
    for slot in ["0", "1"] {
        let has_prefix = |line: &String, text: &str| {
            let (prefix, rest) = line.split_once(" | ").unwrap_or_default();
            let (number, pid) = prefix.split_once(' ').unwrap_or_default();
            number == slot && pid.parse::<u32>().is_ok() && rest == text
        };
        eventually("each line has its prefix, where it was written", || {
            master.stdout().iter().any(|line| has_prefix(line, "to stdout"))
                && master.stderr().iter().any(|line| has_prefix(line, "to stderr"))
        });
    }
}

#[test]
fn a_log_of_json_has_no_bare_line_whatever_workers_write() {
    let home = Home::new();
    let script = "fs.writeSync(2, Buffer.from('binary \\xff\\x00 \\x1b[2J\\rcarriage\\r\\n', 'latin1'));
        fs.writeSync(1, '\\n{\"event\":\"over\"}\\n' + 'x'.repeat(300000) + '\\n');
        fs.writeSync(2, 'its last word'); process.exit(7)";
    let launch = says(&home, script).option("--bake", "1h").option("--attempts", "1");
    let mut master = launch.flag("--log-prefix").start();
    master.expect_end(3);
    assert_eq!(master.stderr(), Vec::<String>::new());
    let texts =
        |lines: &[Event]| -> Vec<String> { lines.iter().map(|line| line.text("/line").to_owned()).collect() };
    let (out, err) = (lines(&master, "stdout"), lines(&master, "stderr"));
    assert_eq!(texts(&out)[..2], ["", "{\"event\":\"over\"}"]);
    let long = &out[2..];
    assert_eq!(texts(long).concat(), "x".repeat(300_000), "a long line comes in pieces");
    let is_partial = |line: &Event| line.at("/partial") == true;
    assert!(
        long.len() >= 3 && long.iter().rev().skip(1).all(is_partial) && !long.last().is_some_and(is_partial)
    );
    assert_eq!(texts(&err).concat(), "binary \u{fffd}\0 \u{1b}[2J\rcarriage\rits last word");
    let spawned = master.wait(on("spawned"));
    for line in out.iter().chain(&err) {
        let of = ["/slot", "/pid", "/generation"].map(|field| line.number(field));
        assert_eq!(of, [0, spawned.pid().into(), 1]);
    }
}

#[test]
fn a_worker_s_stdout_is_the_master_s_own_unless_an_option_asks_for_it() {
    let (home, asked) = (Home::new(), Home::new());
    let plain = says(&home, "console.log(fs.fstatSync(1).ino)").start();
    let worker = plain.worker(&plain.wait(on("online")));
    assert_eq!(worker.descriptor(1), plain.process().descriptor(1));
    let prefixed = says(&asked, "console.log('x')").flag("--log-prefix").start();
    let worker = prefixed.worker(&prefixed.wait(on("online")));
    assert_ne!(worker.descriptor(1), prefixed.process().descriptor(1));
}

fn log_of(home: &Home) -> String {
    let directory = home.join("logs");
    fs::create_dir_all(&directory).expect("a directory");
    directory.to_string_lossy().into_owned()
}

fn read(directory: &str, name: &str) -> String {
    fs::read_to_string(Path::new(directory).join(name)).unwrap_or_default()
}

#[test]
fn each_slot_has_a_file_through_a_reload_and_a_rotation() {
    let home = Home::new();
    let directory = log_of(&home);
    let script = "const say = (what) => fs.writeSync(1, `${what} of ${process.env.WORKER_ID} in ${process.env.RECLUSTER_GENERATION}\\n`);
        say('hello'); fs.writeSync(2, 'to stderr\\n'); process.on('disconnect', () => say('goodbye'))";
    let master = says(&home, script).workers(2).option("--worker-log", &directory).serve();
    let has = |name: &str, text: &str| read(&directory, name).contains(text);
    for slot in 0..2 {
        let name = format!("{slot}.log");
        eventually("both outputs are in the file", || {
            has(&name, &format!("hello of {slot} in 1\n")) && has(&name, "to stderr\n")
        });
    }
    assert_eq!(master.stdout(), Vec::<String>::new(), "they are in the files alone");
    assert_eq!(master.stderr(), Vec::<String>::new());
    fs::rename(Path::new(&directory).join("0.log"), Path::new(&directory).join("old")).expect("a file");
    master.signal(Signal::USR1);
    eventually("a new one is opened", || Path::new(&directory).join("0.log").exists());
    master.client(&["reload"]).expect_code(0);
    for slot in 0..2 {
        let (name, goodbye) = (format!("{slot}.log"), format!("goodbye of {slot} in 1\n"));
        eventually("the old worker and the new one are in it", || {
            has(&name, &format!("hello of {slot} in 2\n")) && has(&name, &goodbye)
        });
    }
    assert!(has("old", "hello of 0 in 1\n") && !has("0.log", "hello of 0 in 1\n"));
}

#[test]
fn a_full_file_is_moved_away_and_no_line_is_lost_or_split() {
    let home = Home::new();
    let directory = log_of(&home);
    let script = "for (let i = 0; i < 4000; i++) fs.writeSync(1, `${String(i).padStart(6, '0')} ${'x'.repeat(92)}\\n`)";
    let launch = says(&home, script).option("--worker-log", &directory);
    let _master = launch.option("--worker-log-size", "64K").option("--worker-log-keep", "7").serve();
    eventually("all is written", || read(&directory, "0.log").contains("003999 "));
    let files = (1..=7).rev().map(|number| format!("0.log.{number}")).chain(["0.log".to_owned()]);
    let files: Vec<String> = files.map(|name| read(&directory, &name)).collect();
    assert!(files.iter().all(|file| file.len() <= 64 << 10));
    let all = files.concat();
    let numbers: Vec<usize> = all
        .lines()
        .filter(|line| line.len() == 99)
        .map(|line| line[..6].parse().expect("a number"))
        .collect();
    assert_eq!(numbers, (0..4000).collect::<Vec<_>>());
}

#[test]
fn what_children_of_a_worker_write_after_its_end_is_there_as_well() {
    let home = Home::new();
    let directory = log_of(&home);
    // The child waits until its parent is gone.
    let script = "if (!fs.existsSync('once')) {
        fs.writeFileSync('once', '');
        require('node:child_process').spawn('sh', ['-c', 'read line; echo from a child; echo and more >&2'],
            {stdio: ['pipe', 'inherit', 'inherit'], detached: true});
        process.exit(1) }";
    let _master = says(&home, script).option("--worker-log", &directory).start();
    eventually("the child has said it", || {
        let said = read(&directory, "0.log");
        said.contains("from a child\n") && said.contains("and more\n")
    });
}

#[test]
fn a_directory_that_is_not_there_and_a_file_that_is_none_are_refused_before_anything_starts() {
    let home = Home::new();
    let missing = home.join("gone").to_string_lossy().into_owned();
    let refused = says(&home, "").option("--worker-log", &missing).refused();
    assert!(refused.stderr.contains("gone") && refused.stderr.contains("No such file"), "{refused:?}");
    let directory = log_of(&home);
    mknodat(CWD, Path::new(&directory).join("0.log"), FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
    let refused = says(&home, "").option("--worker-log", &directory).refused();
    assert!(refused.stderr.contains("no regular file"), "{refused:?}");
}
