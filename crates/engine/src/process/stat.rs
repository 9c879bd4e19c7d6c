//! What `/proc/PID/stat` says about a process (man page `proc_pid_stat(5)`), and whose it is.

use std::fs;

use rustix::process::Pid;

/// The kernel is ending it (`PF_EXITING` of its flags).
const EXITING: u64 = 4;

/// One process, alive or not reaped yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: i32,
    /// The process that has started it, or whoever has taken it over.
    pub(super) parent: Option<Pid>,
    /// Its process group.
    pub(crate) group: i32,
    /// Its session.
    pub(super) session: i32,
    /// It has not ended, or a thread of it has not.
    pub(super) lives: bool,
    /// Its first thread runs, waits for the CPU or for a disk, or is about to end or has ended.
    pub(super) is_busy: bool,
    /// It is stopped, by a signal: it does nothing until it is sent CONT.
    pub(super) is_stopped: bool,
    /// Its resident memory, in bytes.
    pub(super) memory: u64,
    /// Its CPU time, user and system, in clock ticks.
    ticks: u64,
}

impl Stat {
    /// None where there is no such process.
    pub(super) fn of(pid: Pid) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
    }

    /// Every process of this machine.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        pids.filter_map(Self::of)
    }

    #[expect(clippy::cast_precision_loss, reason = "ticks of a CPU fit a float for a hundred million years")]
    pub(super) fn cpu_seconds(&self) -> f64 {
        self.ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        // A program may give itself any name, and the kernel cuts it behind 15 bytes, in the middle of a character or not.
        let text = String::from_utf8_lossy(bytes);
        // The name of the program stands in brackets and may itself hold spaces and brackets: fields are counted behind it.
        let (before, rest) = text.rsplit_once(')')?;
        let (pid, _) = before.split_once(' ')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            pid: pid.parse().ok()?,
            parent: Pid::from_raw(fields.get(1)?.parse().ok().filter(|parent| *parent >= 0)?),
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            lives: !matches!(*fields.first()?, "Z" | "X") || number(17)? > 1,
            is_busy: matches!(*fields.first()?, "R" | "D" | "Z" | "X") || number(6)? & EXITING != 0,
            is_stopped: *fields.first()? == "T",
            memory: number(21)?.saturating_mul(rustix::param::page_size() as u64),
            ticks: number(11)?.saturating_add(number(12)?),
        })
    }
}

/// The users that a process is: the real one, the effective one and those that it may become again. None where there is no such process.
pub(super) fn users_of(pid: Pid) -> Vec<u32> {
    users(&fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default())
}

fn users(status: &str) -> Vec<u32> {
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    users.split_whitespace().filter_map(|user| user.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_are_read_in_their_order() {
        assert_eq!(users("Name:\tit\nUid:\t1000\t0\t7\t0\nGid:\t8\t8\t8\t8\n"), [1000, 0, 7, 0]);
        assert_eq!(users(""), [0; 0]);
        assert_eq!(users_of(rustix::process::getpid())[1], rustix::process::geteuid().as_raw());
    }

    fn parse(text: &str) -> Option<Stat> {
        Stat::parse(text.as_bytes())
    }

    #[test]
    fn the_fields_are_read_behind_the_name() {
        let stat = |state: &str| {
            parse(&format!(
                "42 (a) b) {state} 1 40 41 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 99 1000 25 18446744073709551615"
            ))
        };
        let memory = 25 * rustix::param::page_size() as u64;
        let parent = Some(Pid::INIT);
        let ended = Stat {
            pid: 42,
            parent,
            group: 40,
            session: 41,
            lives: false,
            is_busy: true,
            is_stopped: false,
            memory,
            ticks: 11,
        };
        assert_eq!(stat("S"), Some(Stat { lives: true, is_busy: false, ..ended }));
        assert_eq!(stat("T"), Some(Stat { lives: true, is_busy: false, is_stopped: true, ..ended }));
        assert_eq!(stat("Z"), Some(ended));
        assert_eq!(parse("nonsense"), None);
        assert_eq!(parse("42 (a) S -1 40 41 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 99 1000 25 0"), None);
        assert_eq!(parse("42 (cut) S 1 40"), None);
    }

    #[test]
    fn one_that_waits_for_nothing_but_the_cpu_or_its_end_is_busy() {
        let is_busy = |state: &str, flags: u32| {
            let rest = "1 2 3 4 5 6 7 8 20 0 1 0 99 1000 25 0";
            parse(&format!("42 (it) {state} 1 40 41 0 -1 {flags} {rest}")).unwrap().is_busy
        };
        assert_eq!(["R", "D", "Z"].map(|state| is_busy(state, 0x40_0000)), [true; 3]);
        assert_eq!(["S", "T", "t", "I"].map(|state| is_busy(state, 0x40_0000)), [false; 4]);
        assert!(is_busy("S", 0x40_0004), "the kernel is ending it");
    }

    #[test]
    fn cpu_time_is_in_seconds() {
        let ticks = rustix::param::clock_ticks_per_second() * 5 / 2;
        let now = Stat::of(rustix::process::getpid()).unwrap();
        let stat = Stat { ticks, ..now };
        assert_eq!(stat.cpu_seconds().to_string(), "2.5");
    }

    #[test]
    fn a_process_is_seen_whatever_it_calls_itself() {
        use std::os::unix::ffi::OsStrExt as _;
        use std::os::unix::process::CommandExt as _;
        let directory = tempfile::tempdir().unwrap();
        for name in [&b"gr\xc3\xb6\xc3"[..], b"\xff", b"a) Z 1 1", b"n\nl"] {
            let program = directory.path().join(std::ffi::OsStr::from_bytes(name));
            std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
            let mut child = std::process::Command::new(program).arg0("sleep").arg("60").spawn().unwrap();
            let stat = Stat::of(Pid::from_child(&child));
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(stat.is_some_and(|stat| stat.lives), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn this_process_is_among_all() {
        let own = Stat::of(rustix::process::getpid()).unwrap();
        assert!(own.lives && own.memory > 100_000);
        assert!(Stat::all().any(|stat| stat.group == own.group && stat.memory > 100_000));
    }

    #[test]
    fn a_process_that_was_not_reaped_does_not_live() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        rustix::process::waitid(
            rustix::process::WaitId::Pid(pid),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .unwrap();
        assert!(!Stat::of(pid).unwrap().lives);
        child.wait().unwrap();
        assert_eq!(Stat::of(pid), None);
    }
}
