//! [`CompileCache`]: where Node workers keep compiled code for each other.

use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{collections::BTreeMap, fs};

use crate::upgrade::plain;

/// Where Node workers keep compiled code for each other and for those that come after them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CompileCache {
    /// In the first of these that the workers' environment names: `CACHE_DIRECTORY`, `recluster` in `XDG_CACHE_HOME`,
    /// `.cache/recluster` in `HOME`.
    Usual,
    /// In this directory.
    In(#[serde(with = "plain")] PathBuf),
}

impl CompileCache {
    /// The directory, for workers with this environment; a relative one begins in `root`. None where the environment names
    /// none.
    ///
    /// Its parent is resolved, and its own name is not. Node may know modules by their paths relative to the directory, and
    /// knows their own paths resolved: so a directory in a release, or a link there to one that all releases share, is where
    /// it was, seen from the modules of the next release.
    pub(crate) fn directory(&self, root: &Path, env: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
        let named = match self {
            Self::In(directory) => root.join(directory),
            Self::Usual => usual(env)?,
        };
        let resolved = named.parent().and_then(|parent| fs::canonicalize(parent).ok());
        Some(match (resolved, named.file_name()) {
            (Some(parent), Some(name)) => parent.join(name),
            (Some(_) | None, _) => named,
        })
    }
}

fn usual(env: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
    let directory = |name: &str| {
        let value = env.get(OsStr::new(name))?;
        // A service may have several, with colons between them.
        let first = value
            .to_str()
            .map_or(value.as_os_str(), |list| OsStr::new(list.split(':').next().unwrap_or(list)));
        Some(PathBuf::from(first)).filter(|path| path.is_absolute())
    };
    let home = || directory("HOME").map(|home| home.join(".cache"));
    let in_cache = || directory("XDG_CACHE_HOME").or_else(home).map(|cache| cache.join("recluster"));
    directory("CACHE_DIRECTORY").or_else(in_cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual_with(variables: &[(&str, &str)]) -> Option<String> {
        let env = variables.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        CompileCache::Usual.directory(Path::new("/nowhere"), &env).map(|path| path.display().to_string())
    }

    #[test]
    fn the_usual_place_is_the_first_that_the_environment_names() {
        let all = [
            ("CACHE_DIRECTORY", "/nowhere/shop:/nowhere/other"),
            ("XDG_CACHE_HOME", "/nowhere/xdg"),
            ("HOME", "/nowhere/me"),
        ];
        assert_eq!(usual_with(&all).unwrap(), "/nowhere/shop");
        assert_eq!(usual_with(&all[1..]).unwrap(), "/nowhere/xdg/recluster");
        assert_eq!(usual_with(&all[2..]).unwrap(), "/nowhere/me/.cache/recluster");
        assert_eq!(usual_with(&[("XDG_CACHE_HOME", ""), ("HOME", "home")]), None);
        assert_eq!(usual_with(&[]), None);
    }

    #[test]
    fn a_directory_in_a_release_is_where_the_release_is_and_keeps_its_own_name() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| fs::canonicalize(base.path()).unwrap().join(name);
        fs::create_dir_all(at("releases/1")).unwrap();
        fs::create_dir(at("shared")).unwrap();
        std::os::unix::fs::symlink("releases/1", at("current")).unwrap();
        std::os::unix::fs::symlink(at("shared"), at("releases/1/.cache")).unwrap();
        let named = |path: &str| CompileCache::In(path.into()).directory(&at("current"), &BTreeMap::new());
        assert_eq!(named(".cache"), Some(at("releases/1/.cache")));
        assert_eq!(named("not/yet"), Some(at("current/not/yet")));
        assert_eq!(named("/"), Some(PathBuf::from("/")));
    }
}
