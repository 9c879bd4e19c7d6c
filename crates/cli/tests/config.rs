//! `check`, and the config file of `run`, through the command itself: what the environment says, how it exits, and what
//! real Node says about a server file. `RECLUSTER_TEST_NODE` names another node than that in `PATH`.

#![cfg(test)]

use std::env;
use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A directory with a server that works.
struct Site {
    directory: TempDir,
}

impl Site {
    fn new(config: &str) -> Self {
        let site = Self { directory: tempfile::tempdir().unwrap() };
        site.write("recluster.toml", &format!("control = \"none\"\n{config}"));
        site.write("server.js", "require('http').createServer().listen(0, '127.0.0.1')\n");
        site
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    fn recluster(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_recluster"));
        command.args(options).current_dir(self.directory.path());
        for variable in
            ["WEB_CONCURRENCY", "RECLUSTER_CONTROL", "RECLUSTER_CONFIG", "NODE_OPTIONS", "NODE_ENV"]
        {
            command.env_remove(variable);
        }
        command
    }

    /// What `check` exits with, and what it says.
    fn check(&self, options: &[&str]) -> (Option<i32>, String) {
        let mut command = self.recluster(&["check", "--node", &node()]);
        let output = command.args(options).output().unwrap();
        (output.status.code(), self.stderr(&output))
    }

    /// What went to stderr, without what changes from run to run.
    fn stderr(&self, output: &Output) -> String {
        let physical = fs::canonicalize(self.directory.path()).unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        text.replace(&physical.display().to_string(), "/srv").trim().to_owned()
    }
}

fn node() -> String {
    env::var("RECLUSTER_TEST_NODE").unwrap_or_else(|_| "node".to_owned())
}

fn setting<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let settings = answer["settings"].as_array().unwrap();
    settings.iter().find(|setting| setting["name"] == name).unwrap()
}

#[test]
fn a_server_that_would_start() {
    let site = Site::new("server = \"server.js\"\nworkers = 3\nbake = 2");
    let mut command = site.recluster(&["check", "--json", "--bake", "4s", "--node", &node()]);
    let output = command.env("WEB_CONCURRENCY", "5").output().unwrap();
    assert_eq!((output.status.code(), site.stderr(&output).as_str()), (Some(0), ""));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["ok"], true);
    assert!(answer["node"]["version"].as_str().unwrap().starts_with('v'));
    let from = |name| setting(&answer, name)["origin"]["from"].as_str().unwrap();
    assert_eq!(from("bake"), "command line");
    assert_eq!(from("workers"), "environment");
    assert_eq!(from("control"), "file");
    assert_eq!(from("timeout"), "default");
    assert_eq!(setting(&answer, "workers")["values"], serde_json::json!(["5"]));
}

#[test]
fn a_variable_that_is_empty_is_none_and_a_wrong_one_is_named() {
    let site = Site::new("");
    site.write("recluster.toml", "");
    let check = |variables: &[(&str, &str)]| {
        let mut command = site.recluster(&["check", "--json", "--node", &node(), "server.js"]);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        (serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default(), site.stderr(&output))
    };
    let (answer, said) =
        check(&[("WEB_CONCURRENCY", ""), ("RECLUSTER_CONTROL", ""), ("RECLUSTER_CONFIG", "")]);
    assert_eq!(said, "");
    assert_eq!(setting(&answer, "workers")["origin"]["from"], "default");
    assert_eq!(setting(&answer, "control")["origin"]["from"], "default");
    let (_, said) = check(&[("WEB_CONCURRENCY", "two")]);
    insta::assert_snapshot!(said.lines().next().unwrap(), @"error: invalid value 'two' for '--workers <N|max>' from the environment variable 'WEB_CONCURRENCY': write a number from 1 on, or 'max' for as many as there are usable cores");
}

#[test]
fn the_variable_that_names_the_file() {
    let site = Site::new("nonsense");
    site.write("other.toml", "workers = \"none\"");
    let mut command = site.recluster(&["check", "--json", "server.js"]);
    let output = command.env("RECLUSTER_CONFIG", "other.toml").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    insta::assert_snapshot!(answer["reason"].as_str().unwrap(), @"other.toml:1:11: 'workers' cannot be 'none': write a number from 1 on, or 'max' for as many as there are usable cores");

    let output = command.env("RECLUSTER_CONFIG", "").output().unwrap();
    assert!(site.stderr(&output).starts_with("error: recluster.toml:2:9: not TOML"));
}

