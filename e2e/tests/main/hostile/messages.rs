//! A worker that breaks the protocol of its channel harms neither the master nor the other workers.
//!
//! In each test the worker of slot 1 is a puppet, and the one of slot 0 a good server under Node.

use recluster_e2e::{Master, Puppet, Stage, on};
use serde_json::{Value, json};

/// The good worker serves, the master answers, and neither was restarted.
#[track_caller]
fn nobody_noticed(master: &Master) {
    for _ in 0..4 {
        assert_eq!(master.get("/").text("slot"), "0");
    }
    master_lives(master);
}

#[track_caller]
fn master_lives(master: &Master) {
    assert_eq!(master.status()["phase"], "running");
    assert_eq!(master.seen(&on("spawned").slot(0)).len(), 1);
}

/// The puppet is still heard: it was not cut off.
#[track_caller]
fn still_heard(master: &Master, puppet: &mut Puppet) {
    let still_here = json!({ "still": "here" });
    puppet.say(&still_here);
    master.wait(on("message").slot(1).with("/bytes", still_here.to_string().len()));
    assert!(master.seen(&on("cut_off")).is_empty());
}

/// The puppet was cut off, for a reason, and its slot gets another worker, which comes to serve.
#[track_caller]
fn cut_off(master: &Master, stage: &Stage) -> Puppet {
    let cut_off = master.wait(on("cut_off").slot(1));
    assert!(!cut_off.text("/reason").is_empty());
    let mut next = stage.next();
    assert_eq!(next.slot, 1);
    next.serve();
    master.wait(on("exit").id(cut_off.id()));
    master.wait(on("serving").slot(1));
    next
}

#[test]
fn lines_that_are_no_messages() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    for line in ["garbage", "", "{", "}{", "\u{0}\u{1}\u{7f}", "[[[[", "nul", "\"", "{\"cmd\":", "\u{2}\u{2}"]
    {
        puppet.write(&format!("{line}\n"));
    }
    still_heard(&master, &mut puppet);
    nobody_noticed(&master);
}

#[test]
fn json_that_is_deeply_nested() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    puppet.flood(&"[".repeat(1000), 200);
    puppet.write("\n");
    puppet.flood(&"{\"cmd\":".repeat(1000), 50);
    puppet.write("\n");
    nobody_noticed(&master);
}

#[test]
fn half_a_line_and_silence() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    puppet.write("{\"cmd\":\"NODE_CLUSTER\",\"act\":\"listen");
    nobody_noticed(&master);
    puppet.write("ing\"}\n");
    still_heard(&master, &mut puppet);
}

#[test]
fn half_a_line_and_the_end() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    puppet.write("{\"cmd\":\"NODE_CLUSTER\",\"act\":\"listen");
    puppet.exit(0);
    master.wait(on("exit").slot(1));
    nobody_noticed(&master);
}

#[test]
fn a_line_without_an_end() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    puppet.flood(&"x".repeat(1 << 20), 256);
    nobody_noticed(&master);
    puppet.write("\n");
    still_heard(&master, &mut puppet);
    assert!(peak_kilobytes(&master) < 64 * 1024, "nobody keeps such a line");
}

#[test]
fn a_line_without_an_end_that_is_no_message_of_an_application() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    puppet.write(r#"{"cmd":"NODE_CLUSTER","act":""#);
    puppet.flood(&"x".repeat(1 << 20), 32);
    let _next = cut_off(&master, &stage);
    master_lives(&master);
}

fn peak_kilobytes(master: &Master) -> u64 {
    let text = master.process().status_line("VmHWM");
    text.trim_end_matches(" kB").parse().expect("a number of kilobytes")
}

#[test]
fn a_long_message_is_a_message() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    puppet.say(&json!({ "long": "x".repeat(3 << 20) }));
    still_heard(&master, &mut puppet);
}

#[test]
fn a_flood_of_messages() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    puppet.flood("{\"said\":\"again and again\"}\n", 100_000);
    nobody_noticed(&master);
    assert!(peak_kilobytes(&master) < 256 * 1024);
}

#[test]
fn a_flood_of_handles() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    for _ in 0..500 {
        puppet.pass("{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{}}\n", 1);
    }
    for _ in 0..500 {
        puppet.wait_released();
    }
    nobody_noticed(&master);
}

#[test]
fn an_unexpected_handle_is_acknowledged_and_closed() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    puppet.pass("{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{\"take\":\"this\"}}\n", 1);
    puppet.hear(|message| message["cmd"] == "NODE_HANDLE_ACK");
    puppet.wait_released();
    still_heard(&master, &mut puppet);
    nobody_noticed(&master);
}

#[test]
fn a_handle_message_without_a_handle_is_refused() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    puppet.say(&json!({ "cmd": "NODE_HANDLE", "type": "net.Socket", "msg": {} }));
    puppet.hear(|message| message["cmd"] == "NODE_HANDLE_NACK");
    nobody_noticed(&master);
}

#[test]
fn several_handles_in_one_message_are_closed() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    puppet.pass("{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{}}\n", 3);
    puppet.hear(|message| message["cmd"] == "NODE_HANDLE_ACK");
    puppet.exit(0);
    master.wait(on("exit").slot(1));
    nobody_noticed(&master);
}

#[test]
fn handles_that_no_message_names() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    let before = master.process().open_files();
    for _ in 0..100 {
        puppet.pass("{\"plain\":\"message\"}\n", 1);
    }
    nobody_noticed(&master);
    let _next = cut_off(&master, &stage);
    master_lives(&master);
    recluster_e2e::eventually("every one of them is closed", || master.process().open_files() <= before);
}

