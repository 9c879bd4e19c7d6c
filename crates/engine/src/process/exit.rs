//! Watching a worker's process: its pidfd shows its end, and what it writes is forwarded until then.

use std::io;
use std::os::fd::OwnedFd;

use recluster_core::{Exit, WorkerId};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitIdStatus, pidfd_open};

use crate::guard::{Part, guarded_task};
use crate::process::event::Event;
use crate::process::outlets::Outlets;
use crate::process::passage::Passage;
use crate::process::source::Source;
use crate::process::stderr::Tail;
use crate::report::stream::Stream;
use crate::report::worker::Worker;
use crate::sink::Sink;
use crate::sys;

/// What people are told has panicked.
const PART: Part = Part::dispensable("what reads the output of a worker");

/// The exit status that is reported if another part of this program has reaped the process.
pub(crate) const UNKNOWN_STATUS: i32 = 255;

/// What is needed to watch a process.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) worker: WorkerId,
    /// The same, as people know it.
    pub(crate) about: Worker,
    pub(crate) pidfd: OwnedFd,
    /// What it writes to stdout and stderr, where these pass through the master.
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) tail: Tail,
}

impl Watch {
    /// Forwards what the worker writes until its process ends, reads what is left in the pipes, and then reports the end.
    pub(crate) fn start(self, outlets: &Outlets, events: Sink<Event>) -> io::Result<()> {
        let end = sys::readable(self.pidfd)?;
        let (id, worker) = (self.worker, self.about);
        let passage = |stream, pipe: Option<OwnedFd>, tail| -> io::Result<Option<Passage>> {
            let pipe = pipe.map(sys::readable).transpose()?;
            let source = Source { id, worker, stream };
            Ok(pipe.map(|pipe| Passage::new(source, pipe, tail, outlets, events.clone())))
        };
        let mut stdout = passage(Stream::Stdout, self.stdout, None)?;
        let mut stderr = passage(Stream::Stderr, self.stderr, Some(self.tail))?;
        tokio::spawn(async move {
            let tell = events.clone();
            let panicked = Sink::new(move |panic| tell.send(Event::Unheard(id, panic)));
            guarded_task(PART, panicked, async {
                loop {
                    tokio::select! {
                        _ = end.readable() => break,
                        open = Passage::pass_on(stdout.as_mut()) => if !open { stdout = None },
                        open = Passage::pass_on(stderr.as_mut()) => if !open { stderr = None },
                    }
                }
                for passage in stdout.iter_mut().chain(&mut stderr) {
                    passage.take_last_words();
                }
            })
            .await;
            // An error means that there is nothing to wait for.
            let _ = end.readable().await;
            // The supervisor is gone only when the cluster is over.
            events.send(Event::Ended(id));
            // A child of the worker may still hold the pipes and write to them.
            tokio::join!(Passage::outlive(stdout), Passage::outlive(stderr));
        });
        Ok(())
    }
}

/// How a process ended, from the result of waitid(2).
pub(crate) fn exit_of(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(UNKNOWN_STATUS),
    }
}

/// Opens two pidfds of a process: one to signal and reap it, and one to wait for its end.
pub(crate) fn open_pidfds(pid: Pid) -> io::Result<(OwnedFd, OwnedFd)> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(why_not)?;
    let watched = pidfd.try_clone()?;
    Ok((pidfd, watched))
}

fn why_not(error: Errno) -> io::Error {
    match error {
        // The words alone ("Function not implemented") name nothing.
        Errno::NOSYS | Errno::PERM => io::Error::other(format!(
            "pidfd_open: {error}: this needs Linux 5.4 or newer, and a sandbox that allows the call"
        )),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_or_a_sandbox_without_the_call_is_told_which_one_it_is() {
        for error in [Errno::NOSYS, Errno::PERM] {
            let said = why_not(error).to_string();
            assert!(said.starts_with("pidfd_open: ") && said.contains("Linux 5.4"), "{said}");
        }
        assert_eq!(why_not(Errno::MFILE).raw_os_error(), Some(Errno::MFILE.raw_os_error()));
    }
}
