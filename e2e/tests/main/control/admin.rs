//! The admin listener: who may read what, who may change something, and what it says of a cluster.

use std::fs;
use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{self as unix, UnixListener, UnixStream};
use std::path::PathBuf;

use recluster_e2e::{Connection, DEADLINE, Home, Launch, Master, Response, Stage, eventually, get, on};
use rustix::process::Signal;
use serde_json::{Value, json};

const TOKEN: &str = "correct-horse-battery-staple";

fn asked(master: &Master, path: &str) -> Response {
    get(master.admin(), path).expect("an answer")
}

/// What is answered to these bytes, until the connection ends.
fn told(at: SocketAddr, bytes: &str) -> String {
    let mut connection = Connection::open(at).expect("it listens");
    connection.send(bytes).expect("it reads");
    connection.read_to_end().expect("an end")
}

fn token_file(home: &Home, mode: u32) -> PathBuf {
    let path = home.join("token");
    fs::write(&path, format!("{TOKEN}\n")).expect("it can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
    path
}

fn post(at: SocketAddr, target: &str, token: Option<&str>) -> Response {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let mut connection = Connection::open(at).expect("it listens");
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{authorization}\r\n");
    connection.send(head).expect("it reads");
    connection.response().expect("an answer")
}

/// The value of one series.
fn value(master: &Master, series: &str) -> Option<f64> {
    let metrics = asked(master, "/metrics").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

#[test]
fn it_is_off_unless_it_is_asked_for() {
    let master = Launch::fixture("server.js").workers(1).serve();
    assert_eq!(master.wait(on("starting")).at("/admin"), &Value::Null);
}

#[test]
fn the_status_is_that_of_the_command_and_the_health_is_good_while_it_serves() {
    let master = Launch::fixture("server.js").with_admin().serve();
    let status = asked(&master, "/status");
    assert_eq!((status.status, status.header("content-type").as_deref()), (200, Some("application/json")));
    let (told, known) = (status.json(), master.status());
    assert_eq!(told["pid"], known["pid"]);
    let keys = |value: &Value| value.as_object().map(|it| it.keys().cloned().collect::<Vec<_>>());
    assert_eq!(keys(&told), keys(&known));
    for path in ["/livez", "/readyz", "/readyz?strict", "/", "/metrics"] {
        assert_eq!(asked(&master, path).status, 200, "{path}");
    }
    assert_eq!(asked(&master, "/nothing").status, 404);
}

/// Also where it listens on a unix socket, whose permissions are those that were asked for.
#[test]
fn it_may_be_a_unix_socket_which_is_removed_at_the_end() {
    let home = Home::new();
    let path = home.join("admin.sock");
    let address = format!("unix:{}?mode=600", path.display());
    let mut master = Launch::fixture("server.js").home(&home).workers(1).option("--admin", &address).serve();
    let mut connection = Connection::open_unix(&path).expect("it listens");
    // No web page reaches it, so that it does not matter by what name it is asked.
    connection.send("GET /readyz HTTP/1.1\r\nHost: evil.example\r\n\r\n").expect("it reads");
    assert_eq!(connection.response().expect("an answer").status, 200);
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(!path.exists());
}

/// There is no file of it, and no permissions either.
#[test]
fn it_may_be_a_name_of_the_kernels_which_is_free_at_the_end() {
    let name = format!("recluster-e2e-admin-{}", std::process::id());
    let address = format!("unix:@{name}");
    let launch = || Launch::fixture("server.js").workers(1).option("--admin", &address);
    let mut master = launch().serve();
    assert_eq!(master.wait(on("starting")).text("/admin"), address);
    let at = unix::SocketAddr::from_abstract_name(&name).expect("a short name");
    let stream = UnixStream::connect_addr(&at).expect("it listens");
    assert_eq!(Connection::on(stream).expect("a stream").get("/readyz").expect("an answer").status, 200);
    let refused = launch().refused();
    refused.expect_code(2);
    let taken = format!("the admin listener: cannot listen on {address}: Address already in use");
    assert!(refused.stderr.contains(&taken), "{refused:#?}");
    let refused = Launch::fixture("server.js").option("--admin", &format!("{address}?mode=600")).refused();
    refused.expect_code(2);
    assert!(refused.stderr.contains("there is no option 'mode=600' of this address"), "{refused:#?}");
    master.signal(Signal::TERM);
    master.expect_end(0);
    UnixListener::bind_addr(&at).expect("it is free");
}

/// A cleaner of old files; and somebody who moves the whole directory, which is not made anew.
#[test]
fn a_unix_socket_that_was_removed_is_there_again() {
    let home = Home::new();
    fs::create_dir(home.join("run")).expect("the directory is ours");
    let path = home.join("run/admin.sock");
    let address = format!("unix:{}?mode=600", path.display());
    let mut master = Launch::fixture("server.js").home(&home).workers(1).option("--admin", &address).serve();
    let is_asked = || {
        let mut connection = Connection::open_unix(&path).expect("it listens");
        connection.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
        assert_eq!(connection.response().expect("an answer").status, 200);
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    };
    let restored = || on("path_restored").with("/what", "admin");
    fs::remove_file(&path).expect("it should be there");
    let event = master.wait(restored());
    assert_eq!(event.text("/path"), path.to_string_lossy());
    is_asked();
    fs::rename(home.join("run"), home.join("away")).expect("it should be there");
    master.wait(on("path_lost").with("/what", "admin"));
    fs::create_dir(home.join("run")).expect("the directory is ours");
    master.signal(Signal::USR1);
    master.wait_all(2, restored());
    is_asked();
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(!path.exists());
}

#[test]
fn it_is_not_ready_before_the_first_generation_serves_and_lives_all_the_while() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).with_admin().start();
    let mut worker = stage.next();
    worker.online();
    master.wait(on("online"));
    assert_eq!(asked(&master, "/livez").status, 200);
    let answer = asked(&master, "/readyz");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("has not served yet"), "{answer:?}");
    let reply = worker.query(&json!({}));
    worker.listening(&reply);
    master.wait(on("started"));
    assert_eq!(asked(&master, "/readyz").status, 200);
}

