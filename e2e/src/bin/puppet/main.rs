//! A worker on strings. It is started as if it were node, connects to the unix socket that `PUPPET_STAGE` names, and
//! from then on does what the test at the other end says, one JSON object a line:
//!
//! ```text
//! {"do":"write","text":T,"times":N,"descriptors":D}   write T to the channel N times, the first time with D descriptors
//! {"do":"answer","connection":K,"text":T}             write T to the K-th connection it was given, and close it
//! {"do":"read","connection":K}                        read something from the K-th connection
//! {"do":"close"}                                      close the channel and live on
//! {"do":"exit","status":S}                            exit
//! {"do":"accept","socket":I}                          accept a connection on the I-th socket it was started with
//! {"do":"receive","socket":I,"text":T}                read a datagram from that socket, and answer T
//! {"do":"notify","text":T,"descriptors":D}            say T by `sd_notify`, with D descriptors
//! {"do":"grow","bytes":N}                             use N bytes more of memory
//! {"do":"run","text":T}                               have a shell run T, and do not wait for it
//! {"do":"leave"}                                      leave the process group for that of the master
//! ```
//!
//! and tells the test what it sees:
//!
//! ```text
//! {"pid":…,"env":{…},"args":[…],"sockets":[…]}        who it is, once, and where the sockets it was started with are bound
//! {"message":M,"connection":K,"blocks":B}             a message from the master; where a descriptor came with it, its
//!                                                     number and whether reading from it would block
//! {"read":T}                                          what was read from a connection
//! {"accepted":K}                                      the number of an accepted connection
//! {"received":T} {"grown":true} {"ran":PID} {"left":true} what was ordered is done
//! {"released":true}                                   the master closed its copy of a descriptor that was passed to it
//! {"broken":true}                                     a write failed: the master has closed the channel
//! ```
//!
//! It knows nothing of what a good worker would do. Its channel is its stdin, so that safe Rust can reach it. When
//! the master closes the channel or the test is over, it exits.
//!
//! It can also be started as a program that is not node: then it has sockets from its start, and speaks `sd_notify`.

#![expect(clippy::indexing_slicing, reason = "a field that a JSON value lacks reads as null")]

mod program;

use std::collections::{BTreeMap, VecDeque};
use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde_json::{Value, json};

use crate::program::Program;

/// As much as Node reads at once.
const READ_SIZE: usize = 64 * 1024;

/// The most descriptors in one message, in either direction.
const MOST_DESCRIPTORS: usize = 8;

fn main() -> io::Result<()> {
    let stage = UnixStream::connect(env::var_os("PUPPET_STAGE").unwrap_or_default())?;
    // Before the sockets are taken: with them goes what speaks of them.
    let env: BTreeMap<String, String> = env::vars().collect();
    let (program, sockets) = Program::started_with();
    let puppet = Puppet {
        program: Arc::new(program),
        stage: Arc::new(Mutex::new(stage.try_clone()?)),
        connections: Arc::default(),
        closed: Arc::default(),
    };
    let args: Vec<String> = env::args().skip(1).collect();
    puppet.tell(&json!({ "pid": process::id(), "env": env, "args": args, "sockets": sockets }));
    let listener = puppet.clone();
    thread::spawn(move || listener.listen_to_master());
    for line in BufReader::new(stage).lines() {
        puppet.obey(&serde_json::from_str(&line?)?)?;
    }
    Ok(())
}

#[derive(Clone)]
struct Puppet {
    program: Arc<Program>,
    stage: Arc<Mutex<UnixStream>>,
    connections: Arc<Mutex<Vec<Option<File>>>>,
    /// It closed the channel itself.
    closed: Arc<AtomicBool>,
}

impl Puppet {
    fn obey(&self, order: &Value) -> io::Result<()> {
        match order["do"].as_str() {
            Some("write") => self.write(order),
            Some("answer") => return self.answer(order),
            Some("accept") => {
                let connection = self.keep(self.program.accept(order)?);
                self.tell(&json!({ "accepted": connection }));
            }
            Some("receive") => self.tell(&json!({ "received": self.program.receive(order)? })),
            Some("notify") => self.notify(order)?,
            Some("grow") => {
                self.program.grow(order);
                self.tell(&json!({ "grown": true }));
            }
            Some("run") => self.tell(&json!({ "ran": Program::run(order)? })),
            Some("leave") => {
                rustix::process::setpgid(None, rustix::process::getpgid(rustix::process::getppid())?.into())?;
                self.tell(&json!({ "left": true }));
            }
            Some("read") => return self.read(order),
            Some("close") => {
                self.closed.store(true, Ordering::SeqCst);
                // The other thread may be about to read, so that closing the descriptor would close nothing yet.
                rustix::net::shutdown(io::stdin(), rustix::net::Shutdown::Both)?;
            }
            Some("exit") => {
                process::exit(order["status"].as_i64().and_then(|s| i32::try_from(s).ok()).unwrap_or(0))
            }
            _ => return Err(io::Error::other(format!("unknown order: {order}"))),
        }
        Ok(())
    }

