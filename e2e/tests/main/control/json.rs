//! What a running cluster and its commands print as JSON is what `docs/json.md` says.

use recluster_e2e::{Finished, Home, Launch};
use recluster_json_page::Page;
use serde_json::Value;

/// The lines that a command printed, each with what it is: the value of `reply`, and of `progress` behind it.
fn lines(finished: &Finished) -> Vec<(String, Value)> {
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("each line is JSON");
        let words = ["reply", "progress"].iter().filter_map(|field| value[field].as_str());
        (words.collect::<Vec<_>>().join(" "), value)
    };
    finished.stdout.lines().map(line).collect()
}

/// How these lines differ from the page.
fn faults_of(page: &Page, lines: &[(String, Value)]) -> Vec<String> {
    let faults = lines.iter().map(|(what, value)| match what.split_once(' ') {
        Some((_, step)) => page.check("Progress of a reload", step, value),
        None if what == "failed" => page.check("Failures", "", value),
        None => page.check("Replies", what, value),
    });
    faults.flatten().collect()
}

fn names(lines: &[(String, Value)]) -> Vec<&str> {
    lines.iter().map(|(what, _)| what.as_str()).collect()
}

#[test]
fn a_cluster_and_its_commands_print_what_the_page_says() {
    let page = Page::read();
    let home = Home::new();
    home.release("good", "server.js");
    home.release("bad", "second-slot-fails.js");
    home.switch("good");
    let launch = Launch::of(home.join("current/server.js")).home(&home);
    let mut master = launch.option("--surge", "1").option("--attempts", "1").serve();
    let mut faults = page.check("Status", "", &master.client(&["status", "--json"]).json());
    home.switch("bad");
    let commands: [(&[&str], &[&str]); 5] = [
        (&["reload"], &["progress began", "progress serving", "progress failed", "verdict"]),
        (&["reload", "--no-wait"], &["accepted"]),
        (&["scale", "3"], &["scaled"]),
        (&["stop"], &["ended"]),
        (&["status"], &["failed"]),
    ];
    for (command, expected) in commands {
        let printed = lines(&master.client(&[command, &["--json"]].concat()));
        assert_eq!(names(&printed), expected, "{command:?}");
        faults.extend(faults_of(&page, &printed));
    }
    master.expect_end(0);
    for event in master.log() {
        let of_command = page.check("Events of the command", event.name(), event.at(""));
        let of_cluster = page.check("Events of the cluster", event.name(), event.at(""));
        if !of_command.is_empty() {
            faults.extend(of_cluster);
        }
    }
    assert!(faults.is_empty(), "docs/json.md:\n{}", faults.join("\n"));
}
