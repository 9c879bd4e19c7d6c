//! Who hears what happens: the subscribers, a host, which shows workers to users of its own, and the tally for metrics.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use recluster_core::WorkerId;
use recluster_wire::env::Serialization;
use recluster_wire::node::{Listening, Payload};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::dataplane::{Handle, Receipt};
use crate::report::counts::Counts;
use crate::report::event::{Event, MESSAGE_BACKLOG, MESSAGE_BYTES};
use crate::report::worker::{Address, Worker};
use crate::supervisor::tally::{self, Tally};
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving};

/// One thing that the host is told.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "whoever shows a cluster to its users must show all of it")]
pub enum HostEvent {
    /// What subscribers hear as well, but for what has a variant of its own here.
    Event(Event),
    /// A worker's process was started.
    Spawned {
        /// The worker.
        worker: Worker,
        /// Our ends of its stdin, stdout and stderr, where these are [`Stdio::Pipe`](crate::host::Stdio::Pipe).
        stdio: [Option<OwnedFd>; 3],
        /// How messages to it have to be written, and how it writes its own.
        serialization: Serialization,
    },
    /// A server in a worker listens.
    Listening {
        /// The worker.
        worker: Worker,
        /// Where, as the worker says it.
        listening: Listening,
    },
    /// A worker sent a message of its application.
    Message {
        /// The worker.
        worker: Worker,
        /// The message.
        said: HostMessage,
        /// What came with it.
        handle: Option<Handle>,
        /// To be dropped when the message has been dealt with. While 1 MiB of a worker's messages has not been, its
        /// channel is not read.
        receipt: Receipt,
    },
    /// A worker leaves by itself, or asks to be replaced.
    Retires {
        /// The worker.
        worker: Worker,
    },
    /// Another worker is the active one of a slot, or none is.
    Active {
        /// The slot.
        slot: u32,
        /// The worker.
        worker: Option<Worker>,
    },
}

/// What users say to each other, unread.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever passes messages on must pass on all of them")]
pub enum HostMessage {
    /// The text of a JSON value.
    Json(String),
    /// A value in V8's format, where the worker has [`Serialization::Advanced`]. Beside a descriptor it is the whole envelope,
    /// `{cmd: 'NODE_HANDLE', type, msg}`.
    Advanced(Vec<u8>),
}

impl From<Payload> for HostMessage {
    fn from(said: Payload) -> Self {
        match said {
            Payload::Json(json) => Self::Json(json.as_str().to_owned()),
            Payload::Advanced(value) => Self::Advanced(value.into()),
        }
    }
}

/// What another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    messages_lost: u64,
    tally: tally::Left,
}

const PART: &str = "audience";

/// Who is told.
pub(crate) struct Host(Box<dyn Fn(HostEvent) + Send + Sync>);

impl Host {
    pub(crate) fn new(tell: impl Fn(HostEvent) + Send + Sync + 'static) -> Self {
        Self(Box::new(tell))
    }

    pub(crate) fn tell(&self, told: HostEvent) {
        (self.0)(told);
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

/// The subscribers, and the host if there is one.
#[derive(Debug)]
pub(crate) struct Audience {
    events: broadcast::Sender<Arc<Event>>,
    host: Option<Host>,
    /// Who was active in each slot when the host last heard of it.
    active: BTreeMap<u32, WorkerId>,
    /// Messages of applications that were not passed on, and not reported yet.
    messages_lost: u64,
    waiting: Waiting,
    /// Never waited for: the supervisor alone has it.
    tally: Mutex<Tally>,
}

/// The messages that some subscriber has not heard yet.
#[derive(Debug, Default)]
struct Waiting {
    /// How many events were sent to subscribers.
    sent: AtomicU64,
    /// The number of each message among these events, and the bytes of its text, oldest first.
    messages: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Waiting {
    /// Whether a message of so many bytes can wait beside those among the last `unheard` events. One can in any case.
    fn has_room(&mut self, bytes: usize, unheard: usize) -> bool {
        let heard = self.sent.load(Ordering::Relaxed).saturating_sub(unheard as u64);
        while let Some(&(number, size)) = self.messages.front()
            && number < heard
        {
            self.messages.pop_front();
            self.bytes -= size;
        }
        self.messages.is_empty() || self.bytes.saturating_add(bytes) <= MESSAGE_BYTES
    }

    /// The next event is a message with a text of so many bytes.
    fn note(&mut self, bytes: usize) {
        if bytes > 0 {
            self.messages.push_back((self.sent.load(Ordering::Relaxed), bytes));
            self.bytes += bytes;
        }
    }
}

impl Audience {
    pub(crate) fn new(events: broadcast::Sender<Arc<Event>>, host: Option<Host>) -> Self {
        Self {
            events,
            host,
            active: BTreeMap::new(),
            messages_lost: 0,
            waiting: Waiting::default(),
            tally: Mutex::default(),
        }
    }

    /// Leaves what was counted to another program. A host is told what it cannot hear again, and cannot be left.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        if self.host.is_some() {
            return Err(SaveError::Refused("the cluster is part of another program".to_owned()));
        }
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner).save();
        saving.put(PART, &Left { messages_lost: self.messages_lost, tally })
    }

