//! One worker as the supervisor knows it: its [`Process`], and what has been seen and heard of it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use recluster_core::{Generation, Signal, SlotId, WorkerId};
use recluster_wire::env::NodeDrain;
use recluster_wire::node::{self, Farewell};
use serde::{Deserialize, Serialize};

use crate::process::awaited::Awaited;
use crate::process::exception::Exception;
use crate::process::program::ResolvedProgram;
use crate::process::runtime::NodeKind;
use crate::process::{self, Process, health_check, sd_notify};
use crate::report::worker::{Address, Held, Resource, Worker};
use crate::socket::holder::Holder;
use crate::supervisor::readiness::{self, Readiness, Seen};
use crate::supervisor::watchdog::Watchdog;
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, plain};

/// A worker that lives, or whose end has not been dealt with yet.
#[derive(Debug)]
pub(crate) struct Child {
    /// The number that people know it by.
    pub(crate) number: u64,
    pub(crate) slot: SlotId,
    pub(crate) generation: Generation,
    pub(crate) process: Process,
    pub(crate) readiness: Readiness,
    pub(crate) watchdog: Watchdog,
    pub(crate) channel_use: ChannelUse,
    /// How it drains by its preload, if it does.
    pub(crate) preload: Option<NodeDrain>,
    /// What it still had when it last told, in its drain.
    pub(crate) held: Option<Held>,
    /// What it says that it does.
    pub(crate) status: Option<String>,
    /// How many notifications were ignored: they came from another process, or made no sense.
    pub(crate) notify_ignored: u64,
    /// The last process that spoke for it and was not heard.
    pub(crate) stranger: Option<Holder>,
    /// Where it could not listen, because the cluster itself does.
    pub(crate) in_the_way: Option<Address>,
    /// Where it alone listens, for its checks.
    pub(crate) own_listener: Option<SocketAddr>,
    /// It was stopped when it was told to go.
    pub(crate) was_stopped: bool,
    /// Hears its notifications. Dropping this ends the listening.
    pub(crate) notify: Option<sd_notify::Listening>,
}

/// Which worker a child is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) worker: WorkerId,
    /// The number that people know it by.
    pub(crate) number: u64,
    pub(crate) slot: SlotId,
    pub(crate) generation: Generation,
}

impl Place {
    /// What people are told of a worker here.
    pub(crate) fn about(self, pid: Option<u32>) -> Worker {
        Worker { id: self.number, slot: self.slot.get(), generation: self.generation.get(), pid }
    }
}

/// A worker that another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    number: u64,
    slot: SlotId,
    generation: Generation,
    process: process::Left,
    readiness: readiness::Left,
    watchdog: Watchdog,
    channel_use: ChannelUse,
    preload: Option<NodeDrain>,
    held: Option<Held>,
    status: Option<String>,
    #[serde(default)]
    was_stopped: bool,
    notify_ignored: u64,
    stranger: Option<Holder>,
    #[serde(default, with = "plain")]
    in_the_way: Option<Address>,
    own_listener: Option<SocketAddr>,
    notify: Option<sd_notify::Left>,
}

/// A worker of a program before, and what goes on when that is not gone back to any more.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) child: Child,
    /// Shows the end of its process.
    pub(crate) watched: OwnedFd,
    pub(crate) checks: Option<health_check::Left>,
    pub(crate) notify: Option<sd_notify::Adopted>,
}

impl Left {
    /// Goes on with it.
    pub(crate) fn adopt(
        self,
        awaited: &Awaited,
        inheritance: &mut Inheritance,
    ) -> Result<Adopted, AdoptError> {
        let worker = self.watchdog.worker();
        let (process, watched) = self.process.adopt(&purpose(worker, "process"), awaited, inheritance)?;
        let (readiness, checks) = self.readiness.adopt();
        let notify = self.notify.map(|notify| notify.adopt(&purpose(worker, "notify"), inheritance));
        let child = Child {
            number: self.number,
            slot: self.slot,
            generation: self.generation,
            process,
            readiness,
            watchdog: self.watchdog,
            channel_use: self.channel_use,
            preload: self.preload,
            held: self.held,
            status: self.status,
            was_stopped: self.was_stopped,
            notify_ignored: self.notify_ignored,
            stranger: self.stranger,
            in_the_way: self.in_the_way,
            own_listener: self.own_listener,
            notify: None,
        };
        Ok(Adopted { child, watched, checks, notify: notify.transpose()? })
    }
}

fn purpose(worker: WorkerId, what: &str) -> String {
    format!("worker/{}/{what}", worker.get())
}

