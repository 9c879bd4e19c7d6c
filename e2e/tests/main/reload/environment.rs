//! A reload reads the environment of workers again: from env files, from `[env]`, and from `reload --env`. It is on trial with the
//! new code.

use std::fs;
use std::path::PathBuf;

use recluster_e2e::{Home, Launch, Master, on};
use serde_json::Value;

const SECRET: &str = "hunter2";

/// A cluster of one worker whose variables are in a file beside its config file.
struct Site {
    home: Home,
}

impl Site {
    fn new(variables: &str) -> Self {
        let site = Self { home: Home::new() };
        site.write(variables);
        site
    }

    fn file(&self) -> PathBuf {
        self.home.join("app.env")
    }

    fn write(&self, variables: &str) {
        self.home.write("app.env", variables);
    }

    fn launch(&self) -> Launch {
        let file = self.file();
        Launch::fixture("server.js").workers(1).option("--env-file", file.to_str().expect("a plain path"))
    }
}

fn value(master: &Master, name: &str) -> Value {
    master.get("/").json()["env"][name].clone()
}

#[test]
fn a_changed_file_is_read_at_a_reload_and_at_no_respawn() {
    let site =
        Site::new("GREETING=hello there # a comment\nexport QUOTED=\"one\\ntwo\"\nMARK=from the file\n");
    let master = site.launch().env("MARK", "from the master").serve();
    assert_eq!(value(&master, "GREETING"), "hello there");
    assert_eq!(value(&master, "QUOTED"), "one\ntwo");
    assert_eq!(value(&master, "MARK"), "from the file");
    site.write("GREETING=again\n");
    master.try_get("/exit").ok();
    master.wait_all(2, on("serving"));
    assert_eq!(value(&master, "GREETING"), "hello there", "a respawn has the environment of its generation");
    master.reload().expect_code(0);
    assert_eq!(value(&master, "GREETING"), "again");
    assert_eq!(value(&master, "MARK"), "from the master", "it is in no file any more");
    assert_eq!(master.status()["env"], serde_json::json!(["GREETING"]));
}

#[test]
fn a_file_that_is_broken_or_missing_refuses_the_reload_and_touches_nothing() {
    let site = Site::new("A=1\n");
    let master = site.launch().serve();
    let pids = master.active_pids();
    site.write(&format!("A=2\n\n{SECRET}\n"));
    let refused = master.client(&["reload"]);
    refused.expect_code(1);
    let reason = format!("{}:3: neither NAME=VALUE nor a # comment", site.file().display());
    assert!(refused.stderr.contains(&reason) && !refused.stderr.contains(SECRET), "{}", refused.stderr);
    fs::remove_file(site.file()).expect("it is there");
    let refused = master.client(&["reload"]);
    refused.expect_code(1);
    let reason = format!("cannot read the env file {}: No such file", site.file().display());
    assert!(refused.stderr.contains(&reason), "{}", refused.stderr);
    assert_eq!(master.active_pids(), pids);
    assert_eq!(value(&master, "A"), "1");
    let refused = site.launch().refused();
    refused.expect_code(2);
    assert!(refused.stderr.contains(&reason), "{}", refused.stderr);
}

#[test]
fn what_a_reload_sets_stays_and_is_forgotten_after_a_rollback() {
    let site = Site::new("LEVEL=file\n");
    let master = site.launch().config("[env]\nLEVEL = \"config\"\n").env("TOKEN", SECRET).serve();
    assert_eq!(value(&master, "LEVEL"), "config");
    // Without a value, the variable is taken from the client, which has that of the test.
    master.client(&["reload", "--env", "LEVEL=set", "--env", "EMPTY=", "--env", "PATH"]).expect_code(0);
    assert_eq!((value(&master, "LEVEL"), value(&master, "EMPTY")), (Value::from("set"), Value::from("")));
    master.reload().expect_code(0);
    assert_eq!(value(&master, "LEVEL"), "set", "it stays for later generations");
    let bad = format!("LEVEL=worse {SECRET}");
    master.client(&["reload", "--env", &bad, "--env", "NODE_OPTIONS=--require=/nowhere.js"]).expect_code(1);
    assert_eq!(value(&master, "LEVEL"), "set");
    master.reload().expect_code(0);
    assert_eq!((value(&master, "LEVEL"), value(&master, "NODE_OPTIONS")), (Value::from("set"), Value::Null));
    assert_eq!(master.status()["env"], serde_json::json!(["EMPTY", "LEVEL", "PATH"]));
    assert!(master.client(&["status"]).stdout.contains("\nsets EMPTY, LEVEL, PATH\n"));
    assert!(!master.status().to_string().contains(SECRET));
    let asked = master.wait(on("asked").with("/env/0", "LEVEL").with("/env/1", "NODE_OPTIONS"));
    assert_eq!(asked.text("/request"), "reload");
    assert!(master.stderr().iter().all(|line| !line.contains(SECRET)), "a value is in the log");
}

#[test]
fn a_variable_that_is_reserved_is_refused_wherever_it_is_said() {
    let site = Site::new("A=1\nWORKER_ID=7\n");
    let says = |refused: &recluster_e2e::Finished, place: &str| {
        let words = format!("{place}WORKER_ID is reserved: recluster itself sets it");
        assert!(refused.stderr.contains(&words), "{}", refused.stderr);
    };
    let refused = site.launch().refused();
    refused.expect_code(2);
    says(&refused, &format!("{}:2: ", site.file().display()));
    let refused = Launch::fixture("server.js").config("[env]\nWORKER_ID = \"7\"\n").refused();
    refused.expect_code(2);
    says(&refused, "toml:2:1: ");
    site.write("");
    let master = site.launch().serve();
    let refused = master.client(&["reload", "--env", "WORKER_ID=7"]);
    refused.expect_code(2);
    says(&refused, "--env: ");
    let refused = master.client(&["reload", "--env", "NOT_SET_ANYWHERE"]);
    refused.expect_code(2);
    assert!(refused.stderr.contains("write NOT_SET_ANYWHERE=VALUE"), "{}", refused.stderr);
}

/// The preload is an argument of node, so that `NODE_OPTIONS` of the file does not replace it.
#[test]
fn node_options_of_a_file_are_in_force_beside_the_lossless_drain() {
    let site = Site::new("NODE_OPTIONS=--no-warnings --max-http-header-size=20000\nNODE_ENV=production\n");
    let master = site.launch().serve();
    assert_eq!(value(&master, "NODE_OPTIONS"), "--no-warnings --max-http-header-size=20000");
    let mut request = master.begin_request();
    let reload = master.begin_client(&["reload"]);
    master.wait(on("draining"));
    let response = request.finish_request().expect("an answer");
    assert_eq!(response.header("connection"), Some("close".to_owned()), "the preload says so in a drain");
    reload.finish().expect_code(0);
}

#[test]
fn a_release_that_is_switched_by_a_symlink_brings_its_own_file() {
    let site = Site::new("");
    for release in ["one", "two"] {
        fs::create_dir(site.home.join(release)).expect("the home is writable");
        site.home.write(&format!("{release}/.env"), &format!("RELEASE={release}\n"));
    }
    site.home.link("current", "one");
    let file = site.home.join("current/.env");
    let launch = Launch::fixture("server.js").workers(1);
    let master = launch.option("--env-file", file.to_str().expect("a plain path")).serve();
    assert_eq!(value(&master, "RELEASE"), "one");
    site.home.link("current", "two");
    master.reload().expect_code(0);
    assert_eq!(value(&master, "RELEASE"), "two");
}
