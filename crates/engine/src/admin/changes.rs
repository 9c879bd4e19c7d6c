//! Requests that change something: what the control socket offers as well, answered in its words.

use std::path::PathBuf;

use tokio::sync::{Semaphore, mpsc};

use crate::admin::answer::{Answer, JSON};
use crate::admin::head::Head;
use crate::admin::token;
use crate::api::cluster::Cluster;
use crate::config::scale::Scale;
use crate::config::variable::Variables;
use crate::control::protocol::{Reply, Request};
use crate::report::error::{Gone, ScaleError};
use crate::report::event::Event;
use crate::report::events::Heard;
use crate::report::verdict::{Told, Verdict};

/// How many clients may wait for a verdict at once.
const WAITING: usize = 16;

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Reload,
    Scale,
    Stop,
    Terminate,
}

/// A change that was asked for and allowed, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changed {
    /// What was asked for.
    pub request: Request,
    /// The client's address.
    pub from: String,
}

/// Something that is to be changed.
#[derive(Clone, Copy, Debug)]
enum Change {
    Reload { wait: bool },
    Scale(Scale),
    Stop,
    Terminate,
}

impl Change {
    fn of(act: Act, head: &Head) -> Option<Self> {
        Some(match act {
            Act::Reload => Self::Reload { wait: head.wants("wait") },
            Act::Scale => Self::Scale(wanted(head.asked("n")?)?),
            Act::Stop => Self::Stop,
            Act::Terminate => Self::Terminate,
        })
    }

    /// What a client of the control socket would have sent.
    fn request(self) -> Request {
        match self {
            Self::Reload { wait } => Request::reload(wait),
            Self::Scale(scale) => scale.into(),
            Self::Stop => Request::Stop,
            Self::Terminate => Request::Terminate,
        }
    }
}

/// Who may change the cluster, and how.
#[derive(Debug)]
pub(super) struct Changes {
    cluster: Cluster,
    token_file: Option<PathBuf>,
    tell: mpsc::Sender<Changed>,
    /// Places for those who wait for a verdict.
    waiting: Semaphore,
}

impl Changes {
    pub(super) fn new(cluster: Cluster, token_file: Option<PathBuf>, tell: mpsc::Sender<Changed>) -> Self {
        Self { cluster, token_file, tell, waiting: Semaphore::new(WAITING) }
    }

    /// Makes a change, if that is allowed.
    pub(super) async fn make(&self, act: Act, head: &Head, from: &str) -> Answer {
        if let Err(refusal) = self.allow(head) {
            return refusal;
        }
        let Some(change) = Change::of(act, head) else {
            let how = "write how many workers there are to be, ?n=4, or how many more or fewer, ?n=+1";
            return Answer::refusal(400, how);
        };
        // If the log is not read, the request is answered all the same.
        let _ = self.tell.try_send(Changed { request: change.request(), from: from.to_owned() });
        let answered = match change {
            Change::Reload { wait: true } => self.reload().await,
            Change::Reload { wait: false } => self.begin_reload().await,
            Change::Scale(by) => self.scale(by).await,
            Change::Stop => self.cluster.request_stop().map(|()| (202, Reply::Accepted)),
            Change::Terminate => self.cluster.request_terminate().map(|()| (202, Reply::Accepted)),
        };
        let (status, reply) =
            answered.unwrap_or_else(|gone| (503, Reply::Refused { reason: gone.to_string() }));
        // All keys of a reply are texts, so it can be written.
        Answer::new(status, JSON, reply.encode().unwrap_or_default())
    }

    /// Whether a request has the token.
    fn allow(&self, head: &Head) -> Result<(), Answer> {
        let Some(path) = &self.token_file else {
            let why = "changes are off: --admin-token-file allows them to who has the token";
            return Err(Answer::refusal(403, why));
        };
        let token = token::read(path).map_err(|error| Answer::refusal(503, error.to_string()))?;
        match &head.authorization {
            Some(said) if token::is_said(said, &token) => Ok(()),
            Some(_) => Err(Answer::refusal(401, "this is not the token")),
            None => Err(Answer::refusal(401, "a change needs the token: Authorization: Bearer TOKEN")),
        }
    }

    async fn scale(&self, scale: Scale) -> Result<(u16, Reply), Gone> {
        match self.cluster.scale(scale).await {
            Ok(workers) => Ok((200, Reply::Scaled { workers })),
            Err(ScaleError::Gone(gone)) => Err(gone),
            Err(refusal) => Ok((409, Reply::Refused { reason: refusal.to_string() })),
        }
    }

    async fn begin_reload(&self) -> Result<(u16, Reply), Gone> {
        Ok(match self.cluster.begin_reload_with(Variables::default()).await? {
            Ok(()) => (202, Reply::Accepted),
            Err(reason) => (409, Reply::Refused { reason }),
        })
    }

    /// Reloads and waits for the verdict.
    async fn reload(&self) -> Result<(u16, Reply), Gone> {
        let Ok(_place) = self.waiting.try_acquire() else {
            return Ok((503, Reply::Refused { reason: "too many clients wait at once".to_owned() }));
        };
        let mut events = self.cluster.subscribe();
        let mut verdict = self.cluster.ask_reload(None, Variables::default())?;
        let mut generation = None;
        let told = loop {
            tokio::select! {
                biased;
                Some(heard) = events.next() => {
                    // The newest that has begun since then is the one that is waited for.
                    if let Heard::Event(Event::GenerationBegan { generation: began }) = heard {
                        generation = Some(began);
                    }
                }
                told = &mut verdict => break told,
            }
        };
        // Without a verdict the cluster has ended before it.
        let Told { verdict, needs_restart } = told.unwrap_or(Verdict::Abandoned.into());
        let status = match verdict {
            Verdict::Done => 200,
            Verdict::RolledBack { .. } | Verdict::StoppedPartWay { .. } | Verdict::Refused { .. } => 409,
            Verdict::Abandoned => 503,
        };
        Ok((status, Reply::Verdict { generation, verdict, needs_restart }))
    }
}

/// How many workers there are to be. In a query, a plus may stand for a space, and for itself only when it is escaped.
fn wanted(text: &str) -> Option<Scale> {
    let more = ["+", "%2B", "%2b"].into_iter().find_map(|plus| text.strip_prefix(plus));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match (more, text.strip_prefix('-')) {
        (Some(more), _) if digits(more) => more.parse().ok().filter(|n| *n > 0).map(Scale::By),
        (None, Some(fewer)) if digits(fewer) => text.parse().ok().filter(|n| *n < 0).map(Scale::By),
        (None, None) if digits(text) => text.parse().ok().filter(|n| *n > 0).map(Scale::To),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_workers_is_written_in_three_ways() {
        for (text, scale) in [
            ("4", Scale::To(4)),
            ("+1", Scale::By(1)),
            ("%2B2", Scale::By(2)),
            ("%2b2", Scale::By(2)),
            ("-3", Scale::By(-3)),
        ] {
            assert_eq!(wanted(text), Some(scale), "{text}");
        }
        for text in [
            "",
            "0",
            "+0",
            "-0",
            "+",
            "-",
            "x",
            "1x",
            "--1",
            "+-1",
            "-+1",
            "4294967296",
            "99999999999",
            " 1",
            "1.5",
        ] {
            assert_eq!(wanted(text), None, "{text}");
        }
    }
}