#[test]
fn a_syntax_error_is_found_with_its_line() {
    let site = Site::new("");
    site.write("script.js", "'use strict'\nconst x = ;\n");
    site.write("module.mjs", "import fs from 'fs'\nexport const = fs\n");
    for (file, place) in [("script.js", "/srv/script.js:2"), ("module.mjs", "/srv/module.mjs:2")] {
        let (status, stderr) = site.check(&[file]);
        assert_eq!(status, Some(126), "{stderr}");
        assert!(
            stderr.starts_with(&format!("error: the server file has a syntax error: {place}: SyntaxError: ")),
            "{stderr}"
        );
    }
}

#[test]
fn an_argument_that_node_does_not_know_is_found() {
    let site = Site::new("server = \"server.js\"\nnode-arg = \"--no-such-option\"");
    let (status, stderr) = site.check(&[]);
    assert_eq!(status, Some(126));
    assert!(stderr.contains("bad option: --no-such-option"), "{stderr}");
}

#[test]
fn what_would_run_code_is_not_run() {
    let site = Site::new("server = \"server.js\"\nnode-arg = [\"--require\", \"./setup.js\"]");
    site.write("setup.js", "require('fs').writeFileSync('was-run', '')\n");
    let mut command = site.recluster(&["check", "--node", &node()]);
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout.contains("note: the server file's syntax was not checked: with --require"), "{stdout}");
    assert!(!site.directory.path().join("was-run").exists());
}

/// What makes `run` refuse to start, before any worker: a config file behind `attempts = 1`, options, and the environment.
type Refused<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

/// The path of a unix socket has at most 107 bytes, from wherever it is said.
const OVERLONG: &str = "/tmp/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
const UNIX_OVERLONG: &str = "unix:/tmp/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
const ABSTRACT_OVERLONG: &str = "unix:@xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

const REFUSED: [Refused<'_>; 37] = [
    // The control socket.
    ("control = 'recluster.toml'", &["server.js"], &[]),
    ("control = 'gone/away/it.sock'", &["server.js"], &[]),
    ("control = 'server.js/it.sock'", &["server.js"], &[]),
    ("control = 'open/it.sock'", &["server.js"], &[]),
    ("", &["server.js"], &[("RECLUSTER_CONTROL", "gone/away/it.sock")]),
    ("", &["server.js"], &[("RECLUSTER_CONTROL", OVERLONG)]),
    ("", &["server.js", "--control", OVERLONG], &[]),
    ("control = ''", &["server.js"], &[]),
    // The pidfile.
    ("control = 'none'\npidfile = '1.pid'", &["server.js"], &[]),
    ("control = 'none'\npidfile = 'server.js'", &["server.js"], &[]),
    ("control = 'none'\npidfile = 'open'", &["server.js"], &[]),
    ("control = 'none'\npidfile = 'gone/it.pid'", &["server.js"], &[]),
    ("control = 'none'\npidfile = 'server.js/it.pid'", &["server.js"], &[]),
    // The log file.
    ("control = 'none'\nlog-file = 'open'", &["server.js"], &[]),
    ("control = 'none'\nlog-file = 'server.js/it.log'", &["server.js"], &[]),
    ("control = 'none'\nlog-file = 'astray.log'", &["server.js"], &[]),
    // The name, other values, and the environment.
    ("control = 'none'\nname = 'a/b'", &["server.js"], &[]),
    ("control = 'none'", &["server.js", "--name", "a/b"], &[]),
    ("control = 'none'", &["server.js"], &[("WEB_CONCURRENCY", "many")]),
    ("control = 'none'\ncheck-interval = 5", &["server.js"], &[]),
    ("control = 'none'\nmax-memory = 512", &["server.js"], &[]),
    ("control = 'none'", &["server.js"], &[("RECLUSTER_CONFIG", "absent.toml")]),
    ("control = 'none'", &["server.js", "--workers", "5000"], &[]),
    ("control = 'none'", &["server.js", "--backoff", "100ms"], &[]),
    // Addresses.
    ("control = 'none'\nlisten = ['8080', '127.0.0.1:8080']", &["server.js"], &[]),
    ("control = 'none'\nlisten = '203.0.113.1:0'", &["server.js"], &[]),
    ("control = 'none'\nlisten = 'unix:gone/it.sock'", &["server.js"], &[]),
    ("control = 'none'", &["server.js", "--listen", UNIX_OVERLONG], &[]),
    ("control = 'none'", &["server.js", "--listen", ABSTRACT_OVERLONG], &[]),
    ("control = 'none'\nlisten = 'unix:server.js/it.sock'", &["server.js"], &[]),
    // What does not go with the program, and programs that cannot be run.
    ("control = 'none'\nbalance = 'sticky'", &["other"], &[]),
    ("control = 'none'\nready-check = 'http:/'", &["other"], &[]),
    ("control = 'none'\ncheck-listen = '127.0.0.1:0'", &["server.js"], &[]),
    ("control = 'none'\nready-check = 'http://127.0.0.1/'", &["server.js"], &[]),
    ("control = 'none'", &["recluster.toml"], &[]),
    ("control = 'none'", &["absent.js"], &[]),
    ("control = 'none'", &["server.js", "--node", "no-such-node"], &[]),
];

