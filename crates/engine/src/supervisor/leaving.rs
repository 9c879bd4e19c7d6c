//! What the supervisor leaves to another program, and how it goes on with what a program before has left.

use crate::supervisor::Supervisor;
use crate::supervisor::beginning::{self, Adopted, Rest};
use crate::upgrade::{SaveError, Saving};

impl Supervisor {
    /// Begins what was adopted. The program before is not gone back to any more.
    pub(super) fn go_on_with(&mut self, adopted: Adopted) {
        let Adopted { watching, outliving, passages, notifies, checks, came } = adopted;
        self.goes_on = Some(came.event());
        self.spawner.begin(passages);
        outliving.begin();
        for watching in watching {
            watching.begin();
        }
        for (worker, notify) in notifies {
            if let Some(child) = self.workers.get_mut(worker) {
                child.notify = Some(notify.start(worker, child.process.kin(), self.spawner.events()));
            }
        }
        for (worker, left) in checks {
            self.begin_checks(worker, left);
        }
        // There may be others now.
        self.watch_limits();
        self.look_at_kills_again();
    }

    /// Leaves all that the supervisor knows to another program, but for what the service manager believes. Changes nothing.
    pub(super) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        self.policy.save(saving)?;
        self.generations.save(saving)?;
        self.workers.save(saving)?;
        self.leftovers.save(saving)?;
        self.oom_kills.save(saving)?;
        self.audience.save(saving)?;
        self.callers.save(saving)?;
        self.changes.save(saving)?;
        self.caches.save(saving)?;
        self.timers.save(saving)?;
        self.spawner.save(saving)?;
        if let Some(hooks) = &self.hooks {
            hooks.save(saving)?;
        }
        saving.put(beginning::BALANCE, &self.balance)?;
        let rest = Rest {
            told: self.told.clone(),
            ignored: self.ignored.clone(),
            warned_of_keep_alive: self.warned_of_keep_alive,
            has_started: self.progress.borrow().started,
        };
        saving.put(beginning::PART, &rest)
    }
}

#[cfg(test)]
mod tests;
