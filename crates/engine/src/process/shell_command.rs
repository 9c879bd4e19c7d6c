//! A command that is run to its end, such as a check: reaped by its pidfd, and ended with all that it has started when nobody
//! waits for it any more.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use recluster_core::Exit;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use crate::process::exit::{UNKNOWN_STATUS, exit_of, open_pidfds};
use crate::sys;

/// Runs a command to its end, in a process group of its own; whoever no longer waits ends the group.
pub(crate) async fn run_to_end(command: &mut Command) -> io::Result<Exit> {
    let mut child = command.process_group(0).spawn()?;
    let pid = Pid::from_child(&child);
    let (pidfd, watched) = match open_pidfds(pid).and_then(|(pidfd, end)| Ok((pidfd, sys::readable(end)?))) {
        Ok(pidfds) => pidfds,
        Err(error) => {
            // As in `begin`.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    };
    let mut group = Group { pid, end: Some((pidfd, watched)) };
    group.ended().await
}

/// A command that runs, and what it has started.
struct Group {
    pid: Pid,
    /// Its pidfd to reap it by, and to see its end; none once that is in other hands.
    end: Option<(OwnedFd, AsyncFd<OwnedFd>)>,
}

impl Group {
    async fn ended(&mut self) -> io::Result<Exit> {
        if let Some((_, end)) = &self.end {
            let _ready = end.readable().await?;
        }
        let reaped = self.end.take().map(|(pidfd, _)| reap_now(&pidfd));
        Ok(reaped.transpose()?.flatten().map_or(Exit::Code(UNKNOWN_STATUS), |status| exit_of(&status)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some((pidfd, end)) = self.end.take() else { return };
        // It has not been reaped, so the number is still its own.
        let _ = kill_process_group(self.pid, Signal::KILL);
        // Its end may take long, and nobody here waits for it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ready = end.readable().await;
                let _ = reap_now(&pidfd);
            });
        }
    }
}

fn reap_now(pidfd: &OwnedFd) -> rustix::io::Result<Option<WaitIdStatus>> {
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}
