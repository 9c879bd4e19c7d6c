//! What can be wrong with a config file: one line that begins with the place.

use std::io;
use std::path::PathBuf;

use recluster::VariableError;

use super::place::Place;

/// The largest config file, in bytes. What is larger is something else.
pub(super) const MOST_BYTES: u64 = 1024 * 1024;

/// Why a command line and its file make no [`Invocation`](super::Invocation).
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// With what the file adds, the command line is still not complete, or contradicts itself.
    #[error("{}", in_one_line(.0))]
    Usage(#[from] clap::Error),
    #[error("cannot read the config file {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the config file {} is larger than {MOST_BYTES} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error(
        "{} does not say what to run: write server = \"server.js\" in it, or name the file on the command line",
        path.display()
    )]
    NoServer { path: PathBuf },
    #[error("{place}: {problem}")]
    Wrong { place: Place, problem: Problem },
    #[error("this command line starts no cluster")]
    NotACluster,
}

/// What is wrong at a place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("not TOML: {0}")]
    NotToml(String),
    #[error("not TOML: the text is not UTF-8")]
    NotUtf8,
    #[error("'{key}' is given twice")]
    Twice { key: String },
    #[error("unknown key '{key}'{}", .nearest.as_ref().map(|key| format!("; did you mean '{key}'?")).unwrap_or_default())]
    UnknownKey { key: String, nearest: Option<String> },
    #[error("'{key}' must be {wanted}, not {found}")]
    Type { key: String, wanted: &'static str, found: &'static str },
    #[error("'{key}' cannot be '{value}': {reason}")]
    Value { key: String, value: String, reason: String },
    #[error("'{key}' cannot be used with '{other}', in line {line}")]
    Contradiction { key: String, other: String, line: usize },
    #[error(transparent)]
    Variable(#[from] VariableError),
    #[error("'{key}' holds a NUL character, which no argument and no variable can")]
    Nul { key: String },
}

/// The first paragraph of an error of clap; the others are about usage and help.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let line = lines.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}
