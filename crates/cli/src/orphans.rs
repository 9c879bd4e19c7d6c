//! Orphans: processes whose parent has ended become children of the nearest ancestor that takes them, which is the master
//! where it is the first process of a container, or was told to be a subreaper. Somebody has to reap them.
//!
//! The kernel knows which thread has forked a child. What the master starts, it starts on other threads than the first (the
//! library's launcher), and orphans become children of the first thread. So this thread reaps its own children alone: all of
//! them are orphans, and no worker's end is ever taken from whoever waits for it.

use rustix::io;
use rustix::process::{WaitId, WaitIdOptions, getpid, set_child_subreaper, waitid};

/// `__WNOTHREAD` of the kernel: not the children of other threads.
const OWN_THREAD: u32 = 0x2000_0000;

/// How many are reaped at a time.
const AT_A_TIME: usize = 256;

/// Takes the orphans of all processes below this one from now on.
pub(crate) fn adopt() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))
}

/// Reaps those that have ended. To be called on the first thread of the process. False where there may be more.
pub(crate) fn reap() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::from_bits_retain(OWN_THREAD);
    // An error says that there is no child at all.
    (0..AT_A_TIME).any(|_| !matches!(waitid(WaitId::All, options), Ok(Some(_))))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use rustix::process::Pid;

    use super::*;

    /// Every test is a thread of its own.
    #[test]
    fn what_this_thread_has_started_is_reaped_and_what_others_have_is_not() {
        let start = || Command::new("true").spawn().unwrap();
        let (own, mut others) = (start(), thread::scope(|scope| scope.spawn(start).join().unwrap()));
        let ended = |child| {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(Pid::from_child(child)), options).map(drop)
        };
        ended(&own).unwrap();
        ended(&others).unwrap();
        while !reap() {}
        assert!(ended(&own).is_err(), "it was reaped");
        assert!(others.wait().unwrap().success());
    }
}
