//! What is installed from a registry when a list of it has changed, or its place: scripts of Python name the directory that
//! they were installed into. Test runs at the same time wait for each other.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use recluster_e2e::{fixture, repository};
use rustix::fs::{FlockOperation, flock};

/// The directory `.cache/NAME` with all that a list in `fixtures/languages` names. `install` is given the directory and
/// the list.
pub(crate) fn installed_into(name: &str, list: &str, install: impl Fn(&Path, &Path)) -> PathBuf {
    let cache = repository().join(".cache").join(name);
    fs::create_dir_all(&cache).expect("the repository is writable");
    // Several checkouts may share it by a link.
    let cache = cache.canonicalize().expect("it is there");
    let lock = File::create(cache.join("lock")).expect("the repository is writable");
    flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");
    let list = fixture("languages").join(list);
    let wanted = fs::read_to_string(&list).expect("the list") + &format!("# in {}\n", cache.display());
    let done = cache.join("installed.txt");
    if !fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        install(&cache, &list);
        fs::write(done, wanted).expect("the repository is writable");
    }
    cache
}