/// A request that kills workers must not take every machine out.
#[test]
fn a_worker_that_respawns_leaves_it_ready_unless_who_asks_is_strict() {
    let launch = Launch::fixture("server.js").workers(2).with_admin().option("--respawn", "1h");
    let master = launch.serve();
    let worker = master.worker(&master.wait(on("spawned").slot(0)));
    worker.signal(Signal::KILL);
    // The next one is started in an hour.
    master.wait(on("respawning").slot(0));
    assert_eq!(asked(&master, "/readyz").status, 200);
    assert_eq!(asked(&master, "/readyz?strict").status, 503);
    assert_eq!(value(&master, "recluster_worker_exits_total{cause=\"signal\"}"), Some(1.0));
    assert_eq!(value(&master, "recluster_slots_active"), Some(1.0));
}

/// A load balancer turns away before connections are refused.
#[test]
fn a_stop_makes_it_not_ready_also_while_connections_are_still_accepted() {
    let launch = Launch::fixture("server.js").workers(1).with_admin().option("--accept-after-stop", "1h");
    let master = launch.serve();
    assert_eq!(asked(&master, "/readyz").status, 200);
    master.signal(Signal::TERM);
    master.wait(on("accepting_until_stop"));
    assert_eq!(asked(&master, "/readyz").status, 503);
    assert_eq!(asked(&master, "/livez").status, 200);
    assert_eq!(master.get("/").status, 200, "it accepts");
    assert_eq!(value(&master, "recluster_stopping"), Some(1.0));
}

#[test]
fn a_web_page_elsewhere_cannot_read_it_by_a_name_of_its_own() {
    let launch =
        Launch::fixture("server.js").workers(1).with_admin().option("--admin-host", "prod-7.example");
    let master = launch.serve();
    let at = master.admin();
    let status =
        |request: &str| told(at, &format!("{request}\r\nConnection: close\r\n\r\n"))[9..12].to_owned();
    assert_eq!(status("GET /metrics HTTP/1.1\r\nHost: evil.example:9464"), "403");
    assert_eq!(status("GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost"), "403");
    assert_eq!(status("GET /metrics HTTP/1.1"), "400");
    for host in ["prod-7.example", "PROD-7.example:80", "127.0.0.1:9464", "[::1]", "localhost"] {
        assert_eq!(status(&format!("GET /metrics HTTP/1.1\r\nHost: {host}")), "200", "{host}");
    }
}

