//! What every client has: an endpoint, a tally, and a signal for the end of the load.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::Kind;
use crate::endpoint::{Connector, Endpoint, Protocol};
use crate::http1::{ANSWER_LIMIT, Answer, Broken, Connection};
use crate::request::Request;
use crate::stream::{Idle, Stream};
use crate::tally::{Cause, Counts, Loss, Tally};

/// How long a client waits after it could not connect: where nobody listens, a loss is counted often enough.
const AFTER_NO_CONNECTION: Duration = Duration::from_millis(10);

/// One client of a load.
pub(crate) struct Client {
    pub(crate) kind: Kind,
    pub(crate) endpoint: Endpoint,
    pub(crate) connector: Connector,
    pub(crate) tally: Arc<Mutex<Tally>>,
    /// Becomes true when no further request is to be sent.
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) began: Instant,
    pub(crate) random: fastrand::Rng,
    /// The pause of the clients that make none by themselves.
    pub(crate) think: Duration,
}

impl Client {
    pub(crate) fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits, or until the load is to end.
    pub(crate) async fn pause(&mut self, duration: Duration) {
        if duration.is_zero() {
            tokio::task::yield_now().await;
            return;
        }
        tokio::select! {
            () = sleep(duration) => {}
            // An error means that the load is gone, which is its end as well.
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
    }

    pub(crate) async fn think(&mut self) {
        self.pause(self.think).await;
    }

    /// A small request.
    pub(crate) fn small(&mut self) -> Request {
        if self.endpoint.plain { Request::any() } else { Request::small(self.number()) }
    }

    /// A request for a connection of its own.
    pub(crate) fn single(&mut self) -> Request {
        if self.endpoint.plain { Request::any() } else { Request::post(self.number()) }
    }

    /// A number for a request.
    pub(crate) fn number(&mut self) -> u32 {
        self.random.u32(..)
    }

    pub(crate) fn answered(&self) {
        self.count(|counts| counts.answered += 1);
    }

    pub(crate) fn refused(&self) {
        self.count(|counts| counts.refused += 1);
    }

    pub(crate) fn lost(&self, broken: Broken, worker: Option<u32>, port: Option<u16>) {
        let Broken { cause, bytes } = broken;
        let loss = Loss { kind: self.kind, at: self.began.elapsed(), cause, bytes, worker, port };
        self.count(|counts| counts.losses.push(loss));
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        change(tally.kinds.entry(self.kind).or_default());
    }

    /// Connects; that it could not is a loss.
    pub(crate) async fn connect(&mut self, protocol: Protocol) -> Option<Stream> {
        let result = timeout(ANSWER_LIMIT, self.connector.connect(&self.endpoint, protocol)).await;
        let why = match result {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no end of the handshake in time".to_owned(),
        };
        self.lost(Broken { cause: Cause::Connect(why), bytes: 0 }, None, None);
        self.pause(AFTER_NO_CONNECTION).await;
        None
    }

    /// The connection at hand if it can still be used, or else a new one.
    pub(crate) async fn connection(&mut self, at_hand: Option<Connection>) -> Option<Connection> {
        if let Some(mut connection) = at_hand {
            match connection.idle().await {
                Idle::Open => return Some(connection),
                Idle::Reset if connection.is_fresh() => {
                    let cause = Cause::Connect("reset before the first request".to_owned());
                    self.lost(Broken { cause, bytes: 0 }, None, connection.port());
                }
                Idle::Ended | Idle::Reset => {}
            }
        }
        self.connect(Protocol::Http1).await.map(Connection::new)
    }

    /// Makes a request and writes down what became of it. Returns the connection if it can be used again.
    pub(crate) async fn request(
        &mut self,
        at_hand: Option<Connection>,
        request: &Request,
    ) -> Option<Connection> {
        let mut connection = self.connection(at_hand).await?;
        let result = connection.exchange(request).await;
        self.judge(result, request, &connection).then_some(connection)
    }

    /// Writes down what became of a request. Returns whether its connection can be used again.
    pub(crate) fn judge(
        &self,
        result: Result<Answer, Broken>,
        request: &Request,
        connection: &Connection,
    ) -> bool {
        let broken = match result {
            Ok(answer) => match mistake(answer.status, &answer.body, request) {
                None => {
                    self.answered();
                    return !answer.closes;
                }
                Some(cause) => Broken { cause, bytes: answer.body.len() },
            },
            Err(broken) => broken,
        };
        self.lost(broken, connection.worker, connection.port());
        false
    }
}

/// What is wrong with a whole answer.
pub(crate) fn mistake(status: u16, body: &[u8], request: &Request) -> Option<Cause> {
    if status != 200 {
        Some(Cause::Status(status))
    } else if request.expected.as_ref().is_some_and(|expected| body != expected) {
        Some(Cause::WrongBody)
    } else {
        None
    }
}
