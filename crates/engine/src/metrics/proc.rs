//! What `/proc` says of a process, beside what a status has.

use std::fs;
use std::sync::OnceLock;

use rustix::param::{clock_ticks_per_second, page_size};

/// How many descriptors a process has open. None where we may not know.
pub(super) fn open_fds(pid: u32) -> Option<u64> {
    let directory = format!("/proc/{pid}/fd");
    match fs::metadata(&directory).ok()?.len() {
        // Linux before 6.2 does not count them.
        0 => Some(fs::read_dir(&directory).ok()?.count() as u64),
        count => Some(count),
    }
}

/// What a process uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    pub(super) virtual_bytes: f64,
    pub(super) resident_bytes: f64,
    /// In seconds since 1970.
    pub(super) started_at: f64,
    pub(super) threads: f64,
}

impl Usage {
    /// That of this process.
    pub(super) fn own() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?, boot_time()?)
    }

    fn parse(stat: &str, boot_time: f64) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
        #[expect(clippy::cast_precision_loss, reason = "both are small")]
        let (ticks, page) = (clock_ticks_per_second() as f64, page_size() as f64);
        Some(Self {
            cpu_seconds: (number(11)? + number(12)?) / ticks,
            threads: number(17)?,
            started_at: boot_time + number(19)? / ticks,
            virtual_bytes: number(20)?,
            resident_bytes: number(21)? * page,
        })
    }
}

/// When the machine was started, in seconds since 1970. It is asked once: the kernel's own answer may change by a second.
fn boot_time() -> Option<f64> {
    static BOOT_TIME: OnceLock<Option<f64>> = OnceLock::new();
    *BOOT_TIME.get_or_init(|| {
        let text = fs::read_to_string("/proc/stat").ok()?;
        text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_read_behind_the_name() {
        let stat =
            "42 (a) b) S 1 40 41 0 -1 4194304 1 2 3 4 500 600 7 8 20 0 9 0 1000 4096 25 18446744073709551615";
        let usage = Usage::parse(stat, 1000.0).unwrap();
        #[expect(clippy::cast_precision_loss, reason = "both are small")]
        let (ticks, page) = (clock_ticks_per_second() as f64, page_size() as f64);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(usage.cpu_seconds, 1100.0 / ticks) && close(usage.started_at, 1000.0 + 1000.0 / ticks));
        assert!(close(usage.virtual_bytes, 4096.0) && close(usage.resident_bytes, 25.0 * page));
        assert!(close(usage.threads, 9.0));
        assert!(Usage::parse("nonsense", 0.0).is_none() && Usage::parse("1 (a) S 1", 0.0).is_none());
    }

    #[test]
    fn this_process_has_descriptors_and_others_may_be_gone() {
        let own = std::process::id();
        let before = open_fds(own).unwrap();
        let _files: Vec<_> = (0..100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests open and close some meanwhile.
        assert!(open_fds(own).unwrap() > before.saturating_sub(50) + 50, "{before}");
        assert_eq!(open_fds(u32::MAX), None);
        assert!(Usage::own().unwrap().resident_bytes > 100_000.0);
    }
}
