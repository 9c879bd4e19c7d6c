//! What a real datagram socket hears from a herald.

use std::os::unix::net::UnixDatagram;

use recluster_core::Settings;
use rustix::net::SocketAddrUnix;
use tempfile::TempDir;

use super::*;
use crate::supervisor::fixtures;

/// The socket of a manager, which a test reads.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, directory }
    }

    fn described(&self) -> ServiceManager {
        ServiceManager {
            socket: SocketAddrUnix::new(self.directory.path().join("notify")).unwrap(),
            watchdog: None,
            knows_another: false,
            hears_of_stop: true,
            store: None,
        }
    }

    fn herald(&self, now: Instant) -> Herald {
        Herald::new(Some(self.described()), now).unwrap()
    }

    /// The datagrams since the last time, each with its lines joined; the clock is left out.
    fn heard(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let next = || self.socket.recv(&mut bytes).ok().map(|length| bytes[..length].to_vec());
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            let lines = text.lines().map(|line| {
                let clock = line.strip_prefix("MONOTONIC_USEC=");
                clock.map_or(line, |digits| digits.parse::<u64>().map_or(line, |_| "MONOTONIC_USEC="))
            });
            lines.collect::<Vec<_>>().join(" ")
        };
        std::iter::from_fn(next).map(text).collect()
    }
}

fn seen(status: &str) -> Seen {
    Seen { has_started: false, reloads: false, stops: false, status: status.to_owned() }
}

fn serving(status: &str) -> Seen {
    Seen { has_started: true, ..seen(status) }
}

#[test]
fn a_life_is_told_in_order_and_each_thing_once() {
    let (manager, now) = (Manager::new(), Instant::now());
    let mut herald = manager.herald(now);
    herald.look(seen("starting"), now);
    herald.look(seen("starting"), now);
    assert_eq!(manager.heard(), ["STATUS=starting"]);
    herald.look(serving("running"), now);
    herald.look(serving("running"), now);
    assert_eq!(manager.heard(), ["READY=1 STATUS=running"]);
    herald.reload_was_asked_for(now);
    herald.look(Seen { reloads: true, ..serving("reloads") }, now);
    assert_eq!(manager.heard(), ["RELOADING=1 MONOTONIC_USEC=", "STATUS=reloads"]);
    herald.look(serving("rolled back"), now);
    assert_eq!(manager.heard(), ["READY=1 STATUS=rolled back"]);
    herald.look(Seen { stops: true, ..serving("stopping") }, now);
    herald.reload_was_asked_for(now);
    herald.look(Seen { stops: true, ..serving("over") }, now);
    assert_eq!(manager.heard(), ["STOPPING=1 STATUS=stopping", "STATUS=over"]);
}

/// A manager waits for a beginning that lies behind its question, and for its end.
#[test]
fn every_question_for_a_reload_begins_one_and_the_last_one_ends_them_all() {
    let (manager, now) = (Manager::new(), Instant::now());
    let mut herald = manager.herald(now);
    herald.reload_was_asked_for(now);
    assert!(manager.heard().is_empty(), "what has not started does not reload");
    herald.look(serving(""), now);
    herald.reload_was_asked_for(now);
    herald.look(Seen { reloads: true, ..serving("") }, now);
    herald.reload_was_asked_for(now);
    herald.look(Seen { reloads: true, ..serving("") }, now);
    herald.look(serving(""), now);
    let reloading = "RELOADING=1 MONOTONIC_USEC=";
    assert_eq!(manager.heard(), ["READY=1", reloading, reloading, "READY=1"]);
    herald.reload_was_asked_for(now);
    herald.look(serving("refused"), now);
    assert_eq!(manager.heard(), [reloading, "READY=1 STATUS=refused"], "one that never begins");
}

#[test]
fn the_clock_of_a_reload_is_the_machine_s() {
    let (manager, now) = (Manager::new(), Instant::now());
    let mut herald = manager.herald(now);
    herald.look(serving(""), now);
    let before = monotonic_clock().as_micros();
    herald.reload_was_asked_for(now);
    let after = monotonic_clock().as_micros();
    let mut bytes = [0; 256];
    manager.socket.recv(&mut bytes).unwrap();
    let length = manager.socket.recv(&mut bytes).unwrap();
    let said = std::str::from_utf8(&bytes[..length]).unwrap();
    let usec = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end().parse().unwrap();
    assert!((before..=after).contains(&usec), "{before} {usec} {after}");
}

