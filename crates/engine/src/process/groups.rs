//! The process groups of this machine.

use std::collections::{BTreeMap, BTreeSet};

use crate::process::stat::Stat;

/// Resident memory of every group, in bytes.
pub(crate) fn resident() -> BTreeMap<i32, u64> {
    let mut sizes = BTreeMap::new();
    for process in Stat::all() {
        *sizes.entry(process.group).or_insert(0) += process.memory;
    }
    sizes
}

/// The groups in which at least one process lives. One that has ended and was not reaped does not.
pub(crate) fn living() -> BTreeSet<i32> {
    Stat::all().filter(|process| process.lives).map(|process| process.group).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

    use super::*;

    #[test]
    fn a_group_lives_as_long_as_one_of_its_processes() {
        // The shell reports that the other process is there and ends. The other one goes on.
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "sleep 1000 & echo started"])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&shell);
        let group = pid.as_raw_nonzero().get();
        let mut stdout = shell.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 8]).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert!(living().contains(&group), "sleep lives");
        assert!(resident().get(&group).is_some_and(|bytes| *bytes > 100_000));
        kill_process_group(pid, Signal::KILL).unwrap();
        // Only when sleep is gone is the pipe closed on its other end.
        stdout.read_to_end(&mut Vec::new()).unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn this_process_lives_in_its_group() {
        let own = rustix::process::getpgrp().as_raw_nonzero().get();
        assert!(resident().get(&own).is_some_and(|bytes| *bytes > 100_000));
        assert!(living().contains(&own));
    }
}
