//! Every target, with everything in its corpus: what libFuzzer has found interesting, what specifications and real programs write, and
//! the inputs on which something was wrong once.

use std::fs;
use std::path::{Path, PathBuf};

use recluster_fuzz::TARGETS;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn names(directory: &Path, what: fn(&Path) -> bool) -> Vec<String> {
    let entries =
        fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("it can be read").path());
    let names =
        entries.filter(|path| what(path)).filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn every_target_has_a_corpus_and_a_program() {
    let targets = TARGETS.map(|(name, _)| name.to_owned());
    assert_eq!(names(&corpus(), Path::is_dir), targets);
    let programs = names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets"), Path::is_file);
    assert_eq!(programs, targets.map(|name| format!("{name}.rs")));
}

#[test]
fn everything_that_must_hold_does_for_the_corpus() {
    for (target, run) in TARGETS {
        let directory = corpus().join(target);
        for name in names(&directory, Path::is_file) {
            // Shown if the target panics.
            println!("{target}/{name}");
            let bytes = fs::read(directory.join(&name)).expect("it can be read");
            run(&bytes);
            // Whatever must hold for any bytes must hold for their beginning.
            run(&bytes[..bytes.len() / 2]);
        }
    }
}

/// Else nothing is tried behind the first part that is missing.
#[test]
fn the_state_of_a_cluster_is_one_that_could_be_gone_on_with() {
    let state = fs::read(corpus().join("upgrade/cluster")).expect("it can be read");
    let (_, obstacle) = recluster::fuzzing::left_state(&state).expect("it is one");
    assert_eq!(obstacle, None);
}
