//! What the service manager is told, and when. It follows from how the cluster is, whatever has brought it there: whoever looks at
//! it tells the herald, which says what is new.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_wire::notify::{Word, datagram};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::config::service_manager::ServiceManager;
use crate::report::status::LastReload;
use crate::report::verdict::Verdict;
use crate::socket::kept::KeptName;
use crate::socket::manager::{ManagerSocket, Sent};
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, plain};

/// How much time is asked for while something goes on, and how often. What ends it are the deadlines of the cluster itself.
const EXTENSION: Duration = Duration::from_secs(30);
const EXTENDED_EVERY: Duration = Duration::from_secs(10);
/// How many datagrams may wait for a manager that does not read; the oldest is forgotten.
const WAITING: usize = 32;
/// How many sockets are kept at most, whatever the manager has room for.
const MOST_KEPT: usize = 1024;
/// What people are told, once, when the manager has no room for all sockets.
const STORE_IS_FULL: &str = "the service manager has no room to keep all listening sockets (FileDescriptorStoreMax= is too small): \
                             if this process is killed, connections to the others are refused until the next one listens";
/// When such a manager is tried again.
const TRIED_AGAIN: Duration = Duration::from_millis(100);
/// How soon sockets that were refused are offered again when there is room: workers may open and close many.
const OFFERED_AGAIN: Duration = Duration::from_secs(1);
/// How a datagram begins that has nothing but a status.
const STATUS: &str = "STATUS=";
/// However little patience a watchdog has.
const LEAST_BEAT: Duration = Duration::from_millis(10);

/// Tells the service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Herald(Option<Speaker>);

/// How the cluster is.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The first generation serves, or has.
    pub(crate) has_started: bool,
    /// A reload runs or waits.
    pub(crate) reloads: bool,
    /// Everything is to end.
    pub(crate) stops: bool,
    /// All of that for people, as one line.
    pub(crate) status: String,
}

#[derive(Debug)]
struct Speaker {
    socket: ManagerSocket,
    waiting: VecDeque<Letter>,
    /// How many sockets the manager keeps.
    room: usize,
    /// Those that it keeps, or is about to.
    kept: BTreeSet<KeptName>,
    told_of_room: bool,
    refused: Refused,
    tried_again: Option<Instant>,
    stage: Stage,
    status: String,
    /// It has to be said that this process is the one that serves.
    names_itself: bool,
    says_stop: bool,
    beat: Option<Beat>,
    /// When more time is asked for.
    extended: Option<Instant>,
}

/// Sockets for which there was no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Refused {
    None,
    Some,
    /// There is room again, and all are to be offered then.
    Awaited(#[serde(with = "plain")] Instant),
    /// They are to be offered now.
    Wanted,
}

/// A datagram that waits.
#[derive(Debug)]
struct Letter {
    text: String,
    about: About,
}

/// What a datagram is for.
#[derive(Debug)]
enum About {
    State,
    /// It brings this socket.
    Keep(KeptName, OwnedFd),
    Forget,
}

/// What the manager believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Starting,
    Serving,
    Reloading,
    Stopping,
}

/// A watchdog is to hear of us so often.
#[derive(Clone, Copy, Debug)]
struct Beat {
    every: Duration,
    next: Instant,
}

/// What the manager believes and keeps, for another program.
#[derive(Debug, Serialize, Deserialize)]
struct Left {
    kept: BTreeSet<KeptName>,
    told_of_room: bool,
    refused: Refused,
    stage: Stage,
    status: String,
    names_itself: bool,
    #[serde(with = "plain")]
    beats: Option<Instant>,
}

const PART: &str = "herald";

