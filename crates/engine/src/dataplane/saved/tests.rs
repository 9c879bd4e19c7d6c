//! What another program goes on with: everything, as if nothing had been. Each of these saves, inherits by duplicates, closes what there was
//! before, and saves again, which has to say the same.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use recluster_core::WorkerId;
use recluster_wire::Json;
use recluster_wire::env::Serialization;
use recluster_wire::node::{FromWorker, Payload, QueryServer, SocketKind, Taken, advanced};
use rustix::net::{SendFlags, send};
use tokio::sync::oneshot;

use super::super::bpf::Program;
use super::super::channel::Limits;
use super::super::connection::accept;
use super::super::fixtures::{FarEnd, Harness, id, just_before, query};
use super::super::messages::{Admission, Command, Standing};
use super::super::reactor::ListenerId;
use super::*;

mod format;

const ONLINE: &str = r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#;
/// Longer than what a socket holds, and than any text that is left among all else.
const LONG: usize = 1 << 20;

/// Workers 1 to `count` that serve on one listener.
fn cluster(balance: Balance, count: usize) -> (Harness, Vec<FarEnd>, ListenerId) {
    let mut harness = Harness::new(balance);
    let mut ends: Vec<FarEnd> =
        (1..).zip(0..).take(count).map(|(n, slot)| harness.serving(n, slot)).collect();
    let listeners: Vec<ListenerId> = (1..).zip(&mut ends).map(|(n, end)| harness.listen(n, end)).collect();
    harness.turn();
    for end in &mut ends {
        end.lines();
    }
    (harness, ends, listeners[0])
}

fn tell(harness: &mut Harness, worker: u64, text: &str) {
    let (reply, mut answer) = oneshot::channel();
    let said = Payload::Json(Json::parse(text).unwrap());
    harness.obey(Command::Send { worker: id(worker), said, handle: None, reply });
    answer.try_recv().unwrap().unwrap();
}

/// All that comes while the master writes what waits.
fn everything(harness: &mut Harness, end: &mut FarEnd) -> Vec<u8> {
    let mut all = Vec::new();
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count) = end.socket.read(&mut bytes) {
        all.extend_from_slice(&bytes[..count]);
        harness.look();
    }
    all
}

#[test]
fn half_a_line_each_way_becomes_a_whole_one() {
    let (mut harness, mut ends, _) = cluster(Balance::RoundRobin, 1);
    rustix::io::write(&ends[0].socket, &ONLINE.as_bytes()[..20]).unwrap();
    harness.note_worker(1);
    let long = format!("\"{}\"", "ä".repeat(LONG / 2));
    tell(&mut harness, 1, &long);
    tell(&mut harness, 1, "2");
    let mut begun = vec![0; 1001];
    ends[0].socket.read_exact(&mut begun).unwrap();
    harness.turn();
    let mut harness = harness.inherited();
    ends[0].say(&ONLINE[20..]);
    harness.look();
    assert_eq!(harness.fact_names(), ["online 1"]);
    let rest = everything(&mut harness, &mut ends[0]);
    assert_eq!([begun, rest].concat(), format!("{long}\n2\n").as_bytes());
    assert!(harness.worker(1).channel.takes_handles());
}

