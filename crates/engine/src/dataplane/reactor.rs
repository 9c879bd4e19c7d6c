//! What the event loop waits for: descriptors that become ready (epoll), timers, and what is to be done before the turn
//! ends. It knows identifiers alone, and nothing of what they stand for.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// How many ready descriptors are handled in one turn.
const EVENTS_A_TURN: usize = 128;

/// The kernel rounds the timeouts of epoll up to whole milliseconds. A shorter one is left to the alarm.
const EPOLL_UNIT: Duration = Duration::from_millis(1);
/// How many bits of a token say what kind it is.
const TAG_BITS: u32 = 3;
/// How many bits number the sockets of one listener: more than there can be workers.
const PLACE_BITS: u32 = 20;

/// Names a listener for as long as it is open; never used again.
pub(super) type ListenerId = u64;

/// What is to be looked at when its time comes. To look twice, or too early, does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Worker(WorkerId),
    Listener(ListenerId),
    /// A socket of a listener's group, by its place.
    Member(ListenerId, usize),
    /// Connections whose first bytes are awaited.
    Peeks,
    /// The files of unix sockets.
    Names,
    /// Sockets that came back and that no worker has asked for.
    Unwanted,
    /// Who looks at the cluster.
    Looking,
    /// Requests that wait for an address.
    Later,
}

/// What a watched descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Waker,
    /// A timer may be due.
    Alarm,
    Listener(ListenerId),
    Member(ListenerId, usize),
    Worker(WorkerId),
    Peek(u64),
    /// Files of unix sockets may be gone.
    Files,
}

/// Says what is to be looked at, and when.
#[derive(Debug)]
pub(super) struct Reactor {
    epoll: OwnedFd,
    /// Ends a wait for less than a millisecond.
    alarm: OwnedFd,
    timers: BTreeSet<(Instant, Timer)>,
    /// Listeners that may have a connection for a worker: looked at before the turn ends.
    listeners: BTreeSet<ListenerId>,
    /// Workers that may have something to read.
    unread: BTreeSet<WorkerId>,
    /// When this turn began.
    pub(super) now: Instant,
}

impl Reactor {
    /// A reactor that watches nothing but the supervisor's waker.
    pub(super) fn new(waker: &OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let alarm =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let reactor = Self {
            epoll,
            alarm,
            timers: BTreeSet::new(),
            listeners: BTreeSet::new(),
            unread: BTreeSet::new(),
            now: Instant::now(),
        };
        reactor.watch(waker, Token::Waker)?;
        reactor.watch(&reactor.alarm, Token::Alarm)?;
        Ok(reactor)
    }

    /// Waits until a descriptor is ready or a timer is due, and begins a new turn; returns what is ready.
    pub(super) fn wait(&mut self) -> Vec<Token> {
        let span = if self.unread.is_empty() {
            self.timers.first().map(|(at, _)| at.saturating_duration_since(Instant::now()))
        } else {
            Some(Duration::ZERO)
        };
        self.set_alarm(span);
        let timeout = span.and_then(|span| Timespec::try_from(span).ok());
        let mut events = Vec::with_capacity(EVENTS_A_TURN);
        // An interrupted wait has nothing to report; no other error is possible with descriptors that we own.
        let _count = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref());
        self.now = Instant::now();
        events.iter().map(|event| Token::from(event.data)).collect()
    }

    /// Has the kernel end a short wait in time.
    fn set_alarm(&self, span: Option<Duration>) {
        let short = span.filter(|span| !span.is_zero() && *span < EPOLL_UNIT);
        let Some(it_value) = short.and_then(|span| Timespec::try_from(span).ok()) else { return };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        // It cannot fail with a span like that; the wait would be as long as a millisecond.
        let _ = timerfd_settime(&self.alarm, TimerfdTimerFlags::empty(), &once);
    }

    /// Begins to watch a descriptor. A group's socket is not reported before [`arm`](Self::arm).
    pub(super) fn watch(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, token.into(), token.interest())?)
    }

    /// Has a group's socket reported once more.
    pub(super) fn arm(&self, fd: impl AsFd, token: Token) {
        // It fails only for a descriptor that is not watched, and this one is from its beginning.
        let _ = epoll::modify(&self.epoll, fd, token.into(), token.interest());
    }

    /// Stops watching a descriptor before it is closed here: a copy of it may be open in a worker, and the kernel would go
    /// on watching that.
    pub(super) fn unwatch(&self, fd: impl AsFd) {
        // It fails where the descriptor was never watched.
        let _ = epoll::delete(&self.epoll, fd);
    }

    pub(super) fn set_timer(&mut self, at: Instant, timer: Timer) {
        self.timers.insert((at, timer));
    }

    /// Sets a timer; returns when it is due.
    pub(super) fn set_timer_in(&mut self, span: Duration, timer: Timer) -> Instant {
        let at = self.now + span;
        self.set_timer(at, timer);
        at
    }

    /// Takes the next timer that is due.
    pub(super) fn next_due(&mut self) -> Option<Timer> {
        self.timers.first().filter(|(at, _)| *at <= self.now)?;
        self.timers.pop_first().map(|(_, timer)| timer)
    }

    /// Has a listener looked at before this turn ends.
    pub(super) fn mark(&mut self, listener: ListenerId) {
        self.listeners.insert(listener);
    }

    /// Takes the next listener that was marked.
    pub(super) fn next_marked(&mut self) -> Option<ListenerId> {
        self.listeners.pop_first()
    }

    /// Has a worker's channel read.
    pub(super) fn mark_unread(&mut self, worker: WorkerId) {
        self.unread.insert(worker);
    }

    /// Takes all workers whose channels are to be read.
    pub(super) fn take_unread(&mut self) -> BTreeSet<WorkerId> {
        std::mem::take(&mut self.unread)
    }
}

