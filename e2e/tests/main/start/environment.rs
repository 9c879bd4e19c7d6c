//! The environment of workers: what recluster adds to it, and what a user has it add.

use std::collections::BTreeSet;

use recluster_e2e::{Launch, Master, modules};
use serde_json::Value;

fn env(master: &Master) -> Value {
    master.get("/").json()["env"].clone()
}

fn names(env: &Value) -> BTreeSet<&str> {
    env.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// A server, and a child of its own, find nothing that makes a library behave differently.
#[test]
fn a_node_worker_finds_three_variables_more_than_the_master() {
    let master = Launch::fixture("server.js").workers(1).env("MARK", "here").serve();
    let env = env(&master);
    let of_master = master.process().variables();
    let is_added = |name: &&str| !of_master.contains(*name) && *name != "PWD";
    let added: Vec<&str> = names(&env).into_iter().filter(is_added).collect();
    assert_eq!(added, ["RECLUSTER_GENERATION", "RECLUSTER_WORKERS", "WORKER_ID"]);
    assert_eq!(env["MARK"], "here");
}

#[test]
fn the_slot_is_in_the_variable_that_was_named() {
    let server = || Launch::fixture("server.js").workers(1);
    let pm2s = server().option("--instance-env", "NODE_APP_INSTANCE").serve();
    assert_eq!(env(&pm2s)["NODE_APP_INSTANCE"], "0");
    let own = server().config("instance-env = \"my.slot\"\n").env("my.slot", "stale").serve();
    assert_eq!(env(&own)["my.slot"], "0");
    let given = server().env("NODE_APP_INSTANCE", "blue").serve();
    assert_eq!(env(&given)["NODE_APP_INSTANCE"], "blue", "it is passed on like every other variable");
}

#[test]
fn a_reload_changes_the_variable_that_holds_the_slot() {
    let master = Launch::fixture("server.js").workers(1).config("instance-env = \"ONE\"\n").serve();
    assert_eq!(env(&master)["ONE"], "0");
    master.configure("instance-env = \"OTHER\"\n");
    master.reload().expect_code(0);
    assert_eq!((&env(&master)["ONE"], &env(&master)["OTHER"]), (&Value::Null, &Value::from("0")));
}

#[test]
fn a_name_that_can_hold_no_slot_is_refused() {
    for (name, why) in [
        ("WORKER_ID", "WORKER_ID is reserved: recluster itself sets it"),
        ("NODE_CHANNEL_FD", "NODE_CHANNEL_FD is reserved"),
        ("PATH", "PATH cannot hold the slot"),
        ("A=B", "\"A=B\" cannot be the name of an environment variable"),
    ] {
        let refused = Launch::fixture("server.js").option("--instance-env", name).refused();
        refused.expect_code(2);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
}

/// `config` takes other files, warns, or does not start at all where `NODE_APP_INSTANCE` is set.
#[test]
fn the_package_config_starts_in_its_strict_mode() {
    let strict = || {
        let launch = Launch::fixture("frameworks/config.js").workers(1).env("NODE_PATH", modules());
        launch.env("NODE_CONFIG_STRICT_MODE", "1").env("NODE_ENV", "production")
    };
    let master = strict().serve();
    assert_eq!(master.get("/").json()["name"], "of production");
    assert!(master.stderr().iter().all(|line| !line.contains("NODE_APP_INSTANCE")));
    let mut asked_for = strict().option("--instance-env", "NODE_APP_INSTANCE").start();
    asked_for.wait_stderr("NODE_APP_INSTANCE value of '0' did not match");
    asked_for.expect_end(3);
}
