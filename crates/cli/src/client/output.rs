//! Writing to stdout. A reader may stop reading at any time, and that is no error.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::error::Error;
use crate::paint::printable_json;

/// Whether stdout is still read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Reads,
    Left,
}

/// Prints text.
pub(crate) fn print(text: &str) -> Result<Reader, Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Left),
        Err(error) => Err(Error::Output(error)),
    }
}

/// Prints a value as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<Reader, Error> {
    let line = serde_json::to_string(value).map_err(|error| Error::Output(error.into()))?;
    print(&(printable_json(line) + "\n"))
}
