//! Where directories of ours are: for control sockets, and for what workers must reach.
//!
//! Anybody may make a directory in `/tmp` under the name that ours would have. So one that is not ours is passed over, and in the
//! end ours has a random name. Such a one is found again by its owner, which nobody else can forge: every directory in `/tmp` whose
//! name begins as ours do, and which belongs to this user, is looked at.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::env;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::process::geteuid;

use super::runtime_dir::{DirectoryError, OTHERS_MAY_WRITE, may_create_in, prepare_with, preview};

/// What a directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Control sockets, for this user and root alone.
    Control,
    /// Files that workers read and sockets that they write to, perhaps as another user.
    Workers,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Control => "recluster",
            Self::Workers => "recluster-workers",
        }
    }

    fn mode(self) -> u32 {
        match self {
            Self::Control => 0o700,
            Self::Workers => 0o755,
        }
    }
}

/// The directories that may hold control sockets of this user. There may be several, because a service often has no
/// `XDG_RUNTIME_DIR` where a login has one.
pub fn directories() -> Vec<PathBuf> {
    System::here().all(Purpose::Control)
}

/// The directory that a new control socket goes into.
pub(crate) fn for_control() -> PathBuf {
    System::here().for_control()
}

impl System {
    fn for_control(&self) -> PathBuf {
        let is_usable = |directory: &PathBuf| match preview(directory) {
            // What root has made can be trusted, and may be closed to this user.
            Ok(()) => !directory.exists() || may_create_in(directory).is_ok(),
            // Its user has to know of it.
            Err(DirectoryError::Open { .. }) => true,
            Err(DirectoryError::Foreign { .. } | DirectoryError::Unusable { .. }) => false,
        };
        let usable = self.all(Purpose::Control).into_iter().find(is_usable);
        usable.unwrap_or_else(|| self.with_random_name(Purpose::Control))
    }
}

/// Does something in the first directory for workers where it can be done.
pub(crate) fn for_workers<T>(what: impl FnMut(&Path) -> io::Result<T>) -> io::Result<T> {
    System::here().first(Purpose::Workers, what)
}

/// All directories for workers that there may be.
pub(crate) fn of_workers() -> Vec<PathBuf> {
    System::here().all(Purpose::Workers)
}

/// Directories in which this process has control sockets.
static CONTROLS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Has what workers must reach go beside a control socket, where there is no other place: whoever put the socket there can write
/// there.
pub(crate) fn may_hold_workers(directory: &Path) {
    if let (Ok(directory), Ok(mut known)) = (fs::canonicalize(directory), CONTROLS.lock()) {
        known.insert(directory);
    }
}

/// What of this system decides.
#[derive(Clone, Debug)]
struct System {
    uid: u32,
    /// `XDG_RUNTIME_DIR`: goes with the user's last session.
    session: Option<PathBuf>,
    /// `RUNTIME_DIRECTORY`: what a service manager has made for this service.
    service: Option<PathBuf>,
    /// Where this process has control sockets.
    controls: BTreeSet<PathBuf>,
    /// Where `/run`, `/tmp` and `/dev/shm` are.
    root: PathBuf,
}

impl System {
    fn here() -> Self {
        let directory = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        // There may be several, with colons between them.
        let first =
            |path: PathBuf| path.to_str().and_then(|list| Some(PathBuf::from(list.split(':').next()?)));
        Self {
            uid: geteuid().as_raw(),
            session: directory("XDG_RUNTIME_DIR"),
            service: directory("RUNTIME_DIRECTORY").and_then(first),
            controls: CONTROLS.lock().map(|known| known.clone()).unwrap_or_default(),
            root: PathBuf::from("/"),
        }
    }

    fn all(&self, purpose: Purpose) -> Vec<PathBuf> {
        self.fixed(purpose).into_iter().chain(self.with_random_names(purpose)).collect()
    }

