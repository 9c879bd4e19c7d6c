//! Where control sockets are, and which of them are alive.

use std::fs;
use std::path::{Path, PathBuf};

use super::greeting::{Listener, listener_at};
use crate::socket::places::{self, directories};
use crate::socket::runtime_dir::check;

/// How the name of a control socket ends.
const ENDING: &str = "sock";

/// Why no cluster was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// None is running.
    #[error("no cluster is running; looked at {}", list(tried))]
    None {
        /// Where one was looked for.
        tried: Vec<PathBuf>,
    },
    /// None of that name is running.
    #[error("no cluster with the name '{name}' is running; looked at {}", list(tried))]
    NoneNamed {
        /// The name.
        name: String,
        /// Where one was looked for.
        tried: Vec<PathBuf>,
        /// The sockets of those that are running.
        running: Vec<PathBuf>,
    },
    /// Several are running, and the user named none.
    #[error("several clusters are running: {}", list(found))]
    Several {
        /// Their sockets.
        found: Vec<PathBuf>,
    },
}

/// Where the control socket of a cluster of this name is, unless the user says otherwise.
pub fn socket_path(name: &str) -> PathBuf {
    places::for_control().join(file_name(name))
}

/// Finds the control socket of the running cluster of this name, or of the only one.
pub fn find(name: Option<&str>) -> Result<PathBuf, FindError> {
    find_in(&directories(), name)
}

/// The control sockets of all clusters that are running, sorted by name. Directories that cannot be trusted are left out.
pub fn running() -> Vec<PathBuf> {
    alive(directories().iter().flat_map(|directory| sockets_in(directory)))
}

fn find_in(directories: &[PathBuf], name: Option<&str>) -> Result<PathBuf, FindError> {
    let mut tried = Vec::new();
    let mut there = Vec::new();
    for directory in directories {
        tried.push(name.map_or_else(|| directory.clone(), |name| directory.join(file_name(name))));
        there.extend(sockets_in(directory));
    }
    let meant = there.iter().filter(|path| is_named(path, name)).cloned();
    let mut found = alive(meant);
    match (found.pop(), found.is_empty(), name) {
        (None, _, None) => Err(FindError::None { tried }),
        (None, _, Some(name)) => {
            Err(FindError::NoneNamed { name: name.to_owned(), tried, running: alive(there.into_iter()) })
        }
        (Some(only), true, _) => Ok(only),
        (Some(last), false, _) => {
            found.push(last);
            Err(FindError::Several { found })
        }
    }
}

/// Those at which a cluster answers. Where none does, one that does not answer may be a cluster that hangs.
fn alive(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let listeners = paths.filter_map(|path| Some((listener_at(&path).ok()?, path)));
    let (clusters, others): (Vec<_>, Vec<_>) =
        listeners.partition(|(listener, _)| *listener == Listener::Cluster);
    let silent = || others.into_iter().filter(|(listener, _)| *listener == Listener::Silent).collect();
    let found = if clusters.is_empty() { silent() } else { clusters };
    found.into_iter().map(|(_, path)| path).collect()
}

/// The files in a directory that are named as control sockets are, sorted by name. The directory need not be there; what is in one
/// that belongs to others is theirs.
fn sockets_in(directory: &Path) -> Vec<PathBuf> {
    if check(directory).is_err() {
        return Vec::new();
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == ENDING));
    paths.sort_by_cached_key(|path| path.with_extension(""));
    paths
}

fn file_name(name: &str) -> String {
    format!("{name}.{ENDING}")
}

fn is_named(path: &Path, name: Option<&str>) -> bool {
    name.is_none_or(|name| path.file_name().is_some_and(|file| file == file_name(name).as_str()))
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::greeting::tests::{REFUSED, answer_with};
    use crate::socket::probe::tests::leave_stale;

    #[test]
    fn the_only_living_socket_is_found() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        let directories = [at("absent"), base.path().to_owned()];
        assert!(
            matches!(find_in(&directories, None), Err(FindError::None { tried }) if tried == directories)
        );

        leave_stale(&at("stale.sock"));
        answer_with(at("one.sock"), REFUSED);
        answer_with(at("web.sock"), b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert_eq!(find_in(&directories, None).unwrap(), at("one.sock"));
        for name in ["stale", "web", "ome"] {
            let Err(FindError::NoneNamed { running, .. }) = find_in(&directories, Some(name)) else {
                panic!("{name}");
            };
            assert_eq!(running, [at("one.sock")]);
        }

        answer_with(at("one-2.sock"), REFUSED);
        assert_eq!(find_in(&directories, Some("one")).unwrap(), at("one.sock"));
        let Err(FindError::Several { found }) = find_in(&directories, None) else { panic!() };
        assert_eq!(found, [at("one.sock"), at("one-2.sock")]);
    }
}
