//! Node servers on unix sockets: how long their paths may be, and whom their names lead to.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use recluster_e2e::{Connection, Home, Launch, Response, eventually, on};

use rustix::process::Signal;

use super::node::answered_by_all;

/// A cluster of `unix.js` on this path.
fn server_at(home: &Home, path: impl AsRef<Path>) -> Launch {
    Launch::fixture("unix.js").home(home).env("SOCKET", path.as_ref())
}

fn ask(path: &Path) -> Response {
    Connection::open_unix(path).and_then(|mut connection| connection.get("/")).expect("an answer")
}

fn ask_abstract(name: &str) -> Response {
    let address = SocketAddr::from_abstract_name(name).expect("a short name");
    let stream = UnixStream::connect_addr(&address).expect("somebody listens");
    Connection::on(stream).and_then(|mut connection| connection.get("/")).expect("an answer")
}

/// There is no file of it. A Node server means the same socket by a name behind a NUL.
#[test]
fn an_abstract_name_is_bound_for_every_worker_through_reloads_and_free_at_the_end() {
    let home = Home::new();
    let name = format!("recluster-e2e-listen-{}", std::process::id());
    let listen = format!("unix:@{name}");
    let server = home.write(
        "server.js",
        "const respond = (_, response) => response.end(JSON.stringify({ slot: process.env.WORKER_ID }))\n\
         require('node:http').createServer(respond).listen(`\\0${process.argv[2]}`)\n",
    );
    let launch = || Launch::of(&server).listen(&listen).arg(name.as_str());
    let mut master = launch().home(&home).serve();
    let status = master.status();
    assert_eq!(status["listeners"][0]["address"], listen, "{status}");
    answered_by_all(2, || ask_abstract(&name).text("slot"));
    let refused = launch().refused();
    refused.expect_code(2);
    let taken = format!(
        "cannot listen on {listen}: Address already in use (os error 98) (process {} has it",
        master.process().pid()
    );
    assert!(refused.stderr.contains(&taken), "{refused:#?}");
    master.reload().expect_code(0);
    answered_by_all(2, || ask_abstract(&name).text("slot"));
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert_eq!(names_in(&home).iter().filter(|name| name.contains("recluster-e2e")).count(), 0);
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    UnixListener::bind_addr(&address).expect("it is free");
}

/// A directory whose path alone is longer than the path of a unix socket may be, and a short link to it.
fn deep(home: &Home) -> (PathBuf, PathBuf) {
    let name = format!("{}/{}", "d".repeat(100), "e".repeat(100));
    fs::create_dir_all(home.join(&name)).expect("the directory is ours");
    home.link("deep", &name);
    (home.join(&name), home.join("deep"))
}

#[test]
fn a_path_that_is_short_as_it_is_said_may_be_long_in_full() {
    let home = Home::new();
    let (directory, link) = deep(&home);
    let mut master = server_at(&home, "./app.sock").directory(&directory).serve();
    assert_eq!(
        master.wait(on("listening")).text("/address/unix"),
        directory.join("app.sock").to_string_lossy()
    );
    ask(&link.join("app.sock"));
    master.reload().expect_code(0);
    assert_eq!(ask(&link.join("app.sock")).text("generation"), "2");
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    assert!(!directory.join("app.sock").exists());
}

#[test]
fn a_worker_may_say_it_from_another_directory_than_the_masters() {
    let home = Home::new();
    let (directory, link) = deep(&home);
    drop(UnixListener::bind(link.join("app.sock")).expect("the directory is ours"));
    let _master = server_at(&home, "app.sock").env("DIRECTORY", &directory).serve();
    ask(&link.join("app.sock"));
}

#[test]
fn a_path_that_is_too_long_as_it_is_said_is_an_error_of_the_server() {
    let home = Home::new();
    let (directory, _link) = deep(&home);
    let master = server_at(&home, directory.join("app.sock")).workers(1).start();
    master.wait_stdout("error EINVAL");
}

