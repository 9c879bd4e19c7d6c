//! What is true of every family, and of the page that describes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use recluster_wire::node::{Measures, Memory, Requests, Spans};

use super::text::{Format, Kind};
use super::{FAMILIES, write};
use crate::report::counts::{Flow, Measured};
use crate::report::event::Event;
use crate::report::measured::{Counted, Said, SlotMeasures};
use crate::report::worker::Worker;
use crate::supervisor::tally::Tally;

/// A cluster of two slots, both of which serve.
fn sample() -> Measured {
    let status = r#"{
        "pid": 1, "phase": "running", "generation": 2, "reload": null, "uptime_seconds": 9.5, "balance": "round-robin",
        "stolen": 3, "requeued": 4, "listeners": [],
        "slots": [
            {"slot": 0, "active": 5, "restarts": 1, "connections": 7},
            {"slot": 1, "active": 6, "restarts": 0, "connections": 8}
        ],
        "workers": [
            {"id": 4, "slot": 0, "generation": 1, "pid": 1, "state": "draining", "seconds_left": 1, "uptime_seconds": 9,
             "memory_bytes": 1, "cpu_seconds": 1, "connections": 0},
            {"id": 5, "slot": 0, "generation": 2, "pid": 1, "state": "serving", "seconds_left": null, "uptime_seconds": 1,
             "memory_bytes": 4096, "cpu_seconds": 0.25, "connections": 0},
            {"id": 6, "slot": 1, "generation": 2, "pid": 1, "state": "ready", "seconds_left": null, "uptime_seconds": 1,
             "memory_bytes": 8192, "cpu_seconds": 0.5, "connections": 0}
        ]
    }"#;
    let mut tally = Tally::default();
    let begun = Instant::now();
    let worker = |id, slot| Worker { id, slot, generation: 2, pid: Some(1) };
    for (id, slot) in [(5, 0), (6, 1)] {
        tally.hear(&Event::Spawned { worker: worker(id, slot) }, begun);
        tally.hear(&Event::Ready { worker: worker(id, slot) }, begun + Duration::from_millis(70));
    }
    tally.hear(&Event::Started { generation: 2, workers: 2 }, begun);
    Measured {
        status: serde_json::from_str(status).unwrap(),
        counts: tally.counts(),
        flow: Flow {
            in_flight: BTreeMap::from([(0, 2)]),
            queues: BTreeMap::from([("0.0.0.0:80".to_owned(), 12)]),
            nodes: BTreeMap::from([(0, node(true)), (1, node(false))]),
        },
    }
}

/// What Node workers of a slot have said, of which the active one may have said nothing yet.
fn node(has_said: bool) -> SlotMeasures {
    let mut spans = Spans { sum: 1_500_000, ..Spans::default() };
    (spans.buckets[0], spans.buckets[13]) = (2, 1);
    let mut measures = Measures {
        version: [26, 10, 0],
        utilization: 250_000,
        memory: Memory { used: 1, total: 2, external: 3 },
        http: Some(Requests { codes: [0, 2, 0, 0, 1, 0], spans }),
        ..Measures::default()
    };
    measures.active[0] = 5;
    measures.gc[1] = Spans { sum: 2000, buckets: [0, 1, 0, 0, 0, 0, 0] };
    let counted = Counted::of(&measures);
    let said = Said { measures, lag: Duration::from_millis(2), p99: None };
    SlotMeasures { said: has_said.then_some(said), counted }
}

fn written(format: Format) -> String {
    write(&sample(), format)
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|it| it == line), "{line}\nis not in\n{text}");
}

#[test]
fn every_family_has_samples_and_a_name_of_its_kind() {
    let text = written(Format::Prometheus);
    let mut names = BTreeSet::new();
    for family in FAMILIES.into_iter().flatten() {
        assert!(names.insert(family.name), "{} twice", family.name);
        let begins = |line: &str| {
            line.strip_prefix(family.name)
                .is_some_and(|rest| rest.starts_with([' ', '{']) || rest.starts_with("_bucket"))
        };
        assert!(text.lines().any(begins), "{} has no sample in\n{text}", family.name);
        let ending = match family.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        assert!(family.name.ends_with(ending), "{}", family.name);
        assert!(family.help.ends_with('.') && !family.help.contains(['"', '\\', '\n']), "{}", family.help);
        assert!(!family.labels.contains(&"pid") || family.kind == Kind::Info);
    }
}

