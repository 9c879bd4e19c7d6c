//! `--balance kernel`: connections that are kept are handed out to the worker with the fewest.

use std::collections::BTreeSet;
use std::net::TcpStream;

use recluster_e2e::{Connection, Home, Launch, Master, eventually, on};
use rustix::process::Signal;

/// A connection that is kept, and the slot of its worker.
type Kept = (Connection<TcpStream>, usize);

fn is_handing_out(master: &Master) -> bool {
    master.status()["listeners"][0]["handing_out"] == true
}

fn until_it_hands_out(master: &Master) {
    eventually("connections are handed out", || is_handing_out(master));
}

/// Opens connections one after the other, and keeps them.
fn open(master: &Master, count: usize) -> Vec<Kept> {
    let one = |_| {
        let mut connection = master.connect();
        let slot = connection.get("/").expect("an answer").text("slot");
        (connection, slot.parse().expect("a number"))
    };
    (0..count).map(one).collect()
}

/// Until each of four workers has some, and none has many more than its part, one of the fullest is replaced by a new one. On a machine
/// that does other things as well, a worker may be busy for so long that others are handed what was its own.
fn until_they_are_even(master: &Master, mut kept: Vec<Kept>) -> Vec<Kept> {
    let most = kept.len() / 4 + 3;
    eventually("they are even", || {
        let of = |slot: usize| kept.iter().filter(|(_, of)| *of == slot).count();
        let each = [0, 1, 2, 3].map(of);
        let is_even = each.iter().all(|count| (1..=most).contains(count));
        if !is_even {
            let fullest = (0..4).max_by_key(|slot| each[*slot]).expect("there are four");
            let one = kept.iter().position(|(_, of)| *of == fullest).expect("it has some");
            kept.remove(one);
            kept.extend(open(master, 1));
        }
        is_even
    });
    kept
}

#[test]
fn few_connections_are_spread_evenly_also_after_a_respawn() {
    let master = Launch::fixture("server.js").workers(4).serve();
    until_it_hands_out(&master);
    let mut all = until_they_are_even(&master, open(&master, 16));
    master.worker(&master.wait(on("spawned").slot(2))).signal(Signal::KILL);
    master.wait_all(5, on("serving"));
    until_it_hands_out(&master);
    all.retain(|(_, slot)| *slot != 2);
    let missing = 16 - all.len();
    all.extend(open(&master, missing));
    assert_eq!(until_they_are_even(&master, all).len(), 16);
}

#[test]
fn a_reload_amid_connections_that_are_kept_loses_none_and_spreads_them_evenly_again() {
    let master = Launch::fixture("server.js").workers(4).serve();
    until_it_hands_out(&master);
    let mut old = open(&master, 16);
    master.signal(Signal::USR2);
    master.wait_all(4, on("draining"));
    for (connection, _) in &mut old {
        // Until its worker has heard that it is let go.
        eventually("the connection is closed behind an answer", || {
            let answer = connection.get("/").expect("the old worker answers");
            assert_eq!(answer.text("generation"), "1");
            answer.header("connection").as_deref() == Some("close")
        });
    }
    master.wait(on("reloaded").with("/verdict", "done"));
    until_it_hands_out(&master);
    let new = until_they_are_even(&master, open(&master, 16));
    assert_eq!(new.len(), 16);
}

#[test]
fn scaling_amid_connections_that_are_kept_loses_none_and_gives_new_workers_their_part() {
    let master = Launch::fixture("server.js").workers(2).serve();
    until_it_hands_out(&master);
    let mut kept = open(&master, 6);
    master.client(&["scale", "4"]).expect_code(0);
    until_it_hands_out(&master);
    kept.extend(open(&master, 10));
    let mut kept = until_they_are_even(&master, kept);
    let (mut leaving, mut staying): (Vec<_>, Vec<_>) = kept.drain(..).partition(|(_, slot)| *slot >= 2);
    master.client(&["scale", "2"]).expect_code(0);
    for (connection, _) in &mut leaving {
        eventually("the connection is closed behind an answer", || {
            let answer = connection.get("/").expect("the leaving worker answers");
            answer.header("connection").as_deref() == Some("close")
        });
    }
    for (connection, slot) in &mut staying {
        assert_eq!(connection.get("/").expect("the staying worker answers").text("slot"), slot.to_string());
    }
    until_it_hands_out(&master);
    let mut slots = BTreeSet::new();
    eventually("both that are left are given some", || {
        slots.extend(open(&master, 1).iter().map(|(_, slot)| *slot));
        assert!(slots.iter().all(|slot| *slot < 2), "{slots:?}");
        slots.len() == 2
    });
}

/// From then on nobody sees when they are idle: the kernel spreads what comes, and what waits is sent on.
#[test]
#[cfg_attr(not(has = "root"), ignore = "only root can give up privileges")]
fn workers_that_give_up_their_privileges_are_handed_nothing_more_and_lose_nothing() {
    let home = Home::new();
    let server = home.write(
        "server.js",
        "require('node:http').createServer((request, response) => {
           if (request.url === '/drop' && process.getuid() === 0) {
             process.setgid(65534)
             process.setuid(65534)
           }
           response.end('{}')
         }).listen(0, '127.0.0.1')",
    );
    let master = Launch::of(server).home(&home).started_by("without-tracing.py").workers(2).serve();
    until_it_hands_out(&master);
    eventually("nothing is handed out", || {
        assert_eq!(master.get("/drop").status, 200);
        !is_handing_out(&master)
    });
    for _ in 0..20 {
        assert_eq!(master.get("/").status, 200);
    }
    assert!(!is_handing_out(&master));
}
