//! What the puppet can do where it is not node but a program that takes its sockets from its descriptors.

use std::env;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use listenfd::ListenFd;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, accept, sendmsg};
use serde_json::{Value, json};

use crate::MOST_DESCRIPTORS;

/// The longest datagram that is read.
const DATAGRAM: usize = 1024;

/// What it was started with, and what it holds.
pub(crate) struct Program {
    sockets: Vec<OwnedFd>,
    memory: Mutex<Vec<Vec<u8>>>,
}

impl Program {
    /// Takes the sockets, if they are meant for this process; and where they are bound.
    pub(crate) fn started_with() -> (Self, Vec<Value>) {
        let mut given = ListenFd::from_env();
        let (sockets, told) = (0..given.len()).filter_map(|index| take(&mut given, index)).unzip();
        (Self { sockets, memory: Mutex::default() }, told)
    }

    pub(crate) fn accept(&self, order: &Value) -> io::Result<OwnedFd> {
        Ok(accept(self.socket(order)?)?)
    }

    /// Reads a datagram and answers whoever sent it.
    pub(crate) fn receive(&self, order: &Value) -> io::Result<String> {
        let socket = UdpSocket::from(self.socket(order)?.try_clone()?);
        let mut bytes = [0; DATAGRAM];
        let (count, from) = socket.recv_from(&mut bytes)?;
        socket.send_to(text(order).as_bytes(), from)?;
        Ok(String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).into_owned())
    }

    /// Sends a datagram to the notify socket, with these descriptors.
    pub(crate) fn notify(order: &Value, given: &[UnixStream]) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(env::var_os("NOTIFY_SOCKET").unwrap_or_default())?;
        let borrowed: Vec<_> = given.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !borrowed.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
        }
        sendmsg(&socket, &[IoSlice::new(text(order).as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Uses so many bytes more, for good.
    pub(crate) fn grow(&self, order: &Value) {
        let bytes = order["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        // Ones: pages of zeros would be promised and not used.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).push(vec![1; bytes]);
    }

    /// Has a shell run something beside this.
    pub(crate) fn run(order: &Value) -> io::Result<u32> {
        Ok(Command::new("sh").args(["-c", text(order)]).spawn()?.id())
    }

    fn socket(&self, order: &Value) -> io::Result<&OwnedFd> {
        let index = order["socket"].as_u64().and_then(|index| usize::try_from(index).ok());
        let socket = index.and_then(|index| self.sockets.get(index));
        socket.ok_or_else(|| io::Error::other(format!("no such socket: {order}")))
    }
}

/// A socket of whichever kind it is, and where it is bound.
fn take(given: &mut ListenFd, index: usize) -> Option<(OwnedFd, Value)> {
    if let Ok(Some(socket)) = given.take_tcp_listener(index) {
        let address = socket.local_addr().ok()?;
        return Some((socket.into(), json!({ "tcp": address.to_string() })));
    }
    if let Ok(Some(socket)) = given.take_unix_listener(index) {
        let address = socket.local_addr().ok()?;
        return Some((socket.into(), json!({ "unix": address.as_pathname() })));
    }
    let socket = given.take_udp_socket(index).ok()??;
    let address = socket.local_addr().ok()?;
    Some((socket.into(), json!({ "udp": address.to_string() })))
}

fn text(order: &Value) -> &str {
    order["text"].as_str().unwrap_or_default()
}
