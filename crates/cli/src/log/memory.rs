//! What a log has to remember so that a later line says what it should: it is one for as long as the cluster runs, whichever program
//! writes it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use recluster::host::{AdoptError, Inheritance, SaveError, Saving};
use serde::{Deserialize, Serialize};

use super::aside::Aside;
use super::deaths::Deaths;
use super::words::Narrator;

/// The name of the part in which it is left.
const PART: &str = "journal";

/// All of it. What another program has not left begins anew.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Memory {
    pub(super) narrator: Narrator,
    pub(super) deaths: Deaths,
    pub(super) aside: Aside,
    /// Lines that could not be written since the last one that was.
    pub(super) lost: u64,
}

impl Memory {
    /// What the program before has left.
    pub(crate) fn left(inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        Ok(inheritance.part(PART)?.unwrap_or_default())
    }
}

/// That of the log which is being written: whoever writes it and whoever leaves it have it in common. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Remembered(Arc<Mutex<Memory>>);

impl Remembered {
    pub(super) fn new(memory: Memory) -> Self {
        Self(Arc::new(Mutex::new(memory)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves it to another program.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        saving.put(PART, &*self.lock())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::time::{Duration, Instant};

    use recluster::{Address, Event, Worker};
    use serde_json::json;

    use super::*;

    fn worker() -> Worker {
        serde_json::from_value(json!({"id": 7, "slot": 1, "generation": 1, "pid": 7})).unwrap()
    }

    #[test]
    fn another_program_says_what_this_one_would_have_said() {
        let (mut memory, began) = (Memory::default(), Instant::now());
        let bound = Address::Unix(OsString::from_vec(vec![b'/', 0xff]).into());
        memory.narrator.words(&Event::Bound { name: None, address: bound });
        for _ in 0..9 {
            memory.deaths.hear(&Event::Respawning { worker: worker(), delay: Duration::ZERO }, began);
        }
        memory.lost = 3;
        let text = serde_json::to_string(&memory).unwrap();
        let mut next: Memory = serde_json::from_str(&text).unwrap();
        let now = began + Duration::from_secs(2);
        for memory in [&mut memory, &mut next] {
            let meaning =
                memory.deaths.hear(&Event::Respawning { worker: worker(), delay: Duration::ZERO }, now);
            let sum = meaning.sum.map(|sum| (sum.respawns, sum.within));
            assert_eq!(sum, Some((10, Duration::from_secs(2))));
            let serving = Event::Serving { worker: worker(), serving: 1, of: 2 };
            assert_eq!(memory.deaths.hear(&serving, now).again_after, Some(Duration::from_secs(2)));
            let started = memory.narrator.words(&Event::Started { generation: 1, workers: 2 });
            assert!(started.contains("on unix:/"), "{started}");
            assert_eq!(memory.lost, 3);
        }
    }

    /// Written by the first program that left this.
    #[test]
    fn what_was_left_is_read_with_less_and_with_more_in_it() {
        let left = json!({
            "narrator": {
                "pid": 4700, "addresses": ["http://[::1]:80"], "served": [], "bound": [{"tcp": "[::1]:80"}], "hint": null, "unkillable": [7]
            },
            "deaths": {"row": {"began": 5, "last": 6, "respawns": 1, "next_sum": 10}, "lost": {"1": 6}},
            "aside": {"worker": 7, "line": "it has ended\n"},
            "lost": 0,
        });
        let memory: Memory = serde_json::from_value(left.clone()).unwrap();
        assert_eq!(serde_json::to_value(&memory).unwrap(), left);
        assert!(memory.aside.due().is_some_and(|due| due <= Instant::now()));
        serde_json::from_value::<Memory>(json!({"lost": 1, "later": []})).unwrap();
    }
}
