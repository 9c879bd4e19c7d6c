//! Sockets of `--listen` that the workers' program does not take: connections wait there, and nobody ever accepts one.
//!
//! Who runs a script that starts the server without `exec`, or a server that binds a port itself, has a cluster that serves, and
//! clients that hang. A server that is merely slow, hangs, is stopped or has not begun to accept is not meant: what is told has to be
//! sure. So nothing is said where a connection was ever accepted, where a process of a worker waits for connections there, or
//! does anything but sleep; and only if it listens somewhere else by itself, or has the socket open no more. Where a process has it open,
//! that may be a late server with a port for its own purposes: it has more time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use recluster_core::Generation;
use serde::{Deserialize, Serialize};

use crate::process::family::Families;
use crate::report::worker::Worker;
use crate::socket::attention::{self, Attention};
use crate::socket::bind::Bound;
use crate::socket::holder::{Holder, listening, runs_node};
use crate::upgrade::plain;

/// How soon it is looked again while connections wait, and for the first time.
const LOOK: Duration = Duration::from_secs(4);
/// How often where none wait, in the end: until then the time doubles.
const QUIET: Duration = Duration::from_secs(60);
/// For how long they have to wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long where a process of a worker has the socket open: it may come to accept.
const PATIENCE_WITH_OPEN: Duration = Duration::from_secs(60);
/// How many places are named where the program listens instead.
const MOST_PLACES: usize = 3;

/// What is known of the sockets, in their order, since a generation serves.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ignored {
    generation: Option<Generation>,
    sockets: Vec<State>,
    /// How long after the last look no connection was seen to wait.
    quiet: Duration,
}

/// One socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// No connection was seen to wait.
    Quiet,
    /// Connections wait since then.
    Waiting(#[serde(with = "plain")] Instant),
    /// Connections are taken, or people were told that they are not: it is looked at no more.
    Settled,
}

impl Ignored {
    /// A worker of this generation serves, and these sockets were handed over. Says whether it is to be looked from now on.
    pub(crate) fn serves(&mut self, generation: Generation, sockets: usize) -> bool {
        let is_new = self.generation < Some(generation);
        if is_new {
            self.generation = Some(generation);
            self.sockets = vec![State::Quiet; sockets];
            self.quiet = LOOK;
        }
        is_new && sockets > 0
    }

    /// Notes at which sockets connections wait now. Returns those at which some have waited for long, with
    /// for how long.
    pub(crate) fn look(
        &mut self,
        waiting: impl Iterator<Item = bool>,
        now: Instant,
    ) -> Vec<(usize, Duration)> {
        let mut long = Vec::new();
        for (at, (state, waits)) in self.sockets.iter_mut().zip(waiting).enumerate() {
            *state = match (*state, waits) {
                (State::Settled, _) | (State::Waiting(_), false) => State::Settled,
                (State::Quiet, false) => State::Quiet,
                (State::Quiet, true) => State::Waiting(now),
                (State::Waiting(since), true) => {
                    let waited = now.saturating_duration_since(since);
                    if waited >= PATIENCE {
                        long.push((at, waited));
                    }
                    State::Waiting(since)
                }
            };
        }
        long
    }

    /// When to look next, if there is anything to look for.
    pub(crate) fn look_due(&mut self, now: Instant) -> Option<Instant> {
        let waits = |state: &State| matches!(state, State::Waiting(_));
        if self.sockets.iter().all(|state| *state == State::Settled) {
            return None;
        }
        if self.sockets.iter().any(waits) {
            return Some(now + LOOK);
        }
        let pause = self.quiet;
        self.quiet = (2 * self.quiet).min(QUIET);
        Some(now + pause)
    }

    /// Nothing is to be told of this socket any more.
    pub(crate) fn settle(&mut self, at: usize) {
        if let Some(state) = self.sockets.get_mut(at) {
            *state = State::Settled;
        }
    }

    /// Nothing is to be told of any socket before the next generation.
    pub(crate) fn settle_all(&mut self) {
        self.sockets.fill(State::Settled);
    }
}

/// What has become of a socket at which connections have waited for long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Somebody takes connections there.
    Taken,
    /// Nobody does, for this reason, with what to do.
    Ignored(String),
    /// That cannot be said.
    Unknown,
}

