//! Where control sockets are, and which of them are alive.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::socket::file::accepts;
use crate::socket::runtime_dir::{DirectoryError, check, directories};

/// How the name of a control socket ends.
const ENDING: &str = "sock";

/// Why no cluster was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// None is running, or none of that name.
    #[error("no cluster is running; looked at {}", list(tried))]
    None {
        /// Where one was looked for.
        tried: Vec<PathBuf>,
    },
    /// Several are running, and the user named none.
    #[error("several clusters are running: {}", list(found))]
    Several {
        /// Their sockets.
        found: Vec<PathBuf>,
    },
    /// A directory cannot be trusted.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// Where the control socket of a cluster of this name is, unless the user says otherwise.
pub fn socket_path(name: &str) -> PathBuf {
    let directory = directories().into_iter().next().unwrap_or_default();
    directory.join(file_name(name))
}

/// Finds the control socket of the running cluster of this name, or of the only one.
pub fn find(name: Option<&str>) -> Result<PathBuf, FindError> {
    find_in(&directories(), name)
}

fn find_in(directories: &[PathBuf], name: Option<&str>) -> Result<PathBuf, FindError> {
    let mut tried = Vec::new();
    let mut found = Vec::new();
    for directory in directories {
        tried.push(name.map_or_else(|| directory.clone(), |name| directory.join(file_name(name))));
        match check(directory) {
            Ok(()) => found.extend(sockets(directory)?.into_iter().filter(|path| is_named(path, name))),
            Err(DirectoryError::Unusable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.retain(|path| accepts(path));
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(FindError::None { tried }),
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            found.push(last);
            Err(FindError::Several { found })
        }
    }
}

fn file_name(name: &str) -> String {
    format!("{name}.{ENDING}")
}

fn is_named(path: &Path, name: Option<&str>) -> bool {
    name.is_none_or(|name| path.file_name().is_some_and(|file| file == file_name(name).as_str()))
}

/// The files in a directory that are named as control sockets are, sorted by name.
fn sockets(directory: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    let unusable = |source| DirectoryError::Unusable { path: directory.to_owned(), source };
    let mut paths = fs::read_dir(directory)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        })
        .map_err(unusable)?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == ENDING));
    paths.sort_by_cached_key(|path| path.with_extension(""));
    Ok(paths)
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::socket::file::tests::leave_stale;

    #[test]
    fn the_only_living_socket_is_found() {
        let base = tempfile::tempdir().unwrap();
        let directories = [base.path().join("absent"), base.path().to_owned()];
        assert!(
            matches!(find_in(&directories, None), Err(FindError::None { tried }) if tried == directories)
        );

        leave_stale(&base.path().join("stale.sock"));
        let _one = UnixListener::bind(base.path().join("one.sock")).unwrap();
        assert_eq!(find_in(&directories, None).unwrap(), base.path().join("one.sock"));
        assert!(matches!(find_in(&directories, Some("stale")), Err(FindError::None { .. })));

        let _two = UnixListener::bind(base.path().join("one-2.sock")).unwrap();
        assert_eq!(find_in(&directories, Some("one")).unwrap(), base.path().join("one.sock"));
        let Err(FindError::Several { found }) = find_in(&directories, None) else { panic!() };
        assert_eq!(found, [base.path().join("one.sock"), base.path().join("one-2.sock")]);
    }
}
