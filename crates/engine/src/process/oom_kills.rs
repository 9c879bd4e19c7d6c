//! Which workers the kernel has killed for want of memory.
//!
//! The kernel sends SIGKILL then, as anybody may. What tells the two apart is a count of such kills that the control group of the victim
//! has, and that rises before the signal is sent. A rise belongs to one process, which may also be another one of the group: so it
//! counts for a worker that ends soon after it, and for one alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use recluster_core::{Exit, WorkerId};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::process::control_groups::{self, Group, Hierarchy};
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, plain};

/// How often the counts are looked at. A rise counts for workers that end before the second look after it. It is long, because the
/// master has no other reason to wake up: what is mistaken is a worker whom somebody sends SIGKILL soon after such a kill of a neighbour.
pub(crate) const LOOK: Duration = Duration::from_secs(60);

/// What a shell ends with when SIGKILL has ended what it ran.
const KILLED: i32 = 128 + libc::SIGKILL;

/// Whether a process that ended like this may be, or have run, one that was killed for want of memory.
pub(crate) fn may_be_one(exit: Exit) -> bool {
    matches!(exit, Exit::Signal(libc::SIGKILL) | Exit::Code(KILLED))
}

/// What is known of the groups that workers are in.
#[derive(Debug)]
pub(crate) struct OomKills {
    hierarchies: Vec<Hierarchy>,
    /// That of this process, in which workers begin.
    own: Option<Group>,
    counts: BTreeMap<Group, Count>,
    workers: BTreeMap<WorkerId, Group>,
}

/// The kills of a group.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Count {
    /// As it was read last.
    seen: u64,
    /// Those since the last look, and since the look before it, that were no worker's.
    fresh: u64,
    older: u64,
}

/// What is known of a group, for another program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    #[serde(with = "plain")]
    directory: PathBuf,
    count: Count,
    workers: Vec<WorkerId>,
}

const PART: &str = "oom_kills";

impl OomKills {
    /// Leaves what was counted to another program.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        let left = self.counts.iter().map(|(group, count)| {
            let workers = self.workers.iter().filter(|(_, of)| *of == group).map(|(worker, _)| *worker);
            Left { directory: group.directory().to_owned(), count: *count, workers: workers.collect() }
        });
        saving.put(PART, &left.collect::<Vec<_>>())
    }

    /// Goes on with what was left.
    pub(crate) fn adopt(inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        let mut kills = Self::watch();
        for Left { directory, count, workers } in inheritance.needed::<Vec<Left>>(PART)? {
            let group = kills.hierarchies.iter().find_map(|hierarchy| hierarchy.group_at(&directory));
            if let Some(group) = group {
                kills.workers.extend(workers.into_iter().map(|worker| (worker, group.clone())));
                kills.counts.insert(group, count);
            }
        }
        Ok(kills)
    }

    /// From now on.
    pub(crate) fn watch() -> Self {
        Self::in_hierarchies(control_groups::here(), &control_groups::own())
    }

    fn in_hierarchies(hierarchies: Vec<Hierarchy>, memberships: &str) -> Self {
        let mut kills = Self { hierarchies, own: None, counts: BTreeMap::new(), workers: BTreeMap::new() };
        kills.own = kills.group(memberships);
        if let Some(own) = kills.own.clone() {
            kills.begin(own);
        }
        kills
    }

    /// Whether there is anything to look at.
    pub(crate) fn are_counted(&self) -> bool {
        !self.counts.is_empty()
    }

    /// A worker lives, or does what says that its program runs now, which may have gone to a group of its own.
    pub(crate) fn note(&mut self, worker: WorkerId, pid: Pid) {
        self.note_group(worker, &control_groups::of(pid));
    }

    fn note_group(&mut self, worker: WorkerId, memberships: &str) {
        if let Some(group) = self.group(memberships) {
            self.begin(group.clone());
            self.workers.insert(worker, group);
        }
    }

    /// Time goes by: a rise that no worker's end has followed was another process's.
    pub(crate) fn look(&mut self) {
        for (group, count) in &mut self.counts {
            count.read(group);
            (count.older, count.fresh) = (count.fresh, 0);
        }
    }

    /// The worker has ended. Whether it is one that was killed for want of memory, where it
    /// [may be one](may_be_one) and we have not killed it.
    pub(crate) fn ends(&mut self, worker: WorkerId, by_others: bool) -> bool {
        let Some(group) = self.workers.remove(&worker) else { return false };
        let is_one = by_others
            && self.counts.get_mut(&group).is_some_and(|count| {
                count.read(&group);
                count.take()
            });
        if self.own.as_ref() != Some(&group) && !self.workers.values().any(|other| *other == group) {
            self.counts.remove(&group);
        }
        is_one
    }

    fn group(&self, memberships: &str) -> Option<Group> {
        let groups = self.hierarchies.iter().filter_map(|hierarchy| hierarchy.group(memberships));
        groups.into_iter().find(|group| group.kills().is_some())
    }

    fn begin(&mut self, group: Group) {
        let seen = group.kills().unwrap_or(0);
        self.counts.entry(group).or_insert(Count { seen, fresh: 0, older: 0 });
    }
}

