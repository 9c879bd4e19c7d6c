//! A cluster's name and its control socket: which ones it is to have, whether they are free, and taking them, before
//! anything is started.

use std::path::PathBuf;

use recluster::control::{BindError, DirectoryError, Socket, socket_path};

use crate::args::{ControlAt, Run};
use crate::error::Error;
use crate::name::Name;

/// How many clusters of one name may run at once.
const MOST: u32 = 99;

/// A cluster's name, and its control socket if it has one.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) name: Name,
    pub(crate) socket: Option<Socket>,
    /// Why it has none, where nobody has asked for that.
    pub(crate) missing: Option<String>,
}

/// The name and the control socket that a cluster is to have, unless another one has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: Name,
    /// None where there is to be no control socket.
    pub(crate) control: Option<PathBuf>,
    /// It was said where.
    is_said: bool,
}

/// Whether a cluster has what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// None has.
    Free,
    /// One that runs.
    Running,
    /// There is no place for the control socket, and nobody has said that it must have one.
    Nowhere,
}

impl Wanted {
    pub(crate) fn by(args: &Run) -> Self {
        let name = args.around.name.clone().unwrap_or_else(|| Name::of_server(&args.server));
        let control = match &args.around.control {
            Some(ControlAt::Off) => None,
            Some(ControlAt::Path(path)) => Some(path.clone()),
            None => Some(socket_path(name.as_str())),
        };
        Self { name, control, is_said: args.around.control.is_some() }
    }

    /// Whether they are free, without taking them.
    ///
    /// # Errors
    ///
    /// What [`claim`] would refuse, but for a running cluster.
    pub(crate) fn check(&self) -> Result<Standing, Error> {
        match self.control.as_deref().map(Socket::check) {
            None | Some(Ok(())) => Ok(Standing::Free),
            Some(Err(BindError::Alive { .. })) => Ok(Standing::Running),
            Some(Err(error)) if !self.is_said && has_no_place(&error) => Ok(Standing::Nowhere),
            Some(Err(error)) => Err(error.into()),
        }
    }
}

/// Decides on the name and binds the control socket. A name that was given and is taken is an error; a default name
/// that is taken gets a number. Where no directory can be written to, as in a container with a read-only root, there is none: a server
/// that serves is worth more than a command that reaches it.
pub(crate) fn claim(args: &Run) -> Result<Claim, Error> {
    let Wanted { name, control, is_said } = Wanted::by(args);
    let Some(path) = control else { return Ok(Claim { name, socket: None, missing: None }) };
    match Socket::bind(path) {
        Ok(socket) => Ok(Claim { name, socket: Some(socket), missing: None }),
        Err(error) if !is_said && has_no_place(&error) => {
            Ok(Claim { name, socket: None, missing: Some(error.to_string()) })
        }
        Err(BindError::Alive { path }) if !is_said && args.around.name.is_some() => {
            Err(Error::NameTaken { name, path })
        }
        Err(error) if is_taken(&error) && !is_said && args.around.name.is_none() => next_free(&name),
        Err(error) => Err(error.into()),
    }
}

/// Whether none of the usual directories can be written to.
fn has_no_place(error: &BindError) -> bool {
    matches!(error, BindError::Directory(DirectoryError::Unusable { .. }))
}

/// Whether another program, which may be a cluster, has the path: another name would do.
fn is_taken(error: &BindError) -> bool {
    matches!(error, BindError::Alive { .. } | BindError::Silent { .. } | BindError::Foreign { .. })
}

/// The first number from 2 on with which the name is free.
fn next_free(name: &Name) -> Result<Claim, Error> {
    for number in 2..=MOST {
        let name = name.numbered(number);
        match Socket::bind(socket_path(name.as_str())) {
            Ok(socket) => return Ok(Claim { name, socket: Some(socket), missing: None }),
            Err(error) if is_taken(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::NameTaken { name: name.clone(), path: socket_path(name.as_str()) })
}