impl Child {
    /// Leaves it to another program.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<Left, SaveError> {
        let worker = self.watchdog.worker();
        let notify = self.notify.as_ref().map(|notify| notify.save(&purpose(worker, "notify"), saving));
        Ok(Left {
            number: self.number,
            slot: self.slot,
            generation: self.generation,
            process: self.process.save(&purpose(worker, "process"), saving)?,
            readiness: self.readiness.save()?,
            watchdog: self.watchdog.clone(),
            channel_use: self.channel_use,
            preload: self.preload,
            held: self.held.clone(),
            status: self.status.clone(),
            was_stopped: self.was_stopped,
            notify_ignored: self.notify_ignored,
            stranger: self.stranger.clone(),
            in_the_way: self.in_the_way.clone(),
            own_listener: self.own_listener,
            notify: notify.transpose()?.flatten(),
        })
    }

    /// A worker that has just been started, and may be silent for so long.
    pub(crate) fn new(
        place: Place,
        process: Process,
        channel_use: ChannelUse,
        patience: Option<Duration>,
    ) -> Self {
        let Place { worker, number, slot, generation } = place;
        Self {
            number,
            slot,
            generation,
            process,
            readiness: Readiness::default(),
            watchdog: Watchdog::new(worker, patience),
            channel_use,
            preload: None,
            held: None,
            status: None,
            notify_ignored: 0,
            stranger: None,
            in_the_way: None,
            own_listener: None,
            was_stopped: false,
            notify: None,
        }
    }

    /// Whether its process does nothing until it is sent CONT.
    pub(crate) fn is_stopped(&self) -> bool {
        self.process.usage().is_some_and(|usage| usage.is_stopped)
    }

    /// What people are told of it.
    pub(crate) fn about(&self) -> Worker {
        let pid = Some(self.pid().unsigned_abs());
        Worker { id: self.number, slot: self.slot.get(), generation: self.generation.get(), pid }
    }

    /// The number of its process, and of the group that was made for it, if one was.
    pub(crate) fn pid(&self) -> i32 {
        self.process.pid().as_raw_nonzero().get()
    }

    /// How long ago it was started.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.process.begun)
    }

    /// It drains, and still has this.
    pub(crate) fn has(&mut self, node::Held { connections, upgraded, requests }: node::Held) {
        self.held = Some(Held { connections, upgraded, requests, ..Held::default() });
    }

    /// It drains, and has no connection any more. If it runs what its application has for SIGTERM, that signal is said.
    pub(crate) fn says_farewell(&mut self, Farewell { alive, handles }: Farewell) {
        let alive = alive.into_iter().map(|(name, count)| Resource::new(name, count)).collect();
        self.held = Some(Held { alive, ..Held::default() });
        if handles {
            self.process.sent = self.process.sent.max(Some(Signal::Term));
        }
    }

    /// Its process has ended: it is not checked or listened to any more.
    pub(crate) fn ends(&mut self) {
        self.readiness.ends();
        self.notify = None;
    }

    /// It said its first word over its channel, so it knows of it.
    pub(crate) fn speaks(&mut self) {
        if self.channel_use == ChannelUse::Unproven {
            self.channel_use = ChannelUse::Full;
        }
    }
}

/// What a worker makes of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChannelUse {
    /// It may not know that it has one, and close it like any other descriptor.
    Unproven,
    /// It reads and writes there, but does not understand a drain: it is told to go by a signal.
    DeafToDrains,
    /// It reads and writes there, and understands a drain.
    Full,
}

impl ChannelUse {
    /// What a worker that runs this program is expected to make of it.
    pub(crate) fn of(program: &ResolvedProgram) -> Self {
        match program.node_kind() {
            Some(NodeKind::Node | NodeKind::Deno) => Self::Full,
            Some(NodeKind::Bun) => Self::DeafToDrains,
            None => Self::Unproven,
        }
    }

    /// Whether it is told to drain over its channel.
    pub(crate) fn may_hear_a_drain(self) -> bool {
        self != Self::Unproven
    }

    /// Whether it has to be told to drain by a signal.
    pub(crate) fn needs_a_signal(self) -> bool {
        self != Self::Full
    }
}

/// A worker that is gone, for the verdict that names it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeadWorker {
    pub(crate) worker: Worker,
    /// The last lines that it wrote to its stderr.
    pub(crate) stderr: Vec<String>,
    pub(crate) seen: Seen,
    /// Why its process could not be started, if that is what became of it.
    pub(crate) spawn_error: Option<String>,
    /// The last exception that it wrote to its stderr.
    pub(crate) exception: Option<Exception>,
    /// How its check failed the last time, if it never passed.
    pub(crate) check_failure: Option<String>,
    /// The last process that notified for it and was not heard.
    pub(crate) stranger: Option<Holder>,
    /// Where it could not listen, because the cluster itself does.
    #[serde(default, with = "plain")]
    pub(crate) in_the_way: Option<Address>,
    /// What it wrote to its stderr of an address that is in use.
    pub(crate) in_use: Option<String>,
    /// Who has that address, and what to do, where it was looked for.
    pub(crate) taken: Option<String>,
    /// What it has left in the background, and what to do, where it was looked for.
    pub(crate) left: Option<String>,
    /// The kernel has killed it for want of memory.
    pub(crate) oom_killed: bool,
    /// Its process was stopped.
    pub(crate) is_stopped: bool,
}

