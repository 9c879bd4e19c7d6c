//! Where a file of ours is, or is to be: a name in a directory that is held open.
//!
//! An operator may name a path in a directory of somebody else, such as the workers' user. With a symlink there that user could
//! have a master of root write where root alone may. So links are followed here, one by one: a link of another user is followed to
//! what belongs to that user, and to nothing else. What becomes of the path afterwards is no matter any more.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, openat, readlinkat, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::config::address::is_of_directory;

/// How many symlinks the kernel follows before it gives up (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;
/// The permissions of a file that is made, less the umask.
const USUAL: Mode = Mode::from_raw_mode(0o666);

/// A name in a directory.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    name: OsString,
    /// What has the name is a link that the kernel itself makes, which leads to something that may have no path.
    is_of_kernel: bool,
}

impl Place {
    /// The place that a path leads to now. Only the last name may be that of nothing.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` where a link of another user leads to what is not that user's.
    pub fn of(path: &Path) -> io::Result<Self> {
        Walk::along(path)?.finish()
    }

    /// A name in the same directory that begins as this one.
    pub fn beside(&self, ending: &str) -> io::Result<Self> {
        let mut name = self.name.clone();
        name.push(ending);
        self.named(name)
    }

    /// This name in the same directory.
    pub fn named(&self, name: impl Into<OsString>) -> io::Result<Self> {
        Ok(Self { directory: self.directory.try_clone()?, name: name.into(), is_of_kernel: false })
    }

    /// Opens what has the name. Whatever took it since then is not followed.
    pub fn open(&self, flags: OFlags) -> io::Result<File> {
        let follow = if self.is_of_kernel { OFlags::empty() } else { OFlags::NOFOLLOW };
        Ok(openat(&self.directory, &self.name, flags | follow | OFlags::CLOEXEC, USUAL)?.into())
    }

    /// Removes what has the name.
    pub fn remove(&self) -> io::Result<()> {
        Ok(unlinkat(&self.directory, &self.name, AtFlags::empty())?)
    }

    /// Gives this file's name up for another one in the same directory.
    pub fn rename(&self, to: &Self) -> io::Result<()> {
        Ok(renameat(&self.directory, &self.name, &to.directory, &to.name)?)
    }

