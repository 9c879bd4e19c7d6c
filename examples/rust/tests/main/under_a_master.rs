//! With a socket from the start, or from the channel.

use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use recluster_wire::node::{Decoder, FromWorker, HandleKind, ToWorker, UserCommand};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::server::{EVERY, Server};

fn place() -> Vec<(&'static str, String)> {
    vec![("WORKER_ID", "2".into()), ("RECLUSTER_GENERATION", "7".into()), ("RECLUSTER_WORKERS", "4".into())]
}

fn answer(server: &Server) -> String {
    format!(r#"{{"worker":"2","pid":{},"generation":"7"}}"#, server.pid())
}

/// A listener, and the port for `PORT`.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port().to_string();
    (listener, port)
}

#[test]
fn a_socket_from_the_start_is_used() {
    for program in EVERY {
        let (listener, port) = listener();
        let mut variables = place();
        variables.extend([("LISTEN_FDS", "1".into()), ("PORT", port)]);
        let copy = listener.try_clone().expect("a copy").into();
        let server = Server::worker(program, vec![copy], &variables);
        assert_eq!(server.address, listener.local_addr().expect("an address").to_string());
        assert_eq!(server.get(), answer(&server));
        server.term();
        server.ends_well();
    }
}

/// The master's end of a worker's channel.
struct Channel {
    socket: UnixStream,
    decoder: Decoder,
}

impl Channel {
    fn hear(&mut self) -> FromWorker {
        loop {
            if let Some(message) = self.decoder.next_message().expect("short lines") {
                return message;
            }
            let mut bytes = [0; 1024];
            let count = self.socket.read(&mut bytes).expect("it speaks in time");
            assert!(count > 0, "the worker is gone");
            self.decoder.push(&bytes[..count]);
        }
    }

    fn tell(&self, message: ToWorker<'_>, descriptor: Option<&TcpListener>) {
        let mut line = Vec::new();
        message.encode(&mut line);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptor = descriptor.map(|listener| [listener.as_fd()]);
        if let Some(descriptor) = &descriptor {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptor)));
        }
        sendmsg(&self.socket, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL).expect("sent");
    }

    /// Gives the worker the socket that it asks for, and waits until it is ready.
    fn serve(&mut self, listener: &TcpListener) {
        assert_eq!(self.hear(), FromWorker::Online);
        let FromWorker::QueryServer(query) = self.hear() else { panic!("it asks for no socket") };
        assert_eq!(query.port, Some(0));
        let kind = HandleKind::NetNative;
        let reply = ToWorker::SharedReply { seq: 0, ack: query.seq, key: "k", data: None, kind };
        self.tell(reply, Some(listener));
        assert_eq!(self.hear(), FromWorker::HandleAck);
        assert!(matches!(self.hear(), FromWorker::Listening(_)));
        assert!(matches!(self.hear(), FromWorker::User(word) if word.command() == UserCommand::Ready));
    }
}

/// A worker with a channel, and nothing else.
fn with_channel(program: &str, listener: &TcpListener) -> (Channel, Server) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let listener = listener.try_clone().expect("a copy");
    let master = std::thread::spawn(move || {
        let mut channel = Channel { socket: ours, decoder: Decoder::new(4096) };
        channel.serve(&listener);
        channel
    });
    let mut variables = place();
    variables.extend([("RECLUSTER_CHANNEL_FD", "3".into()), ("PORT", "0".into())]);
    let server = Server::worker(program, vec![theirs.into()], &variables);
    (master.join().expect("the master is content"), server)
}

#[test]
fn a_socket_of_the_masters_is_used_until_the_master_says_so() {
    for program in EVERY {
        let (listener, _) = listener();
        let (channel, server) = with_channel(program, &listener);
        assert_eq!(server.address, listener.local_addr().expect("an address").to_string());
        assert_eq!(server.get(), answer(&server));
        channel.tell(ToWorker::UserDisconnect, None);
        server.ends_well();
    }
}

#[test]
fn a_worker_ends_with_its_master() {
    for program in EVERY {
        let (listener, _) = listener();
        let (channel, server) = with_channel(program, &listener);
        assert_eq!(server.get(), answer(&server));
        drop(channel);
        server.ends_well();
    }
}
