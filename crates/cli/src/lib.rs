//! The `recluster` command: runs a cluster in the foreground, and talks to running ones. (`main` is the program; what it
//! consists of is a library, so that tests outside reach its decoders.)
//!
//! `args` and `config` turn the command line and the config file into typed arguments, once. Then one of three acts on
//! them: `run`, which is the library plus signals, a log and a control socket; `check`, which says what `run` would do;
//! or `client`, which asks a running master.

mod args;
mod begun;
mod check;
mod claim;
mod client;
#[doc(hidden)]
pub mod completions;
mod config;
mod describe;
mod duration;
mod error;
mod exit_code;
#[doc(hidden)]
pub mod fuzzing;
mod inherited;
mod init;
mod log;
mod name;
mod nearest;
mod open_files;
mod orphans;
mod paint;
mod patience;
mod pidfile;
mod rereading;
mod run;
mod signals;
mod silent;
mod size;
mod systemd;
mod top;
mod upgrading;
mod wishes;
mod worker_lines;
mod writable;

use std::convert::Infallible;
use std::env;
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use recluster::host::{self, FirstThread, Inheritance, Seat, WayBack};

use crate::args::Command;
use crate::config::{CommandLine, Invocation};
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::inherited::Inherited;
use crate::upgrading::Return;

/// The stack of the thread on which a cluster runs: as much as a first thread usually has.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// For how long a program that has taken a master's place tries to start it, and how often.
const START: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// How long what blocks a thread may go on when everything else is done.
const LOOK_UPS: Duration = Duration::from_secs(1);

/// Does what the command line of this process says.
pub fn main() -> ExitCode {
    if let Some(status) = upgrading::guard().or_else(upgrading::rehearse) {
        return status.into();
    }
    match Inheritance::of_process() {
        Ok(None) => {}
        Ok(Some((inheritance, way_back))) => return go_on(inheritance, way_back).into(),
        Err(error) => return Error::Upgrade(error).report(false).into(),
    }
    let inherited = inherited::sockets();
    let line = CommandLine::of_process();
    let outcome =
        line.read().map_err(Error::from).and_then(|invocation| execute(invocation, &line, inherited));
    outcome.unwrap_or_else(|error| error.report(line.wants_json())).into()
}

/// Goes on with what the program has left that this process was before, or goes back to it.
fn go_on(inheritance: Inheritance, way_back: WayBack) -> ExitStatus {
    host::keep_name();
    // What is left may be more than the limit on open files that this process was first started with.
    open_files::raise();
    let line = CommandLine::new(env::args_os().collect(), recluster::logical_directory());
    let line = line.map_err(|error| Error::Config(error.into()));
    let read = line.and_then(|line| Ok((upgrading::invocation(&inheritance, &line)?, line)));
    match read {
        Ok((Invocation { command: Command::Run(args), settings, said }, line)) => {
            let way_back = Arc::new(Mutex::new(Some(way_back)));
            let taken = Arc::clone(&way_back);
            let went = starting_here(START, move |seat| {
                let back =
                    take(&taken).map(|way_back| Return::by(way_back, seat.another())).unwrap_or_default();
                let returns = back.clone();
                let outcome = outcome(|| {
                    let wants_json = line.wants_json();
                    let left = Some((inheritance, back.clone()));
                    let outcome =
                        in_runtime(run::run(*args, (settings, said), line, Inherited::default(), seat, left));
                    outcome.unwrap_or_else(|error| {
                        back.go(error.to_string()).iter().for_each(|failed| tell(failed));
                        error.report(wants_json)
                    })
                });
                // It has panicked, and told where.
                returns.go("it has panicked".to_owned()).iter().for_each(|failed| tell(failed));
                outcome
            });
            went.unwrap_or_else(|error| {
                if let Some(way_back) = take(&way_back) {
                    tell(&way_back.go(&error.to_string()));
                }
                error.report(false)
            })
        }
        Ok(_) => {
            tell(&way_back.go("its command line is none of a cluster"));
            ExitStatus::Usage
        }
        Err(error) => {
            tell(&way_back.go(&error.to_string()));
            error.report(false)
        }
    }
}

/// The program before cannot be gone back to. It has nowhere else to be reported.
fn tell(failed: &str) {
    let _ = writeln!(io::stderr(), "recluster: {failed}");
}

