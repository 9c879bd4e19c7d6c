//! Sockets that the process was started with.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use recluster_wire::node::FromWorker;

use super::master::Master;
use crate::Error;
use crate::address::Kind;
use crate::socket::Inherited;
use crate::worker::{Start, Worker};

fn tcp() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

fn given(name: &str, socket: impl Into<OwnedFd>) -> Inherited {
    let name = Some(name.to_owned()).filter(|name| !name.is_empty());
    Inherited::new(name, socket.into()).expect("a socket of ours")
}

fn started_with(sockets: Vec<Inherited>) -> Worker {
    Worker::begin(Start { sockets, ..Start::default() }).expect("a worker")
}

fn address(worker: &Worker, text: &str) -> String {
    let listener = TcpListener::from(worker.listen(text, Kind::Tcp).expect(text));
    listener.local_addr().expect("an address").to_string()
}

#[test]
fn it_is_found_by_name_or_by_address() {
    let [(one, at_one), (two, at_two), (three, at_three)] = [tcp(), tcp(), tcp()];
    let worker = started_with(vec![given("one", one), given("two", two), given("", three)]);
    assert_eq!(address(&worker, "two"), at_two);
    assert_eq!(address(&worker, &at_three), at_three);
    assert_eq!(address(&worker, "one=127.0.0.1:1"), at_one, "the name goes before the address");
}

#[test]
fn a_name_with_an_address_is_content_with_the_address() {
    let (listener, at) = tcp();
    let worker = started_with(vec![given("other", listener)]);
    assert_eq!(address(&worker, &format!("mine={at}")), at);
}

#[test]
fn it_is_given_out_once() {
    let (listener, at) = tcp();
    let kept = listener.try_clone().expect("a copy");
    let worker = started_with(vec![given("http", listener)]);
    assert_eq!(address(&worker, "http"), at);
    let error = worker.listen("http", Kind::Tcp).expect_err("it is gone");
    assert_eq!(error.to_string(), "no socket named 'http' was passed to this process");
    let error = worker.listen(&at, Kind::Tcp).expect_err("somebody else listens there");
    assert!(matches!(error, Error::Listen { .. }), "{error}");
    drop(kept);
}

#[test]
fn a_socket_of_another_kind_is_not_meant() {
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let at = udp.local_addr().expect("an address");
    let worker = started_with(vec![given("dns", udp)]);
    assert!(matches!(worker.listen("dns", Kind::Tcp), Err(Error::NoSocket(_))));
    let socket = UdpSocket::from(worker.listen("dns", Kind::Udp).expect("the socket"));
    assert_eq!(socket.local_addr().ok(), Some(at));
}

#[test]
fn a_unix_socket_is_found_by_name_or_by_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let paths = ["a.sock", "b.sock"].map(|name| directory.path().join(name));
    let sockets = paths.clone().map(|path| UnixListener::bind(path).expect("a listener"));
    let worker = started_with(sockets.map(|socket| given("admin", socket)).into());
    worker.listen_unix(&paths[1]).expect("by path");
    let by_name = UnixListener::from(worker.listen_unix("admin".as_ref()).expect("by name"));
    assert_eq!(by_name.local_addr().expect("an address").as_pathname(), Some(paths[0].as_path()));
}

#[test]
fn what_is_no_socket_of_ours_is_left_out() {
    let file = tempfile::tempfile().expect("a file");
    assert!(Inherited::new(None, file.into()).is_none());
    let (one, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
    assert!(Inherited::new(None, one.into()).is_none(), "it does not listen");
}

#[test]
fn the_master_hears_where_a_worker_listens() {
    let (listener, at) = tcp();
    let start = Start { sockets: vec![given("http", listener)], ..Start::default() };
    let (mut master, worker) = Master::with(start);
    assert_eq!(address(&worker, "http"), at);
    let Some(FromWorker::Listening(told)) = master.hear() else { panic!("it announces no server") };
    assert_eq!(told.port.map(|port| format!("127.0.0.1:{port}")), Some(at));
}
