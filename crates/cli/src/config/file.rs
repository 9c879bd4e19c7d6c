//! Finding the config file, and reading it.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::error::{Error, MOST_BYTES, Problem};
use super::keys::{CONFIG, SERVER};
use super::place::Place;
use crate::args::ConfigAt;

/// What a config file is called.
const FILE_NAME: &str = "recluster.toml";

/// A config file that was read.
#[derive(Debug)]
pub(crate) struct File {
    /// Where it is, absolute.
    pub(crate) path: PathBuf,
    /// As it was named, for messages.
    pub(crate) shown: PathBuf,
    pub(crate) text: String,
}

impl File {
    /// Reads the file that was named, or else the one beside the server file, if there is one.
    pub(super) fn find(given: &ArgMatches, directory: &Path) -> Result<Option<Self>, Error> {
        match given.get_one::<ConfigAt>(CONFIG) {
            Some(ConfigAt::Off) => return Ok(None),
            Some(ConfigAt::Path(path)) => return Self::read(path, directory).map(Some),
            Some(ConfigAt::Beside) | None => {}
        }
        let server = given.get_one::<PathBuf>(SERVER).and_then(|server| server.parent());
        match Self::read(&server.unwrap_or(Path::new("")).join(FILE_NAME), directory) {
            Err(Error::Unreadable { source, .. }) if is_absence(&source) => Ok(None),
            read => read.map(Some),
        }
    }

    fn read(shown: &Path, directory: &Path) -> Result<Self, Error> {
        let path = directory.join(shown);
        let bytes = read_file(&path)
            .map_err(|source| Error::Unreadable { path: shown.to_owned(), source })?
            .ok_or_else(|| Error::TooLarge { path: shown.to_owned() })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            Error::Wrong { place: Place::new(shown, &text, valid), problem: Problem::NotUtf8 }
        })?;
        Ok(Self { path, shown: shown.to_owned(), text })
    }
}

/// The whole file, unless it is too large.
fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Opening a pipe could wait for ever.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MOST_BYTES).then_some(bytes))
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
