//! Several streams at once on one HTTP/2 connection. A stream that the server says it did not process (a GOAWAY before
//! it, or `REFUSED_STREAM`) is opened again on another connection.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use futures_util::future::join_all;
use h2::Reason;
use h2::client::SendRequest;
use tokio::time::timeout;

use super::pending::Pending;
use crate::client::{Client, mistake};
use crate::endpoint::Protocol;
use crate::http1::{ANSWER_LIMIT, Broken, cause_of};
use crate::request::Request;
use crate::tally::Cause;

/// How many streams are opened at once.
const STREAMS: usize = 4;
/// One round of so many has a slow answer in it.
const SLOW_ROUNDS: u32 = 8;

/// A connection that was opened.
struct Connection {
    sender: SendRequest<Bytes>,
    port: Option<u16>,
    /// Who answered here; 0 while nobody did.
    worker: AtomicU32,
}

/// Why there is no answer.
enum Failure {
    /// The request was not sent.
    Unsent,
    /// The server says that it did not process it.
    Refused,
    /// It was lost.
    Broken(Broken),
}

pub(super) async fn run(mut client: Client) {
    let mut at_hand = None;
    let mut round: Vec<Pending> = Vec::new();
    while !client.stopped() || !round.is_empty() {
        if at_hand.is_none() {
            at_hand = open(&mut client).await;
        }
        let Some(connection) = at_hand.take() else {
            round.drain(..).for_each(|pending| pending.abandoned(&client));
            continue;
        };
        fill(&mut client, &mut round);
        let results = join_all(round.iter().map(|pending| stream(&connection, &pending.request))).await;
        let whole = results.iter().all(Result::is_ok);
        round =
            round.into_iter().zip(results).filter_map(|(p, r)| judge(&client, &connection, p, r)).collect();
        at_hand = whole.then_some(connection);
        client.think().await;
    }
}

/// Adds new requests to those that have to be sent again.
fn fill(client: &mut Client, round: &mut Vec<Pending>) {
    while round.len() < STREAMS {
        let n = client.number();
        let request = match round.len() {
            0 if n.is_multiple_of(SLOW_ROUNDS) => Request::slow(n),
            1 => Request::post(n),
            _ => Request::small(n),
        };
        round.push(Pending::new(request));
    }
}

/// Writes down what became of a request; returns it if it has to be sent again.
fn judge(
    client: &Client,
    connection: &Connection,
    pending: Pending,
    result: Result<(), Failure>,
) -> Option<Pending> {
    let lost = |broken| {
        let worker = Some(connection.worker.load(Relaxed)).filter(|worker| *worker != 0);
        client.lost(broken, worker, connection.port);
    };
    match result {
        Ok(()) => client.answered(),
        Err(Failure::Unsent) => return pending.unsent(client),
        Err(Failure::Refused) => return pending.refused(client),
        Err(Failure::Broken(broken)) => lost(broken),
    }
    None
}

async fn open(client: &mut Client) -> Option<Connection> {
    let stream = client.connect(Protocol::Http2).await?;
    let port = stream.port();
    match timeout(ANSWER_LIMIT, h2::client::handshake(stream)).await {
        Ok(Ok((sender, connection))) => {
            // Its errors reach the streams.
            tokio::spawn(async { drop(connection.await) });
            Some(Connection { sender, port, worker: AtomicU32::new(0) })
        }
        Ok(Err(error)) => {
            client.lost(Broken { cause: cause(&error), bytes: 0 }, None, port);
            None
        }
        Err(_) => {
            client.lost(Broken { cause: Cause::Silence, bytes: 0 }, None, port);
            None
        }
    }
}

async fn stream(connection: &Connection, request: &Request) -> Result<(), Failure> {
    let Ok(mut sender) = connection.sender.clone().ready().await else {
        return Err(Failure::Unsent);
    };
    let received = AtomicUsize::new(0);
    let broken = |cause| Failure::Broken(Broken { cause, bytes: received.load(Relaxed) });
    let exchange = async {
        let (status, body) = exchange(connection, &mut sender, request, &received)
            .await
            .map_err(|error| if is_refusal(&error) { Failure::Refused } else { broken(cause(&error)) })?;
        mistake(status, &body, request).map_or(Ok(()), |cause| Err(broken(cause)))
    };
    timeout(ANSWER_LIMIT, exchange).await.unwrap_or_else(|_| Err(broken(Cause::Silence)))
}

async fn exchange(
    connection: &Connection,
    sender: &mut SendRequest<Bytes>,
    request: &Request,
    received: &AtomicUsize,
) -> Result<(u16, Vec<u8>), h2::Error> {
    let (response, mut body) = sender.send_request(head(request), request.body.is_empty())?;
    if !request.body.is_empty() {
        body.send_data(request.body.clone(), true)?;
    }
    let (head, mut body) = response.await?.into_parts();
    received.store(1, Relaxed);
    let worker = head.headers.get("x-worker").and_then(|value| value.to_str().ok()?.parse().ok());
    connection.worker.fetch_max(worker.unwrap_or(0), Relaxed);
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
        received.store(1 + bytes.len(), Relaxed);
    }
    Ok((head.status.as_u16(), bytes))
}

fn head(request: &Request) -> http::Request<()> {
    let builder = http::Request::builder()
        .method(request.method)
        .uri(format!("https://localhost{}", request.target))
        .header("content-type", "application/octet-stream");
    builder.body(()).expect("the meter's own targets are valid")
}

/// Whether the server says that it did not look at the request.
fn is_refusal(error: &h2::Error) -> bool {
    let reason = error.reason();
    let away = error.is_go_away() && error.is_remote() && reason == Some(Reason::NO_ERROR);
    away || (error.is_reset() && reason == Some(Reason::REFUSED_STREAM))
}

fn cause(error: &h2::Error) -> Cause {
    match error.get_io() {
        Some(error) => cause_of(error),
        None if error.is_reset() => Cause::StreamReset(error.to_string()),
        None => Cause::Io(error.to_string()),
    }
}
