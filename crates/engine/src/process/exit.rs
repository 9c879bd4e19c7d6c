//! Watching a worker's process: its pidfd shows its end, and its stderr is forwarded until then.

use std::io;
use std::os::fd::OwnedFd;

use recluster_core::{Exit, WorkerId};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitIdStatus, pidfd_open};

use crate::process::event::Event;
use crate::process::forwarder::Forwarder;
use crate::process::stderr::{Stderr, Tail};
use crate::sink::Sink;
use crate::sys;

/// The exit status that is reported if another part of this program has reaped the process.
pub(crate) const UNKNOWN_STATUS: i32 = 255;

/// What is needed to watch a process.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) worker: WorkerId,
    pub(crate) pidfd: OwnedFd,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) tail: Tail,
}

impl Watch {
    /// Forwards the worker's stderr until its process ends, reads what is left in the pipe, and then reports the end.
    pub(crate) fn start(self, forwarder: &Forwarder, events: Sink<Event>) -> io::Result<()> {
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
            // A child of the worker may still hold the pipe and write to it.
            while stderr.is_some() && Stderr::pass_on(stderr.as_mut()).await {}
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
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| match error {
        // The words alone ("Function not implemented") name nothing.
        Errno::NOSYS | Errno::PERM => io::Error::other(format!(
            "pidfd_open: {error}: this needs Linux 5.4 or newer, and a sandbox that allows the call"
        )),
        error => error.into(),
    })?;
    let watched = pidfd.try_clone()?;
    Ok((pidfd, watched))
}