#[test]
fn cluster_messages_with_missing_or_absurd_fields() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    for message in absurd_messages() {
        puppet.say(&message);
    }
    still_heard(&master, &mut puppet);
    nobody_noticed(&master);
}

fn absurd_messages() -> Vec<Value> {
    let query = |field: &str, value: Value| {
        let mut query = json!({
            "cmd": "NODE_CLUSTER", "act": "queryServer", "seq": 9, "index": 0, "data": null,
            "address": "127.0.0.1", "port": 0, "addressType": 4,
        });
        query[field] = value;
        query
    };
    let listening = |port: Value| {
        json!({
            "cmd": "NODE_CLUSTER", "act": "listening", "seq": 9, "index": 0, "data": null,
            "address": "127.0.0.1", "port": port, "addressType": 4,
        })
    };
    vec![
        json!({ "cmd": "NODE_CLUSTER" }),
        json!({ "cmd": "NODE_CLUSTER", "act": null }),
        json!({ "cmd": "NODE_CLUSTER", "act": 17, "seq": 1 }),
        json!({ "cmd": "NODE_CLUSTER", "act": "dance", "seq": 1 }),
        json!({ "cmd": "NODE_CLUSTER", "act": "queryServer" }),
        json!({ "cmd": "NODE_CLUSTER", "act": "queryServer", "seq": "first" }),
        json!({ "cmd": "NODE_CLUSTER", "act": "queryServer", "seq": -1 }),
        json!({ "cmd": "NODE_CLUSTER", "act": "queryServer", "seq": 1e300 }),
        query("port", json!(99_999)),
        query("port", json!(-7)),
        query("port", json!("eighty")),
        query("address", json!("not an address")),
        query("address", json!({ "host": "127.0.0.1" })),
        query("address", json!("a".repeat(100_000))),
        query("addressType", json!(5)),
        query("addressType", json!("sctp4")),
        query("addressType", json!(-1)),
        query("index", json!(-1)),
        query("index", json!(1e18)),
        query("fd", json!(-5)),
        query("fd", json!(1_000_000)),
        query("fd", json!(0)),
        query("fd", json!("stdin")),
        query("flags", json!(u64::MAX)),
        query("backlog", json!(-1)),
        query("backlog", json!(1e20)),
        query("data", json!([[[[[]]]]])),
        listening(json!(70_000)),
        listening(json!(-2)),
        listening(Value::Null),
        json!({ "cmd": "NODE_CLUSTER", "act": "close" }),
        json!({ "cmd": "NODE_CLUSTER", "act": "close", "key": "never heard of" }),
        json!({ "cmd": "NODE_CLUSTER", "act": "close", "key": 5 }),
        json!({ "cmd": "NODE_CLUSTER", "ack": "first", "seq": 1 }),
        json!({ "cmd": "NODE_CLUSTER", "ack": 10_000, "accepted": true, "seq": 1 }),
        json!({ "cmd": "NODE_CLUSTER", "ack": -1, "accepted": "perhaps", "seq": 1 }),
        json!({ "cmd": "NODE_CLUSTER", "act": "exitedAfterDisconnect" }),
        json!({ "cmd": "NODE_HANDLE" }),
        json!({ "cmd": "NODE_HANDLE", "type": 5, "msg": 5 }),
        json!({ "cmd": "NODE_SOCKET_GET_COUNT" }),
        json!({ "cmd": "NODE_SOCKET_NOTIFY_CLOSE", "key": [] }),
        json!({ "cmd": "NODE_UNHEARD_OF" }),
    ]
}

#[test]
fn a_query_that_makes_no_sense_is_answered_with_an_error() {
    let stage = Stage::new();
    let (_master, mut puppet) = stage.beside_a_good_worker();
    for fields in
        [json!({ "port": 99_999 }), json!({ "addressType": "sctp4" }), json!({ "address": "nowhere" })]
    {
        let reply = puppet.query(&fields);
        assert!(reply["errno"].as_i64().is_some_and(|errno| errno < 0), "{fields}: {reply}");
    }
}

#[test]
fn a_worker_that_asks_for_more_listeners_than_anybody_needs() {
    // What it would get where it is out of descriptors itself.
    const EMFILE: i64 = -24;
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    for index in 0..2000 {
        puppet.say_cluster(json!({
            "act": "queryServer", "index": index, "data": null,
            "address": "127.0.0.1", "port": 0, "addressType": 4,
        }));
    }
    let reply = puppet.query(&json!({ "index": 2000, "port": 0 }));
    assert_eq!(reply["errno"], EMFILE, "{reply}");
    nobody_noticed(&master);
    master_lives(&master);
    puppet.exit(0);
    stage.next().serve();
    master.wait(on("serving").slot(1));
    recluster_e2e::eventually("they are closed", || {
        master.status()["listeners"].as_array().is_some_and(|listeners| listeners.len() == 1)
    });
}

#[test]
fn acknowledgements_of_handles_that_were_never_sent() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    puppet.say(&json!({ "cmd": "NODE_HANDLE_ACK" }));
    nobody_noticed(&master);
    let _next = cut_off(&master, &stage);
    master_lives(&master);
}

#[test]
fn a_worker_that_says_everything_twice() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_worker();
    puppet.online();
    let reply = puppet.listen();
    puppet.listening(&reply);
    master.wait(on("started"));
    assert_eq!(master.seen(&on("ready").slot(1)).len(), 1);
    assert_eq!(master.seen(&on("serving").slot(1)).len(), 1);
}
