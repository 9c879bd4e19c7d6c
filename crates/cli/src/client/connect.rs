//! Connecting to the cluster that a command is about, and the error for a reply that does not fit the request.

use std::env;
use std::path::{Path, PathBuf};

use recluster::control::protocol::Reply;
use recluster::control::{Client, ClientError, Listener, find, listener_at, running};

use crate::args::{ControlAt, Target};
use crate::error::Error;
use crate::name::Name;

/// Finds the cluster that is meant and connects to it; also returns the path of its socket.
pub(crate) async fn connect(target: &Target) -> Result<(Client, PathBuf), Error> {
    let path = locate(target)?;
    Ok((Client::connect(&path).await?, path))
}

fn locate(target: &Target) -> Result<PathBuf, Error> {
    let by_environment =
        || env::var_os("RECLUSTER_CONTROL").filter(|path| !path.is_empty()).map(PathBuf::from);
    let (control, by_variable) = match (&target.control, &target.name) {
        (Some(path), _) => (Some(path.clone()), false),
        (None, Some(_)) => (None, false),
        (None, None) => (by_environment(), true),
    };
    match control {
        Some(path) if path == Path::new(ControlAt::OFF) => Err(Error::ControlOff),
        Some(path) => is_cluster(path, by_variable),
        None => Ok(find(target.name.as_ref().map(Name::as_str))?),
    }
}

/// A path that was given, if a cluster is there.
fn is_cluster(path: PathBuf, by_variable: bool) -> Result<PathBuf, Error> {
    match listener_at(&path) {
        Ok(Listener::Other) => Err(Error::NotACluster { path, by_variable, running: running() }),
        Err(source) => Err(Error::NoClusterAt { path, by_variable, source, running: running() }),
        // What does not answer now may answer the request.
        Ok(_) => Ok(path),
    }
}

/// The error for a reply that does not fit the request.
pub(crate) fn unexpected(reply: Reply) -> Error {
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other one is nonsense here")]
    match reply {
        Reply::Refused { reason } => Error::Refused(reason),
        _ => ClientError::Nonsense(None).into(),
    }
}
