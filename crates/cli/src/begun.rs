//! What is decided before anything is started: here, or by the program before.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use recluster::admin::{self, Admin};
use recluster::host::{Came, Inheritance};

use crate::args::Run;
use crate::claim::{Claim, Wanted, claim};
use crate::config::Said;
use crate::error::Error;
use crate::log::{Journal, Memory};
use crate::open_files;
use crate::pidfile::Pidfile;
use crate::signals::Signals;
use crate::silent;
use crate::upgrading::{Kept, Left};

/// What is decided before anything is started: here, or by the program before.
pub(crate) struct Begun {
    pub(crate) claim: Claim,
    pub(crate) kept: Kept,
    pub(crate) inheritance: Option<Inheritance>,
    pub(crate) came: Option<Came>,
    log: (Option<OwnedFd>, Memory),
}

impl Begun {
    pub(crate) fn of(
        args: &Run,
        said: Said,
        left: Option<Left>,
        signals: &Signals,
        json: bool,
    ) -> Result<Self, Error> {
        if let Some(Left { inheritance, came, kept, name, socket, log }) = left {
            let claim = Claim { name, socket, missing: None };
            return Ok(Self { claim, kept, inheritance: Some(inheritance), came: Some(came), log });
        }
        let claim = claimed(args, json)?;
        let kept = Kept {
            name: claim.name.to_string(),
            open_files: open_files::raise(),
            terminal: signals.terminal(),
            pidfile: args.around.pidfile.as_deref().map(|path| path.as_os_str().into()),
            said,
        };
        Ok(Self { claim, kept, inheritance: None, came: None, log: (None, Memory::default()) })
    }

    /// The pidfile and the log that were left, or new ones, unless a file system does not answer. What runs already does not end by that.
    pub(crate) fn written(&mut self, args: &Run, json: bool) -> Result<(Option<Pidfile>, Journal), Error> {
        let _asks = self.came.is_none().then(|| silent::watch(json, "write the pidfile and the log"));
        let (log, memory) = std::mem::take(&mut self.log);
        Ok((self.pidfile()?, Journal::open(&self.claim.name, &args.around, log, memory)?))
    }

    fn pidfile(&self) -> Result<Option<Pidfile>, Error> {
        let path = self.kept.pidfile.as_ref().map(|path| PathBuf::from(OsString::from(path)));
        Ok(match path {
            Some(path) if self.came.is_some() => Some(Pidfile::inherit(path)),
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

/// The name and the control socket, unless a file system does not answer.
fn claimed(args: &Run, json: bool) -> Result<Claim, Error> {
    let asks = silent::watch(json, format_args!("look at {}", args.server.display()));
    // Whether it is there is told by whoever runs it.
    let _ = args.server.metadata();
    let Wanted { control, .. } = Wanted::by(args);
    drop(asks);
    let at = control.unwrap_or_default();
    let _asks = silent::watch(json, format_args!("make the control socket {}", at.display()));
    claim(args)
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
