//! One request on a connection of its own, by HTTP or `FastCGI`.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use recluster_e2e::Connection;

/// A request by HTTP.
pub(crate) const HTTP: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// What became of a request without an answer.
pub(crate) enum Lost {
    /// There was no connection: nobody listened.
    Unconnected(io::Error),
    /// The server had the connection. (Had it been reset in the queue, a server that ends cleanly would lose it as well.)
    Unanswered(io::Error),
}

impl fmt::Debug for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unconnected(error) => write!(f, "not connected: {error}"),
            Self::Unanswered(error) => write!(f, "not answered: {error}"),
        }
    }
}

/// Sends a request after which the server closes; the line of the answer that says who it was.
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> Result<String, Lost> {
    let mut connection = Connection::open(address).map_err(Lost::Unconnected)?;
    let sent = connection.send(request);
    let answer = sent.and_then(|()| connection.read_to_end()).map_err(Lost::Unanswered)?;
    let line = answer.lines().find(|line| line.contains("\"generation\"") || line.starts_with("generation "));
    line.map(str::to_owned).ok_or_else(|| Lost::Unanswered(io::Error::other(answer.clone())))
}

/// A request by `FastCGI` for a script.
pub(crate) fn fastcgi(script: &str) -> Vec<u8> {
    const BEGIN: u8 = 1;
    const PARAMS: u8 = 4;
    const STDIN: u8 = 5;
    /// The role of a responder, and no flags: the server closes the connection.
    const RESPONDER: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];
    let params = [("SCRIPT_FILENAME", script), ("REQUEST_METHOD", "GET")];
    let params: Vec<u8> = params.into_iter().flat_map(|(name, value)| param(name, value)).collect();
    [record(BEGIN, &RESPONDER), record(PARAMS, &params), record(PARAMS, &[]), record(STDIN, &[])].concat()
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).expect("a short record").to_be_bytes();
    [&[1, kind, 0, 1, high, low, 0, 0], content].concat()
}

fn param(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| (u32::try_from(text.len()).expect("a short text") | 1 << 31).to_be_bytes();
    [&length(name)[..], &length(value)[..], name.as_bytes(), value.as_bytes()].concat()
}
