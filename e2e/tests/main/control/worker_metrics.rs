//! What Node workers say of themselves: in the status, and in metrics.

use recluster_e2e::{Home, Http2, Launch, Master, eventually, get, modules, on};
use serde_json::Value;

fn cluster(metrics: &str) -> Master {
    let launch = Launch::fixture("measured.js").option("--worker-metrics", metrics);
    launch.with_admin().serve()
}

fn metrics(master: &Master) -> String {
    get(master.admin(), "/metrics").expect("an answer").body
}

/// The value of a series.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().expect("a number"))
}

/// The sum of all counts that begin so.
fn count(metrics: &str, series: &str) -> u64 {
    let values = metrics.lines().filter(|line| line.starts_with(series));
    values.map(|line| line.rsplit(' ').next().expect("a value").parse::<u64>().expect("a count")).sum()
}

/// What every worker says of itself, when all have said something.
fn said(master: &Master, what: &str) -> Vec<Value> {
    let mut said = Vec::new();
    eventually("every worker has said something", || {
        let status = master.status();
        let workers = status["workers"].as_array().expect("workers");
        said = workers.iter().filter_map(|worker| worker.get(what).cloned()).collect();
        said.len() == workers.len()
    });
    said
}

#[test]
fn workers_say_how_they_do_without_being_told_to() {
    let master = Launch::fixture("server.js").with_admin().serve();
    for node in said(&master, "node") {
        assert!(node["heap_used_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{node}");
        let utilization = node["loop_utilization"].as_f64();
        assert!(utilization.is_some_and(|part| (0.0..=1.0).contains(&part)), "{node}");
        assert!(node["loop_lag_seconds"].as_f64().is_some_and(|lag| lag > 0.0), "{node}");
    }
    let metrics = metrics(&master);
    for slot in 0..2 {
        for name in [
            "heap_size_total_bytes",
            "heap_size_used_bytes",
            "external_memory_bytes",
            "eventloop_lag_seconds",
        ] {
            let value = value(&metrics, &format!("nodejs_{name}{{slot=\"{slot}\"}}"));
            assert!(value.is_some_and(|value| value > 0.0), "{name}: {metrics}");
        }
        let servers = format!("nodejs_active_resources{{slot=\"{slot}\",type=\"PipeWrap\"}}");
        assert!(value(&metrics, &servers).is_some_and(|count| count >= 1.0), "its channel: {metrics}");
        assert_eq!(count(&metrics, &format!("nodejs_version_info{{slot=\"{slot}\",")), 1, "{metrics}");
    }
    // The test of the defaults.
    assert!(!metrics.contains("\nrecluster_http_requests_total"), "{metrics}");
}

#[test]
fn requests_are_counted_by_their_status_over_all_workers_of_a_slot() {
    let master = cluster("http");
    let requests = |metrics: &str, code: &str| {
        let slots =
            (0..2).map(|slot| format!("recluster_http_requests_total{{slot=\"{slot}\",code=\"{code}\"}} "));
        slots
            .map(|series| {
                assert!(metrics.contains(&series), "it is there from the start: {metrics}");
                count(metrics, &series)
            })
            .sum::<u64>()
    };
    said(&master, "http");
    let mut asked = 0;
    for round in ["before", "after a reload", "after a crash"] {
        let before = metrics(&master);
        for path in ["/200", "/404", "/503", "/204", "/500"] {
            master.get(path);
        }
        asked += 5;
        eventually(&format!("all requests are counted {round}"), || {
            let metrics = metrics(&master);
            ["2xx", "4xx", "5xx"].iter().map(|code| requests(&metrics, code)).sum::<u64>() >= asked
        });
        let after = metrics(&master);
        assert_eq!(requests(&after, "5xx") - requests(&before, "5xx"), 2, "{after}");
        assert_eq!(count(&after, "recluster_http_requests_total"), asked, "{after}");
        assert_eq!(count(&after, "recluster_http_request_duration_seconds_count"), asked, "{after}");
        match round {
            "before" => drop(master.reload().expect_code(0)),
            "after a reload" => {
                master.get("/exit");
                // It has been answered before.
                asked += 1;
                master.wait(on("exit"));
                master.wait_all(3, on("serving").generation(2));
            }
            _ => {}
        }
    }
    let http = said(&master, "http");
    assert!(http.iter().any(|http| http["requests"].as_u64() > Some(0)), "{http:?}");
}

/// Of many some are timed, each for those before it: in the end the histogram has all of them.
#[test]
fn of_many_requests_every_one_is_counted_and_some_are_timed() {
    const MANY: u64 = 2000;
    let launch = Launch::fixture("measured.js").workers(1).option("--worker-metrics", "http");
    let master = launch.with_admin().serve();
    let mut connection = master.connect();
    let counts = || {
        let metrics = metrics(&master);
        let timed = count(&metrics, "recluster_http_request_duration_seconds_count");
        (count(&metrics, "recluster_http_requests_total"), timed)
    };
    let mut asked = 0;
    // The second time the worker has been asked since the first, so that what is asked is timed.
    for more in [MANY, 1] {
        for _ in 0..more {
            assert_eq!(connection.get("/200").expect("an answer").status, 200);
        }
        asked += more;
        eventually("all requests are counted", || counts().0 == asked);
    }
    assert_eq!(counts(), (asked, asked));
    let status = master.status();
    let spans = &status["workers"][0]["http"];
    assert!(spans["requests"].as_u64() == Some(asked), "{spans}");
}

/// Both hear the same channels; what somebody else publishes there is no request, and harms nobody.
#[test]
fn an_application_with_metrics_of_its_own_counts_what_it_did_without_ours() {
    let seen = ["off", "http"].map(|metrics| {
        let launch = Launch::fixture("frameworks/prom-client.js").workers(1).env("NODE_PATH", modules());
        let launch = launch.option("--worker-metrics", metrics).with_admin();
        let master = launch.serve();
        for _ in 0..3 {
            assert_eq!(master.get("/").body, "ordered");
        }
        let own = master.get("/metrics").body;
        assert_eq!(value(&own, "shop_orders_total"), Some(3.0), "{own}");
        for name in ["nodejs_heap_size_used_bytes", "nodejs_version_info", "nodejs_gc_duration_seconds"] {
            assert!(own.contains(name), "{own}");
        }
        let heard = master.get("/heard").body;
        assert_eq!(master.stderr(), [""; 0]);
        if metrics == "http" {
            said(&master, "http");
            let counted = "recluster_http_requests_total{slot=\"0\",code=\"2xx\"} ";
            eventually("all requests are counted", || count(&self::metrics(&master), counted) == 5);
            assert_eq!(count(&self::metrics(&master), "recluster_http_requests_total"), 5);
        }
        heard
    });
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].contains("http.server.response.finish: request response server socket"), "{}", seen[0]);
}

