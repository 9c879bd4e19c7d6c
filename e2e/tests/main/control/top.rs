//! `top`, driven in a terminal by keys, by signals and by what happens to its cluster.

use std::process::Stdio;

use recluster_e2e::{Home, Launch, Master, Process, Tmux, command, eventually};
use rustix::process::Signal;

/// Runs `top` between two looks at the terminal, and says how it ended. Its process is in the file `pid`.
const SCRIPT: &str = r#"
stty -a >before
echo "what was there before"
sh -c 'echo $$ >pid; exec "$RECLUSTER" top --control "$1"' sh CONTROL
echo "top has ended with $?"
stty -a >after
cat
"#;

/// A terminal in which `top` looks at a cluster.
fn open(master: &Master) -> Tmux {
    let script = SCRIPT.replace("CONTROL", &master.control().to_string_lossy());
    Tmux::start(master.home(), (80, 24), &script)
}

fn process(home: &Home) -> Process {
    Process::open(home.read("pid").trim().parse().expect("a pid")).expect("it lives")
}

/// Waits for its end, and for the terminal to be as it was before.
#[track_caller]
fn expect_restored(tmux: &Tmux, home: &Home) {
    let screen = tmux.wait_for("top has ended with 0");
    assert!(screen.contains("what was there before"), "the screen of before is shown again: {screen}");
    let state = "#{alternate_on} #{cursor_flag} #{keypad_flag} #{mouse_any_flag}";
    assert_eq!(tmux.ask(&["display-message", "-p", state]).trim(), "0 1 0 0");
    eventually("stty has looked", || !home.read_if_there("after").is_empty());
    assert_eq!(home.read("after"), home.read("before"));
}

#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn it_shows_the_cluster_reloads_it_and_leaves_the_terminal_as_it_was() {
    let master = Launch::fixture("server.js").serve();
    let tmux = open(&master);
    let old = master.active_pids();
    tmux.wait("both workers", |screen| old.iter().all(|pid| screen.contains(&pid.to_string())));
    let screen = tmux.wait_for("2 of 2 slots serve");
    assert!(screen.contains("running") && screen.contains("no reload so far"), "{screen}");

    tmux.press(&["r"]);
    tmux.wait_for("reloaded: generation 2 serves");
    let screen = tmux.wait_for("last reload: generation 2 came to serve");
    assert!(screen.contains("generation began generation=2"), "an event tells of it: {screen}");
    let new = master.active_pids();
    tmux.wait("the new workers", |screen| new.iter().all(|pid| screen.contains(&pid.to_string())));

    tmux.resize(130, 40);
    tmux.wait("more columns", |screen| ["HEAP", "LAG", "QUEUE"].iter().all(|title| screen.contains(title)));
    let reports = |screen: &str| {
        screen.lines().filter(|line| line.contains("serving") && line.contains("ms ")).count() == 2
    };
    tmux.wait("how long both workers take to answer", reports);
    tmux.resize(50, 10);
    let small = tmux.wait_for("too small: top needs 60 × 14 characters");
    assert_eq!(small.trim().lines().count(), 1, "{small}");
    tmux.resize(80, 24);
    tmux.wait_for("2 of 2 slots serve");

    tmux.press(&["q"]);
    expect_restored(&tmux, master.home());
}

#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn however_it_is_ended_the_terminal_is_as_it_was() {
    let master = Launch::fixture("server.js").workers(1).serve();
    for signal in [None, Some(Signal::TERM), Some(Signal::INT), Some(Signal::HUP), Some(Signal::QUIT)] {
        master.home().write("after", "");
        let tmux = open(&master);
        tmux.wait_for("1 of 1 slots serve");
        match signal {
            None => tmux.press(&["C-c"]),
            Some(signal) => process(master.home()).signal(signal),
        }
        expect_restored(&tmux, master.home());
        let top = master.home().read("pid");
        assert!(!std::path::Path::new(&format!("/proc/{}", top.trim())).exists(), "{signal:?}");
    }
}

/// As from any other program, ^Z leads back to the shell, and `fg` from there.
#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn it_can_be_suspended() {
    const JOBS: &str = r#"
set -m
echo "what was there before"
"$RECLUSTER" top --control CONTROL
echo "top is $(jobs)"
read line
fg
cat
"#;
    let master = Launch::fixture("server.js").workers(1).serve();
    let script = JOBS.replace("CONTROL", &master.control().to_string_lossy());
    let tmux = Tmux::start(master.home(), (80, 24), &script);
    tmux.wait_for("1 of 1 slots serve");
    tmux.press(&["C-z"]);
    let screen = tmux.wait_for("Stopped");
    assert!(screen.contains("what was there before"), "{screen}");
    assert_eq!(tmux.ask(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
    tmux.press(&["Enter"]);
    tmux.wait_for("1 of 1 slots serve");
    tmux.press(&["C-l", "?"]);
    tmux.wait_for("KEYS AND COLUMNS");
    tmux.press(&["q"]);
    tmux.wait("the shell's screen", |screen| screen.contains("Stopped") && !screen.contains("KEYS"));
}

#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn it_ends_with_its_terminal() {
    let master = Launch::fixture("server.js").workers(1).serve();
    let tmux = open(&master);
    tmux.wait_for("1 of 1 slots serve");
    let top = process(master.home());
    tmux.close();
    top.wait_end();
}