    fn write(&self, order: &Value) {
        let text = order["text"].as_str().unwrap_or_default().as_bytes();
        let mut passed = order["descriptors"].as_u64().unwrap_or(0);
        for _ in 0..order["times"].as_u64().unwrap_or(1) {
            if self.write_once(text, passed).is_err() {
                return self.tell(&json!({ "broken": true }));
            }
            passed = 0;
        }
    }

    fn write_once(&self, mut text: &[u8], passed: u64) -> io::Result<()> {
        let (kept, given) = pairs(passed)?;
        let borrowed: Vec<_> = given.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !borrowed.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
        }
        while !text.is_empty() {
            wait_until(io::stdin(), PollFlags::OUT)?;
            match sendmsg(io::stdin(), &[IoSlice::new(text)], &mut ancillary, SendFlags::NOSIGNAL) {
                Err(Errno::AGAIN) => continue,
                sent => text = text.get(sent?..).unwrap_or_default(),
            }
            ancillary.clear();
        }
        drop(given);
        self.watch_releases(kept);
        Ok(())
    }

    fn notify(&self, order: &Value) -> io::Result<()> {
        let (kept, given) = pairs(order["descriptors"].as_u64().unwrap_or(0))?;
        Program::notify(order, &given)?;
        drop(given);
        self.watch_releases(kept);
        Ok(())
    }

    fn watch_releases(&self, kept: Vec<UnixStream>) {
        for end in kept {
            self.watch_release(end);
        }
    }

    /// Tells when the other end of a descriptor that was passed on is closed everywhere.
    fn watch_release(&self, mut kept: UnixStream) {
        let puppet = self.clone();
        thread::spawn(move || {
            if matches!(kept.read(&mut [0]), Ok(0)) {
                puppet.tell(&json!({ "released": true }));
            }
        });
    }

    fn answer(&self, order: &Value) -> io::Result<()> {
        let mut connections = self.connections();
        let mut connection = chosen(&mut connections, order)?.take().ok_or(io::ErrorKind::NotConnected)?;
        connection.write_all(order["text"].as_str().unwrap_or_default().as_bytes())
    }

    fn read(&self, order: &Value) -> io::Result<()> {
        let mut connections = self.connections();
        let connection = chosen(&mut connections, order)?.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        wait_until(&*connection, PollFlags::IN)?;
        let mut bytes = [0; 1024];
        let count = connection.read(&mut bytes)?;
        self.tell(&json!({ "read": String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()) }));
        Ok(())
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Option<File>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what the master says, until it says no more.
    fn listen_to_master(&self) {
        let mut descriptors = VecDeque::new();
        let mut pending = Vec::new();
        let mut bytes = vec![0; READ_SIZE];
        while let Ok(count @ 1..) = receive_some(&mut bytes, &mut descriptors) {
            pending.extend_from_slice(bytes.get(..count).unwrap_or_default());
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                self.pass_on(&line, &mut descriptors);
            }
        }
        if !self.closed.load(Ordering::SeqCst) {
            process::exit(0);
        }
    }

    fn pass_on(&self, line: &[u8], descriptors: &mut VecDeque<OwnedFd>) {
        let message: Value =
            serde_json::from_slice(line).unwrap_or_else(|_| json!(String::from_utf8_lossy(line)));
        let is_handle = message["cmd"] == "NODE_HANDLE";
        let descriptor = is_handle.then(|| descriptors.pop_front()).flatten();
        let flags = descriptor.as_ref().and_then(|descriptor| rustix::fs::fcntl_getfl(descriptor).ok());
        let connection = descriptor.map(|descriptor| self.keep(descriptor));
        let blocks = flags.map(|flags| !flags.contains(OFlags::NONBLOCK));
        self.tell(&json!({ "message": message, "connection": connection, "blocks": blocks }));
    }

    /// Keeps a connection; its number.
    fn keep(&self, connection: OwnedFd) -> usize {
        let mut connections = self.connections();
        connections.push(Some(File::from(connection)));
        connections.len() - 1
    }

    /// A test that is over hears nothing any more.
    fn tell(&self, what: &Value) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(stage, "{what}");
    }
}

/// Pairs of sockets: one end to keep, one to give away.
fn pairs(count: u64) -> io::Result<(Vec<UnixStream>, Vec<UnixStream>)> {
    let pairs = (0..count).map(|_| UnixStream::pair()).collect::<io::Result<Vec<_>>>()?;
    Ok(pairs.into_iter().unzip())
}

fn receive_some(bytes: &mut [u8], descriptors: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    wait_until(io::stdin(), PollFlags::IN)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(io::stdin(), &mut [IoSliceMut::new(bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    Ok(received.bytes)
}

fn chosen<'a>(connections: &'a mut [Option<File>], order: &Value) -> io::Result<&'a mut Option<File>> {
    let index = order["connection"].as_u64().and_then(|index| usize::try_from(index).ok());
    let chosen = index.and_then(|index| connections.get_mut(index));
    chosen.ok_or_else(|| io::Error::other(format!("no such connection: {order}")))
}

fn wait_until(descriptor: impl AsFd, ready: PollFlags) -> io::Result<()> {
    let mut polled = [PollFd::new(&descriptor, ready)];
    poll(&mut polled, None)?;
    Ok(())
}