#[test]
fn the_two_formats_differ_in_names_and_the_end() {
    let (old, open) = (written(Format::Prometheus), written(Format::OpenMetrics));
    has(&old, "# TYPE recluster_reloads_total counter");
    has(&open, "# TYPE recluster_reloads counter");
    has(&old, "# TYPE recluster_build_info gauge");
    has(&open, "# TYPE recluster_build info");
    assert!(open.ends_with("\n# EOF\n") && !old.contains("# EOF"));
    for text in [old, open] {
        has(&text, &format!("recluster_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
        has(&text, "recluster_reloads_total{verdict=\"rolled_back\"} 0");
        has(&text, "recluster_ready_duration_seconds_bucket{le=\"0.05\"} 0");
        has(&text, "recluster_ready_duration_seconds_bucket{le=\"0.1\"} 2");
        has(&text, "recluster_ready_duration_seconds_bucket{le=\"1.0\"} 2");
        has(&text, "recluster_ready_duration_seconds_bucket{le=\"+Inf\"} 2");
        has(&text, "recluster_ready_duration_seconds_count 2");
        has(&text, "recluster_drain_duration_seconds_bucket{end=\"kill\",le=\"+Inf\"} 0");
    }
}

#[test]
fn the_values_are_those_of_the_picture() {
    let text = written(Format::Prometheus);
    for line in [
        "recluster_slots 2",
        "recluster_slots_active 2",
        "recluster_workers{state=\"draining\"} 1",
        "recluster_workers{state=\"serving\"} 1",
        "recluster_workers{state=\"killed\"} 0",
        "recluster_generation 2",
        "recluster_stopping 0",
        "recluster_reload_in_progress 0",
        "recluster_last_reload_successful 1",
        "recluster_worker_starts_total{reason=\"reload\"} 2",
        "recluster_connections_total{slot=\"1\"} 8",
        "recluster_connections_in_flight{slot=\"0\"} 2",
        "recluster_connections_in_flight{slot=\"1\"} 0",
        "recluster_stolen_total 3",
        "recluster_requeued_total 4",
        "recluster_accept_queue_length{listener=\"0.0.0.0:80\"} 12",
        "recluster_worker_info{slot=\"0\",pid=\"1\",generation=\"2\"} 1",
        "recluster_worker_resident_memory_bytes{slot=\"0\"} 4096",
        "recluster_worker_cpu_seconds_total{slot=\"1\"} 0.5",
        "nodejs_version_info{slot=\"0\",version=\"v26.10.0\",major=\"26\",minor=\"10\",patch=\"0\"} 1",
        "nodejs_eventloop_utilization{slot=\"0\"} 0.25",
        "nodejs_eventloop_lag_seconds{slot=\"0\"} 0.002",
        "nodejs_heap_size_used_bytes{slot=\"0\"} 1",
        "nodejs_active_resources{slot=\"0\",type=\"TCPSocketWrap\"} 5",
        "nodejs_active_resources{slot=\"0\",type=\"other\"} 0",
        "nodejs_gc_duration_seconds_bucket{slot=\"1\",kind=\"major\",le=\"0.001\"} 0",
        "nodejs_gc_duration_seconds_bucket{slot=\"1\",kind=\"major\",le=\"0.01\"} 1",
        "nodejs_gc_duration_seconds_sum{slot=\"1\",kind=\"major\"} 0.002",
        "recluster_http_requests_total{slot=\"1\",code=\"5xx\"} 1",
        "recluster_http_request_duration_seconds_bucket{slot=\"1\",le=\"10.0\"} 2",
        "recluster_http_request_duration_seconds_count{slot=\"1\"} 3",
        "recluster_http_request_duration_seconds_sum{slot=\"1\"} 1.5",
    ] {
        has(&text, line);
    }
}

/// The page has a row for each family, and no other.
#[test]
fn the_page_and_the_list_are_the_same() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let page = fs::read_to_string(page).unwrap();
    let rows: BTreeSet<&str> = page
        .lines()
        .filter(|line| {
            ["recluster_", "nodejs_", "process_"].iter().any(|name| line.starts_with(&format!("| `{name}")))
        })
        .collect();
    let named = FAMILIES.into_iter().flatten().map(|family| {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {} | {} | ", family.name, family.kind.word(), labels.join(", "))
    });
    let mut documented = 0;
    for row in named {
        assert!(
            rows.iter().any(|line| line.starts_with(&row)),
            "docs/metrics.md has no row that begins with\n{row}"
        );
        documented += 1;
    }
    assert_eq!(rows.len(), documented, "docs/metrics.md has rows of what there is not: {rows:#?}");
}
