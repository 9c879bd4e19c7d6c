//! `config`: with which settings a cluster runs, and how its file differs from them.

use recluster_e2e::{Home, Launch, Master};
use recluster_json_page::Page;
use serde_json::{Value, json};

/// The setting of this name, as the cluster runs with it.
fn setting(master: &Master, name: &str) -> Value {
    let told = master.client(&["config", "--json"]);
    told.expect_code(0);
    named(&told.json(), name).clone()
}

fn named<'v>(told: &'v Value, name: &str) -> &'v Value {
    let settings = told["settings"].as_array().expect("settings");
    settings.iter().find(|setting| setting["name"] == name).unwrap_or(&Value::Null)
}

/// The names of what differs, each with its change and whether a reload takes it over.
fn differences(master: &Master, code: i32) -> Value {
    let told = master.client(&["config", "--diff", "--json"]);
    told.expect_code(code);
    let all = told.json()["differences"].as_array().expect("differences").clone();
    let told = all.into_iter().map(|it| json!([it["name"], it["change"], it["changes_at_reload"]]));
    told.collect()
}

#[test]
fn what_is_in_force_is_told_with_its_origin_and_secrets_are_not() {
    let config =
        "workers = 2\nbake = \"1ms\"\non = [\"stopped=exec:true hunter2\"]\n[env]\nTOKEN = \"hunter2\"";
    let master = Launch::fixture("server.js").without("--workers").config(config).serve();
    let told = master.client(&["config", "--json"]);
    assert!(!told.stdout.contains("hunter2"), "{told:?}");
    let told = told.json();
    assert_eq!(told["file"], master.home().path().join("recluster.toml").display().to_string());
    assert_eq!(named(&told, "env.TOKEN")["values"], Value::Null);
    assert_eq!(named(&told, "on")["values"], json!(["stopped=exec:true …"]));
    assert_eq!(named(&told, "timeout")["origin"]["from"], "command line");
    let workers = named(&told, "workers");
    assert_eq!((&workers["values"], &workers["origin"]["line"]), (&json!(["2"]), &json!(1)));
    let faults = Page::read().check("Replies", "configuration", &told);
    assert!(faults.is_empty(), "{faults:?}");
    master.client(&["scale", "1"]).expect_code(0);
    let workers = setting(&master, "workers");
    assert_eq!((&workers["values"], &workers["origin"]), (&json!(["1"]), &json!({"from": "scale"})));
    let text = master.client(&["config"]);
    text.expect_code(0);
    assert!(!text.stdout.contains("hunter2") && text.stdout.contains("(not shown)"), "{text:?}");
}

#[test]
fn a_changed_file_differs_until_a_reload_takes_it_over_and_what_needs_a_restart_stays() {
    let master = Launch::fixture("server.js")
        .workers(1)
        .config("listen = []\n[env]\nTOKEN = \"1\"\nOLD = \"1\"")
        .serve();
    assert_eq!(differences(&master, 0), json!([]));
    master.configure("listen = [\"127.0.0.1:0\"]\nwatchdog = \"1h\"\n[env]\nTOKEN = \"2\"\nNEW = \"1\"");
    let expected = json!([
        ["listen", "changed", false],
        ["watchdog", "changed", true],
        ["env.TOKEN", "changed", true],
        ["env.NEW", "added", true],
        ["env.OLD", "removed", true]
    ]);
    assert_eq!(differences(&master, 1), expected);
    // To look changes nothing.
    assert_eq!(setting(&master, "watchdog")["values"], json!([]));
    let text = master.client(&["config", "--diff"]);
    text.expect_code(1);
    assert!(text.stdout.contains("watchdog") && text.stdout.contains("SAID NOW"), "{text:?}");
    master.reload().expect_code(0);
    assert_eq!(setting(&master, "watchdog")["values"], json!(["1h"]));
    assert_eq!(setting(&master, "listen")["values"], json!([]));
    assert_eq!(differences(&master, 1), json!([["listen", "changed", false]]));
}

#[test]
fn after_a_rollback_the_settings_of_before_are_in_force() {
    let home = Home::new();
    let server = home.release("good", "server.js");
    home.release("bad", "syntax-error.js");
    home.switch("good");
    let launch = Launch::of(server).home(&home).option("--attempts", "1").workers(1);
    let master = launch.config("max-lifetime = \"20h\"").serve();
    home.write("recluster.toml", "max-lifetime = \"30h\"");
    home.switch("bad");
    master.reload().expect_code(1);
    assert_eq!(setting(&master, "max-lifetime")["values"], json!(["20h"]));
    assert_eq!(differences(&master, 1), json!([["max-lifetime", "changed", true]]));
}

#[test]
fn a_file_with_a_mistake_is_named_and_the_cluster_goes_on() {
    let master = Launch::fixture("server.js").workers(1).config("watchdog = \"1h\"").serve();
    master.configure("watchdog = \"1h\"\nwrokers = 2");
    let told = master.client(&["config", "--diff"]);
    told.expect_code(2);
    assert!(told.stderr.contains("recluster.toml:2:1: unknown key 'wrokers'"), "{told:?}");
    assert_eq!(setting(&master, "watchdog")["values"], json!(["1h"]));
}

/// What is not said has other defaults there.
#[test]
fn where_source_is_watched_what_is_told_is_what_is_done() {
    let master = Launch::fixture("server.js").without("--workers").without("--bake").flag("--watch").serve();
    for (name, value) in [("workers", "1"), ("bake", "100ms"), ("attempts", "1")] {
        let told = setting(&master, name);
        assert_eq!(
            (&told["values"], &told["origin"]["from"]),
            (&json!([value]), &json!("default")),
            "{name}"
        );
    }
    assert_eq!(differences(&master, 0), json!([]));
}
