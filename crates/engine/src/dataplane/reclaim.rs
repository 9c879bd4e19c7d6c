//! What a dead worker had not taken goes to another worker, if it is proven untouched: no request is ever executed twice.

use std::os::fd::{AsFd as _, BorrowedFd};

use super::channel::Channel;
use super::handover::put_back;
use super::listener::Listeners;
use super::reactor::Reactor;
use super::reports::Reports;
use super::worker::{InFlight, Worker};
use crate::report::worker::Address;
use crate::sys;

/// What becomes of the connections that were on their way to a worker whose channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reclaim {
    /// Those that are proven untouched go to another worker.
    Untouched,
    /// None: the worker lives and does not keep to the protocol, so it may use them still.
    Nothing,
}

/// Puts back what a worker had not taken, the oldest first in line.
///
/// To be called when everything that the worker wrote has been read. It acknowledges a connection before it touches it, so
/// one that is not acknowledged is normally untouched; but it may have held acknowledgements back, so there has to be proof.
pub(super) fn reclaim(
    worker: &mut Worker,
    listeners: &mut Listeners,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    for sent in std::mem::take(&mut worker.in_flight).into_values().rev() {
        if is_untouched(&sent, &worker.channel, listeners) {
            put_back(sent, listeners, reactor, reports);
        }
    }
}

fn is_untouched(sent: &InFlight, channel: &Channel, listeners: &Listeners) -> bool {
    let is_tcp = listeners.get(&sent.listener).is_some_and(|listener| match &listener.address {
        Address::Tcp(_) | Address::Udp(_) => true,
        Address::Unix(_) => false,
        Address::Fd(_) => listener.sockname().is_some(),
    });
    if is_tcp {
        is_unread(sent.connection.socket.as_fd())
    } else {
        !channel.took_handle() && !channel.was_crowded()
    }
}

