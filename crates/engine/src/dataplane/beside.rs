//! Two sockets of ours whose addresses overlap: a reload brings code that listens on 0.0.0.0 where the code before had
//! 127.0.0.1, or the other way round.
//!
//! Linux lets both be bound if both have `SO_REUSEPORT`, and whoever owns the first may set that later. While both are open, a
//! client reaches the narrower one. So the new socket, where the master accepts, does not listen before a worker that serves
//! uses it; and the old one refuses new connections when no worker uses it any more, gives the new one what waits in it, and is
//! closed. Until then nothing of the old one has changed but that option, and a rollback has nothing to mend.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use recluster_wire::node::{QueryServer, SocketKind};
use socket2::SockRef;

use super::listener::{Closing, Listener, Listeners, parse_address};
use super::messages::Standing;
use super::peeks::Peeks;
use super::reactor::{ListenerId, Reactor, Timer};
use super::reports::Reports;
use super::worker::{Worker, Workers};
use crate::config::address::{BindAddress, Kind};
use crate::report::worker::Address;

/// How long an old socket refuses connections before what waits in it is taken: for handshakes that are under way.
pub(super) const REFUSE_SPAN: Duration = Duration::from_millis(10);
/// The same where whoever connects now reaches the new socket at once, so that nobody waits for longer because of it.
const EASY_REFUSE_SPAN: Duration = Duration::from_millis(200);
/// What people are told, once, when the new socket cannot be used after all.
const NO_ROOM: &str =
    "an address that overlaps one of the code before cannot be listened on: something else has taken it";

/// Lets a socket be bound for this query beside those of ours that are in its way; whether there are such, and all of them are
/// of earlier generations alone. To others the address is in use, as without a cluster.
pub(super) fn make_room(query: &QueryServer, worker: &Worker, listeners: &Listeners) -> bool {
    let Some(asked) = place_of(query) else { return false };
    let rivals: Vec<&Listener> = rivals(&asked, listeners).collect();
    let is_earlier = |rival: &&Listener| {
        let mut users = rival.targets.iter();
        users.all(|target| target.generation < worker.generation)
            && own_place(rival).is_some_and(|own| own != asked)
    };
    if rivals.is_empty() || !rivals.iter().all(is_earlier) {
        return false;
    }
    let sockets = rivals.iter().flat_map(|rival| {
        let members = rival.group.iter().flat_map(|group| &group.members).map(|member| &member.socket);
        members.chain(&rival.socket)
    });
    sockets.map(Rc::as_ref).all(|socket| SockRef::from(socket).set_reuse_port(true).is_ok())
}

/// What of ours is in the way of a socket at this place.
pub(super) fn in_the_way<'a>(place: &BindAddress, listeners: &'a Listeners) -> Option<&'a Address> {
    rivals(place, listeners).next().map(|rival| &rival.address)
}

/// Begins to listen on a socket that was bound beside another one, when a worker that serves uses it.
pub(super) fn begin(listener: &mut Listener, workers: &Workers, reactor: &Reactor, reports: &mut Reports) {
    let Some(backlog) = listener.deferred else { return };
    let Some(socket) = listener.socket.clone().filter(|_| serves(listener, workers)) else { return };
    listener.deferred = None;
    if SockRef::from(&*socket).listen(backlog).is_err() || listener.watch(reactor).is_err() {
        reports.caveat(NO_ROOM);
    }
}

/// The listener that a client of this one, which no worker uses any more, reaches from now on.
pub(super) fn heir(old: &Listener, listeners: &Listeners, workers: &Workers) -> Option<ListenerId> {
    let place = own_place(old)?;
    let mut heirs = rivals(&place, listeners).filter(|heir| heir.id != old.id && serves(heir, workers));
    heirs.next().map(|heir| heir.id)
}

/// Takes the next step of a socket whose clients reach another one from now on; whether it has nothing left and can be closed.
pub(super) fn give_way(
    old: ListenerId,
    heir: ListenerId,
    listeners: &mut Listeners,
    workers: &Workers,
    peeks: &mut Peeks,
    reactor: &mut Reactor,
) -> bool {
    let heir_place = listeners.get(&heir).and_then(own_place);
    let Some(listener) = listeners.get_mut(&old) else { return false };
    if !listener.is_stream() || listener.deferred.is_some() {
        return true;
    }
    if listener.socket.is_some() {
        if listener.closing.is_none() {
            listener.identity = None;
            listener.refuse_connections();
            let narrows = own_place(listener).zip(heir_place).is_some_and(|(own, heir)| own.includes(&heir));
            let span = if narrows { EASY_REFUSE_SPAN } else { REFUSE_SPAN };
            let at = reactor.set_timer_in(span, Timer::Listener(old));
            listener.closing = Some(Closing::Close(at));
        }
        return false;
    }
    let pending = std::mem::take(&mut listener.pending).into_values().flatten();
    let left: Vec<_> = std::mem::take(&mut listener.waiting).into_iter().chain(pending).collect();
    if let Some(heir) = listeners.get_mut(&heir) {
        heir.waiting.extend(left);
        peeks.pass_on(old, heir.id);
        reactor.mark(heir.id);
    }
    // What is on its way to an old worker may come back.
    let mut sent = workers.values().flat_map(|worker| worker.in_flight.values());
    let is_empty = !sent.any(|sent| sent.listener == old);
    if !is_empty {
        reactor.set_timer_in(REFUSE_SPAN, Timer::Listener(old));
    }
    is_empty
}