    /// Whether what was left can be read.
    pub(crate) fn read(inheritance: &mut Inheritance) -> Result<(), AdoptError> {
        inheritance.needed::<Left>(PART).map(drop)
    }

    /// Goes on with what was left.
    pub(crate) fn go_on(&mut self, inheritance: &mut Inheritance) -> Result<(), AdoptError> {
        let Left { messages_lost, tally } = inheritance.needed(PART)?;
        (self.messages_lost, self.tally) = (messages_lost, Mutex::new(Tally::adopt(tally)));
        Ok(())
    }

    /// All of them hear an event.
    pub(crate) fn emit(&self, event: Event) {
        self.count(&event);
        if let Some(host) = &self.host {
            host.tell(HostEvent::Event(event.clone()));
        }
        // It fails where there is no subscriber.
        if self.events.send(Arc::new(event)).is_ok() {
            self.waiting.sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether every subscriber has heard everything.
    pub(crate) fn is_heard(&self) -> bool {
        self.events.is_empty()
    }

    /// What was counted of all events so far.
    pub(crate) fn counts(&self) -> Counts {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).counts()
    }

    fn count(&self, event: &Event) {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).hear(event, Instant::now());
    }

    /// Lines of workers were lost. People are told later how many there were.
    pub(crate) fn lost(&self, lines: u64) {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).lost(lines);
    }

    /// A worker's process was started. The host gets our ends of its pipes.
    pub(crate) fn spawned(&self, worker: Worker, stdio: [Option<OwnedFd>; 3], serialization: Serialization) {
        match &self.host {
            Some(host) => {
                self.count(&Event::Spawned { worker });
                host.tell(HostEvent::Spawned { worker, stdio, serialization });
            }
            None => self.emit(Event::Spawned { worker }),
        }
    }

    /// A server listens. The host hears it as the worker says it.
    pub(crate) fn listening(&self, worker: Worker, address: Address, listening: Listening) {
        match &self.host {
            Some(host) => host.tell(HostEvent::Listening { worker, listening }),
            None => self.emit(Event::Listening { worker, address }),
        }
    }

    /// An application said this: for the host alone, if there is one.
    pub(crate) fn said(&mut self, worker: Worker, said: Payload, handle: Option<Handle>, receipt: Receipt) {
        let (bytes, said) = (said.len() as u64, HostMessage::from(said));
        match (&self.host, said) {
            (Some(host), said) => host.tell(HostEvent::Message { worker, said, handle, receipt }),
            (None, HostMessage::Json(text)) => self.message(worker, bytes, Some(text)),
            (None, HostMessage::Advanced(_)) => self.message(worker, bytes, None),
        }
    }

    /// A worker leaves by itself, which the host hears before what follows from it.
    pub(crate) fn retires(&self, worker: Worker) {
        if let Some(host) = &self.host {
            host.tell(HostEvent::Retires { worker });
        }
    }

    /// Subscribers hear of a message. Where one of them lags behind, by events or by bytes, it is lost, and counted: the events that
    /// are not messages must not be.
    pub(crate) fn message(&mut self, worker: Worker, bytes: u64, text: Option<String>) {
        let kept = text.as_ref().map_or(0, String::len);
        if self.events.len() >= MESSAGE_BACKLOG || !self.waiting.has_room(kept, self.events.len()) {
            self.messages_lost += 1;
            return;
        }
        if self.messages_lost > 0 {
            let messages = std::mem::take(&mut self.messages_lost);
            self.emit(Event::MessagesLost { messages });
        }
        self.waiting.note(kept);
        self.emit(Event::Message { worker, bytes, text });
    }

    /// The host hears which slots have another active worker than before, or none.
    pub(crate) fn active(
        &mut self,
        now: impl Iterator<Item = (u32, WorkerId)>,
        about: impl Fn(WorkerId) -> Option<Worker>,
    ) {
        let Some(host) = &self.host else { return };
        let before = std::mem::replace(&mut self.active, now.collect());
        for &slot in before.keys().filter(|slot| !self.active.contains_key(slot)) {
            host.tell(HostEvent::Active { slot, worker: None });
        }
        for (&slot, &worker) in &self.active {
            if before.get(&slot) != Some(&worker) {
                host.tell(HostEvent::Active { slot, worker: about(worker) });
            }
        }
    }
}