impl DeadWorker {
    /// One of which nothing more is known.
    pub(crate) fn unknown(worker: Worker) -> Self {
        Self {
            worker,
            stderr: Vec::new(),
            exception: None,
            seen: Seen::default(),
            spawn_error: None,
            check_failure: None,
            stranger: None,
            in_the_way: None,
            in_use: None,
            taken: None,
            left: None,
            oom_killed: false,
            is_stopped: false,
        }
    }

    /// What is known of one that has just died, or is about to.
    pub(crate) fn of(child: &Child) -> Self {
        Self {
            worker: child.about(),
            stderr: child.process.tail.lines(),
            exception: child.process.tail.exception(),
            seen: child.readiness.seen(),
            spawn_error: None,
            check_failure: child.readiness.check_failure().map(ToOwned::to_owned),
            stranger: child.stranger.clone(),
            in_the_way: child.in_the_way.clone(),
            in_use: child.process.tail.address_in_use(),
            taken: None,
            left: None,
            oom_killed: false,
            is_stopped: child.was_stopped || child.is_stopped(),
        }
    }
}

/// Gives workers the numbers that people know them by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbering(Option<Arc<AtomicU64>>);

impl Numbering {
    /// Counts on from the last number that was given, which others count on as well.
    pub(crate) fn shared(last: Arc<AtomicU64>) -> Self {
        Self(Some(last))
    }

    /// The number of a worker that is about to be started.
    pub(crate) fn next(&self, worker: WorkerId) -> u64 {
        self.0.as_ref().map_or(worker.get(), |last| last.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::supervisor::fixtures;

    #[test]
    fn a_program_that_says_a_word_knows_of_its_channel() {
        let mut child = fixtures::child(7);
        assert_eq!(child.channel_use, ChannelUse::Unproven);
        child.speaks();
        assert_eq!(child.channel_use, ChannelUse::Full);
        child.channel_use = ChannelUse::DeafToDrains;
        child.speaks();
        assert_eq!(child.channel_use, ChannelUse::DeafToDrains);
    }

    #[test]
    fn a_drain_is_said_where_it_may_be_heard() {
        let told = |channel_use: ChannelUse| (channel_use.may_hear_a_drain(), channel_use.needs_a_signal());
        assert_eq!(told(ChannelUse::Unproven), (false, true));
        assert_eq!(told(ChannelUse::DeafToDrains), (true, true));
        assert_eq!(told(ChannelUse::Full), (true, false));
    }

    #[test]
    fn people_are_told_what_it_holds_in_their_own_terms() {
        let mut child = fixtures::child(7);
        assert_eq!(child.held, None);
        child.has(node::Held { connections: 3, upgraded: 2, requests: 1 });
        assert_eq!(child.held, Some(Held { connections: 3, upgraded: 2, requests: 1, alive: Vec::new() }));
        let alive = BTreeMap::from([("Timeout".to_owned(), 1)]);
        child.says_farewell(Farewell { alive: alive.clone(), handles: false });
        let named = vec![Resource::new("Timeout", 1)];
        assert_eq!(child.held, Some(Held { alive: named, ..Held::default() }));
        assert_eq!(child.process.sent, None);
        child.says_farewell(Farewell { alive, handles: true });
        assert_eq!(child.process.sent, Some(Signal::Term), "it is not to be sent that again");
    }

    #[test]
    fn it_is_known_by_the_number_of_its_process_and_has_an_age() {
        let child = fixtures::child(7);
        let process = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
        let (_, behind_its_name) = process.rsplit_once(") ").unwrap();
        let parent = behind_its_name.split(' ').nth(1);
        assert_eq!(parent, Some(std::process::id().to_string().as_str()), "{process}");
        assert_eq!(child.about().pid, Some(child.pid().unsigned_abs()));
        let second = Duration::from_secs(1);
        assert_eq!(child.age(child.process.begun + second), second);
        assert_eq!(child.age(child.process.begun), Duration::ZERO);
    }

    #[test]
    fn numbers_are_shared_where_they_are_to_be() {
        let last = Arc::new(AtomicU64::new(4));
        let (one, other) = (Numbering::shared(Arc::clone(&last)), Numbering::shared(Arc::clone(&last)));
        let numbers = [one.next(WorkerId::from_number(1)), other.next(WorkerId::from_number(1))];
        assert_eq!(numbers, [5, 6]);
        assert_eq!(Numbering::default().next(WorkerId::from_number(9)), 9);
    }
}
