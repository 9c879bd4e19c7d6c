//! The messages between a client and a master on the control socket.
//!
//! Each message is one JSON object on a line of its own. A client sends a [`Request`], with the version of the protocol in
//! the same object:
//!
//! ```text
//! → {"version":1,"request":"scale_by","workers":2}
//! ← {"reply":"scaled","workers":4}
//! → {"version":1,"request":"reload","wait":true}
//! ← {"reply":"progress","progress":"began","generation":2}
//! ← {"reply":"verdict","generation":2,"verdict":"done"}
//! ```
//!
//! A client may send the next request after it has its answer. The master answers a line that it does not understand with
//! [`Reply::Refused`], and then closes the connection. If a client closes its side, or sends anything more while it waits
//! for an answer, the master stops answering it; the request itself is carried out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::scale::Scale;
use crate::config::variable::Variables;
use crate::config::which::Which;
use crate::report::configuration::{Difference, Setting};
use crate::report::event::Event;
use crate::report::status::Status;
use crate::report::stream::Stream;
use crate::report::verdict::Verdict;
use crate::report::verdict::{Failure, Replaced};
use crate::report::worker::Worker;

/// The version of the protocol. It changes when an old client would misunderstand a new master.
pub const VERSION: u32 = 1;

/// The longest line that a master reads, in bytes: enough for all variables that a reload may set, however they are written.
pub const REQUEST_LIMIT: usize = 256 * 1024;

/// The longest line that a client reads, in bytes: enough for the status of the largest cluster.
pub const REPLY_LIMIT: usize = 4 * 1024 * 1024;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "the master must answer each of them")]
pub enum Request {
    /// Replace every worker.
    Reload {
        /// Whether to send the progress and the verdict. If not, the answer is [`Reply::Accepted`] at once.
        #[serde(default)]
        wait: bool,
        /// Variables for the workers of this and later generations.
        #[serde(default, skip_serializing_if = "Variables::is_empty")]
        env: Variables,
    },
    /// The status of the cluster.
    Status,
    /// With which settings the cluster runs: [`Reply::Configuration`].
    Configuration {
        /// Whether to tell as well how the config file differs from them now.
        #[serde(default)]
        diff: bool,
    },
    /// What has happened lately: [`Reply::Event`] for each, then [`Reply::EventsEnd`].
    Events {
        /// Whether to go on with what happens from now on, to the end of the cluster.
        #[serde(default)]
        follow: bool,
        /// How many of those that have happened already; all that are known, if it is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<u32>,
    },
    /// What workers have written lately: [`Reply::Streams`], then [`Reply::Line`] for each line, then [`Reply::LinesEnd`].
    Logs {
        /// Whether to go on with what they write from now on, to the end of the cluster.
        #[serde(default)]
        follow: bool,
        /// How many of the lines that are there already; all that are kept, if it is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<u32>,
        /// Of which slot; of all, if it is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<u32>,
    },
    /// Replace one worker within its generation, new first, and tell when the new one serves: [`Reply::Replaced`], or
    /// [`Reply::ReplaceFailed`].
    Replace {
        /// Which.
        #[serde(flatten)]
        which: Which,
    },
    /// Set the number of slots.
    ScaleTo {
        /// How many.
        workers: u32,
    },
    /// Change the number of slots by this.
    ScaleBy {
        /// How many.
        workers: i32,
    },
    /// Put another program in the place of the master, under its workers: [`Reply::Upgraded`] or [`Reply::NotUpgraded`], or
    /// [`Reply::Upgradable`] where it is only tried.
    Upgrade {
        /// The program; the one by whose path the master was started, if it is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        binary: Option<PathBuf>,
        /// Only try whether it could take over.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
        /// Whether to wait for what is in its way, such as a reload.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        wait: bool,
    },
    /// Drain every worker, then end.
    Stop,
    /// Kill every worker, then end.
    Terminate,
}