impl Herald {
    /// Leaves it to another program.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        let Some(speaker) = &self.0 else { return Ok(()) };
        if !speaker.waiting.is_empty() {
            return Err(SaveError::Refused("the service manager does not read what it is told".to_owned()));
        }
        let left = Left {
            kept: speaker.kept.clone(),
            told_of_room: speaker.told_of_room,
            refused: speaker.refused,
            stage: speaker.stage,
            status: speaker.status.clone(),
            names_itself: speaker.names_itself,
            beats: speaker.beat.map(|beat| beat.next),
        };
        saving.put(PART, &left)
    }

    /// Whether what was left can be read.
    pub(crate) fn read(inheritance: &mut Inheritance) -> Result<(), AdoptError> {
        inheritance.part::<Left>(PART).map(drop)
    }

    /// Goes on with what was left.
    pub(crate) fn go_on(&mut self, inheritance: &mut Inheritance, now: Instant) -> Result<(), AdoptError> {
        let (Some(speaker), Some(left)) = (&mut self.0, inheritance.part::<Left>(PART)?) else {
            return Ok(());
        };
        let Left { kept, told_of_room, refused, stage, status, names_itself, beats } = left;
        speaker.kept = kept;
        (speaker.told_of_room, speaker.refused, speaker.status) = (told_of_room, refused, status);
        speaker.names_itself = names_itself;
        speaker.enter(stage, now);
        if let (Some(beat), Some(at)) = (&mut speaker.beat, beats) {
            beat.next = at;
        }
        Ok(())
    }

    pub(crate) fn new(manager: Option<ServiceManager>, now: Instant) -> io::Result<Self> {
        manager.map(|manager| Speaker::new(manager, now)).transpose().map(Self)
    }

    /// Nobody listens.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.is_none()
    }

    /// A reload was asked for. Whatever becomes of it, the manager hears that it is over; it compares when the reload began with
    /// when it has asked for one.
    pub(crate) fn reload_was_asked_for(&mut self, now: Instant) {
        let Some(speaker) = &mut self.0 else { return };
        match speaker.stage {
            Stage::Serving | Stage::Reloading => {
                speaker.say(&[Word::Reloading, Word::Monotonic(monotonic_clock())], now);
                speaker.enter(Stage::Reloading, now);
            }
            Stage::Starting | Stage::Stopping => {}
        }
    }

    /// Says what is new.
    pub(crate) fn look(&mut self, seen: Seen, now: Instant) {
        let Some(speaker) = &mut self.0 else { return };
        let words = speaker.advance(&seen, now);
        let status = (seen.status != speaker.status).then(|| Word::status(&seen.status));
        speaker.status = seen.status;
        match (words.is_empty(), status) {
            (true, None) => {}
            (true, Some(status)) => speaker.say_status(&status, now),
            (false, status) => speaker.say(&words.into_iter().chain(status).collect::<Vec<_>>(), now),
        }
    }

    /// The manager has kept these before this process was started.
    pub(crate) fn has_kept(&mut self, names: impl IntoIterator<Item = KeptName>) {
        if let Some(speaker) = &mut self.0 {
            speaker.kept.extend(names);
        }
    }

    /// Has the manager keep a socket; returns what people should be told, if it has no room.
    pub(crate) fn keep(&mut self, name: KeptName, socket: OwnedFd, now: Instant) -> Option<&'static str> {
        self.0.as_mut()?.keep(name, socket, now)
    }

    /// Has the manager keep a socket no longer.
    pub(crate) fn forget(&mut self, name: KeptName, now: Instant) {
        if let Some(speaker) = &mut self.0 {
            speaker.forget(name, now);
        }
    }

    /// What the manager keeps, as far as this process knows.
    pub(crate) fn kept(&self) -> BTreeSet<KeptName> {
        self.0.iter().flat_map(|speaker| speaker.kept.iter().copied()).collect()
    }

    /// Whether there is room for sockets that were refused: all are to be offered again. Said once.
    pub(crate) fn has_room_again(&mut self) -> bool {
        let wanted = self.0.as_mut().filter(|speaker| speaker.refused == Refused::Wanted);
        wanted.map(|speaker| speaker.refused = Refused::None).is_some()
    }

    /// Has the manager keep nothing any more: what was asked to end leaves nothing open.
    pub(crate) fn forget_all(&mut self, now: Instant) {
        if let Some(speaker) = &mut self.0 {
            speaker.forget_all(now);
        }
    }

    /// Says what is to be said from time to time.
    pub(crate) fn pass(&mut self, now: Instant) {
        let Some(speaker) = &mut self.0 else { return };
        speaker.pass(now);
    }

    /// When [`Self::pass`] has something to say.
    pub(crate) fn due(&self) -> Option<Instant> {
        let speaker = self.0.as_ref()?;
        let beat = speaker.beat.map(|beat| beat.next);
        let offered = match speaker.refused {
            Refused::Awaited(at) => Some(at),
            Refused::None | Refused::Some | Refused::Wanted => None,
        };
        [speaker.tried_again, speaker.extended, offered, beat].into_iter().flatten().min()
    }
}

