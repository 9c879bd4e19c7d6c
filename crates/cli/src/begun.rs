//! What is decided before anything is started: here, or by the program before.

use std::os::fd::OwnedFd;

use recluster::admin::{self, Admin};
use recluster::host::{Came, Inheritance};

use crate::args::Run;
use crate::claim::{Claim, claim};
use crate::config::Said;
use crate::error::Error;
use crate::open_files;
use crate::pidfile::Pidfile;
use crate::signals::Signals;
use crate::upgrading::{Kept, Left};

/// What is decided before anything is started: here, or by the program before.
pub(crate) struct Begun {
    pub(crate) claim: Claim,
    pub(crate) kept: Kept,
    pub(crate) inheritance: Option<Inheritance>,
    pub(crate) came: Option<Came>,
    pub(crate) log: Option<OwnedFd>,
}

impl Begun {
    pub(crate) fn of(args: &Run, said: Said, left: Option<Left>, signals: &Signals) -> Result<Self, Error> {
        if let Some(Left { inheritance, came, kept, name, socket, log }) = left {
            let claim = Claim { name, socket, missing: None };
            return Ok(Self { claim, kept, inheritance: Some(inheritance), came: Some(came), log });
        }
        let claim = claim(args)?;
        let kept = Kept {
            name: claim.name.to_string(),
            open_files: open_files::raise(),
            terminal: signals.terminal(),
            pidfile: args.around.pidfile.clone(),
            said,
        };
        Ok(Self { claim, kept, inheritance: None, came: None, log: None })
    }

    /// The pidfile that was left, or a new one.
    pub(crate) fn pidfile(&self) -> Result<Option<Pidfile>, Error> {
        Ok(match &self.kept.pidfile {
            Some(path) if self.came.is_some() => Some(Pidfile::inherit(path.clone())),
            path => path.as_deref().map(Pidfile::write).transpose()?,
        })
    }

    /// The admin listener that was left, or a new one; if there is to be one.
    pub(crate) async fn admin(&mut self, args: &Run) -> Result<Option<Admin>, Error> {
        match args.admin.options() {
            Some(options) => Ok(Some(admin_of(options, self.inheritance.as_mut()).await?)),
            None => Ok(None),
        }
    }
}

/// The admin listener that was left, or a new one.
async fn admin_of(options: admin::Options, left: Option<&mut Inheritance>) -> Result<Admin, Error> {
    if let Some(inheritance) = left
        && let Some(admin) = Admin::adopt(options.clone(), inheritance)?
    {
        return Ok(admin);
    }
    Ok(Admin::bind(options).await?)
}