/// What the master answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "a client must decide on each of them")]
pub enum Reply {
    /// To a reload that is waited for: how far it has come. More follows.
    Progress(Progress),
    /// To a reload that is waited for: how it ended.
    Verdict {
        /// The generation that was being started; none where the reload never began.
        generation: Option<u64>,
        /// How it ended.
        #[serde(flatten)]
        verdict: Verdict,
        /// The settings that differ from those that the cluster runs with, and that no reload changes.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        needs_restart: Vec<String>,
    },
    /// To a reload that is not waited for: it will be done.
    Accepted,
    /// The status that was asked for.
    Status(Box<Status>),
    /// The settings that are in force.
    Configuration {
        /// The config file that they come from, among others.
        file: Option<String>,
        /// In the order of the help.
        settings: Vec<Setting>,
        /// Where that file, the command line and the environment say something else now; if that was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        differences: Option<Vec<Difference>>,
    },
    /// Something that has happened: its time, its level, and what the event consists of. More follows.
    Event(Map<String, Value>),
    /// No more events follow.
    EventsEnd,
    /// Which of what workers write passes through the master, so that it can be told. Lines follow.
    Streams {
        /// At least one of the two.
        streams: Vec<Stream>,
    },
    /// A worker has written a line. More follows.
    Line(LogLine),
    /// Lines were lost between those that are told, because they were not read in time.
    LinesMissed {
        /// Of which slot.
        slot: u32,
        /// How many.
        lines: u64,
    },
    /// No more lines follow.
    LinesEnd,
    /// The worker was replaced.
    Replaced(Replaced),
    /// It was not replaced, and goes on.
    ReplaceFailed {
        /// What happened to the one that was to replace it.
        failure: Failure,
    },
    /// The number of slots, after it was changed.
    Scaled {
        /// How many.
        workers: u32,
    },
    /// Another program has taken the master's place. It says so itself.
    Upgraded {
        /// The version of the master before.
        from: String,
        /// The version of the one now.
        to: String,
        /// For how long the master rested. Connections that it accepts itself have waited in the kernel.
        rested_seconds: f64,
    },
    /// It could take the master's place.
    Upgradable {
        /// The version of the master.
        from: String,
        /// The version of the program.
        to: String,
    },
    /// The master goes on as it was.
    NotUpgraded {
        /// Why.
        reason: String,
    },
    /// To a stop or a termination: no worker is left. The master closes the connection as the last thing it does.
    Ended,
    /// The request was not understood or cannot be met. The master closes the connection.
    Refused {
        /// Why.
        reason: String,
    },
}

/// A line that a worker has written, or a piece of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "a client shows each field")]
pub struct LogLine {
    /// When the master has read its end: RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// The slot of the worker.
    pub slot: u32,
    /// Its process.
    pub pid: Option<u32>,
    /// Its generation.
    pub generation: u64,
    /// Where it was written.
    pub stream: Stream,
    /// What was written, without the line feed. What is no UTF-8 has become U+FFFD.
    pub line: String,
    /// The rest of it, if there is any, follows as a line of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// It goes on with the last one of the same worker and stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
}

/// How far a reload has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "progress", rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "a client shows each of them")]
pub enum Progress {
    /// A generation begins.
    Began {
        /// Which.
        generation: u64,
    },
    /// A worker of it serves.
    Serving {
        /// The worker.
        worker: Worker,
        /// How many slots have a serving worker of its generation.
        serving: u32,
        /// Of how many.
        of: u32,
    },
    /// A worker of it failed; another attempt or the verdict follows.
    Failed {
        /// What happened.
        failure: Failure,
    },
    /// It gave way to a newer reload, whose progress and verdict follow.
    Superseded {
        /// Which.
        generation: u64,
    },
}

/// Why a line is not a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// It is too long.
    #[error("a request is at most {REQUEST_LIMIT} bytes long")]
    TooLong,
    /// It is not JSON, or not a request that we know.
    #[error("not a request: {0}")]
    NotARequest(#[from] serde_json::Error),
    /// It is of another version.
    #[error(
        "the request is of version {theirs} of the control protocol, this master speaks version {VERSION}"
    )]
    Version {
        /// Which.
        theirs: u32,
    },
}

/// A request as it stands on the wire.
#[derive(Serialize)]
struct Envelope<'a> {
    version: u32,
    #[serde(flatten)]
    request: &'a Request,
}

/// Read before the rest, so that a request of another version is refused for its version.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Request {
    /// The request as one line.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        encode(&Envelope { version: VERSION, request: self })
    }

    /// Reads one line, with or without its line feed.
    pub fn decode(line: &[u8]) -> Result<Self, BadRequest> {
        let Versioned { version } = serde_json::from_slice(line)?;
        if version != VERSION {
            return Err(BadRequest::Version { theirs: version });
        }
        Ok(serde_json::from_slice(line)?)
    }
}

impl Request {
    /// A reload that sets no variables.
    pub fn reload(wait: bool) -> Self {
        Self::Reload { wait, env: Variables::default() }
    }
}

impl From<Scale> for Request {
    fn from(scale: Scale) -> Self {
        match scale {
            Scale::To(workers) => Self::ScaleTo { workers },
            Scale::By(workers) => Self::ScaleBy { workers },
        }
    }
}

impl Reply {
    /// The reply as one line.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        encode(self)
    }

    /// Reads one line, with or without its line feed.
    pub fn decode(line: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(line)
    }
}

impl Progress {
    /// The progress that an event means to a client that waits for a reload, if any.
    pub(super) fn of(event: Event) -> Option<Self> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "whatever else happens is not progress of a reload"
        )]
        match event {
            Event::GenerationBegan { generation } => Some(Self::Began { generation }),
            Event::Serving { worker, serving, of } => Some(Self::Serving { worker, serving, of }),
            Event::Failed { failure } => Some(Self::Failed { failure }),
            Event::Superseded { generation } => Some(Self::Superseded { generation }),
            _ => None,
        }
    }

    /// The generation that it is about.
    pub(super) fn generation(&self) -> u64 {
        match self {
            Self::Began { generation } | Self::Superseded { generation } => *generation,
            Self::Serving { worker, .. } => worker.generation,
            Self::Failed { failure } => failure.worker.generation,
        }
    }
}

