//! What workers leave in the background when they end. It is looked for once of each generation, aside; the workers of which it is
//! looked for count as alive meanwhile, so that the verdict can name what was found.

use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::WorkerId;

use crate::process::background::Ended;
use crate::process::program::ResolvedProgram;
use crate::socket::holder::Holder;
use crate::supervisor::Supervisor;
use crate::supervisor::child::Child;
use crate::supervisor::explain;
use crate::supervisor::input::Input;
use crate::supervisor::timers::Timer;

/// How soon after its start a worker ends that puts its server into the background.
const SOON: Duration = Duration::from_secs(60);

/// What is known of the last generation of which something was looked for.
#[derive(Debug, Default)]
pub(crate) struct Background {
    generation: Option<u64>,
    /// What was found, and what to do.
    found: Option<String>,
    /// The workers that wait for what is found, each with its generation.
    waiting: Vec<(u64, WorkerId)>,
}

/// What is to be done with a worker that may have left something.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Look,
    Wait,
    Bury,
}

impl Background {
    /// What was found of this generation.
    pub(crate) fn of(&self, generation: u64) -> Option<String> {
        self.found.clone().filter(|_| self.generation == Some(generation))
    }

    fn ends(&mut self, generation: u64, worker: WorkerId) -> Next {
        let is_looked_for = self.waiting.iter().any(|(of, _)| *of == generation);
        if !is_looked_for && self.generation == Some(generation) {
            return Next::Bury;
        }
        if !is_looked_for {
            (self.generation, self.found) = (Some(generation), None);
        }
        self.waiting.push((generation, worker));
        if is_looked_for { Next::Wait } else { Next::Look }
    }

    /// The workers that have waited for this.
    pub(crate) fn finds(&mut self, generation: u64, found: Option<String>) -> Vec<WorkerId> {
        (self.generation, self.found) = (Some(generation), found);
        let waited = self.waiting.extract_if(.., |(of, _)| *of == generation);
        waited.map(|(_, worker)| worker).collect()
    }
}

impl Supervisor {
    /// The worker's process has ended, and everything that it said has been heard.
    pub(super) fn bury_or_look(&mut self, worker: WorkerId) {
        let Some(child) = self.workers.get(worker) else { return };
        let generation = child.generation.get();
        if !self.may_have_left(child) {
            self.bury(worker);
            return;
        }
        let ended = self.ended(child);
        let next = self.told.left.ends(generation, worker);
        if next == Next::Bury {
            self.bury(worker);
            return;
        }
        self.timers.clear(Timer::Watchdog(worker));
        if let Some(child) = self.workers.get_mut(worker) {
            child.ends();
        }
        // It does not come to serve meanwhile.
        self.tell(core::Event::Unready(worker));
        if next == Next::Look {
            let inputs = self.inputs.clone();
            tokio::spawn(async move {
                let left = ended.server().await;
                // It fails when the cluster is over.
                let _ = inputs.send(Input::Left(generation, left));
            });
        }
    }

    /// It was looked for what workers of this generation have left.
    pub(super) fn has_left(&mut self, generation: u64, left: Option<&Holder>) {
        for worker in self.told.left.finds(generation, left.map(explain::in_background)) {
            self.bury(worker);
        }
    }

    /// Whether it has ended by itself soon after its start, and as if all was well.
    pub(super) fn may_have_left(&self, child: &Child) -> bool {
        let is_node = self.generations.program(child.generation).is_none_or(ResolvedProgram::is_node);
        let of_itself = child.process.sent.is_none() && child.process.exit() == core::Exit::Code(0);
        !is_node && of_itself && child.age(Instant::now()) <= SOON
    }

    fn ended(&self, child: &Child) -> Ended {
        let bound = self.spawner.bound().iter();
        let inodes = bound.filter_map(|bound| Some(rustix::fs::fstat(&bound.socket).ok()?.st_ino));
        let notify = child.notify.as_ref().map(|notify| notify.name.as_path());
        Ended::new(child.pid(), notify, inodes, self.workers.own_listeners())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_once_of_each_generation_and_others_wait_for_it() {
        let mut background = Background::default();
        let [one, two, three] = [1, 2, 3].map(WorkerId::from_number);
        assert_eq!(background.ends(1, one), Next::Look);
        assert_eq!(background.ends(1, two), Next::Wait);
        assert_eq!(background.ends(2, three), Next::Look);
        assert_eq!(background.finds(1, Some("it".to_owned())), [one, two]);
        assert_eq!((background.of(1), background.of(2)), (Some("it".to_owned()), None));
        assert_eq!(background.finds(2, None), [three]);
        assert_eq!((background.ends(2, three), background.of(2)), (Next::Bury, None));
    }
}
