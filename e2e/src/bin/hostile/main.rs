//! A worker that does one thing without end, as fast as its master lets it. It is started in the place of node, with its channel as
//! its stdin. What it does is the entry of its slot in the list of `HOSTILE_ATTACKS`, a file:
//!
//! ```text
//! {"by":B,"first":[T,…],"again":[T,…],"descriptors":D,"reads":R,"dies_after":N}
//! ```
//!
//! It writes the texts of `first` once to its channel, and then those of `again` for ever, in turn, to B: its `channel`, `notify`
//! (a datagram each), `stderr` or `stdout`. With each go D descriptors, it reads its channel if R says so, and it dies after N of them. In
//! a text `<n>` is the number of the text and `<x*N>` stands for N times an `x`; behind each is a newline, unless it ends with
//! `<more>`.

#![expect(clippy::indexing_slicing, reason = "a field that a JSON value lacks reads as null")]

use std::env;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process;
use std::thread;

use recluster_e2e::written;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde_json::Value;

/// The most descriptors in one message.
const MOST_DESCRIPTORS: usize = 8;

fn main() -> io::Result<()> {
    let attacks: Value = serde_json::from_str(&fs::read_to_string(variable("HOSTILE_ATTACKS"))?)?;
    let attacks = attacks.as_array().map(Vec::as_slice).unwrap_or_default();
    let slot: usize = variable("WORKER_ID").parse().unwrap_or(0);
    let attack = attacks.iter().cycle().nth(slot).cloned().unwrap_or_default();
    if attack["reads"] == true {
        thread::spawn(read_without_end);
    }
    for text in texts(&attack["first"]) {
        pass(io::stdin(), written(text, 0).as_bytes(), &[])?;
    }
    // Whoever cannot be written to has cut this worker off, or is gone.
    let _ = attack_without_end(&attack);
    process::exit(3)
}

fn attack_without_end(attack: &Value) -> io::Result<()> {
    let number = |name: &str| attack[name].as_u64();
    let given = (0..number("descriptors").unwrap_or(0)).map(|_| UnixStream::pair().map(|pair| pair.0.into()));
    let given = given.collect::<io::Result<Vec<OwnedFd>>>()?;
    let socket = UnixDatagram::unbound()?;
    if attack["by"] == "notify" {
        socket.connect(variable("NOTIFY_SOCKET"))?;
    }
    for n in 0..number("dies_after").unwrap_or(u64::MAX) {
        for text in texts(&attack["again"]) {
            let text = written(text, n);
            match attack["by"].as_str() {
                Some("notify") => pass(&socket, text.as_bytes(), &given)?,
                Some("stderr") => io::stderr().write_all(text.as_bytes())?,
                Some("stdout") => io::stdout().write_all(text.as_bytes())?,
                _ => pass(io::stdin(), text.as_bytes(), &given)?,
            }
        }
    }
    Ok(())
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// Writes all of it, with the descriptors at its first byte.
fn pass(to: impl AsFd, mut bytes: &[u8], given: &[OwnedFd]) -> io::Result<()> {
    let borrowed: Vec<_> = given.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
    }
    while !bytes.is_empty() {
        match sendmsg(&to, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            // A datagram that is too long for the socket's buffer will never go.
            Err(Errno::MSGSIZE) => return Ok(()),
            // Of descriptors, only so many may be on their way.
            Err(Errno::AGAIN | Errno::TOOMANYREFS) => {
                poll(&mut [PollFd::new(&to, PollFlags::OUT)], None)?;
                thread::yield_now();
            }
            sent => {
                bytes = bytes.get(sent?..).unwrap_or_default();
                ancillary.clear();
            }
        }
    }
    Ok(())
}

/// What comes is thrown away, and so are the descriptors.
fn read_without_end() {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match recvmsg(io::stdin(), &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(received) if received.bytes > 0 => {}
            // The master has closed the channel.
            Ok(_) | Err(_) => process::exit(4),
        }
        let stdin = io::stdin();
        if poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None).is_err() {
            return;
        }
    }
}
