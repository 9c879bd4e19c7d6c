//! Sockets that the master shares.

use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use recluster_wire::node::{FromWorker, HandleKind, Listening, QueryServer, SocketKind, ToWorker};

use super::master::{DEADLINE, Master, later};
use crate::Error;
use crate::address::Kind;
use crate::worker::Worker;

type Listened = Result<TcpListener, Error>;

fn listen(worker: &Arc<Worker>, address: &'static str) -> Receiver<Listened> {
    let worker = Arc::clone(worker);
    later(move || worker.listen(address, Kind::Tcp).map(TcpListener::from))
}

/// A worker that has asked for a TCP listener, and what it asked.
fn asking(address: &'static str) -> (Master, Arc<Worker>, Receiver<Listened>, QueryServer) {
    let (mut master, worker) = Master::with_worker();
    let worker = Arc::new(worker);
    let listening = listen(&worker, address);
    let query = query(&mut master);
    (master, worker, listening, query)
}

fn query(master: &mut Master) -> QueryServer {
    match master.hear() {
        Some(FromWorker::QueryServer(query)) => query,
        other => panic!("no query: {other:?}"),
    }
}

fn shared(query: &QueryServer, kind: HandleKind) -> ToWorker<'static> {
    ToWorker::SharedReply { seq: 0, ack: query.seq, key: "k", data: None, kind }
}

fn refusal(query: &QueryServer, errno: i32) -> ToWorker<'static> {
    ToWorker::ErrorReply { seq: 0, ack: query.seq, key: "k", data: None, errno }
}

fn failure(listening: &Receiver<Listened>) -> Error {
    listening.recv_timeout(DEADLINE).expect("in time").expect_err("it cannot listen")
}

#[test]
fn a_worker_gets_the_masters_socket_and_says_where_it_listens() {
    let (mut master, _worker, listening, query) = asking("127.0.0.1:0");
    assert_eq!((query.address.as_deref(), query.port), (Some("127.0.0.1"), Some(0)));
    assert_eq!((query.kind, query.seq, query.index), (Some(SocketKind::Tcp4), 1, 0));
    let socket = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = socket.local_addr().expect("an address");
    master.pass(shared(&query, HandleKind::NetNative), &socket);
    assert_eq!(master.hear(), Some(FromWorker::HandleAck));
    let told = Listening {
        address: Some("127.0.0.1".into()),
        port: Some(address.port()),
        kind: Some(SocketKind::Tcp4),
        fd: None,
    };
    assert_eq!(master.hear(), Some(FromWorker::Listening(told)));
    drop(socket);
    let listener = listening.recv_timeout(DEADLINE).expect("in time").expect("a listener");
    let nobody = listener.accept().expect_err("nobody is there, and it does not block");
    assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
    TcpStream::connect(address).expect("the queue is open").write_all(b"x").expect("and takes bytes");
}

