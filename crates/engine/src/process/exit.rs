//! The eyes on a worker's process: its end is seen by pidfd, and its stderr is passed on until then.

use std::io;
use std::os::fd::OwnedFd;

use recluster_core::{Exit, WorkerId};
use rustix::process::{Pid, PidfdFlags, WaitIdStatus, pidfd_open};

use crate::process::event::Event;
use crate::process::stderr::{Forwarder, Stderr, Tail};
use crate::sink::Sink;
use crate::sys;

/// What is reported of a process that somebody else has reaped.
pub(crate) const UNKNOWN_STATUS: i32 = 255;

/// What is needed to watch a process.
pub(crate) struct Watch {
    pub(crate) worker: WorkerId,
    pub(crate) pidfd: OwnedFd,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) tail: Tail,
}

impl Watch {
    /// Passes the worker's stderr on until its process ends, and reports the end when its last words are in.
    pub(crate) fn start(self, forwarder: Forwarder, events: Sink<Event>) -> io::Result<()> {
        let end = sys::readable(self.pidfd)?;
        let (worker, tail) = (self.worker, self.tail);
        let pipe = self.stderr.map(sys::readable).transpose()?;
        let mut stderr = pipe.map(|pipe| Stderr::new(worker, pipe, tail, forwarder, events.clone()));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = end.readable() => break,
                    open = Stderr::pass_on(stderr.as_mut()) => if !open { stderr = None },
                }
            }
            if let Some(stderr) = &mut stderr {
                stderr.take_last_words();
            }
            // The supervisor is gone only when the cluster is over.
            events.send(Event::Ended(worker));
            // A child of the worker may hold the pipe and go on writing.
            while stderr.is_some() && Stderr::pass_on(stderr.as_mut()).await {}
        });
        Ok(())
    }
}

/// How a process ended that was reaped.
pub(crate) fn exit_of(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(UNKNOWN_STATUS),
    }
}

/// One for whoever signals and reaps, and one for the task that waits.
pub(crate) fn open_pidfds(pid: Pid) -> io::Result<(OwnedFd, OwnedFd)> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let watched = pidfd.try_clone()?;
    Ok((pidfd, watched))
}
