//! Sees that files change: a thread that the kernel wakes (inotify), or that looks every second where the kernel cannot say.
//!
//! An event of the kernel only says that it is time to look. What counts is the difference between two looks: so whatever an editor
//! or a deployment does to a file on the way, and whatever the kernel leaves out, a file has changed or it has not.

pub(crate) mod seen;
mod tree;
mod wake;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::watched::{Kind, Watched};
use crate::guard::{Panicked, Part, guarded};
use crate::sink::Sink;
use crate::watch::seen::{LastLook, Sighting};
use crate::watch::tree::Tree;
use crate::watch::wake::{Bell, Kernel};

/// What people are told has panicked. The cluster serves on without it.
const PART: Part = Part::dispensable("the thread that watches files");
/// How often files are looked at where the kernel does not say that they change.
const POLL: Duration = Duration::from_secs(1);
/// How often what is deployed is looked at in any case: a directory far above may have been moved.
const SAFETY: Duration = Duration::from_secs(60);
/// Between two looks while much is going on; longer where a look takes long.
const BREATH: Duration = Duration::from_millis(20);
/// How often directories that are made meanwhile are looked for before the next breath.
const ROUNDS: usize = 8;
/// How many of the files that have changed are named.
const NAMED: usize = 3;

/// Watches files until it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    bell: Bell,
    /// How everything was when it began.
    looks: Vec<LastLook>,
}

impl Watcher {
    /// Begins to watch, from what a program before has seen last. What is in `own` is written by the master and its workers' output, and never counts.
    pub(crate) fn start(
        watched: Vec<Watched>,
        own: &[PathBuf],
        before: &[LastLook],
        seen: Sink<Sighting>,
        panicked: Sink<Panicked>,
    ) -> io::Result<Self> {
        let (bell, rings) = wake::bell();
        let for_kernel = bell.clone();
        // As they are now, before any worker reads them.
        let trees: Vec<Tree> =
            watched.into_iter().map(|watched| Tree::new(watched, own.to_vec(), before)).collect();
        let looks = trees.iter().map(Tree::last_look).collect();
        let begin = move || {
            guarded(PART, &panicked, move || Watch::new(trees, seen, for_kernel).run(&rings));
        };
        thread::Builder::new().name("recluster-watch".to_owned()).stack_size(512 * 1024).spawn(begin)?;
        Ok(Self { bell, looks })
    }

    /// How everything was when it began.
    pub(crate) fn looks(&self) -> &[LastLook] {
        &self.looks
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.bell.end();
    }
}

struct Watch {
    trees: Vec<Tree>,
    seen: Sink<Sighting>,
    /// None where the files are looked at every second.
    kernel: Option<Kernel>,
    bell: Bell,
    told_of_most: bool,
}

impl Watch {
    fn new(trees: Vec<Tree>, seen: Sink<Sighting>, bell: Bell) -> Self {
        Self { trees, seen, kernel: None, bell, told_of_most: false }
    }

    fn run(mut self, rings: &wake::Rings) {
        let remote = self.trees.iter().find_map(Tree::on_network);
        match remote {
            Some(reason) => self.poll(&reason),
            None => match Kernel::new(self.bell.clone()) {
                Ok(kernel) => self.kernel = Some(kernel),
                Err(reason) => self.poll(&reason),
            },
        }
        self.look();
        while rings.wait(self.patience()) {
            let begin = Instant::now();
            rings.clear();
            self.look();
            // However fast files change, most of the time is left for others.
            thread::sleep(BREATH.max(begin.elapsed() * 2));
        }
    }

    /// How long nothing need be looked at unless the kernel says so.
    fn patience(&self) -> Option<Duration> {
        let has_deployed = self.trees.iter().any(|tree| tree.kind() == Kind::Deployed);
        if self.kernel.is_none() { Some(POLL) } else { has_deployed.then_some(SAFETY) }
    }

    /// Looks at everything, and once more where that has found a directory that was not watched: files may have been written there
    /// since.
    fn look(&mut self) {
        for _ in 0..ROUNDS {
            let mut directories = BTreeSet::new();
            for tree in &mut self.trees {
                if let Some(seen) = tree.look(NAMED) {
                    self.seen.send(seen);
                }
                directories.extend(tree.directories().iter().cloned());
            }
            self.tell_of_most();
            let Some(kernel) = &mut self.kernel else { return };
            match kernel.fit(&directories) {
                Ok(false) => return,
                Ok(true) => {}
                Err(reason) => self.poll(&reason),
            }
        }
    }

    fn poll(&mut self, reason: &str) {
        self.kernel = None;
        self.seen.send(Sighting::Limited { reason: format!("files are looked at every second: {reason}") });
    }

    fn tell_of_most(&mut self) {
        let full = self.trees.iter().find(|tree| tree.is_full()).filter(|_| !self.told_of_most);
        if let Some(tree) = full {
            self.told_of_most = true;
            let (path, most) = (tree.path().display(), tree::MOST);
            let reason = format!(
                "only {most} of the files in {path} are looked at: watch less, or name in .gitignore what is not source"
            );
            self.seen.send(Sighting::Limited { reason });
        }
    }
}

#[cfg(test)]
mod tests;
