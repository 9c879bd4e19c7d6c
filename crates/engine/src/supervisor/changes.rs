//! Files that have changed, until the reload that they lead to: people are told of it with their names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use recluster_core as core;
use serde::{Deserialize, Serialize};

use crate::config::watched::{Kind, Watched};
use crate::guard::Panicked;
use crate::report::error::StartError;
use crate::report::event::Event;
use crate::sink::Sink;
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, plain};
use crate::watch::Watcher;
use crate::watch::seen::{LastLook, Sighting};

const PART: &str = "changes";

/// How many files are named.
const NAMED: usize = 3;

/// The thread that watches, if anything is watched, and what it has seen.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    _watcher: Option<Watcher>,
    waiting: BTreeMap<Kind, Named>,
    /// How everything was when people last heard of it.
    looks: Vec<LastLook>,
}

/// What another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    waiting: Vec<Waiting>,
    looks: Vec<LastLook>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    kind: Kind,
    #[serde(flatten)]
    named: Named,
}

/// The first files in the order of their paths, and how many more: a symlink comes before what lies behind it, and is the cause.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Named {
    #[serde(with = "plain")]
    files: BTreeSet<PathBuf>,
    more: usize,
}

impl Changes {
    /// Begins to watch these paths, if there are any, from what another program has seen last. What is in `own` never counts.
    pub(crate) fn watch(
        watched: Vec<Watched>,
        own: &[PathBuf],
        inheritance: Option<&Inheritance>,
        seen: Sink<Sighting>,
        panicked: Sink<Panicked>,
    ) -> Result<Self, StartError> {
        if watched.is_empty() {
            return Ok(Self::default());
        }
        let left = inheritance.map(|inheritance| inheritance.see::<Left>(PART)).transpose()?.flatten();
        let before = left.map(|left| left.looks).unwrap_or_default();
        let thread = Watcher::start(watched, own, &before, seen, panicked)
            .map_err(|source| StartError::System { what: "start the thread that watches files", source })?;
        Ok(Self { looks: thread.looks().to_vec(), _watcher: Some(thread), ..Self::default() })
    }

    /// Leaves what has changed to another program.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        let waiting = self.waiting.iter().map(|(&kind, named)| Waiting { kind, named: named.clone() });
        saving.put(PART, &Left { waiting: waiting.collect(), looks: self.looks.clone() })
    }

    /// Whether what was left can be read.
    pub(crate) fn read(inheritance: &mut Inheritance) -> Result<(), AdoptError> {
        inheritance.needed::<Left>(PART).map(drop)
    }

    /// Goes on with what was left.
    pub(crate) fn go_on(&mut self, inheritance: &mut Inheritance) -> Result<(), AdoptError> {
        let Left { waiting, looks: _ } = inheritance.needed(PART)?;
        self.waiting = waiting.into_iter().map(|Waiting { kind, named }| (kind, named)).collect();
        Ok(())
    }

    /// People have heard of all that was seen until then.
    pub(crate) fn has_looked(&mut self, look: LastLook) {
        if let Some(last) =
            self.looks.iter_mut().find(|last| last.kind == look.kind && last.path == look.path)
        {
            *last = look;
        }
    }

    /// Files have changed. What the policy is to be told of it.
    pub(crate) fn note(&mut self, kind: Kind, files: Vec<PathBuf>, more: usize) -> core::Event {
        let waiting = self.waiting.entry(kind).or_default();
        waiting.more += more;
        waiting.files.extend(files);
        while waiting.files.len() > NAMED {
            waiting.files.pop_last();
            waiting.more += 1;
        }
        core::Event::Changed(match kind {
            Kind::Source => core::Change::Source,
            Kind::Deployed => core::Change::Deployed,
        })
    }

    /// A reload is asked for since files of this kind have changed: what people are told.
    pub(crate) fn become_reload(&mut self, change: core::Change) -> Event {
        let kind = match change {
            core::Change::Source => Kind::Source,
            core::Change::Deployed => Kind::Deployed,
        };
        let Named { files, more } = self.waiting.remove(&kind).unwrap_or_default();
        Event::FilesChanged { files: files.iter().map(|file| file.display().to_string()).collect(), more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_names_some_of_the_files_that_led_to_it_once_each() {
        let mut changes = Changes::default();
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect();
        changes.note(Kind::Deployed, paths(&["/cert.pem"]), 0);
        assert_eq!(
            changes.note(Kind::Source, paths(&["/b", "/d"]), 0),
            core::Event::Changed(core::Change::Source)
        );
        changes.note(Kind::Source, paths(&["/a", "/b", "/c"]), 5);
        let told = |event| {
            let Event::FilesChanged { files, more } = event else { panic!("{event:?}") };
            (files, more)
        };
        let (files, more) = told(changes.become_reload(core::Change::Source));
        assert_eq!((files.join(" ").as_str(), more), ("/a /b /c", 6));
        let (files, more) = told(changes.become_reload(core::Change::Source));
        assert_eq!((files.len(), more), (0, 0), "they are told once");
        assert_eq!(told(changes.become_reload(core::Change::Deployed)).0, ["/cert.pem"]);
    }
}
