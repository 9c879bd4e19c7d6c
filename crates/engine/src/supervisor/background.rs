//! What workers leave in the background when they end. It is looked for once of each generation, aside; the workers of which it is
//! looked for count as alive meanwhile, so that the verdict can name what was found.

use std::time::Duration;

use recluster_core::WorkerId;
use serde::{Deserialize, Serialize};

/// How soon after its start a worker ends that puts its server into the background.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// What is known of the last generation of which something was looked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Background {
    generation: Option<u64>,
    /// What was found, and what to do.
    found: Option<String>,
    /// The workers that wait for what is found, each with its generation.
    waiting: Vec<(u64, WorkerId)>,
}

/// What is to be done with a worker that may have left something.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Look,
    Wait,
    Bury,
}

impl Background {
    /// Whether something is being looked for.
    pub(crate) fn is_looked_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What was found of this generation.
    pub(crate) fn of(&self, generation: u64) -> Option<String> {
        self.found.clone().filter(|_| self.generation == Some(generation))
    }

    pub(super) fn ends(&mut self, generation: u64, worker: WorkerId) -> Next {
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