fn encode(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::variable::MOST_OF_ALL;

    fn written(request: &Request) -> String {
        String::from_utf8(request.encode().unwrap()).unwrap()
    }

    #[test]
    fn requests_are_what_the_module_says_and_are_read_back() {
        let golden = [
            (Request::reload(true), r#"{"version":1,"request":"reload","wait":true}"#),
            (
                Request::Reload { wait: false, env: Variables::new([("A", "b")]).unwrap() },
                r#"{"version":1,"request":"reload","wait":false,"env":{"A":"b"}}"#,
            ),
            (Request::Status, r#"{"version":1,"request":"status"}"#),
            (Request::Configuration { diff: true }, r#"{"version":1,"request":"configuration","diff":true}"#),
            (
                Request::Events { follow: true, last: Some(10) },
                r#"{"version":1,"request":"events","follow":true,"last":10}"#,
            ),
            (
                Request::Logs { follow: false, last: None, slot: None },
                r#"{"version":1,"request":"logs","follow":false}"#,
            ),
            (
                Request::Logs { follow: true, last: Some(0), slot: Some(3) },
                r#"{"version":1,"request":"logs","follow":true,"last":0,"slot":3}"#,
            ),
            (Request::Replace { which: Which::Slot(2) }, r#"{"version":1,"request":"replace","slot":2}"#),
            (
                Request::Replace { which: Which::Pid(4711) },
                r#"{"version":1,"request":"replace","process":4711}"#,
            ),
            (Request::ScaleTo { workers: 3 }, r#"{"version":1,"request":"scale_to","workers":3}"#),
            (Request::ScaleBy { workers: -2 }, r#"{"version":1,"request":"scale_by","workers":-2}"#),
            (
                Request::Upgrade { binary: None, dry_run: false, wait: false },
                r#"{"version":1,"request":"upgrade"}"#,
            ),
            (
                Request::Upgrade { binary: Some("/new".into()), dry_run: true, wait: true },
                r#"{"version":1,"request":"upgrade","binary":"/new","dry_run":true,"wait":true}"#,
            ),
            (Request::Stop, r#"{"version":1,"request":"stop"}"#),
            (Request::Terminate, r#"{"version":1,"request":"terminate"}"#),
        ];
        for (request, line) in golden {
            assert_eq!(Request::decode(line.as_bytes()).unwrap(), request);
            assert_eq!(written(&request), format!("{line}\n"));
        }
    }

    #[test]
    fn variables_that_no_worker_can_have_are_refused_without_their_values() {
        let error = |env: &str| {
            let line = format!(r#"{{"version":1,"request":"reload","env":{env}}}"#);
            Request::decode(line.as_bytes()).unwrap_err().to_string()
        };
        let reserved = error(r#"{"A":"hunter2","LISTEN_FDS":"hunter2"}"#);
        assert!(reserved.contains("LISTEN_FDS is reserved") && !reserved.contains("hunter2"), "{reserved}");
        assert!(error(r#"{"A B":"hunter2"}"#).contains(r#""A B" cannot be the name"#));
        // Every byte of the longest value may need six in JSON.
        let longest = "\u{1}".repeat(MOST_OF_ALL - 1);
        let request = Request::Reload { wait: true, env: Variables::new([("A", longest)]).unwrap() };
        assert!(request.encode().unwrap().len() <= REQUEST_LIMIT);
    }

    #[test]
    fn a_request_of_another_version_is_called_that() {
        let error = Request::decode(br#"{"version":7,"request":"dance"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the request is of version 7 of the control protocol, this master speaks version 1"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["", "hello", "{}", "[]", "{\"version\":1}", r#"{"version":1,"request":"dance"}"#] {
            let error = Request::decode(line.as_bytes()).unwrap_err();
            assert!(matches!(error, BadRequest::NotARequest(_)), "{line}: {error}");
        }
        let absurd = br#"{"version":1,"request":"scale_to","workers":-1}"#;
        assert!(Request::decode(absurd).is_err());
    }

    #[test]
    fn a_verdict_is_read_back_with_its_failure() {
        let line = concat!(
            r#"{"reply":"verdict","generation":2,"verdict":"rolled_back","failure":{"#,
            r#""worker":{"id":5,"slot":0,"generation":2,"pid":7},"reason":"exited","failures":3,"#,
            r#""stderr":["boom"],"hint":null}}"#
        );
        let reply = Reply::decode(line.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(reply.encode().unwrap()).unwrap(), format!("{line}\n"));
        let Reply::Verdict { generation, verdict: Verdict::RolledBack { failure }, .. } = reply else {
            panic!("{reply:?}");
        };
        assert_eq!((generation, failure.worker.pid), (Some(2), Some(7)));
    }
}