pub(super) fn serves(listener: &Listener, workers: &Workers) -> bool {
    let mut standings = listener.targets.iter().filter_map(|target| workers.get(&target.worker)?.standing);
    standings.any(|standing| standing == Standing::Serving)
}

/// Our sockets that cannot be bound at the same time as one at this place.
fn rivals<'a>(place: &BindAddress, listeners: &'a Listeners) -> impl Iterator<Item = &'a Listener> {
    listeners.values().filter(move |listener| {
        listener.socket.is_some() && own_place(listener).is_some_and(|own| own.overlaps(place))
    })
}

/// Where a listener of ours is, as `--listen` would say it; none for a file, or a socket that the master was started with.
pub(super) fn own_place(listener: &Listener) -> Option<BindAddress> {
    let (address, kind) = match &listener.address {
        Address::Tcp(address) => (*address, Kind::Tcp),
        Address::Udp(address) => (*address, Kind::Udp),
        Address::Unix(_) | Address::Fd(_) => return None,
    };
    // One whose socket is closed was beside another one, and keeps to that.
    let only_v6 = || {
        let socket = listener.socket.as_ref();
        socket.is_some_and(|socket| SockRef::from(&**socket).only_v6().unwrap_or(true))
    };
    Some(BindAddress::of(address, kind, || !only_v6()))
}

/// Where a worker wants to listen.
pub(super) fn place_of(query: &QueryServer) -> Option<BindAddress> {
    let kind = query.kind.filter(|kind| *kind != SocketKind::Unix && query.fd.is_none())?;
    let port = query.port?;
    let ip: IpAddr = match (&query.address, kind) {
        (Some(text), _) => parse_address(text, port).ok()?.ip(),
        (None, SocketKind::Udp4) => Ipv4Addr::UNSPECIFIED.into(),
        (None, _) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let sort = if kind.is_udp() { Kind::Udp } else { Kind::Tcp };
    Some(BindAddress::of((ip, port).into(), sort, || !query.ipv6_only()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use recluster_wire::node::FromWorker;

    use super::super::fixtures::{FarEnd, Harness, query};
    use super::*;
    use crate::config::balance::{Balance, StickyBy};

    /// An old worker that listens on all addresses, and one of the next generation that listens on one of them.
    fn narrowed(balance: Balance) -> (Harness, [FarEnd; 2], [ListenerId; 2]) {
        let mut harness = Harness::new(balance);
        let mut ends = [harness.serving(1, 0), harness.admitted(2, 0)];
        let everywhere = QueryServer { address: None, kind: Some(SocketKind::Tcp6), ..query(1) };
        let old = harness.ask(1, &mut ends[0], everywhere);
        let port = Some(harness.address(old).port());
        harness.worker(2).generation = 2;
        let new = harness.ask(2, &mut ends[1], QueryServer { port, ..query(1) });
        assert_ne!(old, new);
        (harness, ends, [old, new])
    }

    /// The new worker serves, and the old one has closed its server.
    fn replace(harness: &mut Harness) {
        harness.set_standing(2, Some(Standing::Serving));
        harness.set_standing(1, None);
        let key = harness.worker(1).servers.keys().next().cloned().unwrap();
        harness.hear(1, FromWorker::Close { key });
        harness.settle();
    }

    #[test]
    fn what_waits_at_all_addresses_reaches_who_listens_on_one() {
        let (mut harness, mut ends, [old, new]) = narrowed(Balance::RoundRobin);
        let port = harness.address(old).port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        replace(&mut harness);
        harness.pass(EASY_REFUSE_SPAN);
        harness.turn();
        assert_eq!(ends[1].connections().len(), 1);
        assert!(harness.state.listeners.keys().eq([&new]), "the old one is closed");
    }

    #[test]
    fn what_has_not_sent_enough_yet_waits_at_the_new_one() {
        let (mut harness, mut ends, [old, _]) = narrowed(Balance::Sticky(StickyBy::Cookie("sid".to_owned())));
        let port = harness.address(old).port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        super::super::event_loop::note_acceptable(&mut harness.state, old);
        harness.turn();
        replace(&mut harness);
        harness.pass(EASY_REFUSE_SPAN);
        harness.turn();
        assert!(!harness.state.listeners.contains_key(&old));
        harness.pass(Duration::from_secs(2));
        assert_eq!(ends[1].connections().len(), 1, "it is known by its address when its time is over");
    }

    #[test]
    fn a_socket_that_a_serving_worker_asks_for_listens_at_once() {
        let (mut harness, mut ends, [old, new]) = narrowed(Balance::RoundRobin);
        harness.set_standing(2, Some(Standing::Serving));
        let address = harness.address(new);
        assert!(harness.listener(new).deferred.is_none());
        let other =
            QueryServer { address: Some("127.0.0.2".to_owned()), port: Some(address.port()), ..query(2) };
        let late = harness.ask(2, &mut ends[1], other);
        assert!(harness.listener(late).deferred.is_some());
        harness.turn();
        assert!(harness.listener(late).deferred.is_none());
        assert!(harness.state.listeners.contains_key(&old));
    }
}
