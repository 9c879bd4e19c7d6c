//! The command line: help, values that are refused, error messages, exit statuses.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use recluster_e2e::{Finished, Home, Launch, Node, Running, eventually, fixture};

fn recluster(args: &[&str]) -> Finished {
    Home::new().recluster(args)
}

#[test]
fn help_is_shown_by_option_and_without_arguments() {
    let help = recluster(&["--help"]);
    help.expect_code(0);
    for part in ["run", "reload", "status", "scale", "stop", "terminate"] {
        assert!(help.stdout.contains(part), "{part}: {help:#?}");
    }
    recluster(&["run", "--help"]).expect_code(0);
    let nothing = recluster(&[]);
    nothing.expect_code(2);
    assert!(nothing.stderr.contains("Usage"), "{nothing:#?}");
}

#[test]
fn the_version_is_shown() {
    let version = recluster(&["--version"]);
    version.expect_code(0);
    assert!(version.stdout.starts_with("recluster "), "{version:#?}");
}

#[test]
fn run_is_the_default_command() {
    let home = Home::new();
    let server = home.write("server.js", "console.log('runs')\nprocess.exit(0)");
    let node = &Node::under_test().path;
    let finished = home.recluster(&[
        &server.to_string_lossy(),
        "--control",
        "none",
        "--attempts",
        "1",
        "-w",
        "1",
        "--node",
        node,
    ]);
    finished.expect_code(3);
    assert!(finished.stdout.contains("runs"), "{finished:#?}");
}

#[test]
fn an_unknown_option_is_named_with_the_nearest_right_one() {
    let wrong = recluster(&["run", "--worker", "2", "server.js"]);
    wrong.expect_code(2);
    assert!(wrong.stderr.contains("--worker") && wrong.stderr.contains("--workers"), "{wrong:#?}");
}

#[test]
fn an_unknown_command_is_a_missing_file() {
    let wrong = recluster(&["relaod"]);
    wrong.expect_code(127);
    assert!(wrong.stderr.contains("relaod"), "{wrong:#?}");
}

#[test]
fn wrong_values_are_named_with_their_option() {
    let server = fixture("server.js");
    let wrong = [
        ("--workers", "0"),
        ("--workers", "many"),
        ("--timeout", "soon"),
        ("--timeout", "-1"),
        ("--bake", "1 fortnight"),
        ("--ready-when", "asked"),
        ("--balance", "magic"),
        ("--surge", "0"),
        ("--attempts", "0"),
        ("--max-draining", "none"),
        ("--log-format", "xml"),
        ("--name", "a/b"),
        ("--ready-timeout", "999999999999999999999h"),
    ];
    for (option, value) in wrong {
        let refused = recluster(&["run", &format!("{option}={value}"), &server.to_string_lossy()]);
        assert_eq!(refused.code(), 2, "{option}={value}: {refused:#?}");
        assert!(refused.stderr.contains(option), "{option}={value}: {refused:#?}");
    }
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let refused = Launch::fixture("server.js").option("--respawn", "2s").option("--backoff", "1s").refused();
    refused.expect_code(2);
    assert!(refused.stderr.contains("backoff"), "{refused:#?}");
}

#[test]
fn wrong_values_in_the_environment_are_named_too() {
    let refused = Launch::fixture("server.js").without("--workers").env("WEB_CONCURRENCY", "lots").refused();
    refused.expect_code(2);
    assert!(refused.stderr.contains("lots"), "{refused:#?}");
}

/// Bytes that are no text, in every way by which a program is told something.
#[test]
fn what_is_not_utf8_reaches_the_server_as_it_is() {
    let bytes = |text: &[u8]| OsString::from_vec(text.to_vec());
    let home = Home::new();
    let directory = home.path().join(bytes(b"a\xffb"));
    fs::create_dir(&directory).expect("the directory is ours");
    let script = home.script(
        "it.sh",
        "printf '%s' \"$0 $1 $KEY\" | od -An -v -tx1 | tr -d ' \\n'\necho\nexec sleep 1000000",
    );
    let program = directory.join("it.sh");
    fs::rename(script, &program).expect("the directory is ours");
    let launch = Launch::of(&program).workers(1).arg(bytes(b"c\xfed")).env("KEY", bytes(b"e\xfdf"));
    let master = launch.start();
    master.wait_stdout("61ff622f69742e7368"); // a.b/it.sh
    master.wait_stdout("2063fe64 2065fd66".replace(' ', "").as_str());
    let server = home.write(
        "argv.js",
        "console.log(require('node:fs').readFileSync('/proc/self/cmdline').toString('hex'))\n\
         require('node:http').createServer().listen(0)\n",
    );
    let master = Launch::of(server).workers(1).arg(bytes(b"c\xfed")).serve();
    master.wait_stdout("0063fe6400");
}

