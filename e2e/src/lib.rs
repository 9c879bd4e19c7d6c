//! The harness of the end-to-end tests: it starts the built `recluster` command with real workers, listens to the
//! events that the command logs, and waits for them.
//!
//! A test never sleeps. It says which event it expects ([`on`]), and [`Master::wait`] blocks until that event was logged or
//! [`DEADLINE`] has passed. Where no event tells, it asks again and again until a condition holds ([`eventually`]). When a test
//! fails, everything that the master and its workers said is printed.
//!
//! Two kinds of workers are used: server files in `fixtures/` under a real Node, and the *puppet*, a program that
//! says on its channel exactly what the test tells it to ([`Stage`]).
//!
//! Every function of the harness panics where what it is to do cannot be done: a test is over then.

#![expect(clippy::panic, reason = "a harness ends the test that it cannot serve")]
#![expect(clippy::missing_panics_doc, reason = "said once, above")]
#![expect(clippy::indexing_slicing, reason = "a field that a JSON value lacks reads as null")]

pub mod arrows;
mod binary;
mod browser;
mod command;
mod event;
mod home;
mod hostile;
mod http;
mod http2;
mod launch;
mod load;
mod machine;
mod master;
mod node;
mod process;
mod puppet;
mod stage;
mod tmux;
mod transcript;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub use binary::{addon, command, library_example, loss_load, recluster, repository, rust_example};
pub use browser::Browser;
pub use command::{Finished, Running};
pub use event::{Event, Pattern, on};
pub use home::Home;
pub use hostile::written;
pub use http::{Connection, Response, get};
pub use http2::{Frame, Http2, Kind};
pub use launch::Launch;
pub use load::{Load, Tally};
pub use master::Master;
pub use node::{Node, modules};
pub use process::{Process, renounce};
pub use puppet::{Handed, Puppet};
pub use stage::Stage;
pub use tmux::Tmux;

/// How long any single wait may take. It is generous, because a machine may be slow, and it is no assertion of a
/// speed: a test that works never comes near it.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The path of a file in `fixtures/`.
pub fn fixture(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    assert!(path.exists(), "no such fixture: {}", path.display());
    path
}

/// The path of a program of the machine. A test that needs one is ignored where it is not installed (`build.rs`).
#[track_caller]
pub fn installed(name: &str) -> PathBuf {
    machine::find(name).unwrap_or_else(|| panic!("{name} is not installed"))
}

/// Says something that is to be seen even when the test passes: cargo hides what a test prints otherwise.
pub fn remark(text: &str) {
    // Nothing is lost but the remark.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Waits until a condition holds of which nobody tells: a closed port, a removed file. Where there is an event, wait
/// for that instead.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < DEADLINE, "waited in vain: {what}");
        thread::park_timeout(PAUSE);
    }
}

/// Between two looks at such a condition.
const PAUSE: Duration = Duration::from_millis(10);