impl Count {
    fn read(&mut self, group: &Group) {
        let now = group.kills().unwrap_or(self.seen);
        self.fresh += now.saturating_sub(self.seen);
        self.seen = now;
    }

    fn take(&mut self) -> bool {
        let from = if self.older > 0 { &mut self.older } else { &mut self.fresh };
        let had = *from > 0;
        *from = from.saturating_sub(1);
        had
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::process::control_groups::tests::unified_at;

    const ONE: WorkerId = WorkerId::from_number(1);
    const TWO: WorkerId = WorkerId::from_number(2);
    const OWN: &str = "0::/app\n";

    fn killed(mount: &Path, group: &str, count: u64) {
        fs::create_dir_all(mount.join(group)).unwrap();
        fs::write(mount.join(group).join("memory.events"), format!("oom 0\noom_kill {count}\n")).unwrap();
    }

    /// Two workers in the group of their master, in which processes were killed before.
    fn two_workers(mount: &Path) -> OomKills {
        killed(mount, "app", 5);
        let mut kills = OomKills::in_hierarchies(unified_at(mount), OWN);
        for worker in [ONE, TWO] {
            kills.note_group(worker, OWN);
        }
        kills
    }

    #[test]
    fn what_ends_otherwise_was_not_killed() {
        for (exit, may) in [
            (Exit::Signal(9), true),
            (Exit::Code(137), true),
            (Exit::Signal(6), false),
            (Exit::Code(9), false),
        ] {
            assert_eq!(may_be_one(exit), may, "{exit:?}");
        }
    }

    #[test]
    fn a_kill_counts_for_one_worker() {
        let mount = tempfile::tempdir().unwrap();
        let mut kills = two_workers(mount.path());
        killed(mount.path(), "app", 6);
        assert_eq!([ONE, TWO].map(|worker| kills.ends(worker, true)), [true, false]);
        let mut kills = two_workers(mount.path());
        killed(mount.path(), "app", 7);
        assert_eq!([ONE, TWO].map(|worker| kills.ends(worker, true)), [true, true]);
        let mut kills = two_workers(mount.path());
        assert_eq!([ONE, TWO].map(|worker| kills.ends(worker, true)), [false, false]);
    }

    #[test]
    fn a_worker_that_ended_otherwise_takes_no_kill_from_another() {
        let mount = tempfile::tempdir().unwrap();
        let mut kills = two_workers(mount.path());
        killed(mount.path(), "app", 6);
        assert_eq!((kills.ends(ONE, false), kills.ends(TWO, true)), (false, true));
        assert!(!kills.ends(ONE, true), "it is not known any more");
    }

    #[test]
    fn a_kill_that_no_worker_s_end_has_followed_is_another_process_s() {
        let mount = tempfile::tempdir().unwrap();
        let mut kills = two_workers(mount.path());
        killed(mount.path(), "app", 6);
        kills.look();
        assert!(kills.ends(ONE, true), "it may take a while to end");
        killed(mount.path(), "app", 7);
        kills.look();
        kills.look();
        assert!(!kills.ends(TWO, true));
    }

    #[test]
    fn a_worker_may_have_gone_to_a_group_of_its_own() {
        let mount = tempfile::tempdir().unwrap();
        let mut kills = two_workers(mount.path());
        killed(mount.path(), "app/one", 0);
        kills.note_group(ONE, "0::/app/one\n");
        killed(mount.path(), "app", 6);
        assert!(!kills.ends(ONE, true), "that was in another group");
        assert_eq!(kills.counts.len(), 1, "nothing is kept of a group that is no worker's");
        assert!(kills.ends(TWO, true) && kills.are_counted());
    }

    #[test]
    fn where_nothing_is_counted_nothing_is_claimed() {
        let mount = tempfile::tempdir().unwrap();
        let mut kills = OomKills::in_hierarchies(unified_at(mount.path()), OWN);
        kills.note_group(ONE, OWN);
        assert!(!kills.are_counted() && !kills.ends(ONE, true));
        // Whatever this machine has.
        let mut kills = OomKills::watch();
        kills.note(ONE, Pid::INIT);
        kills.look();
        assert!(!kills.ends(ONE, true));
    }
}
