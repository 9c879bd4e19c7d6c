//! How a reload ended, and why a worker did not come to serve.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::report::worker::Worker;

/// How a reload ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "a caller that waits for a reload must handle each of them")]
pub enum Verdict {
    /// Every slot is served by the new generation.
    Done,
    /// The new generation failed and was taken down; the old one serves on.
    RolledBack {
        /// Why.
        failure: Failure,
    },
    /// The new generation failed after some slots were replaced; those keep the new code.
    StoppedPartWay {
        /// How many slots run the new generation.
        replaced: u32,
        /// Of how many.
        of: u32,
        /// Why.
        failure: Failure,
    },
    /// The cluster was stopped, terminated or released before the reload ended.
    Abandoned,
    /// The reload could not begin: what the cluster is to be now makes no sense. Nothing was touched.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What someone is told who waits for a reload.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) verdict: Verdict,
    /// The settings that were said to be other ones and that no reload changes.
    pub(crate) needs_restart: Vec<String>,
}

impl From<Verdict> for Told {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, needs_restart: Vec::new() }
    }
}

/// Why a worker did not come to serve, with everything a person needs to fix it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The worker that failed last.
    pub worker: Worker,
    /// What happened, such as `exited with status 1 before it served`.
    pub reason: String,
    /// How often its slot had failed by then.
    pub failures: u32,
    /// The last lines that it wrote to its stderr.
    pub stderr: Vec<String>,
    /// What is probably wrong, where we recognise it.
    pub hint: Option<String>,
}

/// One worker was replaced within its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "it is who went and who came")]
pub struct Replaced {
    /// The one that goes. It may still finish what it has.
    pub worker: Worker,
    /// The one that serves in its place.
    pub by: Worker,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} (slot {}", self.worker.id, self.worker.slot)?;
        if let Some(pid) = self.worker.pid {
            write!(f, ", pid {pid}")?;
        }
        write!(f, ") {}", self.reason)?;
        if self.failures > 1 {
            write!(f, ", failure {} of its slot", self.failures)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::report) fn failure(failures: u32) -> Failure {
        let worker = Worker { id: 5, slot: 0, generation: 2, pid: Some(7) };
        let reason = "exited with status 1".to_owned();
        Failure { worker, reason, failures, stderr: vec!["boom".to_owned()], hint: None }
    }

    #[test]
    fn a_failure_is_one_line() {
        assert_eq!(failure(1).to_string(), "worker 5 (slot 0, pid 7) exited with status 1");
        assert_eq!(
            failure(3).to_string(),
            "worker 5 (slot 0, pid 7) exited with status 1, failure 3 of its slot"
        );
        let mut unstarted = failure(1);
        unstarted.worker.pid = None;
        assert_eq!(unstarted.to_string(), "worker 5 (slot 0) exited with status 1");
    }
}
