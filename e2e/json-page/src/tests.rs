use std::cmp::Ordering;

use serde_json::{Value, json};

use super::*;

const TEXT: &str = r#"
## Events of the cluster

| field | type | unit | |
| --- | --- | --- | --- |
| `time` | string | | when |

### `ready`

| field | type | unit | |
| --- | --- | --- | --- |
| `worker` | [worker](#object-worker) | | which |
| `delay_seconds` | number or absent | seconds | how long |
| `due` | string | | One of `drain`, `exit`. |
| `lines` | array of string or null | | what it wrote |
| `said` | any | | what it said |

```json
{"time":"12:00","event":"ready","worker":{"id":1,"pid":null},"due":"exit","lines":["a"],"said":{"a":1}}
```

### `over`

```json
{"time":"12:00"}
```

## Objects

### Object `worker`

| field | type | unit | |
| --- | --- | --- | --- |
| `id` | integer | | which |
| `pid` | integer or null | | its process |
"#;

/// The page, with the field that names an event in its table.
fn page() -> Page {
    Page::parse(&TEXT.replace(
        "| `time` | string | | when |",
        "| `time` | string | | when |\n| `event` | string or absent | | what |",
    ))
}

fn ready() -> Vec<Value> {
    vec![
        json!({"event": "ready", "worker": {"id": 1, "pid": 2}, "delay_seconds": 1.5, "due": "drain", "lines": ["a"], "said": [1]}),
        json!({"event": "ready", "worker": {"id": 1, "pid": null}, "due": "exit", "lines": null, "said": {"a": {}}}),
    ]
}

/// What is found when these are all the values of `ready`.
fn found(ready: Vec<Value>) -> String {
    let values = ready.into_iter().chain([json!({"event": "over"})]);
    page().compare("Events of the cluster", &Samples::by_tag("event", &[], values)).join("\n")
}

fn changed(change: impl Fn(&mut Value)) -> Vec<Value> {
    let mut values = ready();
    values.iter_mut().for_each(change);
    values
}

#[test]
fn a_page_that_says_what_is_there_has_no_faults() {
    assert_eq!(page().faults(), Vec::<String>::new());
    assert_eq!(found(ready()), "");
    assert!(page().unused_objects().is_empty());
}

#[test]
fn a_field_that_one_side_has_alone_is_a_fault() {
    assert_eq!(
        found(changed(|value| value["worker"]["slot"] = json!(0))),
        "ready: `worker.slot` is not on the page"
    );
    let without = changed(|value| drop(value.as_object_mut().unwrap().remove("said")));
    assert_eq!(found(without), "ready: the code has no `said`");
}

#[test]
fn an_event_that_one_side_has_alone_is_a_fault() {
    let compare = |events: &[&str]| {
        let values = events.iter().map(|event| json!({"event": event}));
        page().compare("Events of the cluster", &Samples::by_tag("event", &[], values)).join("\n")
    };
    assert!(compare(&["over"]).contains("the code has no `ready`"));
    assert_eq!(
        found([ready(), vec![json!({"event": "late"})]].concat()),
        "Events of the cluster: `late` is not on the page"
    );
}

#[test]
fn another_type_is_a_fault() {
    for other in [
        changed(|value| value["worker"]["id"] = json!("1")),
        changed(|value| value["worker"]["id"] = json!(1.5)),
    ] {
        assert!(found(other).starts_with("ready: `worker.id` is {"));
    }
    let never_null = changed(|value| value["worker"]["pid"] = json!(2));
    assert!(found(never_null).starts_with("ready: `worker.pid` is {\"integer\"}"));
    let always_there = changed(|value| value["delay_seconds"] = json!(0.5));
    assert!(found(always_there).starts_with("ready: `delay_seconds` is {\"number\"}"));
    let element =
        changed(|value| value["lines"] = if value["lines"].is_null() { Value::Null } else { json!([1]) });
    assert!(found(element).starts_with("ready: `lines[]` is {\"integer\"}"));
}

#[test]
fn another_word_is_a_fault() {
    assert!(
        found(changed(|value| value["due"] = json!("drain")))
            .starts_with("ready: `due` is one of {\"drain\"}")
    );
}

#[test]
fn a_value_is_checked_by_itself() {
    let check = |value: &str| {
        page().check("Events of the cluster", "ready", &serde_json::from_str(value).unwrap()).join("\n")
    };
    let good = r#"{"time":"12:00","worker":{"id":1,"pid":2},"due":"exit","lines":[],"said":1}"#;
    assert_eq!(check(good), "");
    for (from, to, fault) in [
        ("\"id\":1,", "", "`worker.id` is missing"),
        ("\"pid\":2", "\"pid\":2,\"slot\":1", "`worker.slot` must not be integer"),
        ("exit", "kill", "`due` must not be `kill`"),
        ("\"time\":\"12:00\",", "", "`time` is missing"),
        ("[]", "[1]", "`lines[]` must not be integer"),
    ] {
        assert!(
            check(&good.replace(from, to)).starts_with(fault),
            "{from} -> {to}: {}",
            check(&good.replace(from, to))
        );
    }
    assert_eq!(page().check("Events of the cluster", "late", &json!({})).len(), 1);
}

#[test]
fn what_is_wrong_with_the_page_is_found() {
    for (from, to, fault) in [
        ("#object-worker", "#worker", "there is no such object"),
        ("| number or absent |", "| float |", "`float` is no type"),
        ("| seconds |", "| ms |", "its unit cannot be \"ms\""),
        ("One of `drain`, `exit`.", "", "its values are not listed"),
        ("### `over`", "### `ready`", "two headings have this anchor"),
        ("\"due\":\"exit\",", "", "`due` is missing"),
        ("```json\n{\"time\":\"12:00\"}\n```", "", "there is no example"),
        ("## Events of the cluster", "## Other events", "no test compares the part"),
    ] {
        assert!(TEXT.contains(from), "{from}");
        let faults = Page::parse(&TEXT.replace(from, to)).faults().join("\n");
        assert!(faults.contains(fault), "{from} -> {to}: {faults}");
    }
}

#[test]
#[should_panic(expected = "Ordering::Less")]
fn a_value_must_be_of_the_variant_that_it_stands_for() {
    every! { Ordering::Less => [Ordering::Equal], Ordering::Equal | Ordering::Greater => [Ordering::Equal] };
}