/// Looks at the processes of these workers, each of which may have been given one of these sockets for its checks, where connections
/// have waited for so long. The caller waits for it.
pub(crate) fn find(bound: &Bound, waited: Duration, workers: &[Worker], given: &[SocketAddr]) -> Finding {
    match attention::has_accepted(&bound.address) {
        Some(true) => return Finding::Taken,
        Some(false) => {}
        None => return Finding::Unknown,
    }
    let Ok(inode) = rustix::fs::fstat(&bound.socket).map(|stat| stat.st_ino) else { return Finding::Unknown };
    let firsts: BTreeSet<i32> =
        workers.iter().filter_map(|worker| worker.pid).map(u32::cast_signed).collect();
    let families = Families::now();
    let pids: Vec<u32> = families.of(&firsts).into_iter().map(|(pid, _)| pid.unsigned_abs()).collect();
    let attention = attention::of(inode, &pids);
    let is_early = attention == Attention::Open && waited < PATIENCE_WITH_OPEN;
    if pids.is_empty() || attention == Attention::Possible || is_early {
        return Finding::Unknown;
    }
    if let Some((holder, places)) = listening(&pids, given) {
        let shown: Vec<String> = places.iter().take(MOST_PLACES).map(ToString::to_string).collect();
        let first = families.first_of(holder.pid.cast_signed(), &firsts).map(i32::unsigned_abs);
        let worker = workers.iter().find(|worker| worker.pid.is_some() && worker.pid == first);
        return worker.map_or(Finding::Unknown, |worker| {
            Finding::Ignored(elsewhere(*worker, &holder, &shown.join(" and ")))
        });
    }
    if attention == Attention::Closed && !attention::is_open_elsewhere(inode) {
        return Finding::Ignored(format!("no process of a worker has the socket open any more: {TAKE_IT}"));
    }
    Finding::Unknown
}

/// What a program has to do.
const TAKE_IT: &str =
    "the program has to accept on the socket that it is given as descriptor 3 (docs/languages.md)";

