//! The process groups of this machine, as `/proc` shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// One process.
#[derive(Debug, PartialEq, Eq)]
struct Member {
    group: i32,
    /// It has not ended.
    lives: bool,
    /// Its resident memory, in bytes.
    bytes: u64,
}

/// Resident memory of every group, in bytes.
pub(crate) fn resident() -> BTreeMap<i32, u64> {
    let mut sizes = BTreeMap::new();
    for member in members() {
        *sizes.entry(member.group).or_insert(0) += member.bytes;
    }
    sizes
}

/// The groups in which at least one process lives. One that has ended and was not reaped does not.
pub(crate) fn living() -> BTreeSet<i32> {
    members().filter(|member| member.lives).map(|member| member.group).collect()
}

/// Every process. What cannot be read has just ended, or is nobody's business.
fn members() -> impl Iterator<Item = Member> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit));
    processes.filter_map(|process| parse(&fs::read_to_string(process.path().join("stat")).ok()?))
}

/// What the text of `/proc/PID/stat` says (proc(5)).
fn parse(stat: &str) -> Option<Member> {
    // Fields are counted behind the name, which may hold spaces and brackets: state, parent, group …
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let lives = !matches!(*fields.first()?, "Z" | "X");
    let group = fields.get(2)?.parse().ok()?;
    let pages: u64 = fields.get(21)?.parse().ok()?;
    Some(Member { group, lives, bytes: pages * rustix::param::page_size() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_behind_its_name() {
        let stat = |state: &str| {
            format!(
                "42 (a) b) {state} 1 40 40 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 99 1000 25 18446744073709551615"
            )
        };
        let bytes = 25 * rustix::param::page_size() as u64;
        assert_eq!(parse(&stat("S")), Some(Member { group: 40, lives: true, bytes }));
        assert_eq!(parse(&stat("Z")), Some(Member { group: 40, lives: false, bytes }));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn this_very_process_is_found() {
        let own = rustix::process::getpgrp().as_raw_nonzero().get();
        assert!(resident().get(&own).is_some_and(|bytes| *bytes > 100_000));
        assert!(living().contains(&own));
    }
}
