//! `logs`: what workers have written, and what they write.

use recluster_e2e::{Finished, Home, Launch, on};
use recluster_json_page::Page;
use serde_json::Value;

/// A server that says this when it has started, and leaves when it is told to.
fn says(home: &Home, script: &str) -> Launch {
    let script = format!("const fs = require('node:fs'); {script}; setInterval(() => {{}}, 1e9)");
    let server = home.write("server.js", &script);
    Launch::of(server).home(home).workers(1).option("--ready-when", "started").option("--bake", "0s")
}

fn printed(finished: &Finished) -> Vec<Value> {
    finished.expect_code(0);
    finished.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["line"].as_str().expect("a line")).collect()
}

#[test]
fn lines_stay_through_a_reload_and_say_whose_they_are() {
    let home = Home::new();
    let script = "fs.writeSync(2, `${process.env.WORKER_ID} of ${process.env.RECLUSTER_GENERATION}\\n`);
        fs.writeSync(1, 'to stdout\\n')";
    let master = says(&home, script).workers(2).serve();
    let gone = master.wait_all(2, on("online"));
    master.client(&["reload"]).expect_code(0);
    // A worker that has started may not have written yet. What is passed on is kept already.
    for said in ["0 of 1", "1 of 1", "0 of 2", "1 of 2"] {
        master.wait_stderr(said);
    }
    let finished = master.client(&["logs", "--json"]);
    let lines = printed(&finished);
    let page = Page::read();
    for line in &lines {
        let faults = page.check("Replies", "line", line);
        assert!(faults.is_empty(), "{faults:?}");
        let words = format!("{} of {}", line["slot"], line["generation"]);
        assert_eq!((line["line"].as_str(), line["stream"].as_str()), (Some(&*words), Some("stderr")));
    }
    let mut said = texts(&lines);
    said.sort_unstable();
    assert_eq!(said, ["0 of 1", "0 of 2", "1 of 1", "1 of 2"]);
    assert_eq!(finished.stderr.matches("--log-prefix or --worker-log").count(), 1, "{finished:?}");
    let one = master.client(&["logs", "--slot", "1", "-n", "5"]);
    one.expect_code(0);
    let first = gone.iter().find(|event| event.number("/worker/slot") == 1).expect("it was there").pid();
    let shown: Vec<&str> = one.stdout.lines().collect();
    assert_eq!((shown[0], shown.len()), (&*format!("1 {first} | 1 of 1"), 2));
    let refused = master.client(&["logs", "--slot", "2"]);
    refused.expect_code(2);
    assert!(refused.stderr.contains("there is no slot 2: the last one is 1"), "{refused:?}");
}

#[test]
fn whoever_follows_gets_what_comes_until_the_cluster_has_ended() {
    let home = Home::new();
    let script = "fs.writeSync(1, 'out\\n'); fs.writeSync(2, 'err\\n'); process.on('disconnect', () => { fs.writeSync(2, 'goodbye\\n'); process.exit() })";
    let mut master = says(&home, script).flag("--log-prefix").serve();
    master.wait(on("line").with("/line", "err"));
    master.wait_stdout("\"line\":\"out\"");
    let follower = master.begin_client(&["logs", "-f", "--json"]);
    let one = master.begin_client(&["logs", "--follow", "-n", "0", "--timestamps"]);
    master.wait_all(2, on("asked").with("/request", "logs"));
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    let finished = follower.finish();
    let lines = printed(&finished);
    let mut before: Vec<&str> = texts(&lines);
    assert_eq!(before.pop(), Some("goodbye"));
    before.sort_unstable();
    assert_eq!(before, ["err", "out"]);
    assert!(!finished.stderr.contains("--log-prefix"), "both pass: {finished:?}");
    let one = one.finish();
    one.expect_code(0);
    let line = one.stdout.trim_end();
    assert!(line.ends_with(" | goodbye") && line.starts_with("20") && line.lines().count() == 1, "{one:?}");
}

#[test]
fn pieces_of_a_long_line_are_shown_as_one_and_a_prompt_makes_no_empty_line() {
    let home = Home::new();
    let script = "fs.writeSync(2, '€'.repeat(50000) + '\\nprompt> ');
        process.on('disconnect', () => { fs.writeSync(2, '\\nnext\\n'); process.exit() })";
    let mut master = says(&home, script).flag("--log-prefix").serve();
    master.wait(on("line").with("/line", "prompt> "));
    let (long, shown) = ("€".repeat(50_000), master.client(&["logs"]));
    shown.expect_code(0);
    let texts: Vec<&str> =
        shown.stdout.lines().filter_map(|line| line.split_once(" | ")).map(|(_, text)| text).collect();
    assert!(texts == [&*long, "prompt> "], "{} lines", texts.len());
    let pieces = printed(&master.client(&["logs", "--json"]));
    assert!(pieces.len() > 3 && self::texts(&pieces).iter().all(|text| !text.contains('\u{fffd}')));
    let follower = master.begin_client(&["logs", "-f", "-n", "1", "--json"]);
    master.wait_all(3, on("asked").with("/request", "logs"));
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    let lines = printed(&follower.finish());
    assert_eq!(self::texts(&lines), ["prompt> ", "next"]);
    let flags = |line: &Value| [&line["partial"], &line["continued"]].map(|flag| flag == true);
    assert_eq!(lines.iter().map(flags).collect::<Vec<_>>(), [[true, false], [false, false]]);
    // In the log, too, the line that ends is no empty one, and no character is cut.
    let logged: Vec<String> =
        master.seen(&on("line")).iter().map(|line| line.text("/line").to_owned()).collect();
    assert_eq!(logged[logged.len() - 2..], ["prompt> ", "next"]);
    assert_eq!(logged[..logged.len() - 2].concat(), long);
}

#[test]
fn where_nothing_passes_it_says_so() {
    let master = Launch::fixture("server.js").workers(1).flag("--raw-stdio").serve();
    for args in [vec!["logs"], vec!["logs", "-f", "--json"]] {
        let refused = master.client(&args);
        refused.expect_code(2);
        assert!(
            refused.stderr.contains("there are no lines to show") && refused.stderr.contains("--raw-stdio")
        );
    }
}
