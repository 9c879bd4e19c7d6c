//! The command line: what it means, and what it says about itself.

use std::time::Duration;

use clap::error::ErrorKind;
use recluster::{Scale, Surge};

use super::*;

fn read(line: &str) -> Result<Command, clap::Error> {
    let args: Vec<OsString> = with_command(line.split(' ').map(OsString::from).collect());
    typed(&reading::matches(&definition().term_width(100), &args)?)
}

fn run(line: &str) -> Run {
    match read(line) {
        Ok(Command::Run(args)) => *args,
        other => panic!("{other:?}"),
    }
}

fn refusal(line: &str) -> String {
    read(line).unwrap_err().to_string()
}

fn help(line: &str) -> String {
    let error = read(line).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DisplayHelp);
    error.to_string()
}

#[test]
fn the_definition_is_consistent() {
    definition().debug_assert();
}

#[test]
fn without_a_command_it_is_run() {
    for line in
        ["recluster server.js", "recluster run server.js", "recluster -q server.js", "recluster server.js -q"]
    {
        assert_eq!(run(line).server.to_str(), Some("server.js"), "{line}");
    }
    assert_eq!(run("recluster ./reload").server.to_str(), Some("./reload"));
    assert_eq!(run("recluster run reload").server.to_str(), Some("reload"));
    assert!(matches!(read("recluster reload"), Ok(Command::Reload(_))));
    assert_eq!(help("recluster help"), help("recluster --help"));
    assert_eq!(help("recluster help run"), help("recluster run --help"));
}

#[test]
fn what_follows_two_dashes_is_the_servers() {
    let args = run("recluster server.js --name a -- -w 3 --name b");
    assert_eq!(args.args, ["-w", "3", "--name", "b"]);
    assert_eq!(args.around.name.map(|name| name.to_string()).as_deref(), Some("a"));
}

#[test]
fn options_are_read() {
    let line = "recluster server.js -w 3 --timeout 0 --bake 500ms --surge 2 --node-arg --inspect --node-arg=-r --control none -v";
    let args = run(line);
    assert_eq!(args.running.workers.get(), 3);
    assert_eq!(args.leaving.timeout, Some(Duration::ZERO));
    assert_eq!(args.readiness.bake, Duration::from_millis(500));
    assert!(matches!(args.leaving.surge, Surge::AtMost(two) if two.get() == 2));
    assert_eq!(args.running.node_arg, ["--inspect", "-r"]);
    assert_eq!(args.around.control, Some(ControlAt::Off));
    assert_eq!(args.around.verbosity(), Verbosity::Verbose);
}

#[test]
fn a_watch_does_not_swallow_the_server_and_changes_what_is_not_said() {
    let watched = run("recluster --watch server.js --watch=src");
    assert_eq!(watched.server.to_str(), Some("server.js"));
    assert_eq!(format!("{:?}", watched.following.watch), "[Auto, Path(\"src\")]");
    let habits = |run: &Run| (run.running.workers.get(), run.readiness.attempts.get(), run.leaving.timeout);
    assert_eq!(habits(&watched), (1, 1, Some(Duration::ZERO)));
    let said = run("recluster --watch server.js -w 3 --attempts 2 --timeout 5s");
    assert_eq!(habits(&said), (3, 2, Some(Duration::from_secs(5))));
    assert_eq!(run("recluster server.js").leaving.timeout, None);
}

#[test]
fn a_scale_may_be_negative() {
    let scale = |line| match read(line) {
        Ok(Command::Scale(args)) => args.scale,
        other => panic!("{other:?}"),
    };
    assert_eq!(scale("recluster scale -1"), Scale::By(-1));
    assert_eq!(scale("recluster scale --json +2"), Scale::By(2));
    assert_eq!(scale("recluster scale 4 --name shop"), Scale::To(4));
}

#[test]
fn refusals_say_what_would_do() {
    let lines = [
        "recluster server.js --worker 3",
        "recluster server.js -w many",
        "recluster server.js --surge 0",
        "recluster server.js --timeout 5d",
        "recluster server.js --timeout=-1",
        "recluster server.js --attempts 0",
        "recluster server.js -w -1",
        "recluster server.js --workers -1 -q",
        "recluster check --exit-grace -5s server.js",
        "recluster server.js -1",
        "recluster server.js --control=",
        "recluster -i max server.js",
        "recluster server.js --max-memory-restart=100M",
        "recluster node server.js",
        "recluster check start ./app.mjs",
        "recluster npm start",
        "recluster server.js --balance best",
        "recluster server.js --balance sticky --sticky-by sid",
        "recluster server.js --sticky-by ip",
        "recluster server.js --peek-bytes 1K",
        "recluster server.js --balance sticky --peek-timeout 1s",
        "recluster server.js --check-interval 1s",
        "recluster server.js --check-timeout 1s",
        "recluster server.js --ready-check exec:true --check-interval 0",
        "recluster server.js --drain-http off --idle-grace 1s",
        "recluster server.js --max-memory 512",
        "recluster server.js --balance sticky --sticky-by cookie:a --peek-bytes 1G",
        "recluster server.js --port 3000",
        "recluster server.js -w 2 --port 3000 --host=::1 -v",
        "recluster check server.js -p3000 -- --x",
        "recluster --port 3000 server.js",
        "recluster server.js --inspect=0",
        "recluster server.js 3000",
        "recluster server.js --name a/b",
        "recluster server.js -q -v",
        "recluster server.js other.js",
        "recluster -w 3",
        "recluster scale",
        "recluster scale 0",
        "recluster reload --name a --control b",
    ];
    let refusals = lines.map(|line| format!("$ {line}\n{}", refusal(line)));
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn help_of_everything() {
    insta::assert_snapshot!(help("recluster --help"));
}

#[test]
fn help_of_run() {
    insta::assert_snapshot!(help("recluster run --help"));
}

#[test]
fn short_help_of_run() {
    insta::assert_snapshot!(help("recluster run -h"));
}

#[test]
fn help_of_check_is_that_of_run_but_for_its_ends() {
    let (check, run) = (help("recluster check -h"), help("recluster run -h"));
    let of_run: Vec<&str> = run.lines().collect();
    let own: Vec<&str> = check.lines().filter(|line| !of_run.contains(line)).collect();
    insta::assert_snapshot!(own.join("\n"));
}

#[test]
fn help_of_clients() {
    let helps = ["reload", "status", "config", "scale", "stop", "terminate"].map(|command| {
        let line = format!("recluster {command} --help");
        format!("$ {line}\n{}", help(&line))
    });
    insta::assert_snapshot!(helps.join("\n"));
}