    /// Those whose names are known, best first. A directory that the environment names may be another user's: `su` and
    /// `sudo -E` leave it there.
    fn fixed(&self, purpose: Purpose) -> Vec<PathBuf> {
        let (name, uid) = (purpose.name(), self.uid);
        let in_own = |parent: PathBuf| {
            (self.owns(&parent) && (purpose == Purpose::Control || self.is_passable(&parent)))
                .then(|| parent.join(name))
        };
        let session = self.session.clone().filter(|_| purpose == Purpose::Control).and_then(in_own);
        let service = self.service.clone().and_then(in_own);
        let login = Some(self.root.join(format!("run/user/{uid}")));
        let login = login.filter(|_| purpose == Purpose::Control && uid != 0).and_then(in_own);
        let run = self.root.join("run").join(name);
        let run = (uid == 0 || self.owns(&run)).then_some(run);
        let named = |parent: &str| self.root.join(parent).join(format!("{name}-{uid}"));
        let beside = self.controls.iter().filter(|_| purpose == Purpose::Workers).cloned().filter_map(in_own);
        let mut all: Vec<PathBuf> =
            [session, service, login, run, Some(named("tmp")), Some(named("dev/shm"))]
                .into_iter()
                .flatten()
                .chain(beside)
                .collect();
        let mut known = Vec::new();
        all.retain(|path| {
            !known.contains(path) && {
                known.push(path.clone());
                true
            }
        });
        all
    }