#[test]
fn a_watchdog_hears_of_us_twice_in_its_patience_and_when_its_patience_begins() {
    let (manager, now) = (Manager::new(), Instant::now());
    let at = |seconds| now + Duration::from_secs(seconds);
    let watchdog = Some(Duration::from_secs(8));
    let mut herald = Herald::new(Some(ServiceManager { watchdog, ..manager.described() }), now).unwrap();
    herald.pass(now);
    manager.heard();
    herald.look(serving(""), at(1));
    assert_eq!(manager.heard(), ["READY=1 WATCHDOG=1"]);
    assert_eq!(herald.due(), Some(at(4)));
    herald.pass(at(3));
    assert!(manager.heard().is_empty());
    herald.pass(at(4));
    herald.pass(at(4));
    herald.pass(at(60));
    assert_eq!(
        manager.heard(),
        ["WATCHDOG=1", "WATCHDOG=1"],
        "one for a time in which this process did not run"
    );
    assert_eq!(herald.due(), Some(at(64)));
    let hasty = Some(Duration::from_micros(1));
    let herald = Herald::new(Some(ServiceManager { watchdog: hasty, ..manager.described() }), now).unwrap();
    assert_eq!(herald.0.unwrap().beat.unwrap().every, LEAST_BEAT);
}

#[test]
fn more_time_is_asked_for_while_something_goes_on() {
    let (manager, now) = (Manager::new(), Instant::now());
    let at = |seconds| now + Duration::from_secs(seconds);
    let more = "EXTEND_TIMEOUT_USEC=30000000";
    let mut herald = manager.herald(now);
    let pass = |herald: &mut Herald, seconds| {
        herald.pass(at(seconds));
        manager.heard().contains(&more.to_owned())
    };
    assert!(pass(&mut herald, 0) && !pass(&mut herald, 9) && pass(&mut herald, 10), "a start");
    herald.look(serving(""), at(11));
    assert!(herald.due().is_none() && !pass(&mut herald, 99), "nothing goes on");
    herald.reload_was_asked_for(at(100));
    assert!(pass(&mut herald, 100) && !pass(&mut herald, 109) && pass(&mut herald, 110), "a reload");
    herald.look(serving(""), at(111));
    assert!(!pass(&mut herald, 199));
    herald.look(Seen { stops: true, ..serving("") }, at(200));
    assert!(pass(&mut herald, 200) && pass(&mut herald, 211) && !pass(&mut herald, 212), "a stop");
}

#[test]
fn a_manager_that_does_not_read_hears_later_what_has_room_to_wait() {
    let (manager, now) = (Manager::new(), Instant::now());
    let mut herald = manager.herald(now);
    let mut told = 0;
    while herald.0.as_ref().is_some_and(|speaker| speaker.waiting.is_empty()) {
        herald.look(seen(&told.to_string()), now);
        told += 1;
    }
    let again = now + TRIED_AGAIN;
    herald.look(serving("the last"), now);
    assert!(herald.due().is_some_and(|due| due <= again));
    herald.pass(again);
    assert_eq!(manager.heard().len(), told - 1, "what the kernel had room for");
    herald.pass(again + TRIED_AGAIN);
    let heard = manager.heard();
    assert_eq!(heard[0], format!("STATUS={}", told - 1));
    assert_eq!(heard[1], "READY=1 STATUS=the last");
    let waiting = |herald: &Herald| herald.0.as_ref().map(|speaker| speaker.waiting.len());
    for number in 0..10_000 {
        herald.look(serving(&number.to_string()), now);
    }
    assert_eq!(waiting(&herald), Some(1), "the last status alone");
    for _ in 0..10_000 {
        herald.reload_was_asked_for(now);
        herald.look(serving(""), now);
    }
    assert_eq!(waiting(&herald), Some(WAITING));
}

#[test]
fn nobody_is_told_where_there_is_no_manager_or_where_it_is_gone() {
    let now = Instant::now();
    let mut herald = Herald::new(None, now).unwrap();
    herald.reload_was_asked_for(now);
    herald.look(serving(""), now);
    herald.pass(now);
    assert!(herald.is_silent() && herald.due().is_none());
    let manager = Manager::new();
    let mut herald = manager.herald(now);
    drop(manager);
    herald.look(serving("gone"), now);
    herald.pass(now);
    assert!(herald.0.is_some_and(|speaker| speaker.waiting.is_empty()));
}

#[test]
fn what_serves_names_itself_where_the_manager_knows_another_and_keeps_quiet_of_a_stop_that_it_outlives() {
    let (manager, now) = (Manager::new(), Instant::now());
    let described = ServiceManager { knows_another: true, ..manager.described() }.outlives_cluster();
    let mut herald = Herald::new(Some(described), now).unwrap();
    herald.look(serving(""), now);
    assert_eq!(manager.heard(), [format!("READY=1 MAINPID={}", std::process::id())]);
    herald.look(Seen { stops: true, ..serving("stopping") }, now);
    assert_eq!(manager.heard(), ["STATUS=stopping"]);
}

#[test]
fn the_status_is_one_line() {
    let now = Instant::now();
    let policy = fixtures::policy(Settings { workers: 3, ..Settings::default() }, now);
    let status = policy.status();
    assert_eq!(in_words("starting", &status, None), "starting: 0 of 3 workers serve, generation 1");
    let last = |verdict| LastReload { generation: Some(2), seconds_ago: 1.0, verdict };
    let line = |verdict| in_words("running", &status, Some(&last(verdict)));
    let all = "running: 0 of 3 workers serve, generation 1; last reload:";
    assert_eq!(line(Verdict::Done), format!("{all} generation 2 came to serve"));
    let reason = "no such option".to_owned();
    assert_eq!(line(Verdict::Refused { reason }), format!("{all} refused: no such option"));
}

