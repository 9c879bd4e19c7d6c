//! The thread that starts workers, one after the other, so that the supervisor's loop never waits for a start, and all other
//! processes of a cluster.
//!
//! It is a thread of its own and not one of a pool, because the kernel means the *thread* that has forked where it says the
//! parent's death (`PR_SET_PDEATHSIG`): a program that is to end with the master would end with a thread that was given up
//! for want of work. This one lives as long as its cluster does. Where the program around the cluster says so it is that
//! program's first thread.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use recluster_core::WorkerId;

use crate::guard::{Panicked, Part, attempt};
use crate::process::awaited::Awaited;
use crate::process::first_thread::Seat;
use crate::process::hands::{Chore, Hands};
use crate::process::inspector::Ports;
use crate::process::launch::{Launch, Launched};
use crate::sink::Sink;
use crate::upgrade::exec::Exec;

/// How many workers may have been started of which the supervisor has not heard yet. Where it cannot keep up, whoever asks
/// it something would wait behind all of them.
const UNHEARD: usize = 2;

/// How long the thread may go on with what it does when it is to become another program.
const BECOMES: Duration = Duration::from_millis(100);

/// What became of a start that has panicked.
const PANICKED: &str = "recluster has panicked";
/// What people are told of it.
const PART: Part = Part::vital("the thread that starts workers");

/// What became of a start.
pub(crate) type Outcome = (WorkerId, io::Result<Launched>);

/// Starts workers in the order of their names. Dropping this ends the thread.
pub(crate) struct Launcher(Arc<Shared>);

impl fmt::Debug for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Launcher")
    }
}

#[derive(Default)]
struct Shared {
    open_files: Option<u64>,
    awaited: Awaited,
    queue: Mutex<Queue>,
    changed: Condvar,
}

enum Next {
    Chore(Chore),
    /// Reap those that nobody waits for.
    Reap,
    Launch(Box<Launch>),
    /// Become another program.
    Become(Box<Exec>, Failing),
}

/// Where it is told why the program could not be become.
type Failing = std_mpsc::Sender<io::Error>;

#[derive(Default)]
struct Queue {
    waiting: BTreeMap<WorkerId, Launch>,
    /// What is to be done before the next worker.
    chores: VecDeque<Chore>,
    /// What this program is to become, once nothing is being done.
    becomes: Option<(Box<Exec>, Failing)>,
    /// Some child has ended, of which nobody may know.
    reaps: bool,
    /// Such ones were reaped last, so that it is a worker's turn.
    has_reaped: bool,
    /// Outcomes that the supervisor has not heard yet.
    unheard: usize,
    closed: bool,
}

impl Launcher {
    /// All that it starts has this soft limit on open files. Where a worker's turn comes, that is told, and later the outcome. A start
    /// that panics has one as well, and the thread goes on: what it has started may be bound to it. It is a new thread, or one that
    /// has a seat for this.
    pub(crate) fn start(
        seat: Option<Seat>,
        open_files: Option<u64>,
        begun: Sink<WorkerId>,
        outcomes: Sink<Outcome>,
        panicked: Sink<Panicked>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { open_files, ..Shared::default() });
        let queue = Arc::clone(&shared);
        let work = move || {
            let mut ports = Ports::default();
            let Shared { open_files, awaited, .. } = &*queue;
            while let Some(next) = queue.next() {
                match next {
                    // Where it is done nobody is told: nobody is left.
                    Next::Become(mut exec, failing) => drop(failing.send(exec.perform())),
                    Next::Chore(chore) => drop(told(&panicked, chore)),
                    Next::Reap => {
                        if told(&panicked, || awaited.reap_others()) == Some(true) {
                            queue.change(|queue| queue.reaps = true);
                        }
                    }
                    Next::Launch(launch) => {
                        begun.send(launch.worker);
                        let worker = launch.worker;
                        let run = || Ok(launch.run(&mut ports, *open_files)?.claimed(awaited));
                        let outcome = told(&panicked, run).unwrap_or_else(|| Err(io::Error::other(PANICKED)));
                        // It may be the last that holds a socket, whose file is to be gone when the cluster is over.
                        drop(launch);
                        outcomes.send((worker, outcome));
                    }
                }
            }
        };
        if let Some(seat) = seat {
            seat.take(work)?;
        } else {
            let thread = thread::Builder::new().name("recluster-launcher".to_owned());
            thread.stack_size(256 * 1024).spawn(work)?;
        }
        Ok(Self(shared))
    }

    /// Has a worker started. The outcome follows.
    pub(crate) fn launch(&self, launch: Launch) {
        self.0.change(|queue| drop(queue.waiting.insert(launch.worker, launch)));
    }

    /// Does not start this worker; false if that has begun already, and then the outcome follows.
    pub(crate) fn cancel(&self, worker: WorkerId) -> bool {
        self.0.lock().waiting.remove(&worker).is_some()
    }

    /// Has the thread start other processes as well.
    pub(crate) fn hands(&self) -> Hands {
        let shared = Arc::clone(&self.0);
        Hands::new(
            self.0.open_files,
            self.0.awaited.clone(),
            Sink::new(move |chore| {
                shared.change(|queue| {
                    if !queue.closed {
                        queue.chores.push_back(chore);
                    }
                });
            }),
        )
    }

    /// The list of children that somebody here waits for.
    pub(crate) fn awaited(&self) -> &Awaited {
        &self.0.awaited
    }

    /// Has the thread reap children that have ended and that nobody here waits for.
    pub(crate) fn reap_others(&self) {
        self.0.change(|queue| queue.reaps = true);
    }

    /// Has the thread become another program, which is to be this process's first one. Returns only where that cannot be, and why.
    pub(crate) fn become_it(&self, exec: Exec) -> io::Error {
        let (failing, failed) = std_mpsc::channel();
        self.0.change(|queue| queue.becomes = Some((Box::new(exec), failing)));
        if let Ok(error) = failed.recv_timeout(BECOMES) {
            return error;
        }
        let was_begun = self.0.lock().becomes.take().is_none();
        let failed = if was_begun { failed.recv().ok() } else { None };
        let busy = || io::Error::new(io::ErrorKind::WouldBlock, "the thread that starts processes is busy");
        failed.unwrap_or_else(busy)
    }

    /// The supervisor has heard an outcome.
    pub(crate) fn heard(&self) {
        self.0.change(|queue| queue.unheard = queue.unheard.saturating_sub(1));
    }
}

