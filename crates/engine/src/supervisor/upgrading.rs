//! Another program takes the place of this one, under its workers.

use tokio::sync::oneshot;

use crate::process::successor::{NOT_HERE, Upgraded, Wanted};
use crate::supervisor::Supervisor;

impl Supervisor {
    /// Has another program take this one's place, or says why it does not.
    pub(super) fn upgrade(&self, wanted: Wanted, reply: oneshot::Sender<Result<Upgraded, String>>) {
        let _ = (wanted, &self.successor);
        let _ = reply.send(Err(NOT_HERE.to_owned()));
    }
}
