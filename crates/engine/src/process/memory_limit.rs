//! How much memory this process and what it starts may use together.

use std::fs;

use crate::process::control_groups;

/// In bytes: the memory of the machine, or the least limit of the control groups (version 1 or 2) that this process is in.
pub(crate) fn of_this_process() -> Option<u64> {
    let memberships = control_groups::own();
    let groups = control_groups::here().into_iter().filter_map(|hierarchy| hierarchy.group(&memberships));
    let limits: Vec<u64> = groups.flat_map(|group| group.limits().collect::<Vec<_>>()).collect();
    let of_machine = of_machine(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    limits.into_iter().chain(of_machine).min()
}

/// From the text of `/proc/meminfo`.
fn of_machine(text: &str) -> Option<u64> {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_so_much() {
        assert_eq!(of_machine("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!([of_machine(""), of_machine("MemTotal: much")], [None, None]);
        assert!(of_this_process().is_some_and(|bytes| bytes > 1 << 20));
    }
}