impl Speaker {
    fn new(manager: ServiceManager, now: Instant) -> io::Result<Self> {
        let ServiceManager { socket, watchdog, knows_another, hears_of_stop, store } = manager;
        Ok(Self {
            socket: ManagerSocket::open(socket)?,
            waiting: VecDeque::new(),
            room: store.unwrap_or(0).min(MOST_KEPT),
            kept: BTreeSet::new(),
            told_of_room: false,
            refused: Refused::None,
            tried_again: None,
            stage: Stage::Starting,
            status: String::new(),
            names_itself: knows_another,
            says_stop: hears_of_stop,
            beat: watchdog.map(|patience| Beat { every: (patience / 2).max(LEAST_BEAT), next: now }),
            extended: Some(now),
        })
    }

    /// What follows from how the cluster is, beside the status.
    fn advance(&mut self, seen: &Seen, now: Instant) -> Vec<Word> {
        match self.stage {
            Stage::Starting | Stage::Serving | Stage::Reloading if seen.stops => {
                self.enter(Stage::Stopping, now);
                self.says_stop.then_some(Word::Stopping).into_iter().collect()
            }
            Stage::Starting if seen.has_started => {
                self.enter(Stage::Serving, now);
                let this = self.names_itself.then(|| Word::MainPid(std::process::id()));
                // Its patience begins now.
                let beat = self.beat.map(|_| Word::WatchdogBeat);
                [Some(Word::Ready), this, beat].into_iter().flatten().collect()
            }
            Stage::Reloading if !seen.reloads => {
                self.enter(Stage::Serving, now);
                vec![Word::Ready]
            }
            Stage::Starting | Stage::Serving | Stage::Reloading | Stage::Stopping => Vec::new(),
        }
    }

    fn enter(&mut self, stage: Stage, now: Instant) {
        self.extended = (stage != Stage::Serving).then_some(now);
        self.stage = stage;
    }

    fn pass(&mut self, now: Instant) {
        if self.tried_again.is_some_and(|at| at <= now) {
            self.send(now);
        }
        if matches!(self.refused, Refused::Awaited(at) if at <= now) {
            self.refused = Refused::Wanted;
        }
        if let Some(beat) = self.beat.as_mut().filter(|beat| beat.next <= now) {
            beat.next = now + beat.every;
            self.say_now(&Word::WatchdogBeat);
        }
        if self.extended.is_some_and(|at| at <= now) {
            self.extended = Some(now + EXTENDED_EVERY);
            self.say_now(&Word::ExtendTimeout(EXTENSION));
        }
    }

    /// This is true now, and not later.
    fn say_now(&self, word: &Word) {
        if self.waiting.is_empty() {
            // There is another one soon.
            let _ = self.socket.send(&datagram(std::slice::from_ref(word)));
        }
    }

    /// In the place of another status that waits.
    fn say_status(&mut self, status: &Word, now: Instant) {
        if self.waiting.back().is_some_and(|last| last.text.starts_with(STATUS)) {
            self.waiting.pop_back();
        }
        self.say(std::slice::from_ref(status), now);
    }

    fn say(&mut self, words: &[Word], now: Instant) {
        let is_of_state = |letter: &Letter| matches!(letter.about, About::State);
        if self.waiting.iter().filter(|letter| is_of_state(letter)).count() == WAITING
            && let Some(oldest) = self.waiting.iter().position(is_of_state)
        {
            self.waiting.remove(oldest);
        }
        self.post(Letter { text: datagram(words), about: About::State }, now);
    }