/// What comes of it, or none where it panics, which is told.
fn told<T>(panicked: &Sink<Panicked>, work: impl FnOnce() -> T) -> Option<T> {
    attempt(PART, work).map_err(|panic| panicked.send(panic)).ok()
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.0.change(|queue| {
            queue.closed = true;
            queue.waiting.clear();
            queue.chores.clear();
        });
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    /// What is to be done next, once there is something; none when that is over.
    fn next(&self) -> Option<Next> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some((exec, failing)) = queue.becomes.take() {
                return Some(Next::Become(exec, failing));
            }
            if let Some(chore) = queue.chores.pop_front() {
                return Some(Next::Chore(chore));
            }
            let starts = queue.unheard < UNHEARD && !queue.waiting.is_empty();
            if queue.reaps && !(starts && queue.has_reaped) {
                (queue.reaps, queue.has_reaped) = (false, true);
                return Some(Next::Reap);
            }
            if starts && let Some((_, launch)) = queue.waiting.pop_first() {
                queue.has_reaped = false;
                queue.unheard += 1;
                return Some(Next::Launch(Box::new(launch)));
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use recluster_core::Exit;
    use rustix::process::test_kill_process;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;
    use crate::config::drain_signal::DrainSignal;
    use crate::process::latest::Latest;
    use crate::process::launch::{Notify, Parts};
    use crate::process::program::Program;
    use crate::process::stdio::Stdio;
    use crate::sys;

    /// No test takes this long.
    const DEADLINE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_start_that_panics_is_told_and_has_an_outcome_and_the_next_one_follows() {
        let (send, mut outcomes) = mpsc::unbounded_channel();
        let outcome = Sink::new(move |outcome| drop(send.send(outcome)));
        let (tell, mut told) = mpsc::unbounded_channel();
        let panicked = Sink::new(move |panicked| drop(tell.send(panicked)));
        let launcher = Launcher::start(None, None, Sink::new(|_| {}), outcome, panicked).unwrap();
        let panics = Latest::new(|| panic!("the test has panicked on purpose"));
        launcher.launch(Launch { latest: Some(panics), ..launch(1, "/bin/sleep") });
        let (worker, started) = timeout(DEADLINE, outcomes.recv()).await.unwrap().unwrap();
        assert_eq!((worker, started.unwrap_err().to_string().as_str()), (WorkerId::from_number(1), PANICKED));
        let Panicked { part, reason, .. } = told.try_recv().unwrap();
        assert_eq!((part, reason.as_str()), (PART, "the test has panicked on purpose"));
        launcher.launch(launch(2, "/bin/sleep"));
        let (worker, started) = timeout(DEADLINE, outcomes.recv()).await.unwrap().unwrap();
        assert_eq!(worker, WorkerId::from_number(2));
        started.unwrap();
    }

    fn launcher() -> (Launcher, mpsc::UnboundedReceiver<Outcome>) {
        let (send, outcomes) = mpsc::unbounded_channel();
        let outcome = Sink::new(move |outcome| drop(send.send(outcome)));
        (Launcher::start(None, None, Sink::new(|_| {}), outcome, Sink::new(|_| {})).unwrap(), outcomes)
    }

    fn launch(number: u64, program: &str) -> Launch {
        let mut program = Program::new(PathBuf::from(program));
        program.args = vec!["1000".into()];
        program.stdio = [Stdio::Null, Stdio::Null, Stdio::Null];
        Launch {
            worker: WorkerId::from_number(number),
            number,
            slot: 0,
            generation: 1,
            slots: 1,
            program: Arc::new(program.resolve().unwrap()),
            latest: None,
            raw_stdio: false,
            takes_stdout: false,
            end_with_master: true,
            cluster: None,
            preload: None,
            bound: Arc::new([]),
            own: None,
            notify: Notify::Off,
            watchdog: None,
            drain_signal: DrainSignal::Term,
        }
    }

    async fn next(outcomes: &mut mpsc::UnboundedReceiver<Outcome>) -> (u64, io::Result<Launched>) {
        let (worker, outcome) = timeout(DEADLINE, outcomes.recv()).await.unwrap().unwrap();
        (worker.get(), outcome)
    }

    /// A sleeper that runs.
    async fn sleeper(launcher: &Launcher, outcomes: &mut mpsc::UnboundedReceiver<Outcome>) -> Parts {
        launcher.launch(launch(1, "/bin/sleep"));
        next(outcomes).await.1.unwrap().take().unwrap()
    }

    #[tokio::test]
    async fn workers_are_started_in_order_and_no_faster_than_they_are_heard_of() {
        let (launcher, mut outcomes) = launcher();
        for number in 1..=4 {
            launcher.launch(launch(number, "/bin/sleep"));
        }
        let first = [next(&mut outcomes).await, next(&mut outcomes).await];
        assert_eq!([first[0].0, first[1].0], [1, 2]);
        let (third, fourth) = (WorkerId::from_number(3), WorkerId::from_number(4));
        assert!(launcher.cancel(third) && !launcher.cancel(third), "the first two were not heard of yet");
        assert!(!launcher.cancel(WorkerId::from_number(1)), "it runs");
        launcher.heard();
        assert_eq!(next(&mut outcomes).await.0, fourth.get());
    }

    /// A worker may leave orphans as fast as they are reaped.
    #[test]
    fn where_there_is_always_something_to_reap_workers_are_started_in_between() {
        let shared = Shared::default();
        let next = || match shared.next().unwrap() {
            Next::Chore(_) => "chore",
            Next::Reap => "reap",
            Next::Launch(_) => "launch",
            Next::Become(..) => "become",
        };
        for number in 1..=3 {
            shared.change(|queue| {
                queue.waiting.insert(WorkerId::from_number(number), launch(number, "/bin/sleep"));
            });
        }
        let order = [(); 6].map(|()| {
            shared.change(|queue| queue.reaps = true);
            next()
        });
        assert_eq!(
            order,
            ["reap", "launch", "reap", "launch", "reap", "reap"],
            "the third waits to be heard of"
        );
        shared.change(|queue| queue.chores.push_back(Box::new(|| {})));
        shared.change(|queue| queue.reaps = true);
        assert_eq!([next(), next()], ["chore", "reap"]);
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_an_outcome_and_the_next_one_is_started() {
        let (launcher, mut outcomes) = launcher();
        let mut missing = launch(1, "/bin/sleep");
        missing.program = Arc::new({
            let mut program = (*missing.program).clone();
            program.directory = "/nowhere".into();
            program
        });
        launcher.launch(missing);
        launcher.launch(launch(2, "/bin/sleep"));
        assert_eq!(next(&mut outcomes).await.1.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(next(&mut outcomes).await.1.is_ok());
    }

    /// A check does not wait for a thousand workers.
    #[tokio::test]
    async fn other_processes_are_started_before_the_next_worker() {
        let (launcher, mut outcomes) = launcher();
        for number in 1..=3 {
            launcher.launch(launch(number, "/bin/sleep"));
        }
        let (mut child, _claim) = launcher.hands().start(Command::new("true")).await.unwrap();
        assert!(child.wait().unwrap().success());
        let hands = launcher.hands();
        drop(launcher);
        while outcomes.recv().await.is_some() {}
        let error = hands.start(Command::new("true")).await.unwrap_err();
        assert_eq!(error.to_string(), "the cluster is over");
    }

    #[tokio::test]
    async fn a_process_that_nobody_takes_ends() {
        let (launcher, mut outcomes) = launcher();
        launcher.launch(launch(1, "/bin/sleep"));
        let started = next(&mut outcomes).await.1.unwrap();
        let pid = started.parts.as_ref().unwrap().process.pid();
        test_kill_process(pid).unwrap();
        drop(started);
        assert!(test_kill_process(pid).is_err(), "it was reaped");
    }

    /// The kernel goes by the thread that has forked, so that must not end before the cluster does.
    #[tokio::test]
    async fn a_program_ends_with_the_thread_which_lives_as_long_as_the_launcher() {
        let (launcher, mut outcomes) = launcher();
        let Parts { process, watch, .. } = sleeper(&launcher, &mut outcomes).await;
        let end = sys::readable(watch.pidfd).unwrap();
        assert!(timeout(Duration::ZERO, end.readable()).await.is_err(), "it lives");
        drop(launcher);
        assert!(timeout(DEADLINE, outcomes.recv()).await.unwrap().is_none(), "the thread has ended");
        drop(timeout(DEADLINE, end.readable()).await.unwrap().unwrap());
        assert_eq!(process.exit(), Exit::Signal(libc::SIGTERM));
        process.reap();
    }
}