    fn with_random_names(&self, purpose: Purpose) -> Vec<PathBuf> {
        let beginning = self.beginning(purpose);
        let is_named = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&beginning))
        };
        let entries = fs::read_dir(self.root.join("tmp")).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(is_named).filter(|path| self.owns(path)).collect();
        found.sort();
        found
    }

    fn with_random_name(&self, purpose: Purpose) -> PathBuf {
        let random = RandomState::new().build_hasher().finish();
        self.root.join("tmp").join(format!("{}{random:016x}", self.beginning(purpose)))
    }

    fn beginning(&self, purpose: Purpose) -> String {
        format!("{}-{}-", purpose.name(), self.uid)
    }

    /// Whether it is a directory of this user, in which nobody else may put anything.
    fn owns(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|about| {
            about.is_dir() && about.uid() == self.uid && about.mode() & OTHERS_MAY_WRITE == 0
        })
    }

    /// Whether a worker that gives up root gets there: one that starts a thread later reads the preload again, and fails without it.
    fn is_passable(&self, path: &Path) -> bool {
        self.uid != 0
            || path
                .ancestors()
                .take_while(|directory| *directory != self.root)
                .all(|directory| fs::metadata(directory).is_ok_and(|about| about.mode() & 0o001 != 0))
    }

    fn first<T>(&self, purpose: Purpose, mut what: impl FnMut(&Path) -> io::Result<T>) -> io::Result<T> {
        let mut refused = None;
        for directory in self.all(purpose).into_iter().chain([self.with_random_name(purpose)]) {
            let prepared = prepare_with(&directory, purpose.mode()).map_err(io::Error::other);
            match prepared.and_then(|()| what(&directory)) {
                Ok(done) => return Ok(done),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A system of its own below a temporary directory, of the user who runs the test.
    fn system(root: &Path) -> System {
        for directory in ["run", "tmp", "dev/shm"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        System {
            uid: geteuid().as_raw(),
            session: None,
            service: None,
            controls: BTreeSet::new(),
            root: root.to_owned(),
        }
    }

    fn below(root: &Path, paths: &[PathBuf]) -> Vec<String> {
        paths.iter().map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect()
    }

    /// A user who is not root, and owns nothing here.
    const OTHER: u32 = 12_345;

    #[test]
    fn what_the_environment_names_counts_where_it_is_this_user_s() {
        let base = tempfile::tempdir().unwrap();
        let own = system(base.path());
        let (session, service) = (base.path().join("session"), base.path().join("service"));
        fs::create_dir(&session).unwrap();
        fs::create_dir(&service).unwrap();
        // Whatever the umask.
        fs::set_permissions(&service, fs::Permissions::from_mode(0o755)).unwrap();
        let own = System { session: Some(session), service: Some(service), ..own };
        let fixed = |system: &System, purpose| below(base.path(), &system.fixed(purpose));
        assert_eq!(fixed(&own, Purpose::Control)[..2], ["session/recluster", "service/recluster"]);
        assert_eq!(fixed(&own, Purpose::Workers)[0], "service/recluster-workers");
        let other = System { uid: OTHER, ..own };
        let control = ["tmp/recluster-12345", "dev/shm/recluster-12345"];
        assert_eq!(fixed(&other, Purpose::Control), control);
        let workers = ["tmp/recluster-workers-12345", "dev/shm/recluster-workers-12345"];
        assert_eq!(fixed(&other, Purpose::Workers), workers);
        let root = System { uid: 0, session: None, service: None, ..other };
        let control = ["run/recluster", "tmp/recluster-0", "dev/shm/recluster-0"];
        assert_eq!(fixed(&root, Purpose::Control), control);
    }

    #[test]
    fn what_workers_need_may_be_beside_a_control_socket_in_the_end() {
        let base = tempfile::tempdir().unwrap();
        let own = system(base.path());
        let control = base.path().join("control");
        fs::create_dir(&control).unwrap();
        fs::set_permissions(&control, fs::Permissions::from_mode(0o755)).unwrap();
        let beside = System { controls: BTreeSet::from([control.clone()]), ..own };
        let last = |system: &System, purpose| below(base.path(), &system.fixed(purpose)).pop().unwrap();
        assert_eq!(last(&beside, Purpose::Workers), "control/recluster-workers");
        assert!(last(&beside, Purpose::Control).starts_with("dev/shm/"));
        // Nothing else can be made there.
        for taken in ["run", "tmp", "dev"] {
            fs::remove_dir_all(base.path().join(taken)).unwrap();
        }
        let place = || beside.first(Purpose::Workers, |directory| Ok(directory.to_owned())).ok();
        assert_eq!(place(), Some(control.join("recluster-workers")));
        fs::set_permissions(&control, fs::Permissions::from_mode(0o700)).unwrap();
        let is_root = beside.uid == 0;
        assert_eq!(place().is_none(), is_root, "a worker that gives up root would not get there");
    }

    #[test]
    fn in_a_container_that_cannot_write_elsewhere_shared_memory_is_the_place() {
        let base = tempfile::tempdir().unwrap();
        let system = system(base.path());
        let place = || below(base.path(), &[system.for_control()]).pop().unwrap();
        let uid = system.uid;
        assert_eq!(
            place(),
            if uid == 0 { "run/recluster".to_owned() } else { format!("tmp/recluster-{uid}") }
        );
        for gone in ["run", "tmp"] {
            fs::remove_dir(base.path().join(gone)).unwrap();
        }
        assert_eq!(place(), format!("dev/shm/recluster-{uid}"));
        fs::remove_dir(base.path().join("dev/shm")).unwrap();
        assert!(place().starts_with("tmp/recluster-"), "there is no place, and this says where one would be");
    }

    #[test]
    fn where_others_have_taken_every_name_ours_is_random_and_found_again() {
        let base = tempfile::tempdir().unwrap();
        let system = System { root: base.path().to_owned(), ..system(base.path()) };
        // Anything that is no directory of ours will do.
        for taken in system.fixed(Purpose::Workers) {
            fs::write(taken, "").unwrap();
        }
        let beginning = base.path().join("tmp").join(system.beginning(Purpose::Workers));
        fs::write(format!("{}planted", beginning.display()), "").unwrap();
        std::os::unix::fs::symlink(base.path(), format!("{}link", beginning.display())).unwrap();
        let place = || system.first(Purpose::Workers, |directory| Ok(directory.to_owned())).unwrap();
        let made = place();
        assert!(made.to_string_lossy().starts_with(&*beginning.to_string_lossy()));
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(place(), made, "it is found");
        assert_eq!(system.with_random_names(Purpose::Workers), std::slice::from_ref(&made));
        assert!(System { uid: OTHER, ..system }.with_random_names(Purpose::Workers).is_empty());
    }
}
