//! What follows from what the master tells: rates, the order of rows, and warnings.

use super::super::rates::Rates;
use super::super::rows::{Column, others, rows, sort};
use super::super::warnings::warnings;
use super::*;

#[test]
fn two_looks_tell_how_fast_things_happen() {
    let mut desk = Desk::new();
    desk.look(&status());
    let rates = &desk.facts.rates;
    assert_eq!((rates.connections, rates.of(5).unwrap().cpu), (None, None), "one look tells no rate");
    desk.look(&later());
    let rates = &desk.facts.rates;
    assert_eq!(rates.connections, Some(10.0));
    assert_eq!((rates.of(5).unwrap().cpu, rates.of(6).unwrap().cpu), (Some(0.5), Some(0.0)));
    desk.look(&later());
    assert_eq!(desk.facts.rates.connections, None, "no time has passed");
    let mut other = later();
    other["pid"] = json!(4800);
    desk.look(&other);
    assert_eq!(desk.facts.rates.connections, None, "it is another master");
    let mut later_one = other.clone();
    (later_one["uptime_seconds"], later_one["slots"][0]["connections"]) = (json!(3.0), json!(1));
    desk.look(&later_one);
    assert_eq!(desk.facts.rates.connections, None, "it is another master that has the same pid");
    (later_one["uptime_seconds"], later_one["slots"][0]["connections"]) = (json!(4.0), json!(2));
    desk.look(&later_one);
    assert_eq!(desk.facts.rates.connections, Some(1.0), "which goes on");
    let mut gone = later();
    gone["workers"] = json!([worker(6, 1)]);
    desk.look(&gone);
    assert!(desk.facts.rates.of(5).is_none(), "nothing is kept of a worker that is gone");
}

#[test]
fn a_cluster_is_known_by_the_name_that_it_tells() {
    let mut desk = Desk::new();
    let mut named = status();
    desk.look(&named);
    let by_file = desk.facts.name.clone();
    named["name"] = json!("shop-2");
    desk.look(&named);
    assert_eq!((by_file.as_str(), desk.facts.name.as_str()), ("shop", "shop-2"));
}

#[test]
fn restarts_are_counted_for_a_minute() {
    let mut rates = Rates::default();
    let mut restarted = |seconds: f64, restarts: u64| {
        let mut status = status();
        status["uptime_seconds"] = json!(seconds);
        status["slots"][0]["restarts"] = json!(restarts);
        rates.look(None, &read(&status));
        rates.restarted(0)
    };
    let looks = [(100.0, 3, 0), (101.0, 4, 1), (130.0, 6, 3), (161.5, 6, 2), (190.5, 6, 0), (191.0, 7, 1)];
    for (seconds, restarts, expected) in looks {
        assert_eq!(restarted(seconds, restarts), expected, "at {seconds}");
    }
}

#[test]
fn each_slot_has_one_row_and_every_other_worker_a_line() {
    let (status, rates) = (read(&busy()), Rates::default());
    let rows = rows(&status, &rates);
    let shown: Vec<_> = rows.iter().map(|row| (row.slot.slot, row.worker.map(|worker| worker.id))).collect();
    assert_eq!(shown, [(0, Some(7)), (1, Some(6)), (2, None)]);
    assert_eq!(others(&status).iter().map(|worker| worker.id).collect::<Vec<_>>(), [5, 8]);
}

#[test]
fn a_slot_without_an_active_worker_shows_the_one_that_starts() {
    let mut status = busy();
    status["slots"][1]["active"] = Value::Null;
    let (status, rates) = (read(&status), Rates::default());
    let row = &rows(&status, &rates)[1];
    assert_eq!((row.state(), row.worker.map(|worker| worker.id)), ("starting", Some(8)));
}

#[test]
fn rows_are_sorted_from_the_greatest_down_and_what_is_not_known_comes_last() {
    let mut status = busy();
    status["workers"][2]["memory_bytes"] = json!(1);
    let (status, rates) = (read(&status), Rates::default());
    let sorted = |by, reversed| {
        let mut rows = rows(&status, &rates);
        sort(&mut rows, by, reversed);
        rows.iter().map(|row| row.slot.slot).collect::<Vec<_>>()
    };
    assert_eq!(sorted(Column::Slot, false), [0, 1, 2]);
    assert_eq!(sorted(Column::Slot, true), [2, 1, 0]);
    assert_eq!(sorted(Column::Memory, false), [1, 0, 2]);
    assert_eq!(sorted(Column::Memory, true), [0, 1, 2]);
    assert_eq!(sorted(Column::Restarts, false), [2, 1, 0]);
}