/// Whether every byte that the connection ever received is still in its buffer. What cannot be found out is not proven.
fn is_unread(connection: BorrowedFd<'_>) -> bool {
    let received = sys::tcp_received(connection);
    let waiting = rustix::io::ioctl_fionread(connection);
    match (received, waiting) {
        // The kernel counts the end of the stream as a byte, but it cannot be read.
        (Ok(received), Ok(waiting)) => received.bytes == waiting + u64::from(received.ended),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::Duration;

    use recluster_wire::node::{FromWorker, HandleEnvelope};

    use super::super::connection::Connection;
    use super::super::fixtures::{FarEnd, Harness, connection, id};
    use super::super::messages::Command;
    use super::*;
    use crate::config::balance::Balance;

    /// A connection as the master has it, and its client.
    fn accepted() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    fn await_bytes(connection: &TcpStream, count: usize) {
        let mut bytes = vec![0; count];
        while connection.peek(&mut bytes).unwrap() < count {}
    }

    #[test]
    fn what_has_not_been_read_is_unread() {
        let (connection, mut client) = accepted();
        assert!(is_unread(connection.as_fd()), "nothing has come");
        client.write_all(b"GET /").unwrap();
        await_bytes(&connection, 5);
        assert!(is_unread(connection.as_fd()));
    }

    #[test]
    fn one_byte_that_was_read_is_too_many() {
        let (mut connection, mut client) = accepted();
        client.write_all(b"GET /").unwrap();
        await_bytes(&connection, 5);
        connection.read_exact(&mut [0]).unwrap();
        assert!(!is_unread(connection.as_fd()));
        connection.read_exact(&mut [0; 4]).unwrap();
        assert!(!is_unread(connection.as_fd()));
    }

    #[test]
    fn the_end_of_what_the_client_says_is_not_taken_for_a_byte() {
        let (mut connection, mut client) = accepted();
        client.write_all(b"GET /").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        await_bytes(&connection, 5);
        assert!(is_unread(connection.as_fd()));
        connection.read_exact(&mut [0; 5]).unwrap();
        assert!(!is_unread(connection.as_fd()));
    }

    #[test]
    fn what_is_not_tcp_is_not_proven() {
        let (connection, _client) = connection();
        assert!(!is_unread(connection.socket.as_fd()));
    }

    /// Two workers that serve on a listener; the first has been sent two connections, of which it has touched the second.
    fn two_workers() -> (Harness, [FarEnd; 2], Vec<TcpStream>) {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut ends = [harness.serving(1, 0), harness.serving(2, 1)];
        let listener = harness.listen(1, &mut ends[0]);
        let clients: Vec<TcpStream> = (0..2).map(|_| harness.connect(listener)).collect();
        harness.turn();
        harness.listen(2, &mut ends[1]);
        let [first, second] = [&clients[0], &clients[1]];
        for mut client in [first, second] {
            client.write_all(b"hello").unwrap();
        }
        let sent: Vec<TcpStream> = harness.worker(1).in_flight.values().map(copy).collect();
        for connection in &sent {
            await_bytes(connection, 5);
        }
        (&sent[1]).read_exact(&mut [0]).unwrap();
        (harness, ends, clients)
    }

    fn copy(sent: &InFlight) -> TcpStream {
        let copy = TcpStream::from(sent.connection.socket.try_clone().unwrap());
        copy.set_nonblocking(false).unwrap();
        copy
    }

    #[test]
    fn a_dead_workers_untouched_connections_go_to_another() {
        let (mut harness, [_, mut other], clients) = two_workers();
        harness.obey(Command::Ended(id(1)));
        harness.turn();
        assert_eq!(other.connections().len(), 1, "the one that was touched is closed");
        let sent = copy(harness.worker(2).in_flight.values().next().unwrap());
        assert_eq!(sent.peer_addr().unwrap(), clients[0].local_addr().unwrap());
        assert_eq!(harness.state.reports.tally.requeued, 1);
        assert_eq!(harness.fact_names(), ["disconnected 1", "drained 1"]);
    }

    #[test]
    fn what_it_has_acknowledged_in_its_last_words_is_its_own() {
        let (mut harness, [mut dead, mut other], _clients) = two_workers();
        let seq = *harness.worker(1).in_flight.keys().next().unwrap();
        for line in [
            "{\"cmd\":\"NODE_HANDLE_ACK\"}",
            &format!("{{\"cmd\":\"NODE_CLUSTER\",\"ack\":{seq},\"accepted\":true}}"),
        ] {
            dead.say(line);
        }
        harness.obey(Command::Ended(id(1)));
        harness.turn();
        assert!(other.connections().is_empty());
        assert_eq!(harness.state.reports.tally.past[&0], Some(1));
    }

    #[test]
    fn from_a_worker_that_lives_nothing_is_taken_back() {
        let (mut harness, [_, mut other], _clients) = two_workers();
        harness.state.cut_off(id(1), &super::super::channel::ProtocolViolation::SurplusAck);
        harness.turn();
        assert!(other.connections().is_empty());
        assert_eq!(harness.fact_names(), ["cut off 1", "disconnected 1"]);
    }

    #[test]
    fn the_oldest_is_the_first_in_line_again() {
        let (mut harness, [_, mut other], _clients) = two_workers();
        let number = *harness.worker(1).in_flight.keys().next().unwrap();
        let listener = harness.worker(1).in_flight[&number].listener;
        let (fresh, _client) = accepted();
        let connection = Connection::new(fresh.into());
        harness.worker(1).in_flight.insert(1000, InFlight { listener, connection });
        let oldest = copy(&harness.worker(1).in_flight[&number]).peer_addr().unwrap();
        harness.state.close_channel(id(1), Reclaim::Untouched);
        let waiting = &harness.state.listeners[&listener].waiting;
        assert_eq!(waiting.len(), 2);
        let first = TcpStream::from(waiting[0].socket.try_clone().unwrap());
        assert_eq!(first.peer_addr().unwrap(), oldest);
        harness.pass(Duration::ZERO);
        assert_eq!(other.connections().len(), 2);
    }

    /// A listener whose address says nothing of TCP, and a worker with a connection from it.
    fn on_unix() -> (Harness, FarEnd) {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut far = harness.serving(1, 0);
        let listener = harness.listen(1, &mut far);
        harness.listener(listener).address = Address::Unix("/there/is/none".into());
        harness.worker(1).in_flight.insert(1, InFlight { listener, connection: connection().0 });
        (harness, far)
    }

    #[test]
    fn on_a_unix_socket_a_worker_that_held_nothing_back_is_believed() {
        let (mut harness, _far) = on_unix();
        harness.state.close_channel(id(1), Reclaim::Untouched);
        assert_eq!(harness.state.reports.tally.requeued, 1);
    }

    #[test]
    fn on_a_unix_socket_a_worker_that_sent_a_handle_may_have_held_words_back() {
        let (mut harness, _far) = on_unix();
        let message = Box::new(FromWorker::Unknown);
        harness.hear(1, FromWorker::Handle(HandleEnvelope { kind: None, key: None, message }));
        harness.state.close_channel(id(1), Reclaim::Untouched);
        assert_eq!(harness.state.reports.tally.requeued, 0);
    }
}
