//! Addresses for `--listen` that cannot be bound: one clear line, and no worker is started.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;

use recluster_e2e::{Connection, Finished, Home, Launch, Stage, on, renounce};
use rustix::thread::CapabilitySet;

/// A program with these listeners, which must be refused; the one line of complaint.
#[track_caller]
fn refused(addresses: &[&str]) -> String {
    let launch = Launch::fixture("program.sh").workers(1);
    complaint(&addresses.iter().fold(launch, |launch, address| launch.listen(address)).refused())
}

/// The line that says what is wrong. Behind it only hints may follow.
#[track_caller]
fn complaint(finished: &Finished) -> String {
    finished.expect_code(2);
    assert_eq!(finished.stdout, "", "no worker has run: {finished:#?}");
    let mut lines = finished.stderr.lines();
    let line = lines.next().and_then(|line| line.strip_prefix("error: ")).expect("a complaint");
    let more = |line: &str| !line.is_empty() && !line.starts_with("  ") && !line.starts_with("For more");
    assert!(!lines.any(more), "{finished:#?}");
    line.to_owned()
}

#[test]
fn an_address_twice() {
    assert_eq!(
        refused(&["127.0.0.1:4711", "other=127.0.0.1:4711"]),
        "cannot listen on 127.0.0.1:4711 twice: name it once"
    );
    assert_eq!(
        refused(&["unix:/a.sock", "/a.sock"]),
        "cannot listen on /a.sock twice: name it once (unix:/a.sock has it already)"
    );
}

#[test]
fn an_address_twice_in_other_words() {
    for (first, second) in [
        ("4711", "127.0.0.1:4711"),
        ("[::1]:4711", "*:4711"),
        ("0.0.0.0:4711", "localhost:4711"),
        ("unix:/tmp/a.sock", "unix:/proc/../tmp/a.sock"),
    ] {
        let line = format!("cannot listen on {second} twice: name it once ({first} has it already)");
        assert_eq!(refused(&[first, second]), line);
    }
}

/// Somebody who holds an address may be about to leave it, but a socket that was handed over stays.
#[test]
fn an_address_of_a_socket_that_the_master_was_started_with() {
    let given = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = given.local_addr().expect("it is bound").port().to_string();
    let launch = Launch::fixture("program.sh").workers(1).socket(given).listen(&port);
    assert_eq!(
        complaint(&launch.refused()),
        format!("cannot listen on {port} twice: name it once (a socket it was started with has it already)")
    );
}

#[test]
fn an_address_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let line = refused(&[&address]);
    assert!(line.starts_with(&format!("cannot listen on {address}: Address already in use")), "{line}");
    let holder = format!("(process {} has it: ", std::process::id());
    assert!(line.contains(&holder), "who has it: {line}");
}

#[test]
fn a_udp_address_in_use() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = format!("udp:{}", taken.local_addr().expect("it is bound"));
    let line = refused(&[&address]);
    assert!(line.starts_with(&format!("cannot listen on {address}: Address already in use")), "{line}");
}

/// A predecessor may be about to leave. Each attempt looks whether somebody accepts at the path, so the owner notices.
#[test]
fn an_address_that_becomes_free_in_time() {
    let stage = Stage::new();
    let path = stage.home().join("app.sock");
    let owner = UnixListener::bind(&path).expect("the directory is ours");
    let master = stage.launch_program().workers(1).listen(&path.to_string_lossy()).start();
    owner.accept().expect("the first attempt");
    owner.accept().expect("the second attempt");
    drop(owner);
    let mut puppet = stage.next();
    master.wait(on("started"));
    let _client = Connection::open_unix(&path).expect("the master listens");
    puppet.accept(0);
}

#[test]
fn a_unix_socket_of_somebody_who_lives() {
    let home = Home::new();
    let path = home.join("app.sock");
    let _owner = UnixListener::bind(&path).expect("the directory is ours");
    let line = refused(&[&path.to_string_lossy()]);
    assert!(line.contains(&format!("cannot listen on {}", path.display())), "{line}");
    assert!(path.exists(), "it is left alone");
}

#[test]
fn a_path_that_is_no_socket() {
    let home = Home::new();
    let path = home.write("precious", "text");
    let line = refused(&[&path.to_string_lossy()]);
    let what = "a file is there, and no socket: remove it, or name another path";
    assert_eq!(line, format!("cannot listen on {}: {what}", path.display()));
    assert_eq!(home.read("precious"), "text");
    home.link("dangling", "nowhere");
    for (path, what) in
        [("", ": a directory is there: "), ("dangling", "/nowhere is there, and none is followed: ")]
    {
        let line = refused(&[home.join(path).to_string_lossy().trim_end_matches('/')]);
        assert!(line.contains(what), "{line}");
    }
}

#[test]
fn a_unix_socket_in_no_directory_or_with_too_long_a_path() {
    let line = refused(&["/nowhere/app.sock"]);
    assert!(line.starts_with("cannot listen on /nowhere/app.sock: No such file"), "{line}");
    let line = refused(&[&format!("/{}", "x".repeat(120))]);
    assert!(line.contains("cannot listen on /xxx"), "{line}");
}

#[test]
#[cfg_attr(not(has = "privileged-ports"), ignore = "on this machine everyone may listen on every port")]
fn a_port_that_is_not_permitted() {
    renounce(&[CapabilitySet::NET_BIND_SERVICE]);
    let line = refused(&["127.0.0.1:1"]);
    assert!(line.starts_with("cannot listen on 127.0.0.1:1: Permission denied"), "{line}");
    assert!(line.contains("CAP_NET_BIND_SERVICE"), "what to do: {line}");
}

#[test]
fn an_address_of_no_interface() {
    let line = refused(&["192.0.2.1:0"]);
    assert!(line.contains("no interface of this machine has that address"), "{line}");
}

#[test]
fn text_that_is_no_address() {
    for (address, reason) in [
        ("nowhere", "'nowhere' is no address: write 8080"),
        ("127.0.0.1", "'127.0.0.1' is no address"),
        ("127.0.0.1:99999", "'127.0.0.1:99999' is no address"),
        ("unix:", "'unix:' is no address"),
        ("a:b=8080", "'a:b' is no name for a listener"),
        ("8080?mode=660", "there is no option 'mode=660' of this address"),
        ("8080?backlog=much", "'much' is no value of backlog: a whole number"),
        ("/a.sock?mode=888", "'888' is no value of mode: permissions in octal"),
    ] {
        let line = refused(&[address]);
        assert!(line.contains(&format!("'{address}' for '--listen <ADDR>': {reason}")), "{line}");
    }
}
