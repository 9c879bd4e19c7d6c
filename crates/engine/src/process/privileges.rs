//! As whom workers run, and what the kernel allows them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::process::Command;

use rustix::process::{Resource, getegid, geteuid};

use crate::config::account::{Account, Group};
use crate::config::limit::Limit;
use crate::report::error::ProgramError;
use crate::sys;

const OF_ROOT: &str =
    "workers run as root (hint: --user NAME runs them as another user; --user root says that it is meant)";

/// What a worker begins with of these. What is not said is as the master has it.
#[derive(Clone, Debug, Default)]
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
        let limits: Vec<_> = self.limits.iter().map(|limit| (limit.resource(), limit.values())).collect();
        sys::restrain(command, self.umask, limits);
        self.give_user(command);
    }

    /// Has a process that is to do something about a worker begin as that worker's user.
    pub(crate) fn give_user(&self, command: &mut Command) {
        sys::become_other(command, self.uid, self.gid, &self.groups);
    }

    /// Whether a worker could be given all of these, by having a process try.
    pub(crate) fn check(&self) -> Result<(), ProgramError> {
        for limit in &self.limits {
            let refused = |source| ProgramError::Limit { limit: limit.to_string(), source };
            Self::try_out(|command| sys::restrain(command, None, vec![(limit.resource(), limit.values())]))
                .map_err(refused)?;
        }
        if let Some(uid) = self.uid.filter(|_| self.account.is_some() && self.gid.is_none()) {
            return Err(ProgramError::NoGroup { uid });
        }
        // What a host says by number alone fails when a worker is started, as in Node.
        if self.account.is_none() && self.group.is_none() {
            return Ok(());
        }
        let refused = |source| ProgramError::User { uid: self.uid, gid: self.gid, source };
        Self::try_out(|command| self.give_user(command)).map_err(refused)
    }

    fn try_out(give: impl FnOnce(&mut Command)) -> io::Result<()> {
        let mut command = Command::new("/");
        give(&mut command);
        sys::begins(command)
    }
}