fn execute(invocation: Invocation, line: &CommandLine, inherited: Inherited) -> Result<ExitStatus, Error> {
    let Invocation { command, settings, said } = invocation;
    match command {
        Command::Run(args) => {
            let line = line.clone();
            starting_here(Duration::ZERO, move |seat| {
                let wants_json = line.wants_json();
                let outcome = in_runtime(run::run(*args, (settings, said), line, inherited, seat, None));
                outcome.unwrap_or_else(|error| error.report(wants_json))
            })
        }
        Command::Check(args) => in_runtime(check::check(*args, &settings, inherited)),
        Command::Reload(args) => in_runtime(client::reload(args)),
        Command::Status(args) => in_runtime(client::status(args)),
        Command::Config(args) => in_runtime(client::config(args)),
        Command::Top(args) => in_runtime(top::top(args)),
        Command::Events(args) => in_runtime(client::events(args)),
        Command::Logs(args) => in_runtime(client::logs(args)),
        Command::Replace(args) => in_runtime(client::replace(args)),
        Command::Scale(args) => in_runtime(client::scale(args)),
        Command::Upgrade(args) => in_runtime(client::upgrade(args)),
        Command::Stop(args) => in_runtime(client::stop(args)),
        Command::Terminate(args) => in_runtime(client::terminate(args)),
        Command::Systemd(mut args) => systemd::systemd(&mut args, &settings, line),
        Command::Init(args) => init::init(&args),
        Command::Completions(args) => completions::print(&args),
    }
}

/// Does this on a thread of its own, and starts processes on this one, which is the first. What that has come to is how this process
/// ends, at once: this thread may be about to start another process, for as long as the kernel likes. Where there is no room for a thread
/// it is tried for so long.
fn starting_here(
    patience: Duration,
    work: impl FnOnce(Seat) -> ExitStatus + Send + 'static,
) -> Result<ExitStatus, Error> {
    host::share_heap();
    // No other thread has begun. All have them blocked but the one that takes them.
    signals::block().map_err(Error::Signals)?;
    let (first, seat) = FirstThread::new();
    let work = Arc::new(Mutex::new(Some((work, seat))));
    let until = Instant::now() + patience;
    let run = loop {
        let builder = thread::Builder::new().name("recluster-run".to_owned()).stack_size(STACK_BYTES);
        let work = Arc::clone(&work);
        let begun = builder.spawn(move || -> Infallible {
            outcome(|| take(&work).map_or(ExitStatus::Failure, |(work, seat)| work(seat))).exit()
        });
        match begun {
            Ok(run) => break run,
            Err(_) if Instant::now() < until => thread::sleep(PAUSE),
            Err(error) => return Err(Error::Runtime(error)),
        }
    };
    drop(work);
    first.work();
    match run.join() {
        Ok(never) => match never {},
        // It cannot be: a panic is an outcome.
        Err(panic) => resume_unwind(panic),
    }
}

fn take<T>(from: &Mutex<Option<T>>) -> Option<T> {
    from.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What comes of it. A panic is told where it occurs.
fn outcome(work: impl FnOnce() -> ExitStatus) -> ExitStatus {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(ExitStatus::Failure)
}

fn in_runtime(work: impl Future<Output = Result<ExitStatus, Error>>) -> Result<ExitStatus, Error> {
    let runtime = runtime()?;
    let outcome = runtime.block_on(work);
    // A name that a hook wanted to know may be looked up for long after everybody has given up on it.
    runtime.shutdown_timeout(LOOK_UPS);
    outcome
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)
}

#[cfg(test)]
mod tests {
    use std::mem::forget;
    use std::process::{Command as Process, Stdio};

    use super::*;

    const PANICS: &str = "RECLUSTER_TEST_PANICS";

    /// Its first thread is about to start a process, for as long as the kernel likes. This test starts itself as that process.
    #[test]
    fn a_run_that_panics_ends_the_process_whatever_the_first_thread_does() {
        if env::var_os(PANICS).is_some() {
            let never = starting_here(Duration::ZERO, |seat| {
                forget(seat);
                panic!("the test has panicked on purpose")
            });
            panic!("{never:?}");
        }
        let name = "tests::a_run_that_panics_ends_the_process_whatever_the_first_thread_does";
        let mut itself = Process::new(env::current_exe().unwrap());
        itself.args([name, "--exact", "--nocapture"]).env(PANICS, "1").stdin(Stdio::null());
        let ended = itself.output().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        assert!(told.contains("'recluster-run'") && told.contains("on purpose"), "{told}");
        assert_eq!(ended.status.code(), Some(1), "{told}");
    }
}
