//! As whom workers run, and what the kernel allows them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::process::Command;

use rustix::process::{Resource, getegid, geteuid};

use serde::{Deserialize, Serialize};

use crate::config::account::{Account, Group};
use crate::config::limit::Limit;
use crate::report::error::ProgramError;
use crate::sys;

const OF_ROOT: &str =
    "workers run as root (hint: --user NAME runs them as another user; --user root says that it is meant)";

/// What a worker begins with of these. What is not said is as the master has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Privileges {
    account: Option<Account>,
    group: Option<Group>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// The groups beside it.
    groups: Vec<u32>,
    pub(crate) umask: Option<u32>,
    pub(crate) limits: Vec<Limit>,
    /// People are told where workers are root's and nobody has said that they should be.
    pub(crate) warns_of_root: bool,
}

impl Privileges {
    /// Has workers run as this user, in all of its groups. The master's own user stays as it is, with what it is in.
    pub(crate) fn set_account(&mut self, account: Account) {
        (self.uid, self.gid, self.groups) = (Some(account.uid()), account.gid(), account.groups());
        let is_own =
            account.uid() == geteuid().as_raw() && account.gid().is_none_or(|gid| gid == getegid().as_raw());
        if is_own {
            (self.uid, self.gid, self.groups) = (None, None, Vec::new());
        }
        self.account = Some(account);
    }

    /// Has workers run in this group, and in no other.
    pub(crate) fn set_group(&mut self, group: Group) {
        (self.gid, self.groups, self.group) = (Some(group.gid()), Vec::new(), Some(group));
    }

    /// What people should know of it.
    pub(crate) fn caveat(&self) -> Option<&'static str> {
        let is_unsaid = self.account.is_none() && self.uid.is_none();
        (self.warns_of_root && is_unsaid && geteuid().is_root()).then_some(OF_ROOT)
    }

    /// The user and the group, where these are not the master's.
    pub(crate) fn user(&self) -> [Option<u32>; 2] {
        [self.uid, self.gid]
    }

    pub(crate) fn limits(&self, resource: Resource) -> bool {
        self.limits.iter().any(|limit| limit.resource() == resource)
    }

    /// Has an environment be that of the account.
    pub(crate) fn introduce(&self, env: &mut BTreeMap<OsString, OsString>) {
        // Of the master's own user the master knows at least as much.
        if let Some(account) =
            self.account.as_ref().filter(|account| self.uid.is_some() || account.is_listed())
        {
            account.introduce(env);
        }
    }

    /// Has a command's process begin with these. The limits come first, since it may be root who raises them.
    pub(crate) fn give(&self, command: &mut Command) {
        restrain(command, self.umask, &self.limits);
        self.give_user(command);
    }

    /// Has a process that is to do something about a worker begin as that worker's user.
    pub(crate) fn give_user(&self, command: &mut Command) {
        sys::become_other(command, self.uid, self.gid, &self.groups);
    }

    /// Whether a worker could be given all of these, by having a process try. Only if that is refused do others find out what it was.
    pub(crate) fn check(&self) -> Result<(), ProgramError> {
        if let Some(uid) = self.uid.filter(|_| self.account.is_some() && self.gid.is_none()) {
            return Err(ProgramError::NoGroup { uid });
        }
        if self.try_out(&self.limits, true).is_ok() {
            return Ok(());
        }
        for (index, limit) in self.limits.iter().enumerate() {
            let refused = |source| ProgramError::Limit { limit: limit.to_string(), source };
            self.try_out(self.limits.get(..=index).unwrap_or_default(), false).map_err(refused)?;
        }
        let refused = |source| ProgramError::User { uid: self.uid, gid: self.gid, source };
        self.try_out(&self.limits, true).map_err(refused)
    }

    /// Has a process begin with these limits and, if that is wanted, as the user.
    fn try_out(&self, limits: &[Limit], as_user: bool) -> io::Result<()> {
        // What a host says by number alone fails when a worker is started, as in Node.
        let as_user = as_user && (self.account.is_some() || self.group.is_some());
        if limits.is_empty() && !as_user {
            return Ok(());
        }
        let mut command = Command::new("/");
        restrain(&mut command, None, limits);
        if as_user {
            self.give_user(&mut command);
        }
        sys::begins(command)
    }
}

fn restrain(command: &mut Command, umask: Option<u32>, limits: &[Limit]) {
    sys::restrain(command, umask, limits.iter().map(|limit| (limit.resource(), limit.values())).collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(limits: &[&str]) -> Result<(), String> {
        let limits = limits.iter().map(|limit| limit.parse().unwrap()).collect();
        Privileges { limits, ..Privileges::default() }.check().map_err(|error| error.to_string())
    }

    #[test]
    fn the_limit_that_the_kernel_refuses_is_named() {
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["core=0", "memlock=0"]), Ok(()));
        // Nobody may have so many open.
        let many = format!("nofile={}", i64::MAX);
        for limits in [[many.as_str(), "core=0"], ["core=0", &many]] {
            let error = check(&limits).unwrap_err();
            assert!(error.contains(&many), "{error}");
        }
    }
}
