//! The requests that clients make, and the one answer to each that is right where the server is one of the meter's own.

use std::time::Duration;

use bytes::Bytes;

/// A request, and what is right for an answer.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) body: Bytes,
    /// How many writes the body takes, with pauses between them.
    pub(crate) pieces: usize,
    /// The body of the answer, where it is known beforehand.
    pub(crate) expected: Option<Vec<u8>>,
}

/// Between two pieces of a body.
pub(crate) const BETWEEN_PIECES: Duration = Duration::from_millis(62);

const POST_BYTES: usize = 16 * 1024;
const UPLOAD_BYTES: usize = 256 * 1024;
const UPLOAD_PIECES: usize = 8;
/// How many chunks the server makes of a slow answer.
const SLOW_CHUNKS: usize = 10;

impl Request {
    /// What any server answers.
    pub(crate) fn any() -> Self {
        Self { expected: None, ..Self::get("/".to_owned(), Vec::new()) }
    }

    /// Answered with its number.
    pub(crate) fn small(n: u32) -> Self {
        Self::get(format!("/?n={n}"), n.to_string().into_bytes())
    }

    /// Answered by a stream that takes a second.
    pub(crate) fn slow(n: u32) -> Self {
        let chunks = (0..SLOW_CHUNKS).map(|i| format!("{n}: {i} of {SLOW_CHUNKS}\n"));
        Self::get(format!("/slow?n={n}"), chunks.collect::<String>().into_bytes())
    }

    /// Answered with the length and the hash of its body.
    pub(crate) fn post(n: u32) -> Self {
        Self::with_body("/post", n, POST_BYTES, 1)
    }

    /// The same, long and in pieces.
    pub(crate) fn upload(n: u32) -> Self {
        Self::with_body("/upload", n, UPLOAD_BYTES, UPLOAD_PIECES)
    }

    fn get(target: String, expected: Vec<u8>) -> Self {
        Self { method: "GET", target, body: Bytes::new(), pieces: 1, expected: Some(expected) }
    }

    fn with_body(target: &str, n: u32, length: usize, pieces: usize) -> Self {
        let mut body = vec![0; length];
        fastrand::Rng::with_seed(n.into()).fill(&mut body);
        let expected = format!("{length} {:x}", fnv1a(&body)).into_bytes();
        Self {
            method: "POST",
            target: target.to_owned(),
            body: body.into(),
            pieces,
            expected: Some(expected),
        }
    }

    /// The head of the request in HTTP/1.
    pub(crate) fn head(&self) -> String {
        let Self { method, target, body, .. } = self;
        let start = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        if body.is_empty() {
            return start + "\r\n";
        }
        let length = body.len();
        start + &format!("Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n")
    }
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
