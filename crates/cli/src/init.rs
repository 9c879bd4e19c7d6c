//! `init`: a `recluster.toml` for the project in a directory, and what to run next. No file is written over.

mod command;
mod look;
mod node;
mod project;
mod python;
mod text;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use crate::args::Init;
use crate::client::output::print;
use crate::error::Error;
use crate::exit_code::ExitStatus;

/// The file that is written.
const FILE: &str = "recluster.toml";

/// Looks at a directory, and writes.
pub(crate) fn init(args: &Init) -> Result<ExitStatus, Error> {
    let directory = &args.directory;
    let path = directory.join(FILE);
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            Error::ConfigExists { path: path.clone() }
        } else {
            Error::ConfigUnwritable { path: path.clone(), source }
        }
    };
    // A link that leads nowhere is there as well.
    if path.symlink_metadata().is_ok() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let project =
        look::at(directory).map_err(|reason| Error::NoProject { directory: directory.clone(), reason })?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    file.write_all(text::config(&project).as_bytes()).map_err(failed)?;
    print(&text::next(&project, &path, is_here(directory)))?;
    Ok(ExitStatus::Success)
}

fn is_here(directory: &Path) -> bool {
    directory == Path::new(".")
}

#[cfg(test)]
mod tests;