impl Token {
    fn interest(self) -> EventFlags {
        match self {
            Self::Waker | Self::Files => EventFlags::IN,
            // Edge-triggered: a listener may be left alone while no worker has room, without a system call, and nobody has to read
            // how often the alarm went off.
            Self::Alarm | Self::Listener(_) => EventFlags::IN | EventFlags::ET,
            Self::Member(..) => EventFlags::IN | EventFlags::ONESHOT,
            Self::Worker(_) => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
            Self::Peek(_) => EventFlags::IN | EventFlags::RDHUP | EventFlags::ET,
        }
    }
}

impl From<Token> for EventData {
    fn from(token: Token) -> Self {
        Self::new_u64(match token {
            Token::Waker => 0,
            Token::Alarm => 5,
            Token::Files => 6,
            Token::Listener(id) => id << TAG_BITS | 1,
            Token::Worker(id) => id.get() << TAG_BITS | 2,
            Token::Member(id, place) => (id << PLACE_BITS | place as u64) << TAG_BITS | 3,
            Token::Peek(number) => number << TAG_BITS | 4,
        })
    }
}

impl From<EventData> for Token {
    fn from(data: EventData) -> Self {
        let number = data.u64() >> TAG_BITS;
        match data.u64() & ((1 << TAG_BITS) - 1) {
            1 => Self::Listener(number),
            2 => Self::Worker(WorkerId::from_number(number)),
            3 => Self::Member(number >> PLACE_BITS, (number & ((1 << PLACE_BITS) - 1)) as usize),
            4 => Self::Peek(number),
            5 => Self::Alarm,
            6 => Self::Files,
            _ => Self::Waker,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::event::{EventfdFlags, eventfd};

    use super::super::fixtures::{id, reactor};
    use super::*;

    #[test]
    fn a_token_survives_the_kernel() {
        let last_place = (1 << PLACE_BITS) - 1;
        for token in [
            Token::Waker,
            Token::Alarm,
            Token::Files,
            Token::Listener(0),
            Token::Listener(7),
            Token::Member(0, 0),
            Token::Member(7, 3),
            Token::Member(1 << 40, last_place),
            Token::Worker(id(1)),
            Token::Worker(id(u64::MAX >> TAG_BITS)),
            Token::Peek(0),
            Token::Peek(12),
        ] {
            assert_eq!(Token::from(EventData::from(token)), token);
        }
    }

    #[test]
    fn timers_are_due_in_order_and_once() {
        let mut reactor = reactor();
        let start = reactor.now;
        reactor.set_timer(start + Duration::from_secs(2), Timer::Peeks);
        assert_eq!(
            reactor.set_timer_in(Duration::from_secs(1), Timer::Listener(1)),
            start + Duration::from_secs(1)
        );
        reactor.set_timer(start, Timer::Worker(id(1)));
        reactor.set_timer(start, Timer::Worker(id(1)));
        assert_eq!(reactor.next_due(), Some(Timer::Worker(id(1))));
        assert_eq!(reactor.next_due(), None);
        reactor.now += Duration::from_secs(2);
        assert_eq!(reactor.next_due(), Some(Timer::Listener(1)));
        assert_eq!(reactor.next_due(), Some(Timer::Peeks));
        assert_eq!(reactor.next_due(), None);
    }

    #[test]
    fn what_is_marked_twice_is_looked_at_once() {
        let mut reactor = reactor();
        for listener in [2, 1, 2] {
            reactor.mark(listener);
        }
        assert_eq!(std::iter::from_fn(|| reactor.next_marked()).collect::<Vec<_>>(), [1, 2]);
        reactor.mark_unread(id(1));
        reactor.mark_unread(id(1));
        assert_eq!(reactor.take_unread().len(), 1);
        assert!(reactor.take_unread().is_empty());
    }

    #[test]
    fn a_turn_begins_when_a_descriptor_is_ready() {
        let waker = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let mut reactor = Reactor::new(&waker).unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        reactor.watch(&one, Token::Peek(5)).unwrap();
        rustix::io::write(&waker, &1_u64.to_ne_bytes()).unwrap();
        rustix::io::write(&other, b"x").unwrap();
        let mut ready = reactor.wait();
        ready.sort_unstable_by_key(|token| *token == Token::Waker);
        assert_eq!(ready, [Token::Peek(5), Token::Waker]);
        // Only the waker is reported again: it still holds something, and is not edge-triggered.
        assert_eq!(reactor.wait(), [Token::Waker]);
        rustix::io::write(&other, b"x").unwrap();
        reactor.unwatch(&one);
        assert_eq!(reactor.wait(), [Token::Waker]);
    }

    #[test]
    fn a_groups_socket_is_reported_once_for_each_arming() {
        let mut reactor = reactor();
        let (one, other) = UnixStream::pair().unwrap();
        reactor.watch(&one, Token::Member(1, 2)).unwrap();
        rustix::io::write(&other, b"x").unwrap();
        assert_eq!(reactor.wait(), [Token::Member(1, 2)]);
        // Nothing is ready, so that a timer has to end the wait.
        reactor.set_timer(reactor.now, Timer::Peeks);
        assert_eq!(reactor.wait(), []);
        reactor.arm(&one, Token::Member(1, 2));
        assert_eq!(reactor.wait(), [Token::Member(1, 2)]);
    }

    #[test]
    fn a_wait_is_not_longer_than_what_is_unread_allows() {
        let mut reactor = reactor();
        reactor.mark_unread(id(1));
        assert_eq!(reactor.wait(), []);
    }
}
