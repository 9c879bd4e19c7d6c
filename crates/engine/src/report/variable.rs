//! What can be wrong with a variable for workers, and with a file of them. No message says a value.

use std::io;
use std::path::PathBuf;

/// Why a variable cannot be one for workers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VariableError {
    /// No variable has such a name.
    #[error("{0:?} cannot be the name of an environment variable")]
    NotAName(String),
    /// Each worker gets its own value of it, or must have none.
    #[error("{0} is reserved: recluster itself sets it for each worker, or keeps it from workers")]
    Reserved(String),
    /// A number in it would do harm.
    #[error("{0} cannot hold the slot: it decides how a worker is started")]
    Needed(String),
    /// No variable can hold it.
    #[error("the value of {0} holds a NUL character")]
    Nul(String),
    /// No program could be started with it.
    #[error("the value of {0} is longer than a variable can be")]
    TooLong(String),
    /// More was said at reloads than a master keeps.
    #[error(
        "the variables that were set at reloads hold more than {0} bytes in all: put them into an env file"
    )]
    TooMuch(usize),
}

/// Why a file gives no variables.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvFileError {
    /// It is not there, or cannot be read.
    #[error("cannot read the env file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line of it is wrong.
    #[error("{}:{line}: {problem}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: EnvFileProblem,
    },
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvFileProblem {
    /// It has no `=`.
    #[error("neither NAME=VALUE nor a # comment")]
    NoVariable,
    /// The name is none, or not the user's to choose; or the value cannot be one.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// A quote is opened and never closed.
    #[error("the value of {0} begins with a quote that is never closed")]
    Unclosed(String),
    /// It is not text.
    #[error("not UTF-8")]
    NotUtf8,
}