#[test]
fn wrong_requests_are_answered_for_what_is_wrong_with_them() {
    let master = Launch::fixture("server.js").workers(1).with_admin().serve();
    let at = master.admin();
    let long = "x".repeat(9000);
    for (request, status) in [
        ("nonsense\r\n\r\n", "400"),
        ("DELETE /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "405"),
        ("GET /reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "405"),
        ("POST /reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "403"),
        ("POST /upgrade HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "404"),
        ("GET /status/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "404"),
        (&format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"), "431"),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "411"),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n", "413"),
        ("GET / HTTP/3.0\r\n\r\n", "505"),
    ] {
        assert_eq!(&told(at, request)[9..12], status, "{}", &request[..request.len().min(60)]);
    }
}

/// One after the other, and the answers in their order; the client may have said already that it says no more.
#[test]
fn several_requests_of_one_connection_are_all_answered() {
    let master = Launch::fixture("server.js").workers(1).with_admin().serve();
    let mut stream = TcpStream::connect(master.admin()).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a span");
    let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let body = "POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello".to_owned();
    let all = [request("GET /livez"), body, request("HEAD /metrics"), request("GET /readyz")].concat();
    std::io::Write::write_all(&mut stream, all.as_bytes()).expect("it reads");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("answers and an end");
    let statuses: Vec<&str> =
        answers.match_indices("HTTP/1.1 ").filter_map(|(at, _)| answers.get(at + 9..at + 12)).collect();
    assert_eq!(statuses, ["200", "404", "200", "200"], "{answers}");
    assert!(!answers.contains("# HELP"), "HEAD has no body: {answers}");
}

#[test]
fn changes_are_for_those_who_have_the_token() {
    let home = Home::new();
    let token = token_file(&home, 0o600);
    let launch = Launch::fixture("server.js").home(&home).workers(1).with_admin();
    let mut master = launch.option("--admin-token-file", &token.display().to_string()).serve();
    let at = master.admin();
    for wrong in [None, Some("wrong-horse-battery-staple"), Some("")] {
        assert_eq!(post(at, "/reload", wrong).status, 401, "{wrong:?}");
    }
    let reloaded = post(at, "/reload?wait", Some(TOKEN));
    assert_eq!((reloaded.status, reloaded.text("verdict").as_str()), (200, "done"));
    assert_eq!(reloaded.json()["generation"], 2);
    master.wait(on("asked_by_http").with("/request", "reload"));
    assert_eq!(post(at, "/scale", Some(TOKEN)).status, 400);
    assert_eq!(post(at, "/scale?n=+1", Some(TOKEN)).json()["workers"], 2);
    assert_eq!(post(at, "/scale?n=99999999", Some(TOKEN)).status, 409);
    assert_eq!(post(at, "/reload", Some(TOKEN)).status, 202);
    master.wait(on("reloaded").with("/generation", 3));
    // Another token needs no restart.
    fs::write(&token, "another-horse-battery-staple").expect("it is ours");
    assert_eq!(post(at, "/stop", Some(TOKEN)).status, 401);
    assert_eq!(post(at, "/stop", Some("another-horse-battery-staple")).status, 202);
    master.expect_end(0);
}

#[test]
fn a_reload_that_fails_is_told_with_its_reason_and_counted() {
    let home = Home::new();
    home.release("good", "server.js");
    home.release("bad", "syntax-error.js");
    home.switch("good");
    let token = token_file(&home, 0o600);
    let launch = Launch::of(home.join("current/server.js")).home(&home).workers(1).with_admin();
    let master =
        launch.option("--admin-token-file", &token.display().to_string()).option("--attempts", "1").serve();
    assert_eq!(value(&master, "recluster_last_reload_successful"), Some(1.0));
    home.switch("bad");
    let reloaded = post(master.admin(), "/reload?wait=true", Some(TOKEN));
    assert_eq!((reloaded.status, reloaded.text("verdict").as_str()), (409, "rolled_back"));
    assert!(reloaded.body.contains("SyntaxError"), "{reloaded:?}");
    assert_eq!(value(&master, "recluster_last_reload_successful"), Some(0.0));
    assert_eq!(value(&master, "recluster_reloads_total{verdict=\"rolled_back\"}"), Some(1.0));
    assert_eq!(asked(&master, "/readyz?strict").status, 200, "the old code serves on");
}

#[test]
fn what_cannot_be_is_an_error_at_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let refused = Launch::fixture("server.js").option("--admin", &address).refused();
    refused.expect_code(2);
    assert!(
        refused.stderr.contains(&format!("the admin listener: cannot listen on {address}")),
        "{refused:?}"
    );
    let home = Home::new();
    let open = token_file(&home, 0o644).display().to_string();
    let refused = Launch::fixture("server.js").with_admin().option("--admin-token-file", &open).refused();
    refused.expect_code(2);
    assert!(refused.stderr.contains("has mode 644"), "{refused:?}");
    let refused = Launch::fixture("server.js").option("--admin-host", "name").refused();
    refused.expect_code(2);
    assert!(refused.stderr.contains("--admin-host says nothing without --admin"), "{refused:?}");
}

#[test]
fn an_address_that_other_machines_may_reach_is_warned_of() {
    let master = Launch::fixture("server.js").workers(1).option("--admin", "0.0.0.0:0").serve();
    master.wait(on("admin_exposed"));
    let master = Launch::fixture("server.js").workers(1).with_admin().serve();
    assert!(master.seen(&on("admin_exposed")).is_empty());
}

/// However long people look, a scrape tells what happened before, and who has which slot now.
#[test]
fn metrics_count_what_happened_before_anybody_asked() {
    let master = Launch::fixture("server.js").workers(2).with_admin().serve();
    master.reload().expect_code(0);
    for _ in 0..5 {
        assert_eq!(master.get("/").status, 200);
    }
    let value = |series: &str| value(&master, series);
    assert_eq!(value("recluster_worker_starts_total{reason=\"start\"}"), Some(2.0));
    assert_eq!(value("recluster_worker_starts_total{reason=\"reload\"}"), Some(2.0));
    assert_eq!(value("recluster_reloads_total{verdict=\"done\"}"), Some(1.0));
    assert_eq!(value("recluster_ready_duration_seconds_count"), Some(4.0));
    assert_eq!(value("recluster_generation"), Some(2.0));
    eventually("connections are counted", || {
        let slots = ["0", "1"].map(|slot| format!("recluster_connections_total{{slot=\"{slot}\"}}"));
        slots.iter().filter_map(|series| value(series)).sum::<f64>() >= 5.0
    });
    for (slot, pid) in master.active_pids().into_iter().enumerate() {
        let info = format!("recluster_worker_info{{slot=\"{slot}\",pid=\"{pid}\",generation=\"2\"}}");
        assert_eq!(value(&info), Some(1.0), "{info}");
        let memory = value(&format!("recluster_worker_resident_memory_bytes{{slot=\"{slot}\"}}"));
        assert!(memory.is_some_and(|bytes| bytes > 1e6), "{memory:?}");
        assert!(value(&format!("recluster_worker_open_fds{{slot=\"{slot}\"}}")).is_some_and(|fds| fds > 3.0));
    }
    let listener = format!("recluster_accept_queue_length{{listener=\"{}\"}}", master.address());
    assert_eq!(value(&listener), Some(0.0));
    let mut connection = Connection::open(master.admin()).expect("it listens");
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5";
    connection
        .send(format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n\r\n"))
        .expect("it reads");
    let open = connection.response().expect("an answer");
    assert_eq!(
        open.header("content-type").as_deref(),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.body.ends_with("# EOF\n"));
}

/// Those who connect and are silent have the seats of each other alone.
#[test]
fn silent_clients_keep_nobody_out() {
    let master = Launch::fixture("server.js").workers(1).with_admin().serve();
    let at = master.admin();
    let silent: Vec<TcpStream> = (0..400).map_while(|_| TcpStream::connect(at).ok()).collect();
    assert!(silent.len() > 200);
    for mut stream in silent.iter().take(100) {
        // Slowly, and never to the end. One that has given way already is not heard.
        let _ = std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\nX: ");
    }
    for _ in 0..20 {
        assert_eq!(asked(&master, "/readyz").status, 200);
    }
    assert_eq!(master.get("/").status, 200);
}
