//! The metrics as Prometheus itself reads them, and what is made of them: the rules and the dashboard.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use recluster_e2e::{Connection, Home, Launch, Master, eventually, get, installed, repository};
use serde_json::Value;

/// A Prometheus that scrapes a master, with the rules of the repository.
struct Prometheus {
    process: Child,
    _home: Home,
}

impl Prometheus {
    fn watching(master: &Master) -> Self {
        let home = Home::new();
        let target = master.admin();
        let rules = repository().join("contrib/prometheus/rules.yml");
        // The first scrape comes within that time, at a moment of its own choice.
        let config = format!(
            "global: {{ scrape_interval: 5s, scrape_timeout: 5s, evaluation_interval: 1s }}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n  - job_name: recluster\n    static_configs: [{{ targets: ['{target}'] }}]\n",
            rules.display()
        );
        let config = home.write("prometheus.yml", &config);
        let process = Command::new(installed("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", home.join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--log.level=warn"])
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("it runs");
        Self { process, _home: home }
    }

    /// Where it listens: the kernel has chosen the port, and it does not tell.
    fn address(&self) -> Option<SocketAddr> {
        let pid = self.process.id();
        let of_process = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let links = of_process.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        let sockets: BTreeSet<String> = links.map(|link| link.display().to_string()).collect();
        let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
        table.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(3) == Some(&"0A");
            let is_its_own = sockets.contains(&format!("socket:[{}]", fields.get(9)?));
            let (_, port) = fields.get(1)?.split_once(':')?;
            let port = u16::from_str_radix(port, 16).ok()?;
            (listens && is_its_own).then(|| SocketAddr::from(([127, 0, 0, 1], port)))
        })
    }

    fn asked(&self, path: &str) -> Option<Value> {
        let mut connection = Connection::open(self.address()?).ok()?;
        // A longer answer to HTTP/1.1 would come in chunks.
        connection.send(format!("GET {path} HTTP/1.0\r\n\r\n")).ok()?;
        let answer = connection.read_to_end().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It has ended already if that fails.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serving() -> Master {
    Launch::fixture("server.js").with_admin().serve()
}

/// What `promtool` says of this on its stdin; it has to end well.
#[track_caller]
fn promtool(args: &[&str], input: &str) -> String {
    let mut promtool = Command::new(installed("promtool"));
    promtool.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().expect("it runs");
    let stdin = child.stdin.take();
    stdin.expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    said
}

#[cfg_attr(not(has = "promtool"), ignore = "promtool is not installed")]
#[test]
fn promtool_has_nothing_to_say_of_the_metrics() {
    let master = serving();
    master.reload().expect_code(0);
    let metrics = get(master.admin(), "/metrics").expect("an answer").body;
    assert_eq!(promtool(&["check", "metrics"], &metrics), "");
}

#[cfg_attr(not(has = "promtool"), ignore = "promtool is not installed")]
#[test]
fn promtool_finds_the_rules_right() {
    let rules = repository().join("contrib/prometheus/rules.yml").display().to_string();
    assert!(promtool(&["check", "rules", &rules], "").contains("SUCCESS"));
}

/// In the format that it asks for first, OpenMetrics.
#[cfg_attr(not(has = "prometheus"), ignore = "prometheus is not installed")]
#[test]
fn prometheus_scrapes_a_master_and_evaluates_the_rules() {
    let master = serving();
    let prometheus = Prometheus::watching(&master);
    let found = |query: &str| {
        let answer = prometheus.asked(&format!("/api/v1/query?query={query}"))?;
        let value = answer.pointer("/data/result/0/value/1")?.as_str()?.to_owned();
        Some(value)
    };
    eventually("it has scraped the master", || found("recluster_slots_active") == Some("2".to_owned()));
    assert_eq!(found("up"), Some("1".to_owned()));
    for query in [
        "sum(recluster_worker_info)",
        "count(recluster_worker_cpu_seconds_total)",
        "count(nodejs_heap_size_used_bytes)",
    ] {
        assert_eq!(found(query), Some("2".to_owned()), "{query}");
    }
    let targets = prometheus.asked("/api/v1/targets").expect("an answer");
    assert_eq!(targets.pointer("/data/activeTargets/0/lastError"), Some(&"".into()), "{targets}");
    eventually("it has evaluated every rule", || {
        let rules = prometheus.asked("/api/v1/rules").unwrap_or_default();
        let rules = rules.pointer("/data/groups/0/rules").and_then(Value::as_array).cloned();
        let rules = rules.unwrap_or_default();
        !rules.is_empty() && rules.iter().all(|rule| rule.get("health") == Some(&"ok".into()))
    });
}

/// Every metric that a rule or a plot asks for is one that there is.
#[test]
fn the_rules_and_the_dashboard_ask_for_metrics_that_there_are() {
    let read = |path: &str| fs::read_to_string(repository().join(Path::new(path))).expect("it is there");
    let page = read("docs/metrics.md");
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let names = |text: &str| -> BTreeSet<String> {
        let words = text.split(|letter| !is_part(letter));
        words
            .filter(|word| ["recluster_", "nodejs_", "process_"].iter().any(|name| word.starts_with(name)))
            .map(str::to_owned)
            .collect()
    };
    let known = names(&page);
    for path in ["contrib/prometheus/rules.yml", "contrib/grafana/recluster.json"] {
        for name in names(&read(path)) {
            let family = ["_bucket", "_count", "_sum"].iter().find_map(|ending| name.strip_suffix(ending));
            assert!(
                known.contains(&name) || family.is_some_and(|family| known.contains(family)),
                "{path}: {name}"
            );
        }
    }
    serde_json::from_str::<Value>(&read("contrib/grafana/recluster.json")).expect("JSON");
}
