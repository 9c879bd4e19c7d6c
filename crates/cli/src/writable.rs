//! Whether a file could be made, without making it: another one is made in its directory and removed at once.

use std::io;
use std::process;

use recluster::Place;
use rustix::fs::OFlags;

/// Whether a file could be made at a place where there is none.
pub(crate) fn may_create(place: &Place) -> io::Result<()> {
    if place.kind()?.is_some() {
        return Ok(());
    }
    // Permissions do not say it all: in some file systems nothing can be made by hand.
    let trial = place.named(format!(".recluster-trial-{}", process::id()))?;
    trial.open(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
    trial.remove()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    #[test]
    fn it_answers_as_making_it_does() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        fs::write(at("file"), "").unwrap();
        symlink("circle", at("circle")).unwrap();
        symlink("gone/away", at("astray")).unwrap();
        symlink("new", at("link")).unwrap();
        let make = |path: &Path| Place::of(path)?.open(OFlags::WRONLY | OFlags::CREATE);
        let could = |path: &Path| may_create(&Place::of(path)?);
        for name in ["file/new", "gone/new", "circle", "astray", &"x".repeat(256)] {
            let refused = make(&at(name)).unwrap_err();
            assert_eq!(could(&at(name)).unwrap_err().kind(), refused.kind(), "{name}");
        }
        for name in ["new", "link"] {
            could(&at(name)).unwrap();
            assert!(!at("new").exists());
        }
        make(&at("link")).unwrap();
        could(&at("link")).unwrap();
        let kernels = Path::new("/proc/recluster.pid");
        assert_eq!(could(kernels).unwrap_err().kind(), make(kernels).unwrap_err().kind());
    }
}
