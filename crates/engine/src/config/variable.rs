//! Names of environment variables that a user chooses for workers.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

use recluster_wire::env::is_reserved;

/// Variables that decide whether and how a worker is started, so that a slot's number in one of them would do harm.
const NEEDED: [&str; 3] = ["NODE_OPTIONS", "PATH", "PWD"];

/// Why a name cannot be that of a variable for workers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VariableError {
    /// No variable has such a name.
    #[error("{0:?} cannot be the name of an environment variable")]
    NotAName(String),
    /// Each worker gets its own value of it, or must have none.
    #[error("{0} is reserved: recluster itself sets it for each worker, or keeps it from workers")]
    Reserved(String),
    /// A number in it would do harm.
    #[error("{0} cannot hold the slot: it decides how a worker is started")]
    Needed(String),
}

/// Whether a user may choose the value of this variable.
pub(crate) fn check_variable(name: &OsStr) -> Result<(), VariableError> {
    let shown = || name.to_string_lossy().into_owned();
    let is_odd = |byte: &u8| matches!(byte, b'=' | b'\0'..=b' ' | 0x7f);
    if name.is_empty() || name.as_encoded_bytes().iter().any(is_odd) {
        return Err(VariableError::NotAName(shown()));
    }
    if is_reserved(name) { Err(VariableError::Reserved(shown())) } else { Ok(()) }
}

/// A variable in which each worker finds the number of its slot, beside `WORKER_ID`: programs written for pm2 look for
/// `NODE_APP_INSTANCE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceEnv(String);

impl InstanceEnv {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceEnv {
    type Err = VariableError;

    fn from_str(name: &str) -> Result<Self, VariableError> {
        check_variable(name.as_ref())?;
        if NEEDED.contains(&name) {
            return Err(VariableError::Needed(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for InstanceEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str) -> String {
        name.parse::<InstanceEnv>().map_or_else(|error| error.to_string(), |_| "none".to_owned())
    }

    #[test]
    fn a_name_is_a_name() {
        for name in ["NODE_APP_INSTANCE", "instance", "my.instance", "X"] {
            assert_eq!(refusal(name), "none");
        }
        for name in ["", "A=B", "A B", "A\n", "A\0B"] {
            assert!(refusal(name).ends_with("cannot be the name of an environment variable"), "{name:?}");
        }
        assert_eq!(refusal("A\nB"), r#""A\nB" cannot be the name of an environment variable"#);
    }

    #[test]
    fn what_recluster_sets_and_what_a_worker_needs_is_no_place_for_a_slot() {
        for name in ["WORKER_ID", "RECLUSTER_WORKERS", "NODE_UNIQUE_ID", "LISTEN_FDS", "EINHORN_FD_0"] {
            assert!(refusal(name).starts_with(&format!("{name} is reserved: ")), "{name}");
        }
        for name in ["PATH", "NODE_OPTIONS", "PWD"] {
            assert_eq!(
                refusal(name),
                format!("{name} cannot hold the slot: it decides how a worker is started")
            );
        }
    }
}