    fn keep(&mut self, name: KeptName, socket: OwnedFd, now: Instant) -> Option<&'static str> {
        if self.room == 0 || self.kept.contains(&name) {
            return None;
        }
        // A group with a gap could not be used as one. Whose forerunner is not kept waits with it.
        let before = name.place.checked_sub(1).map(|place| KeptName { place, ..name });
        if self.kept.len() >= self.room || before.is_some_and(|before| !self.kept.contains(&before)) {
            if self.refused == Refused::None {
                self.refused = Refused::Some;
            }
            let is_news = !std::mem::replace(&mut self.told_of_room, true);
            return is_news.then_some(STORE_IS_FULL);
        }
        self.kept.insert(name);
        let text = name.addition(&socket);
        self.post(Letter { text, about: About::Keep(name, socket) }, now);
        None
    }

    fn forget(&mut self, name: KeptName, now: Instant) {
        if !self.kept.remove(&name) {
            return;
        }
        if self.refused == Refused::Some && self.kept.len() < self.room {
            self.refused = Refused::Awaited(now + OFFERED_AGAIN);
        }
        let before = self.waiting.len();
        self.waiting.retain(|letter| !matches!(letter.about, About::Keep(kept, _) if kept == name));
        if self.waiting.len() == before {
            self.post(Letter { text: name.removal(), about: About::Forget }, now);
        }
    }

    fn forget_all(&mut self, now: Instant) {
        let kept: Vec<KeptName> = self.kept.iter().copied().collect();
        for name in kept {
            self.forget(name, now);
        }
        (self.room, self.refused) = (0, Refused::None);
    }

    fn post(&mut self, letter: Letter, now: Instant) {
        self.waiting.push_back(letter);
        self.send(now);
    }

    /// Sends all that waits, in order, as far as there is room.
    fn send(&mut self, now: Instant) {
        while let Some(Letter { text, about }) = self.waiting.front() {
            let descriptor = match about {
                About::Keep(_, socket) => Some(socket.as_fd()),
                About::State | About::Forget => None,
            };
            if self.socket.send_with(text, descriptor) == Sent::Full {
                self.tried_again = Some(now + TRIED_AGAIN);
                return;
            }
            self.waiting.pop_front();
        }
        self.tried_again = None;
    }
}

fn monotonic_clock() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// The cluster as one line: what it does, how many workers serve, and how the last reload ended.
pub(crate) fn in_words(phase: &str, status: &core::Status, last: Option<&LastReload>) -> String {
    let serves =
        |worker: &core::WorkerId| status.workers.iter().any(|known| known.worker == *worker && known.serves);
    let serving = status.slots.iter().filter_map(|slot| slot.active).filter(serves).count();
    let slots = status.slots.len();
    let reload = status.reload.as_ref().map(|reload| {
        let core::ReloadStatus { generation, serving, of, .. } = reload;
        format!("reloads: {serving} of {of} serve generation {}", generation.get())
    });
    let whole =
        format!("{phase}: {serving} of {slots} workers serve, generation {}", status.generation.get());
    let parts = [Some(whole), reload, last.map(last_in_words)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn last_in_words(LastReload { generation, verdict, .. }: &LastReload) -> String {
    let generation = generation.map_or("a reload".to_owned(), |number| format!("generation {number}"));
    let ended = match verdict {
        Verdict::Done => format!("{generation} came to serve"),
        Verdict::RolledBack { failure } => format!("{generation} was rolled back: {failure}"),
        Verdict::StoppedPartWay { replaced, of, failure } => {
            format!("{generation} was stopped at {replaced} of {of}: {failure}")
        }
        Verdict::Refused { reason } => format!("refused: {reason}"),
        Verdict::Abandoned => "abandoned".to_owned(),
    };
    format!("last reload: {ended}")
}

#[cfg(test)]
mod tests;