#[cfg(test)]
mod tests {

    use recluster_wire::Json;

    use super::*;

    const WORKER: Worker = Worker { id: 3, slot: 0, generation: 1, pid: Some(7) };

    /// What a host heard, in short.
    fn hosted() -> (Audience, Arc<Mutex<Vec<String>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        let host = Host::new(move |event| {
            log.lock().unwrap().push(match event {
                HostEvent::Event(event) => format!("{event:?}").split(' ').next().unwrap().to_owned(),
                HostEvent::Spawned { worker, .. } => format!("spawned {}", worker.id),
                HostEvent::Listening { worker, .. } => format!("listening {}", worker.id),
                HostEvent::Message { said, .. } => format!("message {said:?}"),
                HostEvent::Retires { worker } => format!("retires {}", worker.id),
                HostEvent::Active { slot, worker } => format!("active {slot} {:?}", worker.map(|w| w.id)),
            });
        });
        (Audience::new(broadcast::Sender::new(8), Some(host)), heard)
    }

    fn listening() -> Listening {
        Listening { address: None, port: Some(80), kind: None, fd: None }
    }

    fn message(audience: &mut Audience, text: &str) {
        let said = Payload::Json(Json::parse(text).unwrap());
        let receipt = Receipt::default();
        audience.said(WORKER, said, None, receipt);
    }

    #[test]
    fn a_host_is_shown_by_its_name() {
        assert_eq!(format!("{:?}", Host::new(|_| {})), "Host");
    }

    #[test]
    fn a_host_hears_everything_in_order_and_subscribers_no_messages() {
        let (mut audience, heard) = hosted();
        let mut subscriber = audience.events.subscribe();
        audience.spawned(WORKER, [None, None, None], Serialization::Json);
        audience.listening(WORKER, Address::Fd(3), listening());
        message(&mut audience, "1");
        audience.retires(WORKER);
        audience.emit(Event::Over);
        let all = ["spawned 3", "listening 3", "message Json(\"1\")", "retires 3", "Over"];
        assert_eq!(*heard.lock().unwrap(), all);
        assert!(matches!(subscriber.try_recv().map(Arc::unwrap_or_clone), Ok(Event::Over)));
    }

    #[test]
    fn subscribers_hear_what_a_host_would_have() {
        let mut audience = Audience::new(broadcast::Sender::new(8), None);
        let mut subscriber = audience.events.subscribe();
        audience.spawned(WORKER, [None, None, None], Serialization::Json);
        audience.listening(WORKER, Address::Fd(3), listening());
        message(&mut audience, "[2]");
        assert!(matches!(
            subscriber.try_recv().map(Arc::unwrap_or_clone),
            Ok(Event::Spawned { worker: WORKER })
        ));
        assert!(matches!(
            subscriber.try_recv().map(Arc::unwrap_or_clone),
            Ok(Event::Listening { address: Address::Fd(3), .. })
        ));
        assert!(
            matches!(subscriber.try_recv().map(Arc::unwrap_or_clone), Ok(Event::Message { text: Some(text), bytes: 3, .. }) if text == "[2]")
        );
    }