#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn a_worker_is_replaced_after_a_question_and_slots_come_and_go() {
    let master = Launch::fixture("server.js").workers(1).serve();
    let tmux = open(&master);
    tmux.wait_for("1 of 1 slots serve");
    let [old] = master.active_pids()[..] else { panic!("one worker") };
    tmux.press(&["Down"]);
    tmux.press(&["k"]);
    tmux.wait_for(&format!("replace the worker of slot 0 (pid {old})? y yes, any other key no"));
    tmux.press(&["y"]);
    tmux.wait_for("worker 1 is replaced by 2");
    assert_ne!(master.active_pids(), [old]);
    tmux.press(&["+"]);
    tmux.wait_for("scaled to 2 workers");
    tmux.wait_for("2 of 2 slots serve");
    tmux.press(&["-"]);
    tmux.wait_for("scaled to 1 workers");
    tmux.press(&["Enter"]);
    tmux.wait_for("SLOT 0");
    tmux.press(&["Escape"]);
    // What comes at once with an escape would be one key with it.
    tmux.wait("the table", |screen| screen.contains("GEN STATE"));
    tmux.press(&["?"]);
    tmux.wait_for("KEYS AND COLUMNS");
}

#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn what_the_workers_of_a_slot_write_is_shown_as_it_comes() {
    let home = Home::new();
    let script = "const say = text => require('node:fs').writeSync(2, `slot ${process.env.WORKER_ID} ${text}\\n`);
        say('\\u001b[31mhas begun'); process.on('disconnect', () => { say('leaves'); process.exit() }); setInterval(() => {}, 1e9)";
    let launch = Launch::of(home.write("server.js", script)).home(&home).workers(2);
    let master = launch.option("--ready-when", "started").option("--bake", "0s").serve();
    let tmux = open(&master);
    tmux.wait_for("2 of 2 slots serve");
    tmux.press(&["l"]);
    let screen = tmux.wait_for("slot 0 has begun");
    assert!(screen.contains("stdout is not among them: --log-prefix"), "{screen}");
    master.client(&["reload"]).expect_code(0);
    let of_both =
        |screen: &str| screen.contains("slot 0 leaves") && screen.matches("slot 0 has begun").count() == 2;
    let screen = tmux.wait("what the old and the new worker say", of_both);
    assert!(!screen.contains("slot 1 "), "{screen}");
    tmux.press(&["Down"]);
    let screen = tmux.wait_for("slot 1 has begun");
    assert!(screen.contains("SLOT 1, LAST LINES") && !screen.contains("slot 0 has begun"), "{screen}");
    tmux.press(&["l"]);
    tmux.wait("the table", |screen| screen.contains("GEN STATE"));
    // Nobody looks at lines any more, so none are told.
    tmux.press(&["q"]);
    expect_restored(&tmux, master.home());
}

#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn a_master_that_stops_is_shown_as_stopped_and_one_that_comes_back_is_shown_again() {
    let home = Home::new();
    let launch = || Launch::fixture("server.js").workers(1).home(&home).option("--name", "it").discoverable();
    let mut master = launch().serve();
    let script = SCRIPT.replace("--control \"$1\"", "--name it").replace("CONTROL", "");
    let tmux = Tmux::start(&home, (80, 24), &script);
    tmux.wait_for("it  running");
    master.signal(Signal::TERM);
    master.expect_end(0);
    tmux.wait_for("it  stopped");
    let master = launch().serve();
    tmux.wait_for(&format!("it  running · pid {}", master.process().pid()));
}

/// A terminal with colours, without `NO_COLOR` and with it.
#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn without_colours_none_are_sent() {
    let master = Launch::fixture("server.js").workers(1).serve();
    for (variable, has_colours) in [("NO_COLOR=", true), ("NO_COLOR=1", false)] {
        let script = SCRIPT.replace("CONTROL", &master.control().to_string_lossy());
        let tmux = Tmux::start(master.home(), (80, 24), &format!("export {variable}\n{script}"));
        tmux.wait_for("1 of 1 slots serve");
        let screen = tmux.ask(&["capture-pane", "-p", "-e"]);
        // Colours have numbers from 30 on; bold, dim and reversed are below.
        let codes = screen.split("\u{1b}[").skip(1).filter_map(|code| code.split_once('m'));
        let coloured = codes.flat_map(|(codes, _)| codes.split(';')).any(|code| {
            code.parse::<u32>().is_ok_and(|code| (30..39).contains(&code) || (40..49).contains(&code))
        });
        assert_eq!(coloured, has_colours, "{variable}: {screen:?}");
    }
}

#[test]
fn without_a_terminal_it_says_what_to_do_instead() {
    let master = Launch::fixture("server.js").workers(1).serve();
    let refused = master.client(&["top"]);
    refused.expect_code(2);
    assert!(refused.stderr.contains("recluster status --watch"), "{refused:#?}");
    assert_eq!(refused.stdout, "");
    let json = master.client(&["top", "--json"]);
    json.expect_code(2);
    assert_eq!(json.json()["reply"], "failed", "{json:#?}");
    assert!(json.stderr.contains("recluster status --watch --json"), "{json:#?}");
    // A terminal that can move no cursor is none.
    let mut dumb = command(master.home().path());
    dumb.args(["top", "--control"]).arg(master.control()).env("TERM", "dumb").stdin(Stdio::null());
    assert_eq!(dumb.output().expect("it runs").status.code(), Some(2));
}
