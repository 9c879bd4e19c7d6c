//! What a channel carries, how much, and in which order.

use std::os::unix::net::UnixStream;

use recluster_wire::Json;
use recluster_wire::node::worker::FromPrimary;
use recluster_wire::node::{HandleKind, advanced};

use super::super::fixtures::{FarEnd, channel};
use super::*;

fn limited(line: usize, queue: usize) -> (Channel, FarEnd) {
    channel(Limits { line, queue, skipped: 100, ..Limits::SCANT })
}

/// Reads until there is nothing more, and returns how many messages came.
fn read_all(channel: &mut Channel) -> Result<usize, ProtocolViolation> {
    let mut scratch = vec![0; READ_BYTES];
    let mut count = 0;
    while let Read::Bytes(_) = channel.read(&mut scratch)? {
        while channel.next_message()?.is_some() {
            count += 1;
        }
    }
    Ok(count)
}

fn send_fds(far: &FarEnd, text: &[u8], count: usize) {
    let (fd, _other) = UnixStream::pair().unwrap();
    let fds = vec![fd.as_fd(); count];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(&far.socket, &[IoSlice::new(text)], &mut control, SendFlags::empty()).unwrap();
}

#[test]
fn a_line_may_be_as_long_as_its_limit() {
    let (mut channel, mut far) = limited(16, 1024);
    far.say("\"12345678901234\"");
    assert_eq!(read_all(&mut channel), Ok(1));
    far.say("\"123456789012345\"");
    far.say(r#"{"cmd":"NODE_HELLO"}"#);
    assert_eq!(read_all(&mut channel), Err(ProtocolViolation::LineTooLong(16)));
}

#[test]
fn a_line_without_an_end_is_known_by_its_length() {
    let (mut channel, mut far) = limited(16, 1024);
    for (bytes, endless) in [(100, None), (1, Some(101)), (99, Some(200))] {
        rustix::io::write(&far.socket, &vec![b'x'; bytes]).unwrap();
        assert_eq!((read_all(&mut channel), channel.endless()), (Ok(0), endless));
    }
    far.say("");
    assert_eq!((read_all(&mut channel), channel.endless()), (Ok(1), None));
}

#[test]
fn a_worker_that_does_not_read_fills_its_queue_and_what_is_refused_is_never_sent() {
    let (mut channel, mut far) = limited(1024, 4096);
    let mut count = 0;
    let violation = loop {
        match channel.send(&ToWorker::UserDisconnect) {
            Ok(()) => count += 1,
            Err(violation) => break violation,
        }
    };
    assert_eq!(violation, ProtocolViolation::QueueFull(4096));
    assert!(!channel.takes_handles(), "nothing may overtake what waits");
    for _ in 0..10 {
        channel.send(&ToWorker::UserDisconnect).unwrap_err();
    }
    assert!(channel.queued_bytes <= 4096);
    let mut lines = far.lines();
    while !channel.queue.is_empty() {
        channel.flush();
        lines.extend(far.lines());
    }
    assert_eq!(lines.len(), count);
}

#[test]
fn what_was_queued_comes_in_order_when_the_worker_reads_again() {
    let (mut channel, mut far) = limited(1024, 1 << 20);
    let mut count = 0;
    while channel.queue.is_empty() {
        channel.send(&ToWorker::Disconnect { seq: count }).unwrap();
        count += 1;
    }
    channel.send(&ToWorker::UserDisconnect).unwrap();
    let mut lines = far.lines();
    channel.flush();
    lines.extend(far.lines());
    assert_eq!((channel.queued_bytes, channel.queue.len()), (0, 0));
    assert_eq!(lines.len() as u64, count + 1);
    assert!(
        lines[lines.len() - 1].contains("disconnect") && !lines[lines.len() - 1].contains("NODE_CLUSTER")
    );
}

#[test]
fn a_connection_comes_with_its_descriptor_and_is_answered_in_order() {
    let (mut channel, mut far) = limited(1024, 1024);
    let (connection, _client) = UnixStream::pair().unwrap();
    let connection = OwnedFd::from(connection);
    assert_eq!(channel.try_send_connection("1", &connection, false), Some(0));
    assert_eq!(channel.try_send_connection("1", &connection, false), Some(1));
    let said = Payload::Json(Json::parse("1").unwrap());
    let handle = Handle { kind: HandleKind::NetSocket, fd: connection };
    assert!(channel.send_said(&said, Some(handle)).unwrap());
    assert_eq!(far.connections(), [0, 1]);
    assert_eq!(far.fds.len(), 3);
    assert_eq!(channel.answered(), Ok(Sent::Connection(0)));
    assert_eq!(channel.answered(), Ok(Sent::Connection(1)));
    assert_eq!(channel.answered(), Ok(Sent::Message));
    assert_eq!(channel.answered(), Err(ProtocolViolation::SurplusAck));
}

#[test]
fn a_connection_is_never_queued() {
    let (mut channel, mut far) = limited(1024, 1 << 20);
    while channel.queue.is_empty() {
        channel.send(&ToWorker::UserDisconnect).unwrap();
    }
    let connection = OwnedFd::from(UnixStream::pair().unwrap().0);
    assert_eq!(channel.try_send_connection("1", &connection, false), None);
    far.lines();
    channel.flush();
    assert!(channel.try_send_connection("1", &connection, false).is_some());
}

#[test]
fn a_listening_socket_waits_in_its_place() {
    let (mut channel, mut far) = limited(1024, 1 << 20);
    while channel.queue.is_empty() {
        channel.send(&ToWorker::UserDisconnect).unwrap();
    }
    let socket = Rc::new(OwnedFd::from(UnixStream::pair().unwrap().0));
    let kind = recluster_wire::node::HandleKind::NetNative;
    let reply = ToWorker::SharedReply { seq: 0, ack: 4, key: "1", data: None, kind };
    channel.send_socket(&reply, socket).unwrap();
    far.messages();
    channel.flush();
    assert!(matches!(&far.messages()[..], [.., FromPrimary::Handle(_)]));
    assert_eq!((far.fds.len(), channel.answered()), (1, Ok(Sent::Socket)));
}

#[test]
fn descriptors_that_no_message_names_are_limited() {
    let (mut channel, far) = limited(1024, 1024);
    for _ in 0..FDS_WAITING / FDS_A_READ {
        send_fds(&far, b"{}\n", FDS_A_READ);
    }
    assert_eq!(read_all(&mut channel), Ok(FDS_WAITING / FDS_A_READ));
    assert!(!channel.took_handle());
    assert!(channel.take_received().is_some() && channel.took_handle());
    send_fds(&far, b"{}\n", 2);
    assert_eq!(read_all(&mut channel), Err(ProtocolViolation::StrayDescriptors));
}

#[test]
fn many_messages_at_once_may_have_crowded_others_out() {
    let (mut channel, mut far) = limited(1024, 1024);
    (0..RUN).for_each(|_| far.say("1"));
    assert_eq!(read_all(&mut channel), Ok(RUN));
    assert!(!channel.was_crowded());
    (0..=RUN).for_each(|_| far.say("1"));
    assert_eq!(read_all(&mut channel), Ok(RUN + 1));
    assert!(channel.was_crowded());
}

#[test]
fn a_closed_channel_is_told_from_a_silent_one() {
    let (mut channel, far) = limited(1024, 1024);
    let mut scratch = vec![0; READ_BYTES];
    assert_eq!(channel.read(&mut scratch), Ok(Read::Nothing));
    drop(far);
    assert_eq!(channel.read(&mut scratch), Ok(Read::Closed));
    assert_eq!(channel.send(&ToWorker::HandleAck), Ok(()), "reading finds out");
}

/// A channel of frames, and its far end.
fn framed(line: usize) -> (Channel, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    (
        Channel::new(
            near.into(),
            Limits { line, queue: 4096, skipped: 16, ..Limits::SCANT },
            Serialization::Advanced,
        ),
        far,
    )
}

fn frame(json: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    advanced::frame(&advanced::write(&Json::parse(json).unwrap()), &mut bytes);
    bytes
}

#[test]
fn a_channel_of_frames_speaks_in_frames_and_hears_them() {
    let (mut channel, far) = framed(1024);
    rustix::io::write(&far, &frame(r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#)).unwrap();
    assert_eq!(read_all(&mut channel), Ok(1));
    channel.send(&ToWorker::UserDisconnect).unwrap();
    let connection = UnixStream::pair().unwrap().0.into();
    assert_eq!(channel.try_send_connection("7", &connection, false), Some(0));
    let mut heard = [0; 1024];
    let count = rustix::io::read(&far, &mut heard).unwrap();
    let count = count + rustix::io::read(&far, &mut heard[count..]).unwrap_or(0);
    let connection = r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","act":"newconn","key":"7","seq":0}}"#;
    assert_eq!(heard[..count], [frame(r#"{"cmd":"disconnect"}"#), frame(connection)].concat());
}

#[test]
fn a_long_frame_is_skipped_and_says_where_it_ends() {
    let (mut channel, far) = framed(16);
    let long = frame(&format!("\"{}\"", "x".repeat(300)));
    rustix::io::write(&far, &long[..200]).unwrap();
    assert_eq!((read_all(&mut channel), channel.endless()), (Ok(0), None));
    rustix::io::write(&far, &long[200..]).unwrap();
    assert_eq!(read_all(&mut channel), Ok(1));
    rustix::io::write(&far, &frame(r#"{"cmd":"NODE_HELLO_HELLO"}"#)).unwrap();
    assert_eq!(read_all(&mut channel), Err(ProtocolViolation::LineTooLong(16)));
}