/// A socket at an address of its own.
fn socket() -> OwnedFd {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().into()
}

fn name(number: u32) -> KeptName {
    KeptName { number, place: 0, file: None }
}

#[test]
fn sockets_are_kept_and_forgotten_by_their_names() {
    let (manager, now) = (Manager::new(), Instant::now());
    let described = ServiceManager { store: Some(3), ..manager.described() };
    let mut herald = Herald::new(Some(described), now).unwrap();
    herald.has_kept([name(7)]);
    assert_eq!(herald.keep(name(7), socket(), now), None);
    assert_eq!(herald.keep(name(8), socket(), now), None);
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(herald.keep(name(9), datagrams.into(), now), None);
    assert_eq!(
        manager.heard(),
        ["FDSTORE=1 FDNAME=recluster.8.0", "FDSTORE=1 FDNAME=recluster.9.0 FDPOLL=0"],
        "it has the first one already"
    );
    assert!(herald.keep(name(10), socket(), now).unwrap().contains("FileDescriptorStoreMax="));
    assert_eq!(herald.keep(name(11), socket(), now), None, "it is told once");
    herald.forget(name(8), now);
    herald.forget(name(11), now);
    assert_eq!(manager.heard(), ["FDSTOREREMOVE=1 FDNAME=recluster.8.0"]);
    herald.look(Seen { stops: true, ..serving("a panic") }, now);
    assert!(!manager.heard().iter().any(|said| said.contains("FDSTOREREMOVE")), "the next master wants them");
}

#[test]
fn what_there_was_no_room_for_is_offered_again_when_there_is() {
    let (manager, now) = (Manager::new(), Instant::now());
    let described = ServiceManager { store: Some(2), ..manager.described() };
    let mut herald = Herald::new(Some(described), now).unwrap();
    let later = now + OFFERED_AGAIN;
    herald.keep(name(1), socket(), now);
    herald.forget(name(1), now);
    herald.pass(later);
    assert!(!herald.has_room_again(), "none was refused");
    let place = |place| KeptName { place, ..name(2) };
    herald.keep(name(1), socket(), now);
    for number in 0..3 {
        herald.keep(place(number), socket(), now);
    }
    herald.forget(name(1), now);
    assert!(!herald.has_room_again() && herald.due() <= Some(later));
    manager.heard();
    // The third may be reported again before the second is.
    herald.keep(place(2), socket(), now);
    assert!(manager.heard().is_empty(), "the group would have a gap");
    herald.pass(later);
    assert!(herald.has_room_again() && !herald.has_room_again());
    for number in 0..3 {
        herald.keep(place(number), socket(), later);
    }
    let kept = manager.heard().into_iter().filter(|said| said.contains("FDSTORE")).collect::<Vec<_>>();
    assert_eq!(kept, ["FDSTORE=1 FDNAME=recluster.2.1"]);
}

#[test]
fn an_end_that_was_asked_for_leaves_no_socket_open() {
    let (manager, now) = (Manager::new(), Instant::now());
    let described = ServiceManager { store: Some(3), ..manager.described() };
    let mut herald = Herald::new(Some(described), now).unwrap();
    herald.has_kept([name(7)]);
    herald.keep(name(8), socket(), now);
    manager.heard();
    herald.forget_all(now);
    let removed: Vec<_> = manager.heard().into_iter().filter(|said| said.contains("FDSTOREREMOVE")).collect();
    assert_eq!(removed, ["FDSTOREREMOVE=1 FDNAME=recluster.7.0", "FDSTOREREMOVE=1 FDNAME=recluster.8.0"]);
    assert_eq!(herald.keep(name(9), socket(), now), None);
    assert!(manager.heard().is_empty(), "nothing is kept any more");
}

#[test]
fn without_room_for_sockets_none_is_sent() {
    let (manager, now) = (Manager::new(), Instant::now());
    let mut herald = manager.herald(now);
    assert_eq!(herald.keep(name(1), socket(), now), None);
    herald.forget(name(1), now);
    assert!(manager.heard().is_empty());
}

#[test]
fn what_a_manager_does_not_read_is_bounded() {
    let (manager, now) = (Manager::new(), Instant::now());
    let described = ServiceManager { store: Some(usize::MAX), ..manager.described() };
    let mut herald = Herald::new(Some(described), now).unwrap();
    while herald.due() != Some(now + TRIED_AGAIN) {
        herald.look(Seen { has_started: true, ..seen(&format!("{:?}", Instant::now())) }, now);
    }
    for number in 0..2000 {
        herald.keep(name(number), socket(), now);
        herald.forget(name(number), now);
    }
    let waiting = &herald.0.as_ref().unwrap().waiting;
    assert!(waiting.len() <= WAITING, "{}", waiting.len());
}