#[test]
fn half_a_frame_each_way_becomes_a_whole_one() {
    let mut harness = Harness::new(Balance::RoundRobin);
    let (near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    harness.obey(Command::Admit(Admission {
        worker: id(1),
        slot: 0,
        generation: 3,
        pid: Some(7),
        channel: near.into(),
        is_node: true,
        serialization: Serialization::Advanced,
        answers: true,
    }));
    let mut frame = Vec::new();
    advanced::frame(&advanced::write(&Json::parse(ONLINE).unwrap()), &mut frame);
    far.write_all(&frame[..frame.len() - 3]).unwrap();
    harness.note_worker(1);
    harness.turn();
    let mut harness = harness.inherited();
    far.write_all(&frame[frame.len() - 3..]).unwrap();
    harness.look();
    assert_eq!(harness.fact_names(), ["online 1"]);
    tell(&mut harness, 1, "[1]");
    let mut bytes = [0; 4];
    far.read_exact(&mut bytes).unwrap();
    assert!(u32::from_be_bytes(bytes) < 100, "it is a frame still");
    assert_eq!((harness.worker(1).generation, harness.worker(1).pid), (3, Some(7)));
}

#[test]
fn a_message_that_is_too_long_is_skipped_to_its_end() {
    for serialization in [Serialization::Json, Serialization::Advanced] {
        let mut harness = Harness::new(Balance::RoundRobin);
        harness.state.config.messages = Messages::Unheard;
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        harness.obey(Command::Admit(Admission {
            worker: id(1),
            slot: 0,
            generation: 1,
            pid: None,
            channel: near.into(),
            is_node: true,
            serialization,
            answers: false,
        }));
        let text = format!(r#"{{"topic":"it","text":"{}"}}"#, "x".repeat(Limits::SCANT.line));
        let mut all = Vec::new();
        if serialization == Serialization::Json {
            all.extend_from_slice(format!("{text}\n{ONLINE}\n").as_bytes());
        } else {
            for text in [&text, ONLINE] {
                advanced::frame(&advanced::write(&Json::parse(text).unwrap()), &mut all);
            }
        }
        let (first, second) = all.split_at(Limits::SCANT.line + 9);
        far.write_all(first).unwrap();
        harness.note_worker(1);
        harness.turn();
        let mut harness = harness.inherited();
        far.write_all(second).unwrap();
        harness.look();
        assert_eq!(harness.fact_names(), ["unheard 1 it", "online 1"], "{serialization:?}");
        assert_eq!(harness.inherited().state.config.messages, Messages::Unheard);
    }
}

#[test]
fn a_connection_on_its_way_is_taken_or_refused_as_if_nothing_had_been() {
    let (mut harness, mut ends, listener) = cluster(Balance::RoundRobin, 2);
    let _clients = [harness.connect(listener), harness.connect(listener)];
    harness.turn();
    let numbers = [ends[0].connections(), ends[1].connections()].concat();
    let mut harness = harness.inherited();
    assert_eq!(harness.worker(1).in_flight.len() + harness.worker(2).in_flight.len(), 2);
    for (worker, ack, accepted) in [(1, numbers[0], true), (2, numbers[1], false)] {
        harness.hear(worker, FromWorker::HandleAck);
        harness.hear(worker, FromWorker::Ack { ack, accepted });
    }
    assert_eq!(harness.worker(1).connections(), Some(1));
    harness.turn();
    assert_eq!(ends[0].connections().len(), 1, "what the other one has refused");
    assert_eq!(harness.state.reports.tally.requeued, 1);
    assert!(harness.violation(2, FromWorker::HandleAck).is_some(), "it has acknowledged all");
}

#[test]
fn what_a_worker_had_not_taken_goes_to_another_when_it_dies() {
    let (mut harness, mut ends, listener) = cluster(Balance::RoundRobin, 2);
    let _client = harness.connect(listener);
    harness.turn();
    assert_eq!(ends[0].connections().len(), 1);
    let mut harness = harness.inherited();
    ends.remove(0);
    harness.look();
    assert_eq!(harness.fact_names(), ["disconnected 1"]);
    assert_eq!(ends[0].connections().len(), 1);
}

#[test]
fn what_waits_goes_on_waiting_and_is_given_away() {
    let (mut harness, mut ends, listener) = cluster(Balance::RoundRobin, 1);
    let mut clients: Vec<TcpStream> = (0..10).map(|_| harness.connect(listener)).collect();
    harness.turn();
    let stuck = accept(harness.listener(listener).fd().unwrap()).unwrap().unwrap();
    harness.listener(listener).waiting.push_back(stuck);
    let mut harness = harness.inherited();
    assert_eq!(harness.take(1, &mut ends[0]), 8);
    harness.look();
    assert_eq!(harness.take(1, &mut ends[0]), 2, "one that was accepted, and one that nobody had told of");
    clients.push(TcpStream::connect(harness.address(listener)).unwrap());
    harness.look();
    assert_eq!(harness.take(1, &mut ends[0]), 1);
}

#[test]
fn what_comes_between_is_found_without_being_told() {
    let (mut harness, mut ends, listener) = cluster(Balance::RoundRobin, 1);
    let address = harness.address(listener);
    let _client = TcpStream::connect(address).unwrap();
    ends[0].say(ONLINE);
    let mut harness = harness.inherited();
    harness.look();
    assert_eq!(ends[0].connections().len(), 1);
    assert_eq!(harness.fact_names(), ["online 1"]);
}

#[test]
fn a_drain_goes_on_where_it_was_and_ends_in_time() {
    let (mut harness, mut ends, _) = cluster(Balance::RoundRobin, 1);
    let until = harness.state.reactor.now + Duration::from_secs(8);
    harness.obey(Command::Drain { worker: id(1), until, grace: None });
    let held_back = Duration::from_millis(100);
    harness.pass(just_before(held_back));
    let told = ends[0].lines();
    assert_eq!(told.len(), 1, "its application: {told:?}");
    let drain = harness.worker(1).drain;
    let mut harness = harness.inherited();
    assert_eq!(harness.worker(1).drain, drain);
    harness.turn();
    assert!(ends[0].lines().is_empty(), "nothing is said twice");
    harness.pass(Duration::from_millis(1));
    assert!(ends[0].lines()[0].contains("disconnect"));
    let mut harness = harness.inherited();
    harness.pass(held_back);
    assert!(ends[0].lines().is_empty());
}

#[test]
fn a_pause_ends_when_it_would_have() {
    let (mut harness, mut ends, listener) = cluster(Balance::RoundRobin, 1);
    let pause = Duration::from_millis(100);
    let State { workers, listeners, reactor, .. } = &mut harness.state;
    workers.get_mut(&id(1)).unwrap().pause(pause, reactor);
    listeners.get_mut(&listener).unwrap().pause(pause / 2, reactor);
    let _client = harness.connect(listener);
    let mut harness = harness.inherited();
    harness.pass(just_before(pause));
    assert!(ends[0].connections().is_empty() && harness.listener(listener).paused_until.is_none());
    harness.pass(Duration::from_millis(1));
    assert_eq!(ends[0].connections().len(), 1);
}

/// The clients of each member's queue, accepted as its worker would.
fn accepted(harness: &mut Harness, listener: ListenerId) -> Vec<Vec<u16>> {
    let group = harness.listener(listener).group.as_ref().unwrap();
    let port = |connection: super::super::connection::Connection| {
        TcpStream::from(connection.socket).peer_addr().unwrap().port()
    };
    let all = group.members.iter().map(|member| {
        let next = || accept(member.socket.as_fd()).unwrap().map(port);
        std::iter::from_fn(next).collect()
    });
    all.collect()
}

/// Clients that the kernel puts where its program says.
fn clients(harness: &mut Harness, listener: ListenerId, count: usize) -> Vec<TcpStream> {
    let address = harness.address(listener);
    (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
}

fn ports(clients: &[TcpStream]) -> Vec<u16> {
    clients.iter().map(|client| client.local_addr().unwrap().port()).collect()
}

#[test]
fn a_group_keeps_its_order_and_what_waits_in_it_wherever_the_program_points() {
    let (mut harness, mut ends, listener) = cluster(Balance::Kernel, 3);
    harness.obey(Command::Ended(id(2)));
    harness.turn();
    ends.remove(1);
    let point = |harness: &mut Harness, place: u32| {
        let group = harness.listener(listener).group.as_ref().unwrap();
        group.attach(Program::any_of(&[place])).unwrap();
    };
    let (mut waiting, mut expected) = (Vec::new(), Vec::new());
    for (place, count) in [(0, 2), (1, 1), (2, 3)] {
        point(&mut harness, place);
        let some = clients(&mut harness, listener, count);
        expected.push(ports(&some));
        waiting.extend(some);
    }
    let holders = |harness: &mut Harness| -> Vec<Option<WorkerId>> {
        let group = harness.listener(listener).group.as_ref().unwrap();
        group.members.iter().map(|member| member.holder).collect()
    };
    let before = holders(&mut harness);
    assert_eq!(before, [Some(id(1)), None, Some(id(3))]);
    let mut harness = harness.inherited();
    assert_eq!(holders(&mut harness), before);
    // While nobody was there, the program that was attached last went on choosing.
    let late = clients(&mut harness, listener, 1);
    expected[2].extend(ports(&late));
    // To attach a program anew moves nobody.
    let mut others = Vec::new();
    for place in [1, 0] {
        point(&mut harness, place);
        let some = clients(&mut harness, listener, 2);
        expected[place as usize].extend(ports(&some));
        others.extend(some);
    }
    assert_eq!(accepted(&mut harness, listener), expected);
    // The next worker has the vacant place.
    let mut newer = harness.serving(4, 1);
    harness.listen(4, &mut newer);
    assert_eq!(holders(&mut harness), [Some(id(1)), Some(id(4)), Some(id(3))]);
    // A fourth place is the fourth to the kernel as well.
    let mut more = harness.serving(5, 3);
    harness.listen(5, &mut more);
    point(&mut harness, 3);
    let last = clients(&mut harness, listener, 2);
    assert_eq!(accepted(&mut harness, listener), [vec![], vec![], vec![], ports(&last)]);
}

#[test]
fn what_came_to_a_vacant_place_meanwhile_is_taken_over() {
    let (mut harness, mut ends, listener) = cluster(Balance::Kernel, 2);
    harness.obey(Command::Ended(id(1)));
    let group = harness.listener(listener).group.as_ref().unwrap();
    group.attach(Program::any_of(&[0])).unwrap();
    let _client = clients(&mut harness, listener, 1);
    let mut harness = harness.inherited();
    harness.look();
    // It is seen to be vacant by now, and its worker's moment is over.
    harness.pass(Duration::from_millis(1));
    assert_eq!(ends[1].connections().len(), 1);
}

#[test]
fn a_worker_that_waits_for_its_socket_gets_it() {
    for balance in [Balance::Shared, Balance::Kernel] {
        let mut harness = Harness::new(balance.clone());
        let mut far = harness.serving(1, 0);
        // More than one read of Node before a handle: the next handle waits for the answer to this one.
        tell(&mut harness, 1, &format!("\"{}\"", "x".repeat(70_000)));
        for seq in 1..=2 {
            harness.hear(1, FromWorker::QueryServer(QueryServer { index: 1, ..query(seq) }));
        }
        far.lines();
        assert_eq!(far.fds.len(), 1);
        let mut harness = harness.inherited();
        harness.look();
        assert!(far.lines().is_empty(), "the first one may have been cut");
        harness.hear(1, FromWorker::HandleAck);
        assert_eq!((far.replies().len(), far.fds.len()), (1, 2), "{balance}");
        harness.hear(1, FromWorker::HandleAck);
        assert!(harness.worker(1).channel.takes_handles());
    }
}

#[test]
fn a_descriptor_that_came_without_its_message_is_there_when_that_comes() {
    let (mut harness, mut ends, _) = cluster(Balance::RoundRobin, 1);
    harness.state.config.is_hosted = true;
    let (sent, kept) = UnixStream::pair().unwrap();
    let line = r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":"it"}"#;
    let (first, second) = line.split_at(30);
    let fds = [sent.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
    let parts = [std::io::IoSlice::new(first.as_bytes())];
    rustix::net::sendmsg(&ends[0].socket, &parts, &mut control, SendFlags::empty()).unwrap();
    harness.note_worker(1);
    harness.turn();
    drop(sent);
    let mut harness = harness.inherited();
    send(&ends[0].socket, format!("{second}\n").as_bytes(), SendFlags::empty()).unwrap();
    harness.look();
    assert_eq!(ends[0].lines(), [r#"{"cmd":"NODE_HANDLE_ACK"}"#]);
    let facts = harness.facts();
    assert!(matches!(&facts[..], [super::super::messages::Fact::Message { handle: Some(_), .. }]));
    drop(facts);
    assert_eq!((&kept).read(&mut [0]).unwrap(), 0, "it was the only one");
}

#[test]
fn a_client_that_has_not_said_enough_yet_reaches_its_worker() {
    let by = StickyBy::Cookie("sid".to_owned());
    let (mut harness, mut ends, listener) = cluster(Balance::Sticky(by), 2);
    let mut client = harness.connect(listener);
    let silent = harness.connect(listener);
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nCook").unwrap();
    harness.turn();
    let timeout = harness.state.config.peek.timeout;
    harness.pass(just_before(timeout));
    let mut harness = harness.inherited();
    harness.turn();
    assert!(ends.iter_mut().all(|end| end.connections().is_empty()));
    client.write_all(b"ie: sid=a\r\n\r\n").unwrap();
    while ends.iter_mut().map(|end| end.connections().len()).sum::<usize>() == 0 {
        harness.look();
    }
    harness.pass(Duration::from_millis(1));
    assert_eq!(ends.iter_mut().map(|end| end.connections().len()).sum::<usize>(), 1, "its time is over");
    drop(silent);
}

#[test]
fn what_is_pending_for_a_clients_worker_stays_so() {
    let (mut harness, mut ends, listener) = cluster(Balance::Sticky(StickyBy::ProxyProtocol), 1);
    let clients: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut client = harness.connect(listener);
            client.write_all(b"PROXY TCP4 10.0.0.7 127.0.0.1 4711 80\r\n").unwrap();
            client
        })
        .collect();
    while harness.listener(listener).pending.values().map(std::collections::VecDeque::len).sum::<usize>() < 2
    {
        harness.look();
    }
    let mut harness = harness.inherited();
    assert_eq!(harness.take(1, &mut ends[0]), 8);
    harness.look();
    assert_eq!(harness.take(1, &mut ends[0]), 2);
    assert_eq!(harness.state.reports.tally.requeued, 0);
    drop(clients);
}

#[test]
fn the_file_of_a_unix_socket_stays_is_watched_and_is_removed_at_last() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("it.sock");
    let mut harness = Harness::new(Balance::RoundRobin);
    let mut far = harness.serving(1, 0);
    let at = QueryServer {
        address: Some(path.to_string_lossy().into_owned()),
        port: None,
        kind: Some(SocketKind::Unix),
        ..query(1)
    };
    let listener = harness.ask(1, &mut far, at.clone());
    let mut harness = harness.inherited();
    let client = UnixStream::connect(&path).unwrap();
    harness.look();
    assert_eq!(far.connections().len(), 1);
    fs::remove_file(&path).unwrap();
    harness.pass(Duration::from_secs(1));
    assert_eq!(harness.fact_names(), [format!("restored {}", path.display())]);
    let mut other = harness.serving(2, 1);
    assert_eq!(harness.ask(2, &mut other, at), listener);
    drop((client, UnixStream::connect(&path).unwrap()));
    drop(harness);
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn datagrams_go_on() {
    let mut harness = Harness::new(Balance::RoundRobin);
    let mut far = harness.serving(1, 0);
    let udp = QueryServer { kind: Some(SocketKind::Udp4), ..query(1) };
    let listener = harness.ask(1, &mut far, udp);
    let mut harness = harness.inherited();
    let socket = UdpSocket::from(far.fds.remove(0));
    let crate::report::worker::Address::Udp(address) = harness.listener(listener).address else {
        panic!("it is not UDP")
    };
    socket.send_to(b"it", address).unwrap();
    assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 2);
    let mut other = harness.serving(2, 1);
    assert_eq!(
        harness.ask(2, &mut other, QueryServer { kind: Some(SocketKind::Udp4), ..query(1) }),
        listener
    );
    assert_eq!(other.fds.len(), 1);
}

#[test]
fn counts_and_what_was_told_once_go_on() {
    let (mut harness, mut ends, listener) = cluster(Balance::Kernel, 2);
    harness.hear(1, FromWorker::Taken(Taken { connections: 7, open: Some(3), lately: 4, lasting: 4 }));
    harness.state.reports.tally.stolen = 5;
    harness.state.reports.tally.past.insert(0, Some(11));
    harness.state.reports.caveat("told once");
    ends[0].say(ONLINE);
    harness.note_worker(1);
    harness.turn();
    harness.set_standing(2, Some(Standing::Standby));
    let mut harness = harness.inherited();
    harness.state.reports.caveat("told once");
    ends[0].say(ONLINE);
    harness.look();
    assert!(harness.facts().is_empty());
    assert_eq!((harness.worker(1).connections(), harness.worker(1).lasting.open()), (Some(7), Some(3)));
    assert_eq!(harness.worker(2).standing, Some(Standing::Standby));
    assert_eq!(harness.state.reports.tally.stolen, 5);
    harness.obey(Command::Ended(id(1)));
    assert_eq!(harness.state.reports.tally.past[&0], Some(18));
    let newer = harness.serving(3, 0);
    let next = harness.listen(3, &mut { newer });
    assert_eq!(next, listener, "the port that was found");
}