/// The program listens there.
fn elsewhere(worker: Worker, holder: &Holder, places: &str) -> String {
    if worker.pid == Some(holder.pid) {
        return format!(
            "worker {} {} listens on {places} by itself; {TAKE_IT}, or is run without --listen",
            worker.id,
            holder.in_brackets()
        );
    }
    let what = format!(
        "what worker {} has started {} listens on {places} by itself",
        worker.id,
        holder.in_brackets()
    );
    if runs_node(holder.pid) {
        return format!("{what}; run the file that node runs itself under recluster");
    }
    format!(
        "{what}; {TAKE_IT}, and a script that starts it ends in `exec` with its command, so that LISTEN_PID is its own"
    )
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::supervisor::fixtures;

    #[test]
    fn what_waits_for_long_is_looked_at_until_something_is_taken() {
        let (mut ignored, begin) = (Ignored::default(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        assert!(!ignored.serves(Generation::FIRST, 0));
        assert_eq!(ignored.look([true; 3].into_iter(), begin), [], "nothing was handed over");
        ignored = Ignored::default();
        assert!(ignored.serves(Generation::FIRST, 3) && !ignored.serves(Generation::FIRST, 3));
        let mut look = |seconds: u64, waiting: [bool; 3]| {
            let long = ignored.look(waiting.into_iter(), at(seconds));
            long.into_iter().map(|(at, waited)| (at, waited.as_secs())).collect::<Vec<_>>()
        };
        assert_eq!(look(0, [true, false, true]), []);
        assert_eq!(look(4, [true, true, true]), []);
        assert_eq!(look(10, [true, true, false]), [(0, 10)]);
        assert_eq!(look(14, [true, true, true]), [(0, 14), (1, 10)], "the third one is taken from");
        ignored.settle(0);
        assert_eq!(ignored.look_due(at(14)), Some(at(18)));
        ignored.settle_all();
        assert_eq!(ignored.look_due(at(14)), None);
        assert!(ignored.serves(fixtures::second_generation(), 3), "a reload may bring another fault");
        assert!(!ignored.serves(Generation::FIRST, 3), "the old one serves on, and is no news");
    }

    #[test]
    fn where_no_connection_waits_it_is_looked_less_and_less_often() {
        let (mut ignored, begin) = (Ignored::default(), Instant::now());
        ignored.serves(Generation::FIRST, 1);
        let pauses: Vec<u64> = std::iter::from_fn(|| ignored.look_due(begin))
            .map(|at| at.duration_since(begin).as_secs())
            .take(6)
            .collect();
        assert_eq!(pauses, [4, 8, 16, 32, 60, 60]);
        ignored.look([true].into_iter(), begin);
        assert_eq!(ignored.look_due(begin), Some(begin + LOOK));
    }

    struct Program(Child);

    impl Program {
        /// It sleeps, and has these as its stdin and stdout.
        fn with(stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> Self {
            let mut command = Command::new("/bin/sleep");
            Self(command.arg("1000000").stdin(stdin).stdout(stdout).process_group(0).spawn().unwrap())
        }

        fn worker(&self) -> Worker {
            Worker { id: 7, slot: 0, generation: 1, pid: Some(self.0.id()) }
        }

        /// What is found when it sleeps.
        fn finds(&self, bound: &Bound, awaited: impl Fn(&Finding) -> bool) -> Finding {
            loop {
                let finding = find(bound, PATIENCE_WITH_OPEN, &[self.worker()], &[]);
                if awaited(&finding) {
                    return finding;
                }
                std::thread::yield_now();
            }
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    /// A socket with a connection that waits.
    fn awaited() -> (Bound, OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let bound = Bound::adopt(listener.try_clone().unwrap().into(), None).unwrap();
        (bound, listener.into(), client)
    }

    fn is_ignored(finding: &Finding) -> bool {
        matches!(finding, Finding::Ignored(_))
    }

    #[test]
    fn a_program_that_binds_its_own_port_is_told_what_to_do() {
        let (bound, inherited, _client) = awaited();
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = own.local_addr().unwrap().port();
        let program = Program::with(inherited, OwnedFd::from(own));
        let Finding::Ignored(said) = program.finds(&bound, is_ignored) else { panic!("it is ignored") };
        let pid = program.0.id();
        assert!(
            said.starts_with(&format!(
                "worker 7 (process {pid}: /bin/sleep 1000000) listens on port {port} by itself; "
            )),
            "{said}"
        );
        assert!(said.ends_with("or is run without --listen"), "{said}");
        let early = PATIENCE_WITH_OPEN.saturating_sub(Duration::from_secs(1));
        assert_eq!(find(&bound, early, &[program.worker()], &[]), Finding::Unknown, "it may be late");
    }

    #[test]
    fn one_that_binds_its_own_port_and_has_closed_the_socket_is_told_sooner() {
        let (bound, inherited, _client) = awaited();
        drop(inherited);
        let program = Program::with(Stdio::null(), OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap()));
        let is_told =
            |finding: &Finding| matches!(finding, Finding::Ignored(said) if said.contains("listens on port"));
        program.finds(&bound, is_told);
        assert!(is_told(&find(&bound, PATIENCE, &[program.worker()], &[])));
    }

    #[test]
    fn a_program_that_has_closed_the_socket_is_told_what_to_do() {
        let (bound, inherited, _client) = awaited();
        drop(inherited);
        let program = Program::with(Stdio::null(), Stdio::null());
        let Finding::Ignored(said) = program.finds(&bound, is_ignored) else { panic!("it is ignored") };
        assert!(said.contains("has the socket open any more"), "{said}");
    }

    /// It waits for its database, or hangs.
    #[test]
    fn a_program_that_has_the_socket_and_nothing_else_may_come_to_accept() {
        let (bound, inherited, _client) = awaited();
        let program = Program::with(inherited, Stdio::null());
        for _ in 0..20 {
            assert_eq!(find(&bound, PATIENCE_WITH_OPEN, &[program.worker()], &[]), Finding::Unknown);
        }
        assert_eq!(find(&bound, PATIENCE_WITH_OPEN, &[], &[]), Finding::Unknown);
    }

    /// It has what it was given for its checks open, and nothing of its own.
    #[test]
    fn what_a_worker_was_given_for_its_checks_is_not_its_own() {
        let (bound, inherited, _client) = awaited();
        let given = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = given.local_addr().unwrap();
        let program = Program::with(inherited, OwnedFd::from(given));
        program.finds(&bound, is_ignored);
        assert_eq!(find(&bound, PATIENCE_WITH_OPEN, &[program.worker()], &[address]), Finding::Unknown);
    }

    /// It answers its only client, and has others wait.
    #[test]
    fn whoever_has_accepted_one_takes_the_others_in_time() {
        let (bound, inherited, _client) = awaited();
        let listener = TcpListener::from(inherited);
        let _accepted = listener.accept().unwrap();
        let _waits = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let program = Program::with(OwnedFd::from(listener), OwnedFd::from(own));
        assert_eq!(find(&bound, PATIENCE, &[program.worker()], &[]), Finding::Taken);
    }

    /// A wrapper is told that it has to become the server.
    #[test]
    fn a_script_without_exec_is_told_to_have_it() {
        let holder = |pid| Holder::by_name(pid);
        let worker = Worker { id: 7, slot: 0, generation: 1, pid: Some(1) };
        let said = elsewhere(worker, &holder(std::process::id()), "port 80");
        assert!(said.starts_with("what worker 7 has started (process ") && said.contains("`exec`"), "{said}");
    }
}