#[test]
fn check_refuses_what_run_refuses_in_the_same_words() {
    for (config, options, variables) in REFUSED {
        let site = Site::new("");
        site.write("recluster.toml", &format!("attempts = 1\n{config}"));
        // A server that is not refused ends by itself.
        site.write("server.js", "process.exit(1)\n");
        site.write("other", "#!/bin/sh\nexit 1\n");
        site.write("1.pid", "1");
        fs::set_permissions(site.directory.path().join("other"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(site.directory.path().join("open")).unwrap();
        fs::set_permissions(site.directory.path().join("open"), fs::Permissions::from_mode(0o777)).unwrap();
        symlink("gone/it.log", site.directory.path().join("astray.log")).unwrap();
        let answer = |command: &str| {
            let mut command = site.recluster(&[command]);
            let output = command.args(options).envs(variables.iter().copied()).output().unwrap();
            (output.status.code(), site.stderr(&output))
        };
        let refused = answer("run");
        assert!(matches!(refused.0, Some(2 | 126 | 127)), "{config} {options:?}: {refused:?}");
        assert_eq!(answer("check"), refused, "{config} {options:?}");
    }
}

#[test]
fn an_address_that_an_inherited_socket_has_means_that_socket_to_check_as_well() {
    let site = Site::new("attempts = 1");
    site.write("server.js", "process.exit(1)\n");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = |command: &str| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", "sh"]);
        shell.args([env!("CARGO_BIN_EXE_recluster"), command, "server.js", "--listen", &address]);
        shell.current_dir(site.directory.path()).stdin(OwnedFd::from(listener.try_clone().unwrap()));
        let output = shell.output().unwrap();
        (output.status.code(), site.stderr(&output))
    };
    let (status, said) = answer("run");
    assert!(said.contains(&format!("listens on {address}")), "{said}");
    assert_eq!(status, Some(3), "its server exits at once");
    assert_eq!(answer("check"), (Some(0), String::new()));
}

#[test]
fn every_exit_status() {
    let site = Site::new("");
    assert_eq!(site.check(&["server.js"]).0, Some(0));
    assert_eq!(site.check(&["server.js", "--workers", "5000"]).0, Some(2));
    assert_eq!(site.check(&["server.js", "--no-such-option"]).0, Some(2));
    assert_eq!(site.check(&[]).0, Some(2));
    let text = site.recluster(&["check", "recluster.toml"]).output().unwrap();
    assert_eq!(text.status.code(), Some(126), "no node is named that would run it");
    assert_eq!(site.check(&["absent.js"]).0, Some(127));
    assert_eq!(site.check(&["server.js", "--config", "absent.toml"]).0, Some(2));
    let missing = site.recluster(&["check", "server.js", "--node", "no-such-node"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(127));
}

#[test]
fn a_cluster_runs_by_its_config_file_alone() {
    let site = Site::new(
        "server = \"/bin/sh\"\nargs = [\"-c\", \"echo $GREETING\"]\nworkers = 1\nattempts = 1\n[env]\nGREETING = \"hello\"",
    );
    let output = site.recluster(&["run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", site.stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
}
