//! Taking a name and its control socket, before anything is started.

use recluster::control::{BindError, Socket, socket_path};

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
}

/// Decides on the name and binds the control socket. A name that was given is had or not; one that we choose gets
/// a number where it is taken.
pub(crate) fn claim(args: &Run) -> Result<Claim, Error> {
    let default = || Name::of_server(&args.server);
    match (&args.around.control, &args.around.name) {
        (Some(ControlAt::Off), name) => {
            Ok(Claim { name: name.clone().unwrap_or_else(default), socket: None })
        }
        (Some(ControlAt::Path(path)), name) => {
            let socket = Socket::bind(path)?;
            Ok(Claim { name: name.clone().unwrap_or_else(default), socket: Some(socket) })
        }
        (None, Some(name)) => match Socket::bind(socket_path(name.as_str())) {
            Ok(socket) => Ok(Claim { name: name.clone(), socket: Some(socket) }),
            Err(BindError::Alive { path }) => Err(Error::NameTaken { name: name.clone(), path }),
            Err(error) => Err(error.into()),
        },
        (None, None) => first_free(&default()),
    }
}

fn first_free(name: &Name) -> Result<Claim, Error> {
    for number in 1..=MOST {
        let name = name.numbered(number);
        match Socket::bind(socket_path(name.as_str())) {
            Ok(socket) => return Ok(Claim { name, socket: Some(socket) }),
            Err(BindError::Alive { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::NameTaken { name: name.clone(), path: socket_path(name.as_str()) })
}
