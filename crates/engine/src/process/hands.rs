//! [`Hands`]: who starts processes for a part that must not start them itself.
//!
//! All processes of a master are started by one thread. Then they are that thread's children, and whatever else becomes a child
//! of the master, as orphans do, is told from them by the kernel.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::oneshot;

use crate::process::awaited::{Awaited, Claim};
use crate::sink::Sink;
use crate::sys;

/// Something that the thread does between two workers.
pub(crate) type Chore = Box<dyn FnOnce() + Send>;

/// Hands chores to the thread.
#[derive(Clone, Debug)]
pub(crate) struct Hands {
    chores: Sink<Chore>,
    open_files: Option<u64>,
    awaited: Awaited,
}

impl Hands {
    /// Chores go there. One that is dropped has not been done. What they start has this soft limit on open files, and is awaited.
    pub(crate) fn new(open_files: Option<u64>, awaited: Awaited, chores: Sink<Chore>) -> Self {
        Self { chores, open_files, awaited }
    }

    /// Starts a command, which leads a process group of its own. If this is dropped, the command and its group end. Nobody else reaps
    /// it while it is claimed.
    pub(crate) async fn start(&self, mut command: Command) -> io::Result<(Child, Claim)> {
        command.process_group(0);
        if let Some(limit) = self.open_files {
            sys::limit_open_files(&mut command, limit);
        }
        let (reply, started) = oneshot::channel();
        let awaited = self.awaited.clone();
        self.chores.send(Box::new(move || {
            // Whoever has asked may have given up, by now or meanwhile.
            if reply.is_closed() {
                return;
            }
            let started = command.spawn().map(|child| {
                let claim = awaited.claim(Pid::from_child(&child));
                Unclaimed(Some((child, claim)))
            });
            drop(reply.send(started));
        }));
        let unclaimed = started.await.map_err(|_| io::Error::other("the cluster is over"))??;
        unclaimed.claim().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A process that was started, on its way to whoever has asked for it. If they have given up it ends, wherever it is by then.
#[derive(Debug)]
struct Unclaimed(Option<(Child, Claim)>);

impl Unclaimed {
    fn claim(mut self) -> Option<(Child, Claim)> {
        self.0.take()
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.0 {
            // It was just started, so this does not take long. The first fails if it has ended.
            let _ = (kill_process_group(Pid::from_child(child), Signal::KILL), child.kill());
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::test_kill_process;

    use super::*;

    #[tokio::test]
    async fn a_process_that_nobody_waits_for_any_more_ends() {
        let mut sleep = Command::new("/bin/sleep");
        let child = sleep.arg("1000").process_group(0).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let (reply, started) = oneshot::channel();
        let claim = Awaited::default().claim(pid);
        reply.send(Unclaimed(Some((child, claim)))).unwrap();
        test_kill_process(pid).unwrap();
        // Whoever has asked gives up when the answer is there and was not looked at.
        drop(started);
        assert!(test_kill_process(pid).is_err(), "it was ended and reaped");
    }
}
