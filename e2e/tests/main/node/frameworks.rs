//! Servers of common frameworks run unchanged and are reloaded.

use recluster_e2e::{Finished, Launch, Master, Node, Running, modules, on};

fn framework(name: &str) -> Launch {
    Launch::fixture(&format!("frameworks/{name}.js")).env("NODE_PATH", modules())
}

/// Answers, is reloaded, and answers again.
fn serves_and_reloads(name: &str) {
    let master = framework(name).serve();
    assert_eq!(master.get("/").text("generation"), "1");
    master.reload().expect_code(0);
    assert_eq!(master.get("/").text("generation"), "2");
    master.wait_all(2, on("exit").generation(1).with("/expected", true));
}

#[test]
fn express() {
    serves_and_reloads("express");
}

#[test]
#[cfg_attr(not(has = "node-20"), ignore = "fastify 5 needs Node 20")]
fn fastify() {
    serves_and_reloads("fastify");
}

#[test]
fn koa() {
    serves_and_reloads("koa");
}

/// Runs a fixture as a client of the cluster, to its end.
fn client(master: &Master, name: &str) -> Running {
    let mut command = Node::under_test().client(name);
    command.arg(master.address().port().to_string()).env("NODE_PATH", modules());
    Running::start(command)
}

fn answer_by_http2(master: &Master) -> serde_json::Value {
    let finished: Finished = client(master, "clients/http2.js").finish();
    finished.expect_code(0);
    finished.json()
}

#[test]
fn http2() {
    let master = framework("http2").serve();
    assert_eq!(answer_by_http2(&master)["generation"], "1");
    master.reload().expect_code(0);
    assert_eq!(answer_by_http2(&master)["generation"], "2");
    master.wait_all(2, on("exit").generation(1).with("/expected", true));
}

#[test]
fn websockets() {
    let master = framework("ws").workers(1).serve();
    let open = client(&master, "clients/websocket.js");
    recluster_e2e::eventually("the worker has the connection", || {
        master.status()["workers"][0]["connections"].as_u64().is_some_and(|count| count > 0)
    });
    master.reload().expect_code(0);
    let finished = open.finish();
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert!(lines[0].contains("\"generation\":\"1\""), "{finished:#?}");
    assert_eq!(lines[1], "closed 1001", "the server said goodbye");
    master.wait(on("exit").generation(1).with("/expected", true));
    assert!(master.seen(&on("overdue")).is_empty());
}
