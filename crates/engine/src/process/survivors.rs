//! Workers whose master was killed: they are of this cluster, and this master has not started them.
//!
//! A worker is known by its first environment, which the kernel keeps, and by being the first process of a group that is no session.
//! What it has started itself has the same environment, but not that place. The same path may name another cluster in another
//! container, and anybody may give a process that variable: so only what runs in our own namespaces of processes and mounts counts, as
//! our own user or as that of the workers. Whoever runs as one of these could still pretend to be one: then a number in the log is
//! wrong, and an address that somebody else has is waited for a moment longer.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use recluster_wire::env::CLUSTER;
use rustix::process::{Pid, getpid, getuid};

use crate::process::stat::{Stat, users_of};

/// How much of an environment is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;
/// How many are counted.
const MOST: usize = 4096;
/// How long it is looked for them.
const SEARCH: Duration = Duration::from_millis(800);
/// How long that is waited for. To read an environment takes a lock of its process, which may be held for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The first processes of workers that this cluster had before. `user` is that of the workers where it is not our own. Where this process was
/// their master itself, and begins anew, they are its children.
pub(crate) fn of(cluster: &OsStr, user: Option<u32>, begins_anew: bool) -> Vec<u32> {
    let own = Surroundings::of(getpid().as_raw_nonzero().get());
    let until = Instant::now() + SEARCH;
    let all = Stat::all().take_while(|_| Instant::now() < until);
    all.filter(|process| {
        is_first(process)
            && (begins_anew || process.parent != Some(getpid()))
            && runs_as(process.pid, user)
            && Surroundings::of(process.pid) == own
            && is_of(process.pid, cluster)
    })
    .map(|process| process.pid.unsigned_abs())
    .take(MOST)
    .collect()
}

/// Whether it may be a worker.
fn is_first(process: &Stat) -> bool {
    let Stat { pid, group, session, .. } = *process;
    process.lives && group == pid && session != pid
}

/// Whether it runs as us, or as this user. The real user counts: no program that is run takes another one by itself.
fn runs_as(pid: i32, user: Option<u32>) -> bool {
    let real = Pid::from_raw(pid).and_then(|pid| users_of(pid).first().copied());
    real.is_some_and(|real| real == getuid().as_raw() || Some(real) == user)
}

/// The namespaces of a process: which numbers of processes, and which paths, mean what.
#[derive(Debug, PartialEq, Eq)]
struct Surroundings([Option<PathBuf>; 2]);

impl Surroundings {
    fn of(pid: i32) -> Self {
        Self(["pid", "mnt"].map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()))
    }
}

fn is_of(pid: i32, cluster: &OsStr) -> bool {
    let mut environment = Vec::new();
    // One that may not be read is another user's.
    let read = File::open(format!("/proc/{pid}/environ"))
        .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut environment));
    read.is_ok() && names(&environment, cluster)
}

/// Whether these variables name the cluster.
fn names(environment: &[u8], cluster: &OsStr) -> bool {
    let value = |variable: &[u8]| {
        variable.strip_prefix(CLUSTER.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")).map(<[u8]>::to_vec)
    };
    environment.split(|byte| *byte == 0).find_map(value).is_some_and(|value| value == cluster.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};

    use super::*;

    /// A shell that goes on when this is dropped has ended by then.
    struct Orphan {
        shell: Child,
        pid: u32,
    }

    impl Orphan {
        /// A process of this cluster whose parent is not this process; `way` is how it is started.
        fn start(cluster: &str, way: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let told = directory.path().join("pid");
            let script = format!("set -m; {way} sleep 1000 & echo $! > {}; wait", told.display());
            let mut command = Command::new("bash");
            let shell = command.args(["-c", &script]).env(CLUSTER, cluster).process_group(0).spawn().unwrap();
            let pid = || std::fs::read_to_string(&told).ok()?.trim().parse().ok();
            let pid = std::iter::repeat_with(pid).find_map(|pid| pid).unwrap();
            Self { shell, pid }
        }
    }

    impl Drop for Orphan {
        fn drop(&mut self) {
            let pid = rustix::process::Pid::from_raw(self.pid.cast_signed()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            self.shell.kill().unwrap();
            self.shell.wait().unwrap();
        }
    }

    #[test]
    fn workers_of_a_cluster_are_known_and_those_of_others_are_not() {
        let own = format!("/run/survivors-{}.sock", std::process::id());
        let (first, second) = (Orphan::start(&own, ""), Orphan::start(&own, ""));
        let _other = Orphan::start(&format!("{own}.other"), "");
        // The shells have the same environment, and are children of this process.
        let mut found = of(OsStr::new(&own), None, false);
        found.sort_unstable();
        let mut expected = [first.pid, second.pid];
        expected.sort_unstable();
        assert_eq!(found, expected);
        // As this process would find those that it has started itself before it began anew.
        let mut found = of(OsStr::new(&own), None, true);
        found.sort_unstable();
        let mut expected = [first.pid, second.pid, first.shell.id(), second.shell.id()];
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn one_of_another_user_or_in_other_namespaces_is_none() {
        let (pid, own) = (getpid().as_raw_nonzero().get(), getuid().as_raw());
        assert!(runs_as(pid, None) && runs_as(pid, Some(own + 1)) && !runs_as(i32::MAX, Some(own)));
        let surroundings = Surroundings::of(getpid().as_raw_nonzero().get());
        assert!(surroundings.0.iter().all(Option::is_some), "{surroundings:?}");
        assert_ne!(Surroundings::of(i32::MAX), surroundings);
        let orphan = Orphan::start(&format!("/run/survivors-{}.other", std::process::id()), "");
        assert_eq!(Surroundings::of(orphan.pid.cast_signed()), surroundings);
    }

    #[test]
    fn what_a_worker_has_started_is_none() {
        let mut first = Stat::of(getpid()).unwrap();
        (first.pid, first.group, first.session, first.parent) = (7, 7, 1, None);
        assert!(is_first(&first));
        let others: [fn(&mut Stat); 3] =
            [|stat| stat.group = 6, |stat| stat.session = 7, |stat| stat.lives = false];
        for make in others {
            let mut other = first;
            make(&mut other);
            assert!(!is_first(&other), "{other:?}");
        }
    }

    #[test]
    fn the_variable_is_compared_whole() {
        let named = |environment: &[u8]| names(environment, OsStr::new("/run/a"));
        assert!(named(b"A=1\0RECLUSTER_CLUSTER=/run/a\0B=2\0"));
        for other in [
            &b"RECLUSTER_CLUSTER=/run/ab"[..],
            b"XRECLUSTER_CLUSTER=/run/a",
            b"A=RECLUSTER_CLUSTER=/run/a",
            b"",
        ] {
            assert!(!named(other));
        }
    }
}
