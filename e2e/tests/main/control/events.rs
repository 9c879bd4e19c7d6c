//! `events`: what has happened in a cluster, and what happens.

use recluster_e2e::{Finished, Launch, on};
use recluster_json_page::Page;
use serde_json::Value;

fn printed(finished: &Finished) -> Vec<Value> {
    finished.expect_code(0);
    finished.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().expect("a name")).collect()
}

#[test]
fn whoever_asks_later_is_told_what_has_happened() {
    let master = Launch::fixture("server.js").serve();
    master.status();
    master.wait(on("asked").with("/request", "status"));
    let events = printed(&master.client(&["events", "--json"]));
    let is_of_status = |event: &&Value| event["request"] == "status";
    assert_eq!(events.iter().find(is_of_status), None, "who watches would drive out everything else");
    let names = names(&events);
    for name in ["starting", "generation_began", "spawned", "listening", "serving", "started"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let started = events.iter().find(|event| event["event"] == "started").expect("it has started");
    assert_eq!(started["level"], "info");
    // In the log the same event has the same fields, and the name of the cluster.
    let page = Page::read();
    for event in &events {
        let mut as_logged = event.clone();
        let fields = as_logged.as_object_mut().expect("an object");
        fields.remove("reply");
        fields.insert("cluster".to_owned(), "it".into());
        let name = event["event"].as_str().expect("a name");
        let parts = ["Events of the cluster", "Events of the command"];
        let faults = parts.map(|part| page.check(part, name, &as_logged));
        assert!(faults.iter().any(Vec::is_empty), "{faults:?}");
    }
    let text = master.client(&["events", "--lines", "1"]);
    text.expect_code(0);
    assert_eq!(text.stdout.lines().count(), 1, "{text:?}");
}

#[test]
fn whoever_follows_is_told_until_the_cluster_has_ended() {
    let mut master = Launch::fixture("server.js").workers(1).serve();
    let follower = master.begin_client(&["events", "--follow", "--lines", "0", "--json"]);
    let reader = master.begin_client(&["events", "-f"]);
    // A JSON log says who asks.
    master.wait_all(2, on("asked").with("/request", "events"));
    master.client(&["reload"]).expect_code(0);
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    let events = printed(&follower.finish());
    let names = names(&events);
    for name in ["asked", "generation_began", "serving", "reloaded", "draining", "exit"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert_eq!(names.last(), Some(&"over"));
    assert!(!names.contains(&"started"), "it was before: {names:?}");
    let reader = reader.finish();
    reader.expect_code(0);
    assert!(
        reader.stdout.lines().any(|line| line.contains(" info  reloaded generation=2 verdict=done")),
        "{reader:?}"
    );
}
