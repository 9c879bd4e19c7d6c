//! As whom workers run, and what the kernel allows them: the part of the builder that says so.

use crate::api::builder::ClusterBuilder;
use crate::config::account::{Account, Group};
use crate::config::limit::Limit;

impl ClusterBuilder {
    /// The user that workers run as, with all groups of the account and with its `USER`, `LOGNAME`, `HOME` and `SHELL`, unless
    /// [`env`](Self::env) says these. Health checks and hooks that are commands run as this user too. Default the master's.
    ///
    /// The start fails if the master may not make workers another user's.
    #[must_use]
    pub fn account(mut self, account: Account) -> Self {
        self.draft.program.privileges.set_account(account);
        self
    }

    /// The group that workers run in, and no other, where no [`account`](Self::account) is said. Default the master's.
    #[must_use]
    pub fn group(mut self, group: Group) -> Self {
        self.draft.program.privileges.set_group(group);
        self
    }

    /// Says so ([`Event::Caveat`](crate::Event::Caveat)) where workers are root's because the master is, and no
    /// [`account`](Self::account) says that they should be. Default not.
    #[must_use]
    pub fn warn_of_root(mut self) -> Self {
        self.draft.program.privileges.warns_of_root = true;
        self
    }

    /// Which permissions files that workers make do not have, such as `0o027`. Default the master's.
    #[must_use]
    pub fn umask(mut self, mask: u32) -> Self {
        self.draft.program.privileges.umask = Some(mask & 0o777);
        self
    }

    /// One more limit of workers. Default those that the master was started with.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.draft.program.privileges.limits.push(limit);
        self
    }
}
