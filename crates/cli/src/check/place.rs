//! Whether a control socket could be where it is to be. What binding it would refuse is refused here, in the same words.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use recluster::control::{BindError, Client, ClientError, DirectoryError, socket_path};
use rustix::fs::{Access, access};
use rustix::process::geteuid;

use crate::args::ControlAt;
use crate::name::Name;

/// The longest path that a unix socket can have, in bytes.
const PATH_LIMIT: usize = 107;
/// The bits of a directory's mode that let others put something in it.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// What is where the socket is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing, or what a dead cluster left.
    Free,
    /// A cluster that runs.
    Alive,
}

/// Where the socket is to be, if there is to be one.
pub(super) fn control(asked: Option<&ControlAt>, name: &Name) -> Option<PathBuf> {
    match asked {
        Some(ControlAt::Off) => None,
        Some(ControlAt::Path(path)) => Some(path.clone()),
        None => Some(socket_path(name.as_str())),
    }
}

/// Looks whether a socket could be bound there.
pub(super) async fn look(path: &Path) -> Result<Place, BindError> {
    if path.as_os_str().as_bytes().len() > PATH_LIMIT {
        return Err(BindError::TooLong { path: path.to_owned() });
    }
    look_at_directory(directory_of(path))?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Place::Free),
        Err(source) => Err(BindError::System { path: path.to_owned(), source }),
        Ok(about) if !about.file_type().is_socket() => Err(BindError::NotASocket { path: path.to_owned() }),
        Ok(_) => match Client::connect(path).await {
            Err(ClientError::NoCluster { source, .. })
                if source.kind() == io::ErrorKind::ConnectionRefused =>
            {
                Ok(Place::Free)
            }
            // Somebody is there, if only somebody who does not let us in.
            Ok(_) | Err(_) => Ok(Place::Alive),
        },
    }
}

/// A directory that is not there would be made, but not what is above it.
fn look_at_directory(directory: &Path) -> Result<(), DirectoryError> {
    let path = directory.to_owned();
    let about = match fs::metadata(directory) {
        Ok(about) if about.is_dir() => about,
        Ok(_) => return Err(DirectoryError::Unusable { path, source: io::ErrorKind::NotADirectory.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return writable(directory_of(directory)),
        Err(source) => return Err(DirectoryError::Unusable { path, source }),
    };
    if about.uid() != geteuid().as_raw() && about.uid() != 0 {
        return Err(DirectoryError::Foreign { path, owner: about.uid() });
    }
    let mode = about.mode() & 0o777;
    if mode & OTHERS_MAY_WRITE != 0 {
        return Err(DirectoryError::Open { path, mode });
    }
    writable(directory)
}

/// Whether a file could be written there.
pub(super) fn look_at_file(path: &Path) -> io::Result<()> {
    let place = if path.exists() { path } else { directory_of(path) };
    Ok(access(place, Access::WRITE_OK)?)
}

fn writable(directory: &Path) -> Result<(), DirectoryError> {
    access(directory, Access::WRITE_OK)
        .map_err(|error| DirectoryError::Unusable { path: directory.to_owned(), source: error.into() })
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}
