//! Notes for Node's thread, in order: the events of a cluster, and answers to requests.
//!
//! Notes wait in a queue. Node is woken when the first one is left there, and takes all of them.

use std::collections::VecDeque;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use napi::Status;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use recluster::ReloadError;
use recluster::host::{Handle, HandleKind, HostEvent, HostMessage, Listening, Misfit, SocketKind};
use serde_json::{Value, json};

/// Wakes Node's thread, and does not keep the process alive.
pub(crate) type Wake = ThreadsafeFunction<(), (), (), Status, false, true>;

/// The queue.
pub(crate) struct Notes {
    waiting: Mutex<VecDeque<Note>>,
    wake: Wake,
}

/// One note for Node's thread.
pub(crate) enum Note {
    /// An event of the cluster.
    Event(HostEvent),
    /// What is a worker to be started with?
    Asked,
    /// The answer to the request with this ticket.
    Answer {
        /// The ticket.
        ticket: u32,
        /// The result; an error has at least a `message`.
        answer: Result<Value, Value>,
    },
}

impl Notes {
    pub(crate) fn new(wake: Wake) -> Self {
        Self { waiting: Mutex::default(), wake }
    }

    /// Leaves a note. Node's thread may have ended, and then no one reads it.
    pub(crate) fn leave(&self, note: Note) {
        let mut waiting = self.waiting();
        waiting.push_back(note);
        if waiting.len() == 1 {
            drop(waiting);
            self.wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    /// Takes all notes, oldest first, and the values that they name. The caller then owns the descriptors that they name.
    pub(crate) fn take(&self) -> (Value, Vec<Vec<u8>>) {
        let notes = std::mem::take(&mut *self.waiting());
        let mut values = Vec::new();
        (notes.into_iter().map(|note| in_words(note, &mut values)).collect(), values)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Note>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_words(note: Note, values: &mut Vec<Vec<u8>>) -> Value {
    match note {
        Note::Event(HostEvent::Event(event)) => json!(event),
        Note::Event(HostEvent::Spawned { worker, stdio, serialization }) => {
            let stdio = stdio.map(|end| end.map(OwnedFd::into_raw_fd));
            json!({ "event": "spawned", "worker": worker, "stdio": stdio, "serialization": serialization.as_str() })
        }
        Note::Event(HostEvent::Listening { worker, listening }) => {
            json!({ "event": "listening", "worker": worker, "listening": as_node_says(&listening) })
        }
        // The receipt ends here: Node reads all that it has taken before it takes more.
        Note::Event(HostEvent::Message { worker, said, handle, receipt: _ }) => {
            let handle = handle.map(as_number);
            let (json, value) = match said {
                HostMessage::Json(json) => (Some(json), None),
                HostMessage::Advanced(value) => {
                    values.push(value);
                    (None, Some(values.len() - 1))
                }
            };
            json!({ "event": "message", "worker": worker, "json": json, "value": value, "handle": handle })
        }
        Note::Event(HostEvent::Retires { worker }) => json!({ "event": "retires", "worker": worker }),
        Note::Event(HostEvent::Active { slot, worker }) => {
            json!({ "event": "active", "slot": slot, "worker": worker })
        }
        Note::Asked => json!({ "event": "asked" }),
        Note::Answer { ticket, answer: Ok(value) } => {
            json!({ "event": "answer", "ticket": ticket, "value": value })
        }
        Note::Answer { ticket, answer: Err(error) } => {
            json!({ "event": "answer", "ticket": ticket, "error": error })
        }
    }
}

/// A descriptor as JavaScript has it. One that is not what its sender says is closed here: Node would make something of it that
/// fails later, when nobody listens to its errors.
fn as_number(handle: Handle) -> Value {
    let kind = word_of(handle.kind);
    match handle.check() {
        Ok(()) => json!({ "kind": kind, "fd": handle.fd.into_raw_fd() }),
        Err(misfit) => json!({ "kind": kind, "lies": misfit == Misfit::OfAnotherKind }),
    }
}

/// The fields as a worker of Node's sends them.
fn as_node_says(listening: &Listening) -> Value {
    let Listening { address, port, kind, fd } = listening;
    let (kind, port, fd) = match kind {
        Some(SocketKind::Tcp4) => (json!(4), json!(port), json!(fd)),
        Some(SocketKind::Tcp6) => (json!(6), json!(port), json!(fd)),
        Some(SocketKind::Unix) => (json!(-1), json!(-1), json!(fd)),
        Some(SocketKind::Udp4) => (json!("udp4"), json!(port), json!(fd.map_or(-1, i64::from))),
        Some(SocketKind::Udp6) => (json!("udp6"), json!(port), json!(fd.map_or(-1, i64::from))),
        None => (Value::Null, json!(port), json!(fd)),
    };
    json!({ "addressType": kind, "address": address, "port": port, "fd": fd })
}

/// The word by which the package knows what a descriptor becomes: Node's own, or for a `dgram.Socket` its family.
fn word_of(kind: HandleKind) -> &'static str {
    match kind {
        HandleKind::DatagramSocket(family) => family.as_str(),
        HandleKind::NetNative
        | HandleKind::NetSocket
        | HandleKind::NetServer
        | HandleKind::NetBoundSocket
        | HandleKind::DatagramNative => kind.as_str(),
    }
}

/// What the package makes an error of.
pub(crate) fn describe(error: &ReloadError) -> Value {
    let message = error.to_string();
    match error {
        ReloadError::RolledBack(failure) => {
            json!({ "code": "ERR_RECLUSTER_ROLLED_BACK", "message": message, "failure": failure })
        }
        ReloadError::StoppedPartWay { replaced, of, failure } => json!({
            "code": "ERR_RECLUSTER_STOPPED_PART_WAY",
            "message": message,
            "failure": failure,
            "replaced": replaced,
            "of": of,
        }),
        ReloadError::Refused(reason) => {
            json!({ "code": "ERR_RECLUSTER_REFUSED", "message": message, "reason": reason })
        }
        ReloadError::Abandoned => json!({ "code": "ERR_RECLUSTER_ABANDONED", "message": message }),
        ReloadError::Gone(_) | _ => json!({ "code": "ERR_RECLUSTER_NOT_RUNNING", "message": message }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: Option<SocketKind>, fd: Option<u32>) -> Value {
        as_node_says(&Listening { address: None, port: Some(80), kind, fd })
    }

    #[test]
    fn where_a_worker_listens_is_told_as_node_tells_it() {
        let tcp = json!({ "addressType": 4, "address": null, "port": 80, "fd": null });
        assert_eq!(said(Some(SocketKind::Tcp4), None), tcp);
        let udp = json!({ "addressType": "udp6", "address": null, "port": 80, "fd": -1 });
        assert_eq!(said(Some(SocketKind::Udp6), None), udp);
        assert_eq!(said(Some(SocketKind::Unix), None)["port"], -1);
        assert_eq!(said(None, Some(5))["fd"], 5);
    }
}
