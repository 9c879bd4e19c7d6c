//! The command, but that a part of the master panics when the directory `PANICS` has a file of its name. The file is gone then.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    recluster::host::try_parts(|part| {
        let file = env::var_os("PANICS").map(|directory| PathBuf::from(directory).join(part));
        let is_due = file.is_some_and(|file| fs::remove_file(file).is_ok());
        assert!(!is_due, "the test has panicked on purpose");
    });
    recluster_cli::main()
}