    #[test]
    fn messages_are_lost_before_other_events_and_counted_once() {
        let mut audience = Audience::new(broadcast::Sender::new(MESSAGE_BACKLOG * 2), None);
        let mut subscriber = audience.events.subscribe();
        for _ in 0..MESSAGE_BACKLOG + 3 {
            message(&mut audience, "0");
        }
        audience.emit(Event::Over);
        for _ in 0..MESSAGE_BACKLOG {
            assert!(matches!(subscriber.try_recv().map(Arc::unwrap_or_clone), Ok(Event::Message { .. })));
        }
        assert!(
            matches!(subscriber.try_recv().map(Arc::unwrap_or_clone), Ok(Event::Over)),
            "it was not lost"
        );
        message(&mut audience, "1");
        message(&mut audience, "2");
        assert!(matches!(
            subscriber.try_recv().map(Arc::unwrap_or_clone),
            Ok(Event::MessagesLost { messages: 3 })
        ));
        assert!(
            matches!(subscriber.try_recv().map(Arc::unwrap_or_clone), Ok(Event::Message { text: Some(text), .. }) if text == "1")
        );
        assert!(
            matches!(subscriber.try_recv().map(Arc::unwrap_or_clone), Ok(Event::Message { text: Some(text), .. }) if text == "2")
        );
    }

    #[test]
    fn messages_that_wait_have_a_bound_in_bytes() {
        let mut audience = Audience::new(broadcast::Sender::new(MESSAGE_BACKLOG * 2), None);
        let mut subscriber = audience.events.subscribe();
        let long = format!("\"{}\"", "x".repeat(MESSAGE_BYTES / 2 - 2));
        let is_message = |event| matches!(event, Ok(Event::Message { .. }));
        audience.emit(Event::Over);
        for _ in 0..4 {
            message(&mut audience, &long);
        }
        assert!(matches!(subscriber.try_recv().map(Arc::unwrap_or_clone), Ok(Event::Over)));
        assert!(is_message(subscriber.try_recv().map(Arc::unwrap_or_clone)));
        message(&mut audience, &long);
        assert!(is_message(subscriber.try_recv().map(Arc::unwrap_or_clone)));
        assert!(matches!(
            subscriber.try_recv().map(Arc::unwrap_or_clone),
            Ok(Event::MessagesLost { messages: 2 })
        ));
        assert!(is_message(subscriber.try_recv().map(Arc::unwrap_or_clone)));
        let longest = format!("\"{}\"", "x".repeat(2 * MESSAGE_BYTES));
        message(&mut audience, &longest);
        assert!(
            is_message(subscriber.try_recv().map(Arc::unwrap_or_clone)),
            "one is never too long by itself"
        );
    }

    #[test]
    fn a_message_waits_until_it_is_heard_and_one_without_text_does_not() {
        let mut waiting = Waiting::default();
        waiting.note(MESSAGE_BYTES);
        waiting.sent.fetch_add(1, Ordering::Relaxed);
        assert!(!waiting.has_room(1, 1), "the only event is not heard");
        assert!(waiting.has_room(1, 0));
        assert_eq!(waiting.bytes, 0);
        waiting.note(0);
        assert!(waiting.messages.is_empty());
    }

    #[test]
    fn a_host_hears_of_another_active_worker_once() {
        let (mut audience, heard) = hosted();
        let id = WorkerId::from_number;
        let about = |worker: WorkerId| Some(Worker { id: worker.get() * 10, ..WORKER });
        audience.active([(0, id(1)), (1, id(2))].into_iter(), about);
        audience.active([(0, id(1)), (1, id(2))].into_iter(), about);
        assert_eq!(*heard.lock().unwrap(), ["active 0 Some(10)", "active 1 Some(20)"]);
        heard.lock().unwrap().clear();
        audience.active([(0, id(3))].into_iter(), about);
        assert_eq!(*heard.lock().unwrap(), ["active 1 None", "active 0 Some(30)"]);
    }
}
