//! Looks at the pidfile while the master runs, and has it written again where it is gone.

use std::future::pending;
use std::mem::take;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recluster::{Awaited, begin_aside};
use tokio::time::timeout;

use crate::pidfile::{Fate, Pidfile};

/// How often a pidfile is looked at where nothing else is a reason to: one that is there, and one that is another's.
const KEPT: Duration = Duration::from_secs(60);
const LOST: Duration = Duration::from_secs(10);

/// How long the end of a cluster waits for a look.
const CLOSING: Duration = Duration::from_secs(1);

/// A pidfile that is looked at again and again. Its file system may not answer, and nobody waits for that: a thread looks, one look
/// at a time.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    /// None while it is looked at.
    pidfile: Option<Pidfile>,
    look: Option<Awaited<(Pidfile, Option<Fate>)>>,
    /// There was a reason for another look meanwhile.
    again: bool,
    /// The last look could not be made.
    has_missed: bool,
}

impl Keeper {
    /// Dropping it removes the file; if a look has not ended by then, when that has.
    pub(crate) fn of(pidfile: Pidfile) -> Self {
        let path = pidfile.path.clone();
        Self { path, pidfile: Some(pidfile), look: None, again: false, has_missed: false }
    }

    /// How long after a look the next one is due, where nothing else is a reason for it.
    pub(crate) fn every(&self) -> Duration {
        let is_lost = self.pidfile.as_ref().is_some_and(|pidfile| pidfile.known.is_some());
        if is_lost || self.has_missed { LOST } else { KEPT }
    }

    /// Removes the file. A look that is under way is waited for, as long as it may take on a file system that answers.
    pub(crate) async fn close(mut self) {
        if let Some(look) = &mut self.look {
            // Who looks has the file, which goes when its look is over.
            let _ended = timeout(CLOSING, look).await;
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Has it looked at now. Must be called in a tokio runtime.
    pub(crate) fn look(&mut self) {
        match self.pidfile.take() {
            Some(pidfile) => {
                let begun = begin_aside(pidfile, |mut pidfile| {
                    let fate = pidfile.keep();
                    (pidfile, fate)
                });
                self.has_missed = begun.is_err();
                match begun {
                    Ok(look) => self.look = Some(look),
                    // There is no thread to look, so the next look is the next one.
                    Err((pidfile, _)) => self.pidfile = Some(pidfile),
                }
            }
            None => self.again = true,
        }
    }

    /// What has become of it that people do not know yet.
    pub(crate) async fn looked(&mut self) -> Fate {
        loop {
            let Some(look) = &mut self.look else { return pending().await };
            let ended = look.await;
            self.look = None;
            // An error is a panic, which was heard of: there is no further look.
            let Ok((pidfile, fate)) = ended else { continue };
            self.pidfile = Some(pidfile);
            if take(&mut self.again) {
                self.look();
            }
            if let Some(fate) = fate {
                return fate;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn one_look_is_under_way_at_a_time_and_whoever_asks_meanwhile_has_another() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.pid");
        let mut keeper = Keeper::of(Pidfile::write(&path).unwrap());
        for _ in 0..2 {
            fs::remove_file(&path).unwrap();
            keeper.look();
            assert_eq!(keeper.looked().await, Fate::Restored);
        }
        keeper.look();
        assert!(keeper.pidfile.is_none(), "a thread has it");
        let precious = path.with_extension("precious");
        fs::write(&precious, "precious").unwrap();
        fs::rename(&precious, &path).unwrap();
        keeper.look();
        assert!(keeper.again);
        assert!(matches!(keeper.looked().await, Fate::Lost { .. }));
        keeper.look();
        drop(keeper);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn one_that_is_lost_is_looked_at_more_often() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.pid");
        let mut keeper = Keeper::of(Pidfile::write(&path).unwrap());
        assert_eq!(keeper.every(), KEPT);
        fs::write(&path, "precious").unwrap();
        keeper.look();
        assert!(matches!(keeper.looked().await, Fate::Lost { .. }));
        assert_eq!(keeper.every(), LOST);
        fs::remove_file(&path).unwrap();
        keeper.look();
        assert_eq!(keeper.looked().await, Fate::Restored);
        assert_eq!(keeper.every(), KEPT);
    }

    /// The process ends next, and so would whoever looks.
    #[tokio::test]
    async fn a_look_that_is_under_way_at_the_end_leaves_nothing_behind() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.pid");
        for is_removed in [false, true] {
            let mut keeper = Keeper::of(Pidfile::write(&path).unwrap());
            if is_removed {
                fs::remove_file(&path).unwrap();
            }
            keeper.look();
            keeper.close().await;
            assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
        }
    }
}
