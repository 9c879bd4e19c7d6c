//! Every server in `examples/` runs, answers and is reloaded.

use std::fs;
use std::path::PathBuf;

use recluster_e2e::{Finished, Launch, Node, Response, library_example, modules, on, repository};
use serde_json::json;

fn example(path: &str) -> Launch {
    Launch::of(repository().join("examples").join(path)).env("PORT", "0").env("NODE_PATH", modules())
}

fn serves_and_reloads(path: &str) {
    let master = example(path).serve();
    is_of_generation(&master.get("/"), "1");
    master.reload().expect_code(0);
    is_of_generation(&master.get("/"), "2");
    for old in master.seen(&on("spawned").generation(1)) {
        let exit = master.wait(on("exit").id(old.id()));
        assert_eq!(exit.at("/exit"), &json!({ "code": 0 }), "it ended by itself");
    }
    assert!(master.seen(&on("overdue")).is_empty(), "nobody had to be told twice");
}

fn is_of_generation(answer: &Response, generation: &str) {
    let body = answer.json();
    assert_eq!(body["generation"], generation, "{body}");
    assert!(body["pid"].is_u64() && body["worker"].is_string(), "{body}");
}

#[test]
fn http() {
    serves_and_reloads("http/server.js");
}

#[test]
fn express() {
    serves_and_reloads("express/server.js");
}

#[test]
fn esm() {
    serves_and_reloads("esm/server.mjs");
}

#[test]
fn typescript_where_node_runs_it() {
    if Node::under_test().strips_types() {
        return serves_and_reloads("typescript/server.ts");
    }
    let mut master = example("typescript/server.ts").workers(1).option("--attempts", "1").start();
    let verdict = master.wait(on("start_failed"));
    assert!(verdict.text("/failure/hint").contains("22.18"), "which Node would run it: {verdict}");
    master.expect_end(3);
}

#[test]
fn the_example_of_the_library() {
    let mut embed = std::process::Command::new(library_example("embed"));
    embed.arg(repository().join("examples/http/server.js")).env("PORT", "0");
    let finished = Finished::run(embed);
    finished.expect_code(0);
    assert!(finished.stdout.contains("every worker runs the new code"), "{finished:#?}");
}

#[test]
fn no_example_is_without_a_test() {
    // Those in Rust have tests of their own.
    let tested = ["esm", "express", "http", "rust", "typescript"];
    let directories = fs::read_dir(repository().join("examples")).expect("the examples");
    let directories =
        directories.map(|entry| entry.expect("the examples").path()).filter(|path| path.is_dir());
    let mut names: Vec<String> = directories.map(|path: PathBuf| name_of(&path)).collect();
    names.sort();
    assert_eq!(names, tested);
}

fn name_of(path: &std::path::Path) -> String {
    path.file_name().expect("a directory has a name").to_string_lossy().into_owned()
}
