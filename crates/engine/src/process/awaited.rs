//! Children that somebody here waits for, and those that nobody does: processes whose parent has ended become children of the
//! nearest ancestor that takes them, which is the master where it is the first process of a container, or was told to be a
//! subreaper. Somebody has to reap them.
//!
//! The kernel does not tell the ones from the others where one thread is the parent of both, so a list says which are ours.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};

use crate::process::stat::Stat;

const ENDED: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG);

/// Those that were started by one thread. Only that thread reaps the others: it is not about to start one meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Awaited(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    /// By which claim each is awaited.
    children: HashMap<Pid, u64>,
    claims: u64,
}

/// Somebody waits for a child. Once this is dropped nobody does.
#[derive(Debug)]
pub(crate) struct Claim {
    child: Pid,
    number: u64,
    of: Awaited,
}

impl Awaited {
    /// To be called by the thread that has started the child, before it does anything else.
    pub(crate) fn claim(&self, child: Pid) -> Claim {
        let mut list = self.lock();
        list.claims += 1;
        let number = list.claims;
        list.children.insert(child, number);
        Claim { child, number, of: self.clone() }
    }

    /// Reaps those that have ended and that nobody waits for. To be called by the thread that starts processes.
    pub(crate) fn reap_others(&self) {
        self.reap_others_of(children);
    }

    fn reap_others_of(&self, children: impl Fn() -> Vec<Pid>) {
        // An error says that there is no child at all.
        while matches!(waitid(WaitId::All, ENDED | WaitIdOptions::NOWAIT), Ok(Some(_))) {
            let others = children().into_iter().filter(|child| !self.has(*child));
            let reaped = others.filter(|child| matches!(waitid(WaitId::Pid(*child), ENDED), Ok(Some(_))));
            if reaped.count() == 0 {
                return;
            }
        }
    }

    fn has(&self, child: Pid) -> bool {
        self.lock().children.contains_key(&child)
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut list = self.of.lock();
        // It was reaped, and another child may have its number by now.
        if list.children.get(&self.child) == Some(&self.number) {
            list.children.remove(&self.child);
        }
    }
}

/// The children of this process's first thread, to which the kernel gives orphans.
fn children() -> Vec<Pid> {
    let own = getpid();
    let number = own.as_raw_nonzero();
    match fs::read_to_string(format!("/proc/{number}/task/{number}/children")) {
        Ok(children) => {
            children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)).collect()
        }
        // A kernel that was built without this list.
        Err(_) => children_among_all(own),
    }
}

fn children_among_all(parent: Pid) -> Vec<Pid> {
    let children = Stat::all().filter(|process| process.parent == Some(parent));
    children.filter_map(|child| Pid::from_raw(child.pid)).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_number_that_another_child_has_by_now_stays_claimed() {
        let (awaited, child) = (Awaited::default(), getpid());
        let first = awaited.claim(child);
        let second = awaited.claim(child);
        drop(first);
        assert!(awaited.has(child));
        drop(second);
        assert!(!awaited.has(child));
    }

    /// The kernel tells of the oldest first, for which somebody waits who takes his time.
    #[test]
    fn one_that_is_awaited_stands_in_nobody_s_way() {
        let mut children = [0; 3].map(|_| Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap());
        let pids = children.each_ref().map(Pid::from_child);
        let awaited = Awaited::default();
        let _claim = awaited.claim(pids[0]);
        for pid in pids {
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        }
        awaited.reap_others_of(|| pids.to_vec());
        assert!(children[1..].iter_mut().all(|child| child.wait().is_err()), "they were reaped");
        assert_eq!(children[0].wait().unwrap().code(), Some(7));
    }

    #[test]
    fn children_are_found_in_the_list_of_all_processes() {
        let mut child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        assert!(children_among_all(getpid()).contains(&Pid::from_child(&child)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
