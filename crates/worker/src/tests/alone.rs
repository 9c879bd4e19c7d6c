//! A worker without a master.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};

use crate::Error;
use crate::address::Kind;
use crate::worker::{Start, Worker};

fn alone() -> Worker {
    Worker::begin(Start::default()).expect("a worker")
}

#[test]
fn it_binds_for_itself() {
    let worker = alone();
    let listener = TcpListener::from(worker.listen("web=127.0.0.1:0", Kind::Tcp).expect("a listener"));
    let address = listener.local_addr().expect("an address");
    assert_eq!(listener.accept().expect_err("nobody").kind(), io::ErrorKind::WouldBlock);
    TcpStream::connect(address).expect("it listens");
    let error = worker.listen(&address.to_string(), Kind::Tcp).expect_err("it is in use");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);
    let socket = UdpSocket::from(worker.listen("127.0.0.1:0", Kind::Udp).expect("a socket"));
    assert_eq!(socket.recv(&mut [0]).expect_err("nothing").kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn names_and_nonsense_cannot_be_bound() {
    let worker = alone();
    assert!(matches!(worker.listen("http", Kind::Tcp), Err(Error::NoSocket(name)) if name == "http"));
    let error = worker.listen("127.0.0.1:http", Kind::Tcp).expect_err("no port");
    assert_eq!(
        error.to_string(),
        "'127.0.0.1:http' is no address: write 8080, 127.0.0.1:8080, [::1]:8080 or NAME=ADDRESS"
    );
}

#[test]
fn a_unix_socket_replaces_a_dead_one_and_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("app.sock");
    drop(UnixListener::bind(&path).expect("a listener that dies"));
    let worker = alone();
    let listener = UnixListener::from(worker.listen_unix(&path).expect("in its place"));
    UnixStream::connect(&path).expect("it listens");
    let alive = worker.listen_unix(&path).expect_err("somebody listens");
    assert_eq!(io::Error::from(alive).kind(), io::ErrorKind::AddrInUse);
    drop(listener);
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").expect("a file");
    let taken = worker.listen_unix(&file).expect_err("not a socket");
    assert_eq!(io::Error::from(taken).kind(), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "precious");
}

#[test]
fn there_is_nobody_to_tell() {
    let worker = alone();
    worker.ready().expect("nothing to do");
    worker.status("fine").expect("nothing to do");
    worker.replace_me().expect("nothing to do");
    assert!(matches!(worker.send("1"), Err(Error::NoMaster)));
    assert!(worker.watchdog().is_none());
    assert_eq!(worker.messages().next(), None);
    assert!(!worker.shutdown().is_requested(), "a master that never was has not died");
}
