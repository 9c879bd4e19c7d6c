//! Which program is run, and when none is.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use super::*;

/// Around the cluster.
struct Nothing;

impl Around for Nothing {
    fn save(&self, _: &mut Saving) -> Result<(), SaveError> {
        Ok(())
    }

    fn has_said_all(&self) -> Result<(), String> {
        Ok(())
    }

    fn hold(&self) -> Result<(), String> {
        Ok(())
    }

    fn go_on(&self) {}
}

/// Else something could be put there that was never tried.
#[test]
fn what_was_looked_at_is_what_is_run_whatever_its_path_leads_to_by_then() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    let found = ["/bin/true", "/bin/false"].map(|program| {
        let _ = fs::remove_file(&path);
        symlink(program, &path).unwrap();
        look(&path).unwrap()
    });
    let successor = Successor::new(Vec::new(), None, None, Nothing);
    let succeeded = found.map(|program| {
        let memory = memory::seal(b"").unwrap();
        let [out, err] = [(); 2].map(|()| File::create("/dev/null").unwrap().into());
        successor.rehearsal(&program, &memory, Vec::new(), out, err).status().unwrap().success()
    });
    assert_eq!(succeeded, [true, false]);
}

#[test]
fn it_is_called_off_where_the_master_has_rested_for_too_long() {
    assert_eq!(is_too_long(MOST_REST), None);
    let reason = is_too_long(MOST_REST + Duration::from_millis(1)).unwrap();
    assert!(reason.contains("had rested for 2001 ms"), "{reason}");
}
