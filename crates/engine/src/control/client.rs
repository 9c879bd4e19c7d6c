//! [`Client`]: the other end of the control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::lines::{Line, Lines};
use super::protocol::{REPLY_LIMIT, Reply, Request};
use crate::socket::runtime_dir;
use crate::socket::short_path::ShortPath;

/// How long a master may take for an answer that it can give at once.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection to a running cluster.
#[derive(Debug)]
pub struct Client {
    lines: Lines<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// Why a cluster did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No process listens there.
    #[error("no cluster answers at {}: {source}", path.display())]
    NoCluster {
        /// The control socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another user's process listens there, who could say anything. Root may talk to everybody's.
    #[error("a process of another user (uid {owner}) listens at {}", path.display())]
    Foreign {
        /// The control socket.
        path: PathBuf,
        /// That user.
        owner: u32,
    },
    /// The connection ended before the answer was there.
    #[error("the master went away")]
    WentAway,
    /// The answer took too long.
    #[error("the master does not answer")]
    Silent,
    /// The answer makes no sense: this is no control socket, or that of another version.
    #[error("the master's answer makes no sense{}", because(.0.as_ref()))]
    Nonsense(Option<serde_json::Error>),
}

impl Client {
    /// Connects to the control socket of a running cluster.
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let no_cluster = |source| ClientError::NoCluster { path: path.to_owned(), source };
        let short = ShortPath::of(path).map_err(no_cluster)?;
        let stream = UnixStream::connect(short.path()).await.map_err(no_cluster)?;
        let owner = stream.peer_cred().map_err(no_cluster)?.uid();
        if !runtime_dir::may_talk_to(owner) {
            return Err(ClientError::Foreign { path: path.to_owned(), owner });
        }
        let (reader, writer) = stream.into_split();
        Ok(Self { lines: Lines::new(reader, REPLY_LIMIT), writer })
    }

    /// Sends a request that is answered at once, and returns the answer. For a reload with `wait`, and for a stop, use
    /// [`send`](Self::send) and [`next`](Self::next).
    pub async fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.send(request).await?;
        timeout(ANSWER, self.next()).await.unwrap_or(Err(ClientError::Silent))
    }

    /// Sends a request; [`Client::next`] returns the replies.
    pub async fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let line = request.encode().map_err(|error| ClientError::Nonsense(Some(error)))?;
        // After a failure there may still be a reply to read: a master that refuses a client says why before it closes.
        let _ = self.writer.write_all(&line).await;
        Ok(())
    }

    /// The next reply, however long it takes.
    pub async fn next(&mut self) -> Result<Reply, ClientError> {
        match self.lines.next().await {
            Ok(Line::Whole(line)) => Reply::decode(&line).map_err(|error| ClientError::Nonsense(Some(error))),
            Ok(Line::TooLong) => Err(ClientError::Nonsense(None)),
            Ok(Line::End) | Err(_) => Err(ClientError::WentAway),
        }
    }

    /// Waits a while for the master to close the connection. After [`Reply::Ended`] it does so last of all, when the
    /// next cluster can have the name.
    pub async fn closed(mut self) {
        let _ = timeout(ANSWER, async { while let Ok(Line::Whole(_)) = self.lines.next().await {} }).await;
    }
}

fn because(error: Option<&serde_json::Error>) -> String {
    error.map(|error| format!(": {error}")).unwrap_or_default()
}
