//! The `recluster` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    recluster_cli::main()
}
