//! Unix sockets that a service manager keeps while no master lives, with their files.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use recluster_e2e::{Connection, Launch, eventually, on};
use rustix::process::Signal;
use serde_json::json;

use super::kept::Store;

fn ask(path: &Path) -> Connection<UnixStream> {
    let mut client = Connection::open_unix(path).expect("the kernel takes it");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("it is open");
    client
}

/// Three masters are killed one after the other, and whoever waits meanwhile is answered by the next.
fn outlive(store: &mut Store, begin: impl Fn(&Store) -> (Launch, PathBuf)) {
    let mut clients: Vec<Connection<UnixStream>> = Vec::new();
    for _ in 0..3 {
        let (launch, path) = begin(store);
        let master = store.starts(launch).start();
        master.wait(on("started"));
        for mut client in std::mem::take(&mut clients) {
            assert_eq!(client.response().expect("it waits for the next master").status, 200);
        }
        store.until_it_keeps(1);
        store.kills(master);
        clients = vec![ask(&path), ask(&path)];
    }
}

#[test]
fn unix_sockets_are_kept_with_their_files() {
    for by_option in [false, true] {
        let mut store = Store::new();
        let launch = |store: &Store| {
            let path = store.home.join("server.sock");
            let server = Launch::fixture("server.js").env("LISTEN", json!({ "path": path }).to_string());
            (server.workers(2), path)
        };
        outlive(&mut store, |store| {
            let (server, path) = launch(store);
            let server = if by_option { server.listen(&format!("unix:{}", path.display())) } else { server };
            (server, path)
        });
        let (server, path) = launch(&store);
        let mut master = store.starts(server).start();
        master.wait(on("started"));
        master.signal(Signal::TERM);
        master.expect_end(0);
        store.until_it_keeps(0);
        assert!(!path.exists(), "it goes with the orderly end");
    }
}

/// A cluster that listens at a relative path, in a directory whose path is too long for a socket.
fn relative(store: &Store) -> (Launch, PathBuf) {
    let (name, link) = (format!("{}/{}", "d".repeat(60), "e".repeat(60)), "deep");
    let directory = store.home.join(&name);
    if !directory.exists() {
        std::fs::create_dir_all(&directory).expect("the directory is ours");
        store.home.link(link, &name);
    }
    let launch = Launch::fixture("unix.js").env("SOCKET", "./app.sock").directory(&directory);
    (launch, store.home.join(link).join("app.sock"))
}

#[test]
fn a_unix_socket_is_known_by_its_file_whatever_its_path() {
    // Both have the same path, each in its own directory.
    let (mut store, mut other) = (Store::new(), Store::new());
    let beside = other.starts(relative(&other).0).serve();
    other.until_it_keeps(1);
    outlive(&mut store, relative);
    drop(beside);
}

/// A server that removes what is at its path before it listens there.
#[test]
fn a_unix_socket_whose_file_the_next_server_removes_is_kept_all_the_same() {
    outlive(&mut Store::new(), |store| {
        let path = store.home.join("app.sock");
        (Launch::fixture("unix.js").env("SOCKET", &path).env("UNLINK", "1").workers(1), path)
    });
}

/// A first start that fails: nobody has asked for the socket, or a worker serves there when the other one has failed too often.
#[test]
fn a_start_that_fails_leaves_unix_sockets_and_their_files_to_the_next_one() {
    for (by_option, failing) in [
        (false, "syntax-error.js"),
        (true, "syntax-error.js"),
        (false, "second-slot-fails.js"),
        (true, "second-slot-fails.js"),
    ] {
        let mut store = Store::new();
        let path = store.home.join("server.sock");
        let launch = |server: Launch| {
            let server = server.env("SOCKET", &path).workers(2);
            if by_option { server.listen(&format!("unix:{}", path.display())) } else { server }
        };
        let master = store.starts(launch(Launch::fixture("unix.js"))).start();
        master.wait(on("started"));
        store.until_it_keeps(1);
        store.kills(master);
        let mut master = store.starts(launch(Launch::fixture(failing)).option("--attempts", "1")).start();
        master.expect_end(3);
        store.until_it_keeps(1);
        let mut client = ask(&path);
        let master = store.starts(launch(Launch::fixture("unix.js"))).start();
        assert_eq!(
            client.response().expect("it waits for the next master").status,
            200,
            "{by_option} {failing}"
        );
        drop(master);
    }
}

/// The next master sees other paths: in a container that was made anew, or in a service with directories of its own.
#[test]
#[cfg_attr(not(has = "mounts"), ignore = "file systems cannot be mounted here")]
fn a_unix_socket_is_known_by_its_file_where_paths_lead_elsewhere() {
    let mut store = Store::new();
    let [one, other] = ["one", "other"].map(|name| store.home.join(name));
    for directory in [&one, &other] {
        std::fs::create_dir(directory).expect("the directory is ours");
    }
    let [first, path] = [&one, &other].map(|directory| directory.join("app.sock"));
    let server = |path: &Path| Launch::fixture("unix.js").env("SOCKET", path).workers(1);
    let begins = |store: &mut Store, path: &Path, other_paths: bool| {
        let launch = server(path);
        let launch = if other_paths {
            launch.started_by("where-paths-differ.py").env("FROM", &one).env("TO", &other)
        } else {
            launch
        };
        let master = store.starts(launch).start();
        master.wait(on("started"));
        master
    };
    let master = begins(&mut store, &first, false);
    store.until_it_keeps(1);
    store.kills(master);
    let mut client = ask(&first);
    let master = begins(&mut store, &path, true);
    assert_eq!(client.response().expect("it waits for the next master").status, 200);
    store.kills(master);
    // Of what has that path now nothing is known: it is bound anew, and what was kept is given up when nobody wants it.
    let known: Vec<String> = store.names();
    let master = begins(&mut store, &first, true);
    eventually("it is given up", || {
        store.reads();
        store.names().iter().all(|name| !known.contains(name))
    });
    assert!(first.exists(), "it belongs to whoever sees it there");
    drop(master);
}
