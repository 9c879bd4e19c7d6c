//! The arguments of `init`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `init`.
#[derive(Args, Debug)]
#[command(after_help = "\
Looks at package.json, Procfile, Cargo.toml, go.mod, Gemfile, and requirements.txt or pyproject.toml, in this order. Writes over no file.

Exit status: 0 it is written; 2 there is a recluster.toml already, or nothing that could be run is found.")]
pub(crate) struct Init {
    /// The directory of the project
    #[arg(value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,
}
