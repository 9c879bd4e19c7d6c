//! Users and groups of this machine, as people name them: by name or by number.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;

use nix::unistd::{self, Gid, Uid, User};
use serde::{Deserialize, Serialize};

use crate::upgrade::plain;

/// The number that stands for no user and no group.
const NOBODY_AT_ALL: u32 = u32::MAX;

/// A user, with what its account says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    uid: u32,
    entry: Option<Entry>,
    group: Option<Group>,
}

/// What the machine's list of users has of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    name: String,
    gid: u32,
    #[serde(with = "plain")]
    home: PathBuf,
    #[serde(with = "plain")]
    shell: PathBuf,
}

/// A group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group(u32);

/// Why a text names no user or group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// There is none of this name.
    #[error("there is no {kind} {name:?} on this machine")]
    Unknown {
        /// A user, or a group.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The list could not be read.
    #[error("this machine's list of {kind}s cannot be read: {reason}")]
    Unreadable {
        /// A user, or a group.
        kind: &'static str,
        /// Why not.
        reason: String,
    },
    /// Numbers end below this one.
    #[error("{0} stands for none")]
    Nobody(u32),
}

impl Account {
    /// The same user in another group than its account says. Its other groups are those of the account.
    #[must_use]
    pub fn with_group(mut self, group: Group) -> Self {
        self.group = Some(group);
        self
    }

    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// None where nobody says it.
    pub(crate) fn gid(&self) -> Option<u32> {
        let said = self.group.map(|Group(gid)| gid);
        said.or_else(|| self.entry.as_ref().map(|entry| entry.gid))
    }

    /// Every group that the account is in, as a login would have them.
    pub(crate) fn groups(&self) -> Vec<u32> {
        let Some(gid) = self.gid() else { return Vec::new() };
        self.entry.as_ref().and_then(|entry| groups_of(&entry.name, gid)).unwrap_or_else(|| vec![gid])
    }

    /// Whether it is in the machine's list.
    pub(crate) fn is_listed(&self) -> bool {
        self.entry.is_some()
    }

    /// Has the variables by which a program finds out about its user be about this one.
    pub(crate) fn introduce(&self, env: &mut BTreeMap<OsString, OsString>) {
        let mut say = |name: &str, value: Option<OsString>| match value {
            Some(value) => env.insert(name.into(), value),
            None => env.remove(OsStr::new(name)),
        };
        let entry = self.entry.as_ref();
        let name = || entry.map(|entry| OsString::from(&entry.name));
        say("USER", name());
        say("LOGNAME", name());
        say("HOME", Some(entry.map_or_else(|| "/".into(), |entry| entry.home.clone().into())));
        say("SHELL", entry.map(|entry| entry.shell.clone().into()));
    }
}

impl FromStr for Account {
    type Err = AccountError;

    fn from_str(text: &str) -> Result<Self, AccountError> {
        let number = text.parse().ok();
        let found = match number {
            Some(NOBODY_AT_ALL) => return Err(AccountError::Nobody(NOBODY_AT_ALL)),
            Some(uid) => User::from_uid(Uid::from_raw(uid)),
            None => User::from_name(text),
        };
        let found = found.map_err(|error| unreadable("user", error))?;
        let uid = number.or_else(|| found.as_ref().map(|user| user.uid.as_raw()));
        let uid = uid.ok_or_else(|| AccountError::Unknown { kind: "user", name: text.to_owned() })?;
        let entry = found.map(|User { name, gid, dir, shell, .. }| Entry {
            name,
            gid: gid.as_raw(),
            home: dir,
            shell,
        });
        Ok(Self { uid, entry, group: None })
    }
}

impl Group {
    pub(crate) fn gid(self) -> u32 {
        let Self(gid) = self;
        gid
    }
}

impl FromStr for Group {
    type Err = AccountError;

    fn from_str(text: &str) -> Result<Self, AccountError> {
        match text.parse() {
            Ok(NOBODY_AT_ALL) => return Err(AccountError::Nobody(NOBODY_AT_ALL)),
            Ok(gid) => return Ok(Self(gid)),
            Err(_) => {}
        }
        let found = unistd::Group::from_name(text).map_err(|error| unreadable("group", error))?;
        let unknown = || AccountError::Unknown { kind: "group", name: text.to_owned() };
        found.map(|group| Self(group.gid.as_raw())).ok_or_else(unknown)
    }
}

fn unreadable(kind: &'static str, error: nix::Error) -> AccountError {
    AccountError::Unreadable { kind, reason: error.to_string() }
}

fn groups_of(name: &str, gid: u32) -> Option<Vec<u32>> {
    let name = CString::new(name).ok()?;
    let groups = unistd::getgrouplist(&name, Gid::from_raw(gid)).ok()?;
    Some(groups.into_iter().map(Gid::as_raw).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_name_and_by_its_number() {
        let root: Account = "root".parse().unwrap();
        assert_eq!(root, "0".parse().unwrap());
        assert_eq!((root.uid(), root.gid()), (0, Some(0)));
        assert!(root.groups().contains(&0));
        let mut env = BTreeMap::from([("HOME".into(), "/home/other".into()), ("LANG".into(), "C".into())]);
        root.introduce(&mut env);
        let names: Vec<_> = env.keys().map(|name| name.to_str().unwrap()).collect();
        assert_eq!(names, ["HOME", "LANG", "LOGNAME", "SHELL", "USER"]);
        assert_eq!(env[OsStr::new("USER")], "root");
        assert_ne!(env[OsStr::new("HOME")], "/home/other");
    }

    #[test]
    fn a_number_without_an_account_has_the_group_that_is_said_and_nothing_else() {
        let stranger: Account = "3999999999".parse().unwrap();
        assert_eq!((stranger.gid(), stranger.groups()), (None, vec![]));
        let stranger = stranger.with_group("3999999998".parse().unwrap());
        assert_eq!((stranger.gid(), stranger.groups()), (Some(3_999_999_998), vec![3_999_999_998]));
        let mut env = BTreeMap::from([("HOME".into(), "/root".into()), ("USER".into(), "root".into())]);
        stranger.introduce(&mut env);
        assert_eq!(env, BTreeMap::from([("HOME".into(), "/".into())]));
    }

    #[test]
    fn names_that_are_not_there_are_refused_by_what_they_are() {
        let refused = |text: &str| text.parse::<Account>().unwrap_err().to_string();
        assert_eq!(refused("no-such-user"), "there is no user \"no-such-user\" on this machine");
        assert_eq!(refused("4294967295"), "4294967295 stands for none");
        for text in ["", "-1", "4294967296", "ro ot"] {
            assert_eq!(refused(text), format!("there is no user {text:?} on this machine"));
        }
        let refused = |text: &str| text.parse::<Group>().unwrap_err().to_string();
        assert_eq!(refused("no-such-group"), "there is no group \"no-such-group\" on this machine");
        assert_eq!(refused("4294967295"), "4294967295 stands for none");
    }
}
