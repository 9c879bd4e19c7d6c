//! A program that could be executed: where it is, and whether the kernel would run it.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{self, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, fgetxattr, fstat, open};
use rustix::process::geteuid;

/// What begins every program of the kernel's own format, and where its architecture stands.
const ELF: &[u8] = b"\x7fELF";
const HEAD: usize = 20;

/// Where this process's own program is, whatever its path leads to by now.
pub(super) const OWN: &str = "/proc/self/exe";

/// Why such a program takes no place, and no other one takes its.
pub(super) const MORE_RIGHTS: &str = "it has more rights than its user (setcap, setuid), and believes nothing of what another program leaves: \
    let the service manager give the right (AmbientCapabilities=)";

/// A program that is there and can be run.
#[derive(Debug)]
pub(crate) struct Program(pub(super) OwnedFd);

#[cfg(test)]
impl Program {
    pub(crate) fn of(file: OwnedFd) -> Self {
        Self(file)
    }
}

/// This process's own program.
pub(super) fn own() -> io::Result<OwnedFd> {
    Ok(open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// By which path this program was started, symlinks and all: what is put there later is the next one.
pub(super) fn path_of_own(name: Option<&OsString>) -> io::Result<PathBuf> {
    let own = fs::metadata(OWN)?;
    let is_own = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|file| (file.dev(), file.ino()) == (own.dev(), own.ino()))
    };
    let name = name.map_or(Path::new(""), Path::new);
    let by_name = if name.components().count() > 1 {
        path::absolute(name).ok().filter(is_own)
    } else {
        let directories = env::var_os("PATH").unwrap_or_default();
        let mut places =
            env::split_paths(&directories).filter_map(|place| path::absolute(place.join(name)).ok());
        places.find(is_own)
    };
    by_name.map_or_else(|| Ok(without_mark(fs::read_link(OWN)?)), Ok)
}

/// The path of a file that was replaced before we looked.
fn without_mark(path: PathBuf) -> PathBuf {
    let text = path.to_str().and_then(|text| text.strip_suffix(" (deleted)"));
    text.map(PathBuf::from).unwrap_or(path)
}

/// Opens a program, and looks whether the kernel could run it.
pub(super) fn look(path: &Path) -> Result<Program, String> {
    let in_words = |error: rustix::io::Errno| io::Error::from(error).to_string();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty()).map_err(in_words)?;
    let mode = fstat(&file).map_err(in_words)?.st_mode;
    let kind_of_file = FileType::from_raw_mode(mode);
    if kind_of_file == FileType::Directory {
        return Err("it is a directory".to_owned());
    }
    if kind_of_file != FileType::RegularFile {
        return Err("it is no file".to_owned());
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(|_| "it may not be executed (chmod +x)".to_owned())?;
    if !geteuid().is_root() && gives_rights(&file, Mode::from_raw_mode(mode)) {
        return Err(MORE_RIGHTS.to_owned());
    }
    let head = head_of(file.try_clone().map_err(|error| error.to_string())?);
    if head.starts_with(b"#!") {
        return Err("it is a script: name the recluster that it starts".to_owned());
    }
    if !head.starts_with(ELF) {
        return Err("it is no program".to_owned());
    }
    let own = own().map_err(|error| error.to_string())?;
    if kind(&head) != kind(&head_of(own)) {
        return Err("it is a program for another kind of machine".to_owned());
    }
    Ok(Program(file.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?))
}

/// Whether the file gives a program more rights than its user has.
pub(super) fn gives_rights(file: &OwnedFd, mode: Mode) -> bool {
    let by_mode = mode.intersects(Mode::SUID | Mode::SGID);
    by_mode || fgetxattr(file, "security.capability", &mut [0_u8; 64]).is_ok()
}

fn head_of(file: OwnedFd) -> Vec<u8> {
    let mut head = Vec::new();
    // What is shorter is no program.
    let _ = File::from(file).take(HEAD as u64).read_to_end(&mut head);
    head
}

/// For which machine a program is: its width, the order of its bytes, and its architecture.
fn kind(head: &[u8]) -> Option<(&[u8], &[u8])> {
    Some((head.get(4..6)?, head.get(18..HEAD)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Such a program would take nothing that it is left.
    #[test]
    fn a_file_that_gives_more_rights_is_known() {
        let file = tempfile::tempfile().unwrap();
        let file = OwnedFd::from(file);
        for (mode, gives) in [(0o755, false), (0o4755, true), (0o2755, true), (0o1777, false)] {
            assert_eq!(gives_rights(&file, Mode::from_raw_mode(mode)), gives, "{mode:o}");
        }
    }
}
