//! Programs that put the server into the background and end, as daemons do: what lives on is found by the environment that the worker
//! was given, in whatever group, session or family it is by now.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use recluster_wire::env::NOTIFY_SOCKET;

use crate::process::stat::Stat;
use crate::socket::holder::Holder;

/// How often it is looked. The list of all processes is older than what is read of each: one that forks and ends in between is missed,
/// and the one that it has forked as well.
const LOOKS: usize = 3;
/// How much of an environment is looked at.
const MOST_BYTES: u64 = 256 * 1024;

/// A process that lives on where the first one of a worker has ended: one of its group, or one that has the environment of the worker,
/// which this notify socket tells from all others. None where there is none, or none can be seen.
pub(crate) fn left_by(first: i32, notify: Option<&Path>) -> Option<Holder> {
    let entry =
        notify.map(|path| [NOTIFY_SOCKET.as_bytes(), b"=", path.as_os_str().as_encoded_bytes()].concat());
    let is_of_it = |process: &Stat| {
        process.group == first || entry.as_ref().is_some_and(|entry| has_in_environment(process.pid, entry))
    };
    let others = || Stat::all().filter(|process| process.lives && process.pid != first);
    // The server is started last.
    let found = (0..LOOKS).find_map(|_| others().filter(is_of_it).last());
    found.map(|process| Holder::of(process.pid.unsigned_abs()))
}

fn has_in_environment(pid: i32, entry: &[u8]) -> bool {
    let mut bytes = Vec::new();
    // Of what cannot be read nothing is known.
    let _ = File::open(format!("/proc/{pid}/environ"))
        .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
    bytes.split(|byte| *byte == 0).any(|own| own == entry)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

    use super::*;

    /// A shell that starts this in the background and ends: its pid, and that of the other one.
    fn ended(script: &str, notify: &Path) -> (std::process::Child, Pid) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{script} & echo $!")]).env(NOTIFY_SOCKET, notify).process_group(0);
        let mut shell = command.stdout(Stdio::piped()).spawn().unwrap();
        waitid(WaitId::Pid(Pid::from_child(&shell)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        let mut line = [0; 32];
        let length = shell.stdout.take().unwrap().read(&mut line).unwrap();
        let pid = String::from_utf8_lossy(&line[..length]).trim().parse().unwrap();
        (shell, Pid::from_raw(pid).unwrap())
    }

    fn is_left_by(shell: &std::process::Child, notify: Option<&Path>) -> Option<i32> {
        left_by(shell.id().cast_signed(), notify).map(|holder| holder.pid.cast_signed())
    }

    #[test]
    fn what_is_left_in_the_group_is_found() {
        let (mut shell, pid) = ended("exec sleep 1000000 >/dev/null", Path::new("/a.notify"));
        let found = is_left_by(&shell, None);
        kill_process(pid, Signal::KILL).unwrap();
        shell.wait().unwrap();
        assert_eq!(found, Some(pid.as_raw_nonzero().get()));
    }

    #[test]
    fn what_has_left_the_group_is_found_by_its_environment() {
        let (own, other) = (Path::new("/background-1.notify"), Path::new("/background-11.notify"));
        // It has called `setsid` when it has become the sleep.
        let (mut shell, pid) = ended("exec setsid sleep 1000000 >/dev/null", own);
        let group = || Stat::of(pid).unwrap().group;
        while group() != pid.as_raw_nonzero().get() {
            std::thread::yield_now();
        }
        let found = [Some(own), Some(other), None].map(|notify| is_left_by(&shell, notify));
        kill_process(pid, Signal::KILL).unwrap();
        shell.wait().unwrap();
        assert_eq!(found, [Some(pid.as_raw_nonzero().get()), None, None]);
    }
}
