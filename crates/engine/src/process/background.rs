//! Programs that put the server into the background and end, as daemons do: what lives on is found by the environment that the worker
//! was given, in whatever group, session or family it is by now. Helpers of a program may outlive it for a moment, or longer: only what still
//! lives a while later and has a socket that listens is told.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recluster_wire::env::NOTIFY_SOCKET;
use tokio::time::{sleep, timeout};

use crate::aside::aside;
use crate::process::stat::Stat;
use crate::socket::holder::{Holder, Sockets, listening};

/// How often it is looked. The list of all processes is older than what is read of each: one that forks and ends in between is missed,
/// and the one that it has forked as well.
const LOOKS: usize = 3;
/// How long a look may take. To read an environment takes a lock of its process, which may be held for ever.
const SEARCH: Duration = Duration::from_secs(1);
/// How long what was left is to live on.
const LATER: Duration = Duration::from_secs(1);
/// How much of an environment is looked at.
const MOST_BYTES: u64 = 256 * 1024;

/// A worker whose first process has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    first: i32,
    /// The variable that tells its processes from all others, if it has one.
    entry: Option<Vec<u8>>,
    /// What the master has bound for workers.
    bound: Sockets,
    /// What the master has given to workers for their checks.
    given: Vec<SocketAddr>,
}

impl Ended {
    /// Its first process and its notify socket; the inodes of what is bound for workers; and what they were given for their checks.
    pub(crate) fn new(
        first: i32,
        notify: Option<&Path>,
        bound: impl IntoIterator<Item = u64>,
        given: Vec<SocketAddr>,
    ) -> Self {
        let entry =
            notify.map(|path| [NOTIFY_SOCKET.as_bytes(), b"=", path.as_os_str().as_encoded_bytes()].concat());
        Self { first, entry, bound: Sockets::of(bound), given }
    }

    /// A server that lives on: one of the group, or one that has the environment of the worker. None where there is none, or none can
    /// be seen in time.
    pub(crate) async fn server(self) -> Option<Holder> {
        let ended = Arc::new(self);
        let first = Arc::clone(&ended);
        let is_left = timeout(SEARCH, aside(move || !first.left().is_empty())).await.ok()?.ok()?;
        if !is_left {
            return None;
        }
        sleep(LATER).await;
        timeout(SEARCH, aside(move || ended.server_among(&ended.left()))).await.ok()?.ok()?
    }

    /// What lives on, the group first.
    fn left(&self) -> Vec<u32> {
        let (until, mut read) = (Instant::now() + SEARCH, BTreeSet::new());
        let mut looks = (0..LOOKS).map(|_| self.left_now(until, &mut read));
        looks.find(|left| !left.is_empty()).unwrap_or_default()
    }

    /// The environments of those that were read are not read again.
    fn left_now(&self, until: Instant, read: &mut BTreeSet<i32>) -> Vec<u32> {
        let all = Stat::all().take_while(|_| Instant::now() < until);
        let (mut left, others): (Vec<Stat>, Vec<Stat>) = all
            .filter(|process| process.lives && process.pid != self.first)
            .partition(|process| process.group == self.first);
        if let Some(entry) = &self.entry {
            let unread = others.into_iter().take_while(|_| Instant::now() < until);
            left.extend(
                unread.filter(|other| read.insert(other.pid) && has_in_environment(other.pid, entry)),
            );
        }
        left.into_iter().map(|process| process.pid.unsigned_abs()).collect()
    }

    /// The first of these that listens, on what it was given or by itself.
    fn server_among(&self, left: &[u32]) -> Option<Holder> {
        self.bound.holder_among(left).or_else(|| listening(left, &self.given).map(|(server, _)| server))
    }
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
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
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

    fn ended_of(shell: &std::process::Child, notify: Option<&Path>) -> Ended {
        Ended::new(shell.id().cast_signed(), notify, [], Vec::new())
    }

    #[test]
    fn what_is_left_in_the_group_is_found() {
        let (mut shell, pid) = ended("exec sleep 1000000 >/dev/null", Path::new("/a.notify"));
        let found = ended_of(&shell, None).left();
        kill_process(pid, Signal::KILL).unwrap();
        shell.wait().unwrap();
        assert_eq!(found, [pid.as_raw_nonzero().get().unsigned_abs()]);
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
        let found = [Some(own), Some(other), None].map(|notify| ended_of(&shell, notify).left());
        kill_process(pid, Signal::KILL).unwrap();
        shell.wait().unwrap();
        assert_eq!(found, [vec![pid.as_raw_nonzero().get().unsigned_abs()], Vec::new(), Vec::new()]);
    }

    /// A helper, such as a logger, is none.
    #[test]
    fn a_server_has_a_socket_that_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = rustix::fs::fstat(&listener).unwrap().st_ino;
        let address = listener.local_addr().unwrap();
        let sleeper = |stdin: Stdio| Command::new("/bin/sleep").arg("1000000").stdin(stdin).spawn().unwrap();
        let mut helper = sleeper(Stdio::null());
        let mut heir = sleeper(OwnedFd::from(listener.try_clone().unwrap()).into());
        let ended = |bound: Option<u64>, given: Vec<SocketAddr>| Ended::new(i32::MAX, None, bound, given);
        let found = |ended: Ended, left: &[&std::process::Child]| {
            let left: Vec<u32> = left.iter().map(|child| child.id()).collect();
            ended.server_among(&left).map(|server| server.pid)
        };
        let of_bound = found(ended(Some(inode), Vec::new()), &[&helper, &heir]);
        let of_helper = found(ended(Some(inode), Vec::new()), &[&helper]);
        drop(listener);
        let by_itself = found(ended(None, Vec::new()), &[&helper, &heir]);
        let for_checks = found(ended(None, vec![address]), &[&heir]);
        let heirs = heir.id();
        for child in [&mut helper, &mut heir] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!([of_bound, of_helper, by_itself, for_checks], [Some(heirs), None, Some(heirs), None]);
    }

    #[tokio::test]
    async fn where_nothing_is_left_nothing_is_told() {
        let ended = Ended::new(i32::MAX, Some(Path::new("/nobody.notify")), [], Vec::new());
        assert_eq!(ended.server().await, None);
    }
}
