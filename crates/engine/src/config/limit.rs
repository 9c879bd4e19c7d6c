//! What the kernel allows a worker of something, as people write it: `nofile=65536`, `core=0`, `as=2G`, `nofile=1024:65536`.

use std::fmt;
use std::str::FromStr;

use rustix::process::{Resource, Rlimit};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::size;

/// What can be limited: how `ulimit` and a service manager call it, the kernel's own name for it, and whether it is in bytes.
const RESOURCES: [(&str, Resource, bool); 9] = [
    ("as", Resource::As, true),
    ("core", Resource::Core, true),
    ("cpu", Resource::Cpu, false),
    ("data", Resource::Data, true),
    ("fsize", Resource::Fsize, true),
    ("memlock", Resource::Memlock, true),
    ("nofile", Resource::Nofile, false),
    ("nproc", Resource::Nproc, false),
    ("stack", Resource::Stack, true),
];

/// A limit of workers: the soft one, which a worker may raise, and the hard one, up to which it may.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    name: &'static str,
    resource: Resource,
    /// None: no limit.
    soft: Option<u64>,
    hard: Option<u64>,
}

/// Why a text is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// It has no `=`.
    #[error("a limit is NAME=VALUE or NAME=SOFT:HARD, such as nofile=65536")]
    NoValue,
    /// Nothing is called so.
    #[error("{0:?} is no limit; there are {names}", names = names())]
    Name(String),
    /// A value is no number, or too large.
    #[error("{0:?} is no value; one is a number (of bytes also 512K, 64M, 2G), or unlimited")]
    Value(String),
    /// The soft limit would be above the hard one.
    #[error("the first value, the soft limit, is above the second one, the hard limit")]
    Above,
}

fn names() -> String {
    RESOURCES.map(|(name, ..)| name).join(", ")
}

impl Limit {
    /// What is limited, such as `nofile`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Up to where a worker may raise it; none where there is no limit.
    pub fn hard(&self) -> Option<u64> {
        self.hard
    }

    pub(crate) fn resource(&self) -> Resource {
        self.resource
    }

    pub(crate) fn values(&self) -> Rlimit {
        Rlimit { current: self.soft, maximum: self.hard }
    }
}

impl FromStr for Limit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let (name, values) = text.split_once('=').ok_or(LimitError::NoValue)?;
        let known = RESOURCES.into_iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
        let (name, resource, in_bytes) = known.ok_or_else(|| LimitError::Name(name.to_owned()))?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (value(soft, in_bytes)?, value(hard, in_bytes)?);
        if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
            return Err(LimitError::Above);
        }
        Ok(Self { name, resource, soft, hard })
    }
}

fn value(text: &str, in_bytes: bool) -> Result<Option<u64>, LimitError> {
    let wrong = || LimitError::Value(text.to_owned());
    if ["unlimited", "infinity"].iter().any(|word| word.eq_ignore_ascii_case(text)) {
        return Ok(None);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if in_bytes || is_number { size::bytes(text) } else { None };
    // The highest one is how the kernel writes that there is no limit.
    number.filter(|number| *number != u64::MAX).map(Some).ok_or_else(wrong)
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: Option<u64>| value.map_or("unlimited".to_owned(), |value| value.to_string());
        write!(f, "{}={}", self.name, shown(self.soft))?;
        if self.soft == self.hard { Ok(()) } else { write!(f, ":{}", shown(self.hard)) }
    }
}

/// As people write it.
impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limit({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_both_limits_and_two_are_the_soft_and_the_hard_one() {
        let said = |text: &str| text.parse::<Limit>().unwrap().to_string();
        for text in ["nofile=65536", "nofile=1024:65536", "core=0", "core=0:unlimited", "nproc=unlimited"] {
            assert_eq!(said(text), text);
        }
        assert_eq!(said("NOFILE=infinity"), "nofile=unlimited");
        assert_eq!(
            (said("as=2G"), said("memlock=64k:1M")),
            ("as=2147483648".into(), "memlock=65536:1048576".into())
        );
        let hard = |text: &str| text.parse::<Limit>().map(|limit| (limit.name(), limit.hard()));
        assert_eq!(hard("NOFILE=1:2"), Ok(("nofile", Some(2))));
        assert_eq!(hard("core=0:unlimited"), Ok(("core", None)));
    }

    #[test]
    fn what_is_no_limit_is_refused_with_what_is_wrong() {
        let refused = |text: &str| text.parse::<Limit>().unwrap_err();
        assert_eq!(refused("nofile"), LimitError::NoValue);
        assert_eq!(refused("files=1"), LimitError::Name("files".into()));
        assert!(refused("files=1").to_string().contains("as, core, cpu"));
        assert_eq!(
            (refused("core=2:1"), refused("core=unlimited:1")),
            (LimitError::Above, LimitError::Above)
        );
        for value in ["", "-1", "1k", "+1", "18446744073709551616", "18446744073709551615", "many"] {
            assert_eq!(refused(&format!("nofile={value}")), LimitError::Value(value.into()));
        }
        assert_eq!(refused("as=99999999T"), LimitError::Value("99999999T".into()));
    }
}
