//! Which worker a process belongs to: by its process group, or by that of one of its ancestors.

use std::collections::{BTreeMap, BTreeSet};

use crate::process::stat::Stat;

/// How many ancestors of a process are looked at.
const ANCESTORS: usize = 16;

/// The processes of this machine, each with its parent and its group.
#[derive(Debug)]
pub(crate) struct Families(BTreeMap<i32, (i32, i32)>);

impl Families {
    /// As they are now.
    pub(crate) fn now() -> Self {
        let parent = |process: &Stat| process.parent.map_or(0, |parent| parent.as_raw_nonzero().get());
        Self(Stat::all().map(|process| (process.pid, (parent(&process), process.group))).collect())
    }

    /// The first process, among these, of the worker that a process belongs to. The group of a worker, where it has its own, has the
    /// number of its first process, also when that has ended.
    pub(crate) fn first_of(&self, pid: i32, firsts: &BTreeSet<i32>) -> Option<i32> {
        let parent = |pid: &i32| self.0.get(pid).map(|(parent, _)| *parent);
        let ancestry = std::iter::successors(Some(pid), parent).take(ANCESTORS);
        let group = |pid| self.0.get(&pid).map(|(_, group)| [pid, *group]);
        ancestry.filter_map(group).flatten().find(|number| firsts.contains(number))
    }

    /// All processes of these workers, each with the first one of its worker.
    pub(crate) fn of(&self, firsts: &BTreeSet<i32>) -> Vec<(i32, i32)> {
        self.0.keys().filter_map(|pid| Some((*pid, self.first_of(*pid, firsts)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_belongs_to_the_worker_of_its_group_or_of_an_ancestor() {
        // 10, 20 and 40 are workers. 12 has left the group of 10, and 13 is a child of it; 21's parent has ended; 40 has no
        // group of its own.
        let processes = [
            (40, 1, 1),
            (41, 40, 1),
            (1, 0, 1),
            (10, 1, 10),
            (11, 10, 10),
            (12, 11, 12),
            (13, 12, 12),
            (21, 1, 20),
            (30, 1, 30),
        ];
        let families =
            Families(processes.into_iter().map(|(pid, parent, group)| (pid, (parent, group))).collect());
        let workers = BTreeSet::from([10, 20, 40]);
        let first_of = |pid| families.first_of(pid, &workers);
        assert_eq!([10, 11, 12, 13, 21].map(first_of), [Some(10), Some(10), Some(10), Some(10), Some(20)]);
        assert_eq!([40, 41].map(first_of), [Some(40), Some(40)]);
        assert_eq!([1, 30, 99].map(first_of), [None; 3]);
        assert_eq!(
            families.of(&workers),
            [(10, 10), (11, 10), (12, 10), (13, 10), (21, 20), (40, 40), (41, 40)]
        );
    }

    #[test]
    fn a_circle_of_parents_ends() {
        // Processes are read one after the other, and numbers are used again meanwhile.
        let families = Families([(2, (3, 2)), (3, (2, 3))].into());
        assert_eq!(families.first_of(2, &BTreeSet::from([7])), None);
    }

    #[test]
    fn this_process_belongs_to_its_own_group() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let group = rustix::process::getpgrp().as_raw_nonzero().get();
        assert_eq!(Families::now().first_of(own, &BTreeSet::from([group])), Some(group));
    }
}
