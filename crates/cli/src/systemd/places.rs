//! Places that the options name: those that the service writes to, and those that it has to see.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use recluster::{AdminAddress, CompileCache};

use crate::args::{CacheIn, Run};
use crate::error::Error;

/// A directory in which the service makes files, and the option that says so; none where systemd makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) option: Option<&'static str>,
    pub(super) directory: PathBuf,
}

/// All of them; relative paths begin in this directory.
pub(super) fn written(run: &Run, control: Option<&Path>, directory: &Path) -> Vec<Written> {
    let (around, running) = (&run.around, &run.running);
    let parent = |path: &Path| directory.join(path).parent().map(Path::to_owned);
    let files = [
        ("--log-file", around.log_file.as_deref()),
        ("--pidfile", around.pidfile.as_deref()),
        ("--control", control),
        ("--admin", run.admin.admin.as_ref().and_then(AdminAddress::path)),
    ];
    let files = files.into_iter().filter_map(|(option, path)| Some((Some(option), parent(path?)?)));
    let sockets = running.listen.iter().filter_map(|listen| listen.socket_unit().path);
    let sockets = sockets.filter_map(|path| Some((None, parent(&path)?)));
    let log = running.worker_log.iter().map(|log| (Some("--worker-log"), directory.join(log)));
    let cache = cache(run, directory).into_iter().map(|cache| (Some("--compile-cache"), cache));
    let all = files.chain(sockets).chain(log).chain(cache);
    all.map(|(option, directory)| Written { option, directory }).collect()
}

/// The directory for compiled code, if it is named. A relative one begins where workers run.
fn cache(run: &Run, directory: &Path) -> Option<PathBuf> {
    let CacheIn::Place(CompileCache::In(cache)) = &run.running.compile_cache else { return None };
    let chdir = run.privileges.chdir.as_deref().unwrap_or(Path::new(""));
    Some(directory.join(chdir).join(cache))
}

/// What the service reads, beside its programs.
pub(super) fn read(run: &Run, directory: &Path) -> Vec<PathBuf> {
    let named = run.privileges.chdir.iter().chain(&run.running.env_file).chain(&run.admin.admin_token_file);
    named.map(|path| directory.join(path)).collect()
}

/// Whether something is below a home directory.
pub(super) fn is_at_home(path: &Path) -> bool {
    ["/home", "/root", "/run/user"].iter().any(|home| path.starts_with(home))
}

/// A user that systemd makes owns nothing beside the directories that systemd makes for it.
pub(super) fn check_for_stranger(written: &[Written]) -> Result<(), Error> {
    let refused = written.iter().find_map(|Written { option, directory }| {
        let option = option.filter(|_| !is_open_to_all(directory))?;
        Some(Error::UnitStranger { option, directory: directory.clone() })
    });
    refused.map_or(Ok(()), Err)
}

fn is_open_to_all(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|metadata| metadata.permissions().mode() & 0o002 != 0)
}
