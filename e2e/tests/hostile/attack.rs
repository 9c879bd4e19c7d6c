//! What an attack is: a row of data.

use serde_json::{Value, json};

/// One attack. What it sends is written as [`recluster_e2e::written`] says.
#[derive(Debug)]
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) by: By,
    /// What is sent, again and again, in turn.
    pub(crate) sends: &'static [&'static str],
    /// What keeps it from growing in the master.
    pub(crate) bound: &'static str,
}

/// Who attacks, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// A worker over its channel: with so many descriptors each time; it reads its channel, or not; it dies after so many times.
    Channel { descriptors: u64, reads: bool, dies_after: Option<u64> },
    /// A worker over its `NOTIFY_SOCKET`, with so many descriptors each time.
    Notify { descriptors: u64 },
    /// A worker on its stderr, dying after so many times.
    Stderr { dies_after: Option<u64> },
    /// The same on its stdout.
    Stdout { dies_after: Option<u64> },
    /// A client of the control socket, of which there are many. Each sends its texts, reads nothing, and stays or leaves at once.
    Control { leaves: bool },
    /// A client of the control socket that is obeyed, since it may ask for this: a siege can end so.
    ControlEnds,
    /// A client of the admin listener. It sends its texts, reads nothing, and stays or leaves at once.
    Admin { leaves: bool },
    /// A client of the server. It sends its texts and stays, or resets the connection at once.
    Network { resets: bool },
    /// Whoever was to read the log. It is so in every siege.
    Log,
}

/// A worker over its channel, which it reads.
pub(crate) const READS: By = By::Channel { descriptors: 0, reads: true, dies_after: None };
/// A worker over its channel, which it never reads.
pub(crate) const DEAF: By = By::Channel { descriptors: 0, reads: false, dies_after: None };
/// The same with a descriptor each time.
pub(crate) const PASSES: By = By::Channel { descriptors: 1, reads: true, dies_after: None };
/// A worker over its `NOTIFY_SOCKET`.
pub(crate) const NOTIFIES: By = By::Notify { descriptors: 0 };
/// A client of the control socket that stays.
pub(crate) const STAYS: By = By::Control { leaves: false };
/// A client of the control socket that does not wait for its answer.
pub(crate) const LEAVES: By = By::Control { leaves: true };

impl Attack {
    pub(crate) const fn new(
        name: &'static str,
        by: By,
        sends: &'static [&'static str],
        bound: &'static str,
    ) -> Self {
        Self { name, by, sends, bound }
    }

    /// What the program `hostile` is to do, if this is a worker's attack.
    pub(crate) fn order(&self) -> Option<Value> {
        let (by, descriptors, reads, dies_after) = match self.by {
            By::Channel { descriptors, reads, dies_after } => ("channel", descriptors, reads, dies_after),
            By::Notify { descriptors } => ("notify", descriptors, true, None),
            By::Stderr { dies_after } => ("stderr", 0, true, dies_after),
            By::Stdout { dies_after } => ("stdout", 0, true, dies_after),
            By::Control { .. } | By::ControlEnds | By::Admin { .. } | By::Network { .. } | By::Log => {
                return None;
            }
        };
        Some(json!({
            "by": by, "first": [ONLINE], "again": self.sends, "descriptors": descriptors, "reads": reads,
            "dies_after": dies_after,
        }))
    }
}

/// What Node says before any code of the user runs.
pub(crate) const ONLINE: &str = r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#;
