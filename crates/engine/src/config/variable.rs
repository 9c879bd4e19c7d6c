//! Environment variables that a user chooses for workers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

use recluster_wire::env::is_reserved;
use serde::{Deserialize, Serialize};

use crate::report::variable::VariableError;

/// Variables that decide whether and how a worker is started, so that a slot's number in one of them would do harm.
const NEEDED: [&str; 3] = ["NODE_OPTIONS", "PATH", "PWD"];

/// The longest variable that the kernel hands to a program, in bytes: name, `=`, value and the end.
const MOST: usize = 128 * 1024;
/// How many bytes of names and values [`Variables`] hold at most.
pub(crate) const MOST_OF_ALL: usize = 32 * 1024;

/// Whether a user may choose the value of this variable.
pub fn check_variable(name: &OsStr) -> Result<(), VariableError> {
    let shown = || name.to_string_lossy().into_owned();
    let is_odd = |byte: &u8| matches!(byte, b'=' | b'\0'..=b' ' | 0x7f);
    if name.is_empty() || name.as_encoded_bytes().iter().any(is_odd) {
        return Err(VariableError::NotAName(shown()));
    }
    if is_reserved(name) { Err(VariableError::Reserved(shown())) } else { Ok(()) }
}

/// Whether a variable of this name can have this value.
pub(crate) fn check_value(name: &str, value: &str) -> Result<(), VariableError> {
    if value.contains('\0') {
        return Err(VariableError::Nul(name.to_owned()));
    }
    let length = name.len() + value.len() + 2;
    if length > MOST { Err(VariableError::TooLong(name.to_owned())) } else { Ok(()) }
}

/// Variables that a reload sets for workers: checked, and bounded in bytes. `Debug` shows their names alone.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// These variables.
    ///
    /// # Errors
    ///
    /// When a name or a value cannot be one, a name is reserved, or all of them are too long.
    pub fn new(
        variables: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Result<Self, VariableError> {
        variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect::<BTreeMap<_, _>>()
            .try_into()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// These, with others on top of them. They may be more than the bound, by as much again.
    pub(crate) fn on_top(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Whether they keep to the bound.
    pub(crate) fn check_bound(&self) -> Result<(), VariableError> {
        let bytes: usize = self.0.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > MOST_OF_ALL { Err(VariableError::TooMuch(MOST_OF_ALL)) } else { Ok(()) }
    }
}

impl TryFrom<BTreeMap<String, String>> for Variables {
    type Error = VariableError;

    fn try_from(variables: BTreeMap<String, String>) -> Result<Self, VariableError> {
        for (name, value) in &variables {
            check_variable(name.as_ref())?;
            check_value(name, value)?;
        }
        let variables = Self(variables);
        variables.check_bound().map(|()| variables)
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A variable in which each worker finds the number of its slot, beside `WORKER_ID`: programs written for pm2 look for
/// `NODE_APP_INSTANCE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    fn what_reloads_set_is_checked_and_bounded_and_shows_no_value() {
        let variables = Variables::new([("B", "hunter2"), ("A", "")]).unwrap();
        assert_eq!(format!("{variables:?}"), r#"{"A", "B"}"#);
        let error = |name: &str, value: &str| Variables::new([(name, value)]).unwrap_err().to_string();
        assert!(error("LISTEN_FDS", "1").starts_with("LISTEN_FDS is reserved"));
        assert_eq!(error("A", "hunter2\0"), "the value of A holds a NUL character");
        let most = "x".repeat(MOST_OF_ALL - 1);
        assert!(error("A", &format!("{most}x")).contains("more than 32768 bytes"));
        let full = Variables::new([("A", most.as_str())]).unwrap();
        let more = full.clone().on_top(Variables::new([("B", "")]).unwrap());
        assert!(more.check_bound().is_err(), "what was set before counts");
        let replaced = full.on_top(Variables::new([("A", "b")]).unwrap());
        assert_eq!(replaced.iter().collect::<Vec<_>>(), [("A", "b")]);
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