#[test]
fn the_master_and_its_clients_say_long_paths_as_well() {
    let home = Home::new();
    let (directory, link) = deep(&home);
    let control = directory.join("control.sock");
    let listen = format!("unix:{}", directory.join("web.sock").display());
    let _master = Launch::fixture("server.js")
        .home(&home)
        .env("LISTEN", r#"{"fd":3}"#)
        .option("--control", &control.to_string_lossy())
        .listen(&listen)
        .discoverable()
        .serve();
    ask(&link.join("web.sock"));
    home.recluster(&["status", "--control", &control.to_string_lossy()]).expect_code(0);
}

#[test]
fn a_socket_that_is_asked_for_by_another_path_has_one_name() {
    let home = Home::new();
    fs::create_dir(home.join("real")).expect("a directory");
    home.link("link", "real");
    let listen = format!("unix:{}", home.join("link/app.sock").display());
    let master = server_at(&home, home.join("real/app.sock")).listen(&listen).serve();
    answered_by_all(2, || ask(&home.join("real/app.sock")).text("slot"));
    assert_eq!(master.wait(on("listening")).at("/address"), master.bound(0).at("/address"));
    assert_eq!(master.status()["listeners"].as_array().map(Vec::len), Some(1));
}

/// Two workers and a reload: each one removes what the others use.
#[test]
fn workers_that_remove_the_file_first_share_the_socket() {
    let home = Home::new();
    let path = home.join("app.sock");
    let mut master = server_at(&home, &path).env("UNLINK", "1").serve();
    answered_by_all(2, || ask(&path).text("slot"));
    master.reload().expect_code(0);
    assert_eq!(ask(&path).text("generation"), "2");
    assert_eq!(master.status()["listeners"].as_array().map(Vec::len), Some(1));
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    let left: Vec<_> = names_in(&home).into_iter().filter(|name| name.contains("app.sock")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_file_that_an_old_worker_removes_at_its_end_is_there_again() {
    let home = Home::new();
    let path = home.join("app.sock");
    let master = server_at(&home, &path).env("UNLINK_AT_EXIT", "1").serve();
    master.reload().expect_code(0);
    master.wait(on("file_restored"));
    eventually("the name leads to the new workers", || {
        let answer = Connection::open_unix(&path).and_then(|mut connection| connection.get("/"));
        answer.is_ok_and(|answer| answer.text("generation") == "2")
    });
}

#[test]
fn a_file_that_a_dying_worker_removes_is_there_again() {
    let home = Home::new();
    let path = home.join("app.sock");
    let master = server_at(&home, &path).env("UNLINK_AT_EXIT", "1").serve();
    let dying = Connection::open_unix(&path).and_then(|mut connection| connection.get("/exit"));
    assert_eq!(dying.expect("an answer").status, 200);
    master.wait(on("file_restored"));
    answered_by_all(2, || ask(&path).text("slot"));
}

/// Such a path keeps whoever looks at it. Connections do not wait for that.
#[test]
#[cfg_attr(not(has = "fuse"), ignore = "file systems cannot be mounted here")]
fn a_file_system_that_does_not_answer_is_in_nobodys_way() {
    let home = Home::new();
    fs::create_dir(home.join("dead")).expect("the directory is ours");
    let server = home.write(
        "server.js",
        "const other = require('node:net').createServer()
         other.on('error', ({ code }) => console.log(`the other one: ${code}`))
         const server = require('node:http').createServer((_, response) => response.end('{}'))
         server.listen(0, '127.0.0.1', () => other.listen(process.env.SOCKET))",
    );
    let launch = Launch::of(server).home(&home).workers(1).started_by("behind-a-dead-mount.py");
    let launch = launch.env("DISK", home.join("dead")).env("SOCKET", home.join("dead/a.sock"));
    let mut master = launch.serve();
    for _ in 0..2 {
        master.wait_stdout("the other one: ETIMEDOUT");
        assert_eq!(master.get("/").status, 200);
        master.reload().expect_code(0);
    }
    master.signal(Signal::TERM);
    master.expect_end(0);
}

/// Before anything runs nobody else would say why nothing happens.
#[test]
#[cfg_attr(not(has = "fuse"), ignore = "file systems cannot be mounted here")]
fn a_start_ends_where_a_file_system_does_not_answer() {
    let home = Home::new();
    fs::create_dir(home.join("dead")).expect("the directory is ours");
    let at = |name: &str| home.join("dead").join(name).display().to_string();
    let launch = || {
        let launch = Launch::fixture("server.js").home(&home).started_by("behind-a-dead-mount.py");
        launch.env("DISK", home.join("dead"))
    };
    let listening = launch().listen(&format!("unix:{}", at("a.sock"))).refused();
    listening.expect_code(2);
    let told = format!("error: cannot listen on unix:{}: its file system does not answer\n", at("a.sock"));
    assert!(listening.stderr.ends_with(&told), "{listening:?}");
    for (option, name, what) in [
        ("--control", "c.sock", format!("make the control socket {}", at("c.sock"))),
        ("--pidfile", "pid", "write the pidfile and the log".to_owned()),
    ] {
        let refused = launch().option(option, &at(name)).refused();
        refused.expect_code(1);
        let told = format!("error: cannot {what}: a file system has not answered for 10 seconds\n");
        assert_eq!(refused.stderr, told);
    }
}

#[test]
fn a_file_that_somebody_removes_is_there_again() {
    let home = Home::new();
    let [by_node, bound] = ["app.sock", "web.sock"].map(|name| home.join(name));
    let servers = server_at(&home, &by_node).listen(&format!("unix:{}", bound.display()));
    let _master = servers.serve();
    for path in [&by_node, &bound] {
        fs::remove_file(path).expect("the directory is ours");
        eventually("it is there again", || UnixStream::connect(path).is_ok());
    }
}

#[test]
fn a_path_that_others_have_taken_is_left_alone_and_named() {
    let home = Home::new();
    let path = home.join("app.sock");
    let master = server_at(&home, &path).option("--attempts", "1").option("--ready-timeout", "5s").serve();
    fs::remove_file(&path).expect("the directory is ours");
    let _owner = UnixListener::bind(&path).expect("the directory is ours");
    let lost = master.wait(on("file_lost"));
    assert_eq!(lost.at("/is_taken"), &serde_json::json!(true));
    assert_eq!(lost.text("/address/unix"), path.to_string_lossy());
    assert_ne!(master.reload().status.code(), Some(0), "no new worker can listen there");
    UnixStream::connect(&path).expect("it is the other's");
}

fn names_in(home: &Home) -> Vec<String> {
    let entries = fs::read_dir(home.path()).expect("the directory is ours");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}