    /// What kind of file has the name. None where there is nothing.
    pub fn kind(&self) -> io::Result<Option<FileType>> {
        let flags = if self.is_of_kernel { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        match statat(&self.directory, &self.name, flags) {
            Ok(about) => Ok(Some(FileType::from_raw_mode(about.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// One component of a path.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Root,
    Up,
    /// The path is that of a directory: it ends with `/`.
    Here,
    Into(OsString),
}

/// A link of another user, on the way.
#[derive(Debug)]
struct Led {
    by: u32,
    /// How many steps are left when what it leads to is reached.
    until: usize,
}

/// A way along a path.
#[derive(Debug)]
struct Walk {
    at: OwnedFd,
    steps: VecDeque<Step>,
    led: Vec<Led>,
    links: usize,
}

impl Walk {
    fn along(path: &Path) -> io::Result<Self> {
        // An absolute path is no matter of the working directory, in which this process may have nothing to look for.
        let start = if path.is_absolute() { "/" } else { "." };
        let at = reach(CWD, OsStr::new(start), OFlags::DIRECTORY)?;
        Ok(Self { at, steps: steps_of(path), led: Vec::new(), links: 0 })
    }

    fn finish(mut self) -> io::Result<Place> {
        while let Some(step) = self.steps.pop_front() {
            match step {
                Step::Root => self.at = reach(CWD, OsStr::new("/"), OFlags::DIRECTORY)?,
                Step::Here => {}
                Step::Up => self.at = reach(&self.at, OsStr::new(".."), OFlags::DIRECTORY)?,
                Step::Into(name) => {
                    if let Some(place) = self.enter(name)? {
                        return Ok(place);
                    }
                }
            }
            self.arrive(None)?;
        }
        Err(is_a_directory())
    }

    /// Goes on to a name. Returns the place where the way ends, if it does.
    fn enter(&mut self, name: OsString) -> io::Result<Option<Place>> {
        let is_last = self.steps.is_empty();
        let found = match reach(&self.at, &name, OFlags::NOFOLLOW) {
            Ok(found) => Some(found),
            Err(error) if is_last && error.kind() == io::ErrorKind::NotFound => None,
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && self.steps.iter().all(|step| *step == Step::Here) =>
            {
                return Err(is_a_directory());
            }
            Err(error) => return Err(error),
        };
        let about = found.as_ref().map(fstat).transpose()?;
        let is_link = about.is_some_and(|about| FileType::from_raw_mode(about.st_mode) == FileType::Symlink);
        let is_of_kernel = is_link && fstatfs(&self.at)?.f_type == PROC_SUPER_MAGIC;
        if is_last && (!is_link || is_of_kernel) {
            self.arrive(about.map(|about| about.st_uid))?;
            let directory = self.at.try_clone()?;
            return Ok(Some(Place { directory, name, is_of_kernel }));
        }
        match (found, about) {
            (Some(link), Some(about)) if is_link && !is_of_kernel => self.follow(&link, about.st_uid)?,
            // The very directory that was looked at: by its name something else may be found by now.
            (Some(found), Some(about)) if !is_link => {
                if FileType::from_raw_mode(about.st_mode) != FileType::Directory {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                self.at = found;
            }
            _ => self.at = reach(&self.at, &name, OFlags::DIRECTORY)?,
        }
        Ok(None)
    }
}

impl Walk {
    fn follow(&mut self, link: &OwnedFd, owner: u32) -> io::Result<()> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = PathBuf::from(OsString::from_vec(readlinkat(link, "", Vec::new())?.into_bytes()));
        // Another master can do no more by it than whoever made the link could have it do anyway.
        if geteuid().is_root() && owner != 0 {
            self.led.push(Led { by: owner, until: self.steps.len() });
        }
        for step in steps_of(&target).into_iter().rev() {
            self.steps.push_front(step);
        }
        Ok(())
    }

    /// Judges the links that lead to where it is now, or to a file of this owner in it.
    fn arrive(&mut self, file: Option<u32>) -> io::Result<()> {
        while let Some(Led { by, .. }) = self.led.pop_if(|led| self.steps.len() <= led.until) {
            if fstat(&self.at)?.st_uid != by && file != Some(by) {
                let why = format!("a symlink of another user (uid {by}) leads to what is not that user's");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
        }
        Ok(())
    }
}

fn steps_of(path: &Path) -> VecDeque<Step> {
    let step = |component: Component<'_>| match component {
        Component::RootDir => Some(Step::Root),
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Into(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    };
    let last = is_of_directory(path).then_some(Step::Here);
    path.components().filter_map(step).chain(last).collect()
}

fn is_a_directory() -> io::Error {
    io::Error::new(io::ErrorKind::IsADirectory, "this is the path of a directory, and not of a file")
}

fn reach(from: impl std::os::fd::AsFd, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(from, name, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::{chown, lchown, symlink};

    use super::*;

    /// A user who is not root.
    const OTHER: u32 = 12_345;

    fn read(path: &Path) -> io::Result<String> {
        let mut text = String::new();
        Place::of(path)?.open(OFlags::RDONLY)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn it_leads_where_the_kernel_would_go() {
        let base = tempfile::tempdir().unwrap();
        let at = |path: &str| base.path().join(path);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/it"), "it").unwrap();
        symlink("a/b", at("link")).unwrap();
        symlink(at("a"), at("a/b/up")).unwrap();
        symlink("link/up/b/it", at("file")).unwrap();
        symlink("circle", at("circle")).unwrap();
        symlink("nowhere/it", at("astray")).unwrap();
        symlink("/proc/self/cwd", at("here")).unwrap();
        symlink("a/b/it/", at("slash")).unwrap();
        let paths =
            ["a/b/it", "link/it", "link/../b/it", "link/up/b/./it", "file", "circle", "astray", "a/it/it"];
        let paths = paths.into_iter().chain(["a/b/it/", "a/b/it/.", "a/b/", "a/.", "slash"]);
        for path in paths.chain(["a/b/it/it", "gone/it", "a", ".", "link", "here/Cargo.toml"]) {
            let (own, kernel) = (read(&at(path)), fs::read_to_string(at(path)));
            assert_eq!(own.map_err(|error| error.kind()), kernel.map_err(|error| error.kind()), "{path}");
        }
    }

    #[test]
    fn no_file_is_made_by_the_path_of_a_directory() {
        let base = tempfile::tempdir().unwrap();
        symlink("new/", base.path().join("link")).unwrap();
        for path in ["new/", "new/.", "new//", "link"] {
            let path = base.path().join(path);
            let kernel = fs::File::create(&path).unwrap_err().kind();
            assert_eq!((Place::of(&path).unwrap_err().kind(), kernel), (io::ErrorKind::IsADirectory, kernel));
        }
    }

    #[test]
    fn what_the_kernel_itself_links_to_is_opened() {
        let pipe = rustix::pipe::pipe().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&pipe.1);
        let place = Place::of(Path::new(&format!("/proc/self/fd/{number}"))).unwrap();
        assert_eq!(place.kind().unwrap(), Some(FileType::Fifo));
        place.open(OFlags::WRONLY).unwrap();
    }

    #[test]
    fn a_link_that_is_planted_there_later_is_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let (path, precious) = (base.path().join("it"), base.path().join("precious"));
        let place = Place::of(&path).unwrap();
        assert_eq!(place.kind().unwrap(), None);
        symlink("precious", &path).unwrap();
        assert_eq!(place.kind().unwrap(), Some(FileType::Symlink));
        place.open(OFlags::WRONLY | OFlags::CREATE).unwrap_err();
        assert!(!precious.exists());
        place.remove().unwrap();
        place.open(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL).unwrap();
        place.rename(&place.beside(".old").unwrap()).unwrap();
        assert!(base.path().join("it.old").exists() && !path.exists());
    }

    #[test]
    fn a_link_of_another_user_leads_to_that_user_s_own_alone() {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can give a link away");
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let at = |path: &str| base.path().join(path);
        for directory in ["roots", "theirs"] {
            fs::create_dir(at(directory)).unwrap();
            fs::write(at(directory).join("it"), directory).unwrap();
        }
        symlink("roots", at("trusted")).unwrap();
        for (link, target) in [("a", "roots"), ("b", "theirs"), ("c", "theirs/new"), ("d", "roots/new")] {
            symlink(target, at(link)).unwrap();
            lchown(at(link), Some(OTHER), None).unwrap();
        }
        for (link, target) in [("e", "roots/it"), ("f", "b/it"), ("g", "theirs/it"), ("h", "trusted/it")] {
            symlink(target, at(link)).unwrap();
            lchown(at(link), Some(OTHER), None).unwrap();
        }
        chown(at("theirs"), Some(OTHER), None).unwrap();
        let refused = |path: &str| {
            Place::of(&at(path)).err().map(|error| error.kind() == io::ErrorKind::PermissionDenied)
        };
        for path in ["a/it", "a/new", "d", "e", "h", "a/../theirs/it"] {
            assert_eq!(refused(path), Some(true), "{path}");
        }
        for path in ["b/it", "b/new", "c", "f", "g", "trusted/it", "roots/it"] {
            assert_eq!(refused(path), None, "{path}");
        }
        fs::write(at("roots/given"), "").unwrap();
        chown(at("roots/given"), Some(OTHER), None).unwrap();
        symlink("roots/given", at("i")).unwrap();
        lchown(at("i"), Some(OTHER), None).unwrap();
        assert_eq!(refused("i"), None, "it could be written anyway");
    }
}
