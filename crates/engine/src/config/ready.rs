//! When a worker counts as ready, and the check that finds out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// When a worker counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadyWhen {
    /// Its first server listens (Node).
    Listening,
    /// Its process runs (Node: its first word).
    Started,
    /// It sent a message: `process.send({cmd: 'ready'})` or `process.send('ready')`.
    Ready,
    /// It sent `READY=1` by `sd_notify`.
    Notify,
}

/// The check that finds out whether a worker serves.
///
/// - `http:/healthz` (or just `/healthz`): a GET of this path, which must be answered with a status of 200 to 399. It is no
///   URL: each worker is asked by itself, wherever it listens;
/// - `exec:./check.sh`: a command for `/bin/sh`, which must end with status 0. It finds the worker's pid in
///   `RECLUSTER_PID`, and its slot in `WORKER_ID`, and runs in the worker's directory with its environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "the two ways to ask")]
pub enum ReadyCheck {
    /// A GET of this path.
    Http(String),
    /// This command.
    Command(String),
}

/// The text is no [`ReadyCheck`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no check: write http:/path, or exec: and a command")]
pub struct ParseReadyCheckError(String);

impl FromStr for ReadyCheck {
    type Err = ParseReadyCheckError;

    fn from_str(text: &str) -> Result<Self, ParseReadyCheckError> {
        let path = text.strip_prefix("http:").unwrap_or(text);
        let is_path = path.starts_with('/') && !path.starts_with("//");
        if is_path && !path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Ok(Self::Http(path.to_owned()));
        }
        match text.strip_prefix("exec:").map(str::trim) {
            Some(command) if !command.is_empty() => Ok(Self::Command(command.to_owned())),
            _ => Err(ParseReadyCheckError(text.to_owned())),
        }
    }
}

impl fmt::Display for ReadyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(path) => write!(f, "http:{path}"),
            Self::Command(command) => write!(f, "exec:{command}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_as_they_are_written() {
        let http = ReadyCheck::Http("/healthz?full=1".to_owned());
        assert_eq!("/healthz?full=1".parse(), Ok(http.clone()));
        assert_eq!("http:/healthz?full=1".parse(), Ok(http));
        assert_eq!("exec: ./check.sh".parse(), Ok(ReadyCheck::Command("./check.sh".to_owned())));
        for wrong in [
            "",
            "healthz",
            "http:healthz",
            "http:/a b",
            "http://127.0.0.1:80/healthz",
            "//a",
            "exec:",
            "/a\r\nb",
        ] {
            let error = wrong.parse::<ReadyCheck>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("'{wrong}' is no check: write http:/path, or exec: and a command")
            );
        }
    }

    #[test]
    fn a_check_is_written_as_it_is_read() {
        for text in ["http:/healthz", "exec:./check.sh --fast"] {
            assert_eq!(text.parse::<ReadyCheck>().unwrap().to_string(), text);
        }
    }
}