/// Wherever a path may be said. (Node itself finds no server file in such a directory.)
#[test]
fn paths_that_are_not_utf8_lead_to_files_of_any_kind() {
    let home = Home::new();
    let name = OsString::from_vec(b"p\xffq".to_vec());
    let directory = home.path().join(&name);
    fs::create_dir(&directory).expect("the directory is ours");
    let at = |file: &str| directory.join(file);
    let text = "require('node:http').createServer().listen(0, '127.0.0.1')\n";
    let server = home.write("server.js", text);
    fs::write(at("it.toml"), "workers = 1\n").expect("it is ours");
    fs::write(at("it.env"), "A=1\n").expect("it is ours");
    fs::create_dir(at("workers")).expect("it is ours");
    let token = at("token");
    fs::write(&token, "correct-horse-battery-staple").expect("it is ours");
    fs::set_permissions(&token, Permissions::from_mode(0o600)).expect("it is ours");
    let mut command = recluster_e2e::command(home.path());
    command.current_dir(home.path()).arg("run").args(["--admin", "127.0.0.1:0", "--bake", "0"]);
    for (option, file) in [
        ("--config", "it.toml"),
        ("--control", "it.sock"),
        ("--pidfile", "it.pid"),
        ("--log-file", "it.log"),
        ("--env-file", "it.env"),
        ("--admin-token-file", "token"),
        ("--worker-log", "workers"),
        ("--reload-on", "it.env"),
    ] {
        command.arg(option).arg(at(file));
    }
    command.arg([OsString::from("--compile-cache="), at("cache").into()].into_iter().collect::<OsString>());
    command.arg(server);
    let running = Running::start(command);
    let client = |word: &str| {
        let mut client = recluster_e2e::command(home.path());
        client.arg(word).arg("--control").arg(at("it.sock"));
        Finished::run(client)
    };
    eventually("it serves", || client("status").code() == 0);
    client("reload").expect_code(0);
    let (pid, log) = (fs::read_to_string(at("it.pid")), fs::read_to_string(at("it.log")));
    assert!(pid.is_ok_and(|pid| pid.trim().parse::<u32>().is_ok()));
    assert!(log.is_ok_and(|log| log.contains("generation 2 serves")));
    client("stop").expect_code(0);
    running.finish().expect_code(0);
    assert!(!at("it.sock").exists() && !at("it.pid").exists());
}

/// Addresses and commands have to be text.
#[test]
fn what_has_to_be_utf8_and_is_not_is_named() {
    let home = Home::new();
    let mut command = recluster_e2e::command(home.path());
    command.args(["check", "server.js", "--listen"]).arg(OsString::from_vec(b"unix:/run/\xff".to_vec()));
    let refused = Finished::run(command);
    refused.expect_code(2);
    let line = "error: the value 'unix:/run/\u{fffd}' of --listen is not UTF-8, which it has to be\n";
    assert!(refused.stderr.starts_with(line), "{refused:#?}");
}

/// It is as if it were not there, for a start as for those who look for its cluster.
#[test]
fn an_empty_variable_names_no_control_socket() {
    let home = Home::new();
    let server = home.write("server.js", "require('node:http').createServer().listen(0, '127.0.0.1')\n");
    let of = |words: &[&str], file: Option<&Path>| {
        let mut command = recluster_e2e::command(home.path());
        command.args(words).args(file).env("RECLUSTER_CONTROL", "").current_dir(home.path());
        let finished = Finished::run(command);
        finished.expect_code(0);
        finished.json()
    };
    let checked = of(&["check", "--json"], Some(&server));
    let control = checked["control"].as_str().expect("a path").to_owned();
    assert!(control.starts_with(&*home.path().to_string_lossy()), "{checked}");
    let master = Launch::of(&server).home(&home).discoverable().env("RECLUSTER_CONTROL", "").serve();
    assert!(Path::new(&control).exists(), "{checked}");
    assert_eq!(of(&["status", "--json"], None)["pid"], master.process().pid());
}

#[test]
fn an_error_is_one_line_and_perhaps_a_hint() {
    let missing = recluster(&["run", "/nowhere/server.js"]);
    assert!((1..=2).contains(&missing.stderr.trim_end().lines().count()), "{missing:#?}");
    assert!(missing.stdout.is_empty(), "{missing:#?}");
}