#[test]
fn the_masters_refusal_is_the_systems() {
    let (master, _worker, listening, query) = asking("127.0.0.1:80");
    master.tell(refusal(&query, libc::EADDRINUSE));
    let error = failure(&listening);
    assert_eq!(error.to_string(), "failed to listen on 127.0.0.1:80: Address already in use (os error 98)");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_master_that_would_pass_connections_is_told_that_nobody_takes_them() {
    let (mut master, _worker, listening, query) = asking("127.0.0.1:80");
    let reply =
        ToWorker::RoundRobinReply { seq: 0, ack: query.seq, key: "the key", data: None, sockname: None };
    master.tell(reply);
    assert_eq!(master.hear(), Some(FromWorker::Close { key: "the key".into() }));
    let error = failure(&listening);
    assert_eq!(error.to_string(), "the master does not share the socket of 127.0.0.1:80");
}

#[test]
fn a_connection_all_the_same_goes_back_to_the_master() {
    let (mut master, _worker) = Master::with_worker();
    let (connection, _other) = UnixStream::pair().expect("a pair");
    master.pass(ToWorker::NewConnection { seq: 7, key: "k", closes: false }, &connection);
    assert_eq!(master.hear(), Some(FromWorker::HandleAck));
    assert_eq!(master.hear(), Some(FromWorker::Ack { ack: 7, accepted: false }));
}

#[test]
fn a_handle_that_was_lost_is_reported() {
    let (mut master, _worker, listening, query) = asking("127.0.0.1:80");
    master.tell(shared(&query, HandleKind::NetNative));
    assert_eq!(master.hear(), Some(FromWorker::HandleNack));
    master.tell(refusal(&query, libc::EMFILE));
    assert!(matches!(failure(&listening), Error::Listen { .. }), "the reply did not count");
}

#[test]
fn nobody_waits_for_a_master_that_is_gone_or_lets_the_worker_go() {
    let (master, worker, listening, _query) = asking("127.0.0.1:80");
    drop(master);
    assert!(matches!(failure(&listening), Error::MasterGone));
    assert!(worker.shutdown().wait_timeout(DEADLINE));

    let (master, _worker, listening, _query) = asking("127.0.0.1:80");
    master.tell(ToWorker::UserDisconnect);
    assert!(matches!(failure(&listening), Error::ShuttingDown));
}

#[test]
fn a_socket_of_another_kind_is_refused() {
    let (mut master, _worker, listening, query) = asking("127.0.0.1:80");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    master.pass(shared(&query, HandleKind::NetNative), &socket);
    assert_eq!(master.hear(), Some(FromWorker::HandleAck));
    let error = io::Error::from(failure(&listening));
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn requests_for_a_port_of_ones_own_are_told_apart() {
    let (mut master, worker, first, query_of_first) = asking("127.0.0.1:0");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a listener");
    master.tell(refusal(&query_of_first, libc::EMFILE));
    assert!(matches!(failure(&first), Error::Listen { .. }));
    for index in [0, 1] {
        let listening = listen(&worker, "127.0.0.1:0");
        let query = query(&mut master);
        assert_eq!(query.index, index, "a request that failed is not counted");
        master.pass(shared(&query, HandleKind::NetNative), &socket);
        assert_eq!(master.hear(), Some(FromWorker::HandleAck));
        assert!(matches!(master.hear(), Some(FromWorker::Listening(_))));
        listening.recv_timeout(DEADLINE).expect("in time").expect("a listener");
    }
}

#[test]
fn a_port_alone_means_both_families() {
    let (_master, _worker, _listening, query) = asking("8080");
    assert_eq!((query.address, query.port), (None, Some(8080)));
    assert_eq!((query.kind, query.flags), (Some(SocketKind::Tcp4), 0));
    let (_master, _worker, _listening, query) = asking("[::]:8080");
    assert_eq!((query.address.as_deref(), query.kind), (Some("::"), Some(SocketKind::Tcp6)));
    assert_eq!(query.flags, 1, "IPv6 alone");
}

#[test]
fn udp_falls_back_to_the_family_that_there_is() {
    let (mut master, worker) = Master::with_worker();
    let bound = later(move || worker.listen("0", Kind::Udp).map(UdpSocket::from));
    let v6 = query(&mut master);
    assert_eq!((v6.kind, v6.address.as_deref()), (Some(SocketKind::Udp6), None));
    master.tell(refusal(&v6, libc::EAFNOSUPPORT));
    let v4 = query(&mut master);
    assert_eq!(v4.kind, Some(SocketKind::Udp4));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    master.pass(shared(&v4, HandleKind::DatagramNative), &socket);
    let bound = bound.recv_timeout(DEADLINE).expect("in time").expect("a socket");
    assert_eq!(bound.local_addr().ok(), socket.local_addr().ok());
}

#[test]
fn a_unix_socket_is_asked_for_by_its_whole_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("app.sock");
    let (mut master, worker) = Master::with_worker();
    let listening = later(move || worker.listen_unix(Path::new("app.sock")).map(UnixListener::from));
    let query = query(&mut master);
    let here = std::env::current_dir().expect("a working directory").join("app.sock");
    assert_eq!(query.address.as_deref(), here.to_str());
    assert_eq!((query.kind, query.port), (Some(SocketKind::Unix), None));
    let socket = UnixListener::bind(&path).expect("a listener");
    master.pass(shared(&query, HandleKind::NetNative), &socket);
    assert_eq!(master.hear(), Some(FromWorker::HandleAck));
    let told =
        Listening { address: path.to_str().map(str::to_owned), port: None, kind: query.kind, fd: None };
    assert_eq!(master.hear(), Some(FromWorker::Listening(told)));
    listening.recv_timeout(DEADLINE).expect("in time").expect("a listener");
}
