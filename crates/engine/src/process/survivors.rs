//! Workers whose master was killed: they are of this cluster, and this master has not started them.
//!
//! A worker is known by its first environment, which the kernel keeps, and by being the first process of a group that is no session.
//! What it has started itself has the same environment, but not that place. Whoever runs as its user could pretend to be one: then a
//! number in the log is wrong, and an address that somebody else has is waited for a moment longer.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use recluster_wire::env::CLUSTER;
use rustix::process::getpid;

use crate::process::stat::Stat;

/// How much of an environment is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;
/// How many are counted.
const MOST: usize = 4096;
/// How long it is looked for them.
const SEARCH: Duration = Duration::from_millis(800);
/// How long that is waited for. To read an environment takes a lock of its process, which may be held for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The first processes of workers that this cluster had before.
pub(crate) fn of(cluster: &OsStr) -> Vec<u32> {
    let until = Instant::now() + SEARCH;
    let all = Stat::all().take_while(|_| Instant::now() < until);
    all.filter(|process| is_first(process) && is_of(process.pid, cluster))
        .map(|process| process.pid.unsigned_abs())
        .take(MOST)
        .collect()
}

/// Whether it may be a worker of another master than this.
fn is_first(process: &Stat) -> bool {
    let Stat { pid, group, session, .. } = *process;
    process.lives && group == pid && session != pid && process.parent != Some(getpid())
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
        let mut found = of(OsStr::new(&own));
        found.sort_unstable();
        let mut expected = [first.pid, second.pid];
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_worker_has_started_is_none() {
        let mut first = Stat::of(getpid()).unwrap();
        (first.pid, first.group, first.session, first.parent) = (7, 7, 1, None);
        assert!(is_first(&first));
        let others: [fn(&mut Stat); 4] = [
            |stat| stat.group = 6,
            |stat| stat.session = 7,
            |stat| stat.lives = false,
            |stat| stat.parent = Some(getpid()),
        ];
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
