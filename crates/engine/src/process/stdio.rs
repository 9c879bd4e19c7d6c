//! Where a worker's stdin, stdout and stderr go.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio as Given};
use std::sync::Arc;

use rustix::fs::{Gid, OFlags, Uid, fchown};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

/// Where one of a worker's three standard descriptors goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stdio {
    /// Where the master's own goes.
    Inherit,
    /// To `/dev/null`.
    Null,
    /// To the host, which gets the other end of a socket pair with `HostEvent::Spawned`, as in Node.
    Pipe,
    /// To this descriptor.
    #[serde(skip)]
    Fd(Arc<OwnedFd>),
    /// To the master's stderr by way of the master, which keeps the last lines for verdicts.
    Tail,
}

/// The uid and the gid that a worker has, where these are not the master's.
pub(crate) type User = [Option<u32>; 2];

/// The master's ends of a worker's standard descriptors.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Its ends of pipes.
    pub(crate) pipes: [Option<OwnedFd>; 3],
    /// What passes through the master: of stdout, and of stderr.
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// Whether the master sees what a worker writes to its stderr.
pub(crate) fn passes_stderr(stdio: &[Stdio; 3], raw: bool) -> bool {
    let [_, _, stderr] = stdio;
    matches!(stderr, Stdio::Tail) && !raw
}

/// Whether a worker's stdout, and whether its stderr, is the master's own.
pub(crate) fn inherits(stdio: &[Stdio; 3], raw: bool, takes_stdout: bool) -> [bool; 2] {
    let [_, stdout, stderr] = stdio;
    let is_own = |stdio: &Stdio| matches!(stdio, Stdio::Inherit) || (raw && matches!(stdio, Stdio::Tail));
    [is_own(stdout) && !takes_stdout, is_own(stderr)]
}

/// Gives a worker its stdin, stdout and stderr. With `raw` its stderr is the master's own; if stdout is taken, that passes
/// through the master where it would be the master's own.
pub(crate) fn attach(
    command: &mut Command,
    stdio: &[Stdio; 3],
    user: User,
    raw: bool,
    takes_stdout: bool,
) -> io::Result<Ends> {
    let mut ends = Ends::default();
    for (number, stdio) in stdio.iter().enumerate() {
        let given = match stdio {
            Stdio::Inherit if number == 1 && takes_stdout => piped(&mut ends.stdout, user)?,
            Stdio::Inherit => Given::inherit(),
            Stdio::Tail if raw => Given::inherit(),
            Stdio::Null => Given::null(),
            Stdio::Fd(fd) => fd.try_clone()?.into(),
            Stdio::Pipe => {
                let (ours, theirs) =
                    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
                set_nonblocking(&ours)?;
                if let Some(end) = ends.pipes.get_mut(number) {
                    *end = Some(ours);
                }
                theirs.into()
            }
            Stdio::Tail => piped(&mut ends.stderr, user)?,
        };
        match number {
            0 => command.stdin(given),
            1 => command.stdout(given),
            _ => command.stderr(given),
        };
    }
    Ok(ends)
}

/// A pipe for a worker that runs as this user, whose other end is ours.
fn piped(end: &mut Option<OwnedFd>, user: User) -> io::Result<Given> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    hand_over(&theirs, user);
    // The worker's end stays blocking: that is what a stdout or stderr is.
    set_nonblocking(&ours)?;
    *end = Some(ours);
    Ok(theirs.into())
}

/// Lets a process of this user open its end of a pipe by its name, as /dev/stdout. Where the master may not do this, the process
/// has its end open all the same.
pub(crate) fn hand_over(theirs: &OwnedFd, user: User) {
    let [uid, gid] = user.map(|id| id.filter(|&id| id != u32::MAX));
    if uid.is_some() || gid.is_some() {
        let _ = fchown(theirs, uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    }
}

pub(crate) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use rustix::process::geteuid;

    use super::*;
    use crate::sys;

    #[test]
    fn a_worker_that_runs_as_another_user_can_open_its_stdout() {
        let own = geteuid();
        let uid = Some(if own.is_root() { 12_345 } else { own.as_raw() });
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "cd / && echo said >/dev/stdout && echo said >/dev/stderr"]);
        let stdio = [Stdio::Null, Stdio::Inherit, Stdio::Tail];
        let ends = attach(&mut shell, &stdio, [uid, None], false, true).unwrap();
        sys::become_other(&mut shell, uid, None, &[]);
        assert!(shell.status().unwrap().success());
        let mut said = [0; 9];
        for end in [ends.stdout, ends.stderr] {
            assert_eq!(rustix::io::read(end.unwrap(), &mut said).unwrap(), 5);
            assert_eq!(&said[..5], b"said\n");
        }
    }
}
