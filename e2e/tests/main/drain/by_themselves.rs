//! A worker that leaves the cluster by itself finishes its requests: the exit grace begins only when it has none left.

use recluster_e2e::{Launch, on};
use serde_json::json;

/// By then a worker that was sent TERM at the end of its exit grace would be gone: the replacement comes later than that.
fn wait_for_the_replacement(master: &recluster_e2e::Master) {
    master.wait_all(2, on("serving"));
    assert_eq!(master.seen(&on("overdue")).len(), 0, "nobody is sent a signal");
}

#[test]
fn a_worker_that_leaves_the_cluster_finishes_its_requests() {
    // Its server must have lived for a while, or its end means nothing.
    let launch = Launch::fixture("server.js").workers(1).option("--bake", "3s");
    let master = launch.option("--exit-grace", "2s").serve();
    let mut connection = master.begin_request();
    master.get("/leave");
    master.wait(on("draining"));
    wait_for_the_replacement(&master);
    assert_eq!(connection.finish_request().expect("an answer").text("generation"), "1");
    // Told to disconnect by the master as well, it would fail in the end.
    assert_eq!(master.wait(on("exit")).at("/exit"), &json!({ "code": 0 }));
}

#[test]
fn a_worker_that_closes_its_server_when_it_is_let_go_finishes_its_requests() {
    for drain_http in ["on", "off"] {
        let launch = Launch::fixture("closes-itself.js").workers(1).option("--exit-grace", "50ms");
        let master = launch.option("--drain-http", drain_http).serve();
        let mut connection = master.begin_request();
        master.reload().expect_code(0);
        if drain_http == "off" {
            // Node closes the channel when no server is open, whatever connections there are.
            master.wait(on("disconnect").generation(1));
        }
        // Another reload takes longer than the exit grace.
        master.reload().expect_code(0);
        assert_eq!(master.seen(&on("overdue").generation(1)).len(), 0, "it is sent no signal");
        assert_eq!(connection.finish_request().expect("an answer").text("generation"), "1");
        master.wait(on("exit").generation(1));
    }
}