#[test]
#[cfg_attr(not(has = "node-22.18"), ignore = "Node publishes streams of HTTP/2 from 22.17 and 24.2 on")]
fn requests_over_http2_are_counted() {
    let launch = Launch::fixture("frameworks/http2.js").workers(1).option("--worker-metrics", "http");
    let master = launch.with_admin().serve();
    let mut session = Http2::open(master.connect()).expect("it is open");
    for stream in [1, 3, 5] {
        session.begin(stream, "/", true).expect("it is open");
        session.answer(stream).expect("an answer");
    }
    said(&master, "http");
    let counted = "recluster_http_requests_total{slot=\"0\",code=\"2xx\"} ";
    eventually("all streams are counted", || count(&metrics(&master), counted) == 3);
    assert_eq!(count(&metrics(&master), "recluster_http_request_duration_seconds_count"), 3);
}

/// Whatever Node has deprecated would end the worker here.
#[test]
fn garbage_collections_are_told_and_node_warns_of_nothing() {
    let launch = Launch::fixture("measured.js").workers(1).option("--worker-metrics", "http");
    let arguments = ["--expose-gc", "--throw-deprecation", "--pending-deprecation", "--trace-warnings"];
    let launch = arguments.iter().fold(launch, |launch, argument| launch.node_arg(argument));
    let master = launch.with_admin().serve();
    said(&master, "node");
    master.get("/gc");
    let collections = "nodejs_gc_duration_seconds_count{slot=\"0\",kind=\"major\"} ";
    eventually("the collection is told", || count(&metrics(&master), collections) > 0);
    assert_eq!(master.stderr(), [""; 0]);
}

#[test]
fn the_lag_of_a_worker_that_is_blocked_is_known_meanwhile() {
    let home = Home::new();
    let launch = Launch::fixture("measured.js").workers(1).env("UNTIL", home.join("go on"));
    let master = launch.with_admin().serve();
    said(&master, "node");
    let mut blocked = master.connect();
    blocked.send("GET /block HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
    master.wait_stdout("blocks");
    let lag = || said(&master, "node")[0]["loop_lag_seconds"].as_f64();
    eventually("it is blocked for a second", || lag() > Some(1.0));
    home.write("go on", "");
    eventually("it answers again", || lag() < Some(1.0));
}

/// Nor is anything wrong with them.
#[test]
fn programs_that_are_not_node_say_nothing() {
    let launch = Launch::fixture("program.sh").option("--worker-metrics", "http");
    let master = launch.with_admin().serve();
    master.reload().expect_code(0);
    let status = master.status();
    for worker in status["workers"].as_array().expect("workers") {
        assert!(worker.get("node").is_none() && worker.get("http").is_none(), "{worker}");
    }
    let metrics = metrics(&master);
    assert!(!metrics.contains("\nnodejs_") && !metrics.contains("\nrecluster_http_"), "{metrics}");
}
