//! Events as programs read them, and as subscribers hear them.

use super::*;

const WORKER: Worker = Worker { id: 5, slot: 0, generation: 2, pid: Some(7) };

fn json(event: &Event) -> String {
    serde_json::to_string(event).unwrap()
}

#[test]
fn an_event_is_a_json_object_with_a_tag() {
    let worker = r#""worker":{"id":5,"slot":0,"generation":2,"pid":7}"#;
    let exit = |exit| json(&Event::Exit { worker: WORKER, exit, expected: true, oom_killed: false });
    assert_eq!(
        exit(Exit::Code(3)),
        format!(r#"{{"event":"exit",{worker},"exit":{{"code":3}},"expected":true}}"#)
    );
    assert_eq!(
        exit(Exit::Signal(9)),
        format!(r#"{{"event":"exit",{worker},"exit":{{"signal":9}},"expected":true}}"#)
    );
    let draining = Event::Draining { worker: WORKER, timeout: Duration::from_millis(1500) };
    assert_eq!(json(&draining), format!(r#"{{"event":"draining",{worker},"timeout_seconds":1.5}}"#));
    let recycling = Event::Recycling { worker: WORKER, excess: RecycleReason::Memory { bytes: 2, limit: 1 } };
    assert_eq!(
        json(&recycling),
        format!(r#"{{"event":"recycling",{worker},"reason":"memory","bytes":2,"limit":1}}"#)
    );
    let done = Event::Reloaded { generation: Some(2), verdict: Verdict::Done };
    assert_eq!(json(&done), r#"{"event":"reloaded","generation":2,"verdict":"done"}"#);
}

#[test]
fn what_a_message_says_is_not_serialised() {
    let secret = Event::Message { worker: WORKER, bytes: 9, text: Some("\"hunter2\"".to_owned()) };
    assert!(json(&secret).ends_with(r#","bytes":9}"#));
    assert!(!json(&secret).contains("hunter2"));
}
