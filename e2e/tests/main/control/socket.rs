//! The control socket: where it is, how commands find it, and how it answers invalid requests.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use recluster_e2e::{DEADLINE, Home, Launch, Master, Running, Stage, command, on};
use rustix::process::Signal;

fn named(home: &Home, name: &str) -> Launch {
    Launch::fixture("server.js").home(home).workers(1).discoverable().option("--name", name)
}

/// Which of these names an error says are running. Others of this user may run elsewhere.
fn running<'a>(error: &str, names: &[&'a str]) -> Vec<&'a str> {
    let (_, said) = error.split_once("these are running: ").unwrap_or_default();
    let said: Vec<&str> = said.split(" (").next().unwrap_or_default().split(", ").collect();
    names.iter().copied().filter(|name| said.contains(name)).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it should be there").permissions().mode() & 0o777
}

#[test]
fn only_its_owner_can_reach_it() {
    let home = Home::new();
    let _master = named(&home, "shop").serve();
    assert_eq!(mode(&home.join("recluster")), 0o700);
    assert_eq!(mode(&home.join("recluster/shop.sock")), 0o600);
}

#[test]
fn the_only_cluster_is_found() {
    let home = Home::new();
    let master = named(&home, "shop").serve();
    let by_name = home.recluster(&["status", "--json", "--name", "shop"]);
    assert_eq!(by_name.json()["pid"], master.process().pid());
}

#[test]
fn of_several_clusters_one_must_be_named() {
    let home = Home::new();
    let shop = named(&home, "shop").serve();
    let blog = named(&home, "blog").serve();
    let unnamed = home.recluster(&["status"]);
    unnamed.expect_code(2);
    assert!(unnamed.stderr.contains("shop") && unnamed.stderr.contains("blog"), "{unnamed:#?}");
    let by_name = home.recluster(&["status", "--json", "--name", "blog"]);
    assert_eq!(by_name.json()["pid"], blog.process().pid());
    let socket = home.join("recluster/shop.sock");
    let by_path = home.recluster(&["status", "--json", "--control", &socket.to_string_lossy()]);
    assert_eq!(by_path.json()["pid"], shop.process().pid());
}

#[test]
fn a_misspelled_name_is_told_which_one_was_meant() {
    let home = Home::new();
    let _clusters = ["shop", "blog"].map(|name| named(&home, name).serve());
    let misspelled = home.recluster(&["reload", "--name", "shpo"]);
    misspelled.expect_code(2);
    assert!(misspelled.stderr.contains("no cluster with the name 'shpo'"), "{misspelled:#?}");
    assert!(misspelled.stderr.contains("did you mean --name shop?"), "{misspelled:#?}");
    let gone = home.join("gone.sock");
    let astray = home.recluster(&["status", "--control", &gone.to_string_lossy()]);
    astray.expect_code(2);
    assert_eq!(running(&astray.stderr, &["blog", "shop"]), ["blog", "shop"], "{astray:#?}");
}

