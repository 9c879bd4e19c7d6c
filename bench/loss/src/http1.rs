//! One connection of an HTTP/1 client: requests out, whole answers in. Uses httparse for the heads.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use crate::body::{self, Framing};
use crate::request::{BETWEEN_PIECES, Request};
use crate::stream::{Idle, Stream};
use crate::tally::Cause;

/// How long an answer may take before it counts as lost.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// How long before the end that the server announced (`Keep-Alive: timeout`) a connection is no longer used.
const MARGIN: Duration = Duration::from_millis(500);
/// The most header fields of an answer.
const MOST_HEADERS: usize = 64;

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    /// What has come of the answer that is awaited, and of those behind it.
    buffer: Vec<u8>,
    /// Who answered here.
    pub(crate) worker: Option<u32>,
    /// How many answers came.
    answers: u64,
    idle_since: Instant,
    idle_limit: Option<Duration>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Whether the server closes the connection behind it.
    pub(crate) closes: bool,
}

/// No whole answer came.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) cause: Cause,
    /// How many bytes of the answer came.
    pub(crate) bytes: usize,
}

/// What the head of an answer says about the rest.
struct Head {
    length: usize,
    status: u16,
    framing: Framing,
    closes: bool,
    worker: Option<u32>,
    idle_limit: Option<Duration>,
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        let idle_since = Instant::now();
        Self { stream, buffer: Vec::new(), worker: None, answers: 0, idle_since, idle_limit: None }
    }

    /// The client's own port.
    pub(crate) fn port(&self) -> Option<u16> {
        self.stream.port()
    }

    /// Whether no request was ever answered here.
    pub(crate) fn is_fresh(&self) -> bool {
        self.answers == 0
    }

    /// What a client looks for before it sends another request on a connection.
    pub(crate) async fn idle(&mut self) -> Idle {
        let expired = self.idle_limit.is_some_and(|limit| self.idle_since.elapsed() + MARGIN >= limit);
        if expired || !self.buffer.is_empty() { Idle::Ended } else { self.stream.idle().await }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let result = timeout(ANSWER_LIMIT, sent).await;
        let cause = match result {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => cause_of(&error),
            Err(_) => Cause::Silence,
        };
        Err(Broken { cause, bytes: self.buffer.len() })
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn exchange(&mut self, request: &Request) -> Result<Answer, Broken> {
        let mut bytes = request.head().into_bytes();
        if request.pieces == 1 {
            bytes.extend_from_slice(&request.body);
            self.send(&bytes).await?;
        } else {
            self.send(&bytes).await?;
            for piece in request.body.chunks(request.body.len().div_ceil(request.pieces)) {
                self.send(piece).await?;
                sleep(BETWEEN_PIECES).await;
            }
        }
        self.answer().await
    }

    /// Reads the answer to the oldest request that is not answered.
    pub(crate) async fn answer(&mut self) -> Result<Answer, Broken> {
        let result = timeout(ANSWER_LIMIT, self.read_answer()).await;
        let cause = match result {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(cause)) => cause,
            Err(_) => Cause::Silence,
        };
        Err(Broken { cause, bytes: self.buffer.len() })
    }

    async fn read_answer(&mut self) -> Result<Answer, Cause> {
        let head = loop {
            match parse_head(&self.buffer)? {
                Some(head) if head.status < 200 && head.status != 101 => {
                    self.buffer.drain(..head.length);
                }
                Some(head) => break head,
                None => self.read_more().await?,
            }
        };
        let (body, length) = loop {
            let received = self.buffer.get(head.length..).unwrap_or_default();
            match body::decode(received, head.framing)? {
                Some(whole) => break whole,
                None => self.read_more().await?,
            }
        };
        self.buffer.drain(..head.length + length);
        self.worker = head.worker.or(self.worker);
        self.idle_limit = head.idle_limit;
        self.idle_since = Instant::now();
        self.answers += 1;
        Ok(Answer { status: head.status, body, closes: head.closes })
    }

    async fn read_more(&mut self) -> Result<(), Cause> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Cause::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(cause_of(&error)),
        }
    }
}

/// What an error of a connection means to the request on it.
pub(crate) fn cause_of(error: &io::Error) -> Cause {
    let kind = error.kind();
    if matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) {
        Cause::Reset
    } else if kind == io::ErrorKind::UnexpectedEof {
        // What rustls calls it when the connection ends without its farewell.
        Cause::Closed
    } else {
        Cause::Io(error.to_string())
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head>, Cause> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Cause::Garbage(error.to_string())),
    };
    let field = |name: &str| {
        let field = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        field.and_then(|field| std::str::from_utf8(field.value).ok()).map(str::trim)
    };
    let chunked = field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let framing = match field("content-length").map(str::parse) {
        _ if chunked => Framing::Chunked,
        Some(Ok(length)) => Framing::Length(length),
        None if response.code.is_some_and(|code| code < 200 || code == 204) => Framing::Length(0),
        Some(Err(_)) | None => return Err(Cause::Garbage("an answer without a length".to_owned())),
    };
    let timeout = field("keep-alive").and_then(|value| value.split("timeout=").nth(1)?.split(',').next());
    Ok(Some(Head {
        length,
        status: response.code.unwrap_or(0),
        framing,
        closes: field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        worker: field("x-worker").and_then(|value| value.parse().ok()),
        idle_limit: timeout.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs),
    }))
}