fn warned(status: &Value) -> Vec<String> {
    let found = warnings(&read(status), &Rates::default());
    found.into_iter().map(|warning| warning.words).collect()
}

#[test]
fn what_is_wrong_is_said_in_words() {
    assert_eq!(warned(&status()), [""; 0]);
    assert_eq!(
        warned(&busy()),
        [
            "slot 2 has no worker that serves",
            "worker 5 (slot 0, pid 4705) is killed in 4s: 5 open connections, 1 of them upgraded, 2 requests in progress",
        ]
    );
    let mut mixed = status();
    mixed["workers"][1]["generation"] = json!(1);
    assert_eq!(warned(&mixed), ["slot 1 runs older code than generation 2"]);
    mixed["reload"] = json!({"generation": 3, "serving": 1, "of": 2});
    assert_eq!(warned(&mixed), [""; 0], "a reload goes on");
    let mut vacant = status();
    for slot in 0..2 {
        vacant["slots"][slot]["active"] = Value::Null;
    }
    assert_eq!(warned(&vacant), ["no worker serves"]);
    vacant["phase"] = json!("stopping");
    assert_eq!(warned(&vacant), [""; 0], "that is as it should be");
    let mut stuck = status();
    stuck["workers"][0]["state"] = json!("unkillable");
    assert_eq!(warned(&stuck), ["worker 5 (slot 0, pid 4705) was killed, and does not end"]);
    let mut stopped = status();
    stopped["workers"][0]["stopped"] = json!(true);
    assert_eq!(warned(&stopped), ["worker 5 (slot 0, pid 4705) is stopped: kill -CONT lets it go on"]);
}

#[test]
fn what_node_workers_report_is_judged() {
    let mut desk = Desk::new();
    for look in 0..4 {
        desk.look(&reported(look));
    }
    let words = |desk: &Desk| {
        let found = warnings(desk.facts.status.as_ref().unwrap(), &desk.facts.rates);
        found.into_iter().map(|warning| warning.words).collect::<Vec<_>>()
    };
    assert_eq!(words(&desk), ["slot 1 blocked for 1.4s", "slot 1 answers 10% of its requests with 5xx"]);
    desk.look(&reported(4));
    assert_eq!(words(&desk)[2..], ["slot 1 is as busy as one event loop can be"]);
    let pace = desk.facts.rates.of(6).unwrap();
    assert_eq!((pace.requests, pace.failed), (Some(120.0), Some(0.1)));
}

#[test]
fn a_slot_that_is_restarted_again_and_again_is_told_of() {
    let mut desk = Desk::new();
    desk.look(&status());
    let mut restarted = later();
    restarted["slots"][1]["restarts"] = json!(7);
    desk.look(&restarted);
    assert!(
        desk.shown(80, 24).contains("! slot 1 was started again 4 times in a minute"),
        "{}",
        desk.shown(80, 24)
    );
}

#[test]
fn a_master_that_does_not_answer_is_told_of() {
    let mut desk = Desk::new();
    desk.look(&status());
    desk.now += Duration::from_secs(2);
    assert!(!desk.shown(80, 24).contains("not answered"));
    desk.now += Duration::from_secs(3);
    assert!(desk.shown(80, 24).contains("! the master has not answered for 5s"), "{}", desk.shown(80, 24));
}

#[test]
fn events_are_kept_up_to_a_number() {
    let mut desk = Desk::new();
    for number in 0..1000 {
        desk.hear(&json!({"time": "x", "level": "info", "event": "scaled", "from": number}));
    }
    assert_eq!(desk.facts.events.len(), 200);
    let last = &desk.facts.events[199];
    assert_eq!((last.words.as_str(), last.time.as_str()), ("scaled from=999", "--:--:--"));
}