/// Another program may have a path that was meant for a cluster, and may even answer there.
#[test]
fn what_listens_there_and_is_no_cluster_is_called_that() {
    let home = Home::new();
    let _master = named(&home, "shop").serve();
    let other = UnixListener::bind(home.join("recluster/web.sock")).expect("the directory is ours");
    std::thread::spawn(move || {
        for mut client in other.incoming().flatten() {
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let astray = home.recluster(&["status", "--control", &home.join("gone.sock").to_string_lossy()]);
    assert_eq!(running(&astray.stderr, &["shop", "web"]), ["shop"], "{astray:#?}");
    let path = home.join("recluster/web.sock").to_string_lossy().into_owned();
    for command in [&["stop", "--control", &path][..], &["status", "--name", "web"]] {
        let refused = home.recluster(command);
        refused.expect_code(2);
        assert!(refused.stderr.contains("no cluster"), "{refused:#?}");
    }
    let second = named(&home, "web").refused();
    second.expect_code(2);
    assert!(second.stderr.contains("another program"), "{second:#?}");
}

/// A cleaner of old files, or somebody who moves the whole directory.
#[test]
fn one_that_was_removed_is_bound_again_and_found() {
    let home = Home::new();
    let pidfile = home.join("shop.pid");
    let master = named(&home, "shop").option("--pidfile", &pidfile.to_string_lossy()).serve();
    let socket = home.join("recluster/shop.sock");
    let restored = |what: &str| on("path_restored").with("/what", what);
    fs::remove_file(&socket).expect("it should be there");
    master.wait(restored("control"));
    assert_eq!(home.recluster(&["status", "--json", "--name", "shop"]).json()["pid"], master.process().pid());
    assert_eq!(mode(&socket), 0o600);
    fs::rename(home.join("recluster"), home.join("away")).expect("it should be there");
    fs::remove_file(&pidfile).expect("it should be there");
    master.signal(Signal::USR1);
    master.wait(restored("pidfile"));
    master.wait_all(2, restored("control"));
    home.recluster(&["reload", "--name", "shop"]).expect_code(0);
    assert_eq!(home.read("shop.pid"), format!("{}\n", master.process().pid()));
}

/// Its socket was removed while it was stopped, and another one was started in its place.
#[test]
fn what_a_living_cluster_has_is_left_to_it_until_it_ends() {
    let home = Home::new();
    let first = named(&home, "shop").serve();
    first.signal(Signal::STOP);
    fs::remove_file(home.join("recluster/shop.sock")).expect("it should be there");
    let mut second = named(&home, "shop").serve();
    first.signal(Signal::CONT);
    let lost = first.wait(on("path_lost").with("/what", "control"));
    assert!(lost.text("/reason").contains("a running cluster has"), "{lost:?}");
    let pid = || home.recluster(&["status", "--json", "--name", "shop"]).json()["pid"].clone();
    assert_eq!(pid(), second.process().pid());
    second.signal(Signal::TERM);
    second.expect_end(0);
    first.signal(Signal::USR1);
    first.wait(on("path_restored").with("/what", "control"));
    assert_eq!(pid(), first.process().pid());
}

#[test]
fn the_environment_may_name_it() {
    let home = Home::new();
    let path = home.join("somewhere.sock");
    let launch = Launch::fixture("server.js").home(&home).workers(1).discoverable();
    let master = launch.env("RECLUSTER_CONTROL", &path).serve();
    let mut client = command(home.path());
    client.args(["status", "--json"]).env("RECLUSTER_CONTROL", &path);
    let status = Running::start(client).finish();
    assert_eq!(status.json()["pid"], master.process().pid());
}

#[test]
fn where_no_cluster_answers_the_path_is_named() {
    let home = Home::new();
    for command in [&["reload"][..], &["status"], &["scale", "2"], &["stop"], &["terminate"]] {
        let nobody = home.recluster(&[command, &["--name", "shop"]].concat());
        nobody.expect_code(2);
        let tried = home.join("recluster/shop.sock");
        assert!(nobody.stderr.contains(&*tried.to_string_lossy()), "{nobody:#?}");
    }
}

#[test]
fn a_cluster_is_named_after_its_package() {
    let home = Home::new();
    fs::create_dir(home.join("lib")).expect("the directory is ours");
    home.write("package.json", r#"{"name": "@acme/web-shop"}"#);
    let server = home.write("lib/server.js", "setInterval(() => {}, 1e9)");
    let launch = || {
        let launch = Launch::of(&server).home(&home).workers(1).discoverable();
        launch.option("--ready-when", "started").serve()
    };
    let _first = launch();
    let _second = launch();
    let sockets: Vec<String> = sockets(&home);
    assert_eq!(sockets.len(), 2, "{sockets:?}");
    assert!(sockets.iter().all(|name| name.contains("web-shop")), "{sockets:?}");
    assert!(sockets.iter().any(|name| name.ends_with("-2.sock")), "{sockets:?}");
}

fn sockets(home: &Home) -> Vec<String> {
    let entries = fs::read_dir(home.join("recluster")).expect("the directory of control sockets");
    let names =
        entries.map(|entry| entry.expect("the directory is ours").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(".sock")).collect()
}

#[test]
fn a_name_that_a_living_cluster_has_is_refused() {
    let home = Home::new();
    let master = named(&home, "shop").serve();
    let second = named(&home, "shop").refused();
    second.expect_code(2);
    assert!(second.stderr.contains("shop"), "{second:#?}");
    assert_eq!(master.get("/").text("slot"), "0", "the first one does not notice");
    home.recluster(&["status", "--name", "shop"]).expect_code(0);
}

#[test]
fn a_control_socket_that_a_living_cluster_has_is_refused() {
    let master = Launch::fixture("server.js").workers(1).serve();
    let path = master.control().to_string_lossy().into_owned();
    let second = Launch::fixture("server.js").option("--control", &path).refused();
    second.expect_code(2);
    assert!(second.stderr.contains(&path), "{second:#?}");
    master.client(&["status"]).expect_code(0);
}

#[test]
fn a_stale_socket_is_replaced() {
    let home = Home::new();
    fs::create_dir(home.join("recluster")).expect("the directory is ours");
    fs::set_permissions(home.join("recluster"), fs::Permissions::from_mode(0o700))
        .expect("the directory is ours");
    drop(
        std::os::unix::net::UnixListener::bind(home.join("recluster/shop.sock"))
            .expect("the directory is ours"),
    );
    let master = named(&home, "shop").serve();
    let status = home.recluster(&["status", "--json", "--name", "shop"]);
    assert_eq!(status.json()["pid"], master.process().pid());
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let home = Home::new();
    fs::create_dir(home.join("recluster")).expect("the directory is ours");
    fs::set_permissions(home.join("recluster"), fs::Permissions::from_mode(0o777))
        .expect("the directory is ours");
    let refused = named(&home, "shop").refused();
    refused.expect_code(2);
    assert!(refused.stderr.contains("writable"), "{refused:#?}");
}

#[test]
fn it_can_be_turned_off() {
    let home = Home::new();
    let launch = Launch::fixture("server.js").home(&home).workers(1).discoverable();
    let master = launch.option("--control", "none").serve();
    assert!(!home.join("recluster").exists());
    assert_eq!(master.get("/").text("slot"), "0");
}

/// Says something to the control socket, and hears what comes back until the master closes.
fn answer_to(master: &Master, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(master.control()).expect("the master listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket takes a deadline");
    // The master may close before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn an_invalid_request_is_answered_with_one_line() {
    let master = Launch::fixture("server.js").workers(1).serve();
    for nonsense in ["nonsense\n", "{}\n", "[]\n", "\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\u{0}\u{1}\n"]
    {
        let answer = answer_to(&master, nonsense.as_bytes());
        assert_eq!(answer.lines().count(), 1, "{nonsense:?}: {answer:?}");
        assert!(answer.contains("refused"), "{nonsense:?}: {answer:?}");
    }
    answer_to(&master, &vec![b'x'; 10 << 20]);
    answer_to(&master, &[0xff, 0xfe, b'\n']);
    answer_to(&master, b"half a line");
    assert_eq!(master.status()["phase"], "running");
}

#[test]
fn clients_that_ask_for_nothing_keep_nobody_out() {
    let master = Launch::fixture("server.js").workers(1).serve();
    let silent: Vec<_> = (0..200).filter_map(|_| UnixStream::connect(master.control()).ok()).collect();
    assert!(silent.len() > 64, "more than are answered at a time");
    master.client(&["status"]).expect_code(0);
    master.reload().expect_code(0);
    drop(silent);
}

#[test]
fn a_client_that_goes_away_while_it_waits_changes_nothing() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).start();
    stage.next().serve();
    master.wait(on("started"));
    let waiting = master.begin_client(&["reload"]);
    let mut new = stage.next();
    drop(waiting);
    new.serve();
    master.wait(on("reloaded").with("/verdict", "done"));
    master.client(&["status"]).expect_code(0);
}

#[test]
fn the_reload_command_fails_when_the_master_is_killed() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).start();
    stage.next().serve();
    master.wait(on("started"));
    let waiting = master.begin_client(&["reload"]);
    stage.next().online();
    master.signal(Signal::KILL);
    waiting.finish().expect_code(2);
}

#[test]
fn two_clusters_beside_each_other_are_independent() {
    let home = Home::new();
    let one = Launch::fixture("server.js").home(&home).workers(1).serve();
    let mut two =
        Launch::fixture("several.js").home(&home).workers(1).env("SERVERS", r#"{"two":{"port":0}}"#).serve();
    one.reload().expect_code(0);
    assert_eq!(two.seen(&on("spawned")).len(), 1);
    two.signal(Signal::TERM);
    two.expect_end(0);
    assert_eq!(one.get("/").text("generation"), "2");
}
