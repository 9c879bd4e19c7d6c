//! [`Asked`]: a request as a log tells it.

use tokio::net::unix::UCred;

use super::protocol::Request;

/// A request that was understood, and who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Asked {
    /// What was asked for, without variables.
    pub request: Request,
    /// The names of the variables that a reload is to set. Their values are not for a log.
    pub env: Vec<String>,
    /// The client's process, where the system tells. One of an outer PID namespace has no number here.
    pub pid: Option<i32>,
    /// The client's user.
    pub uid: u32,
}

impl Asked {
    pub(super) fn new(request: &Request, peer: UCred) -> Self {
        let (request, env) = match request {
            Request::Reload { wait, env } => {
                (Request::reload(*wait), env.names().map(str::to_owned).collect())
            }
            Request::Status
            | Request::Configuration { .. }
            | Request::Events { .. }
            | Request::Logs { .. }
            | Request::Replace { .. }
            | Request::ScaleTo { .. }
            | Request::ScaleBy { .. }
            | Request::Upgrade { .. }
            | Request::Stop
            | Request::Terminate => (request.clone(), Vec::new()),
        };
        Self { request, env, pid: peer.pid().filter(|pid| *pid > 0), uid: peer.uid() }
    }
}
