//! Decoders that no public item leads to, for the fuzz targets of the repository (`fuzz/`), which are outside of this crate
//! since libFuzzer builds them in its own way. Nothing else may use it: it is no part of the interface and changes without notice.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use crate::admin::head::Head;
use crate::admin::hosts::Hosts;
use crate::api::cluster::Cluster;
use crate::config::balance::StickyBy;
use crate::config::env_file as env;
use crate::control::lines::{Line, Lines};
use crate::dataplane::client_key;
use crate::metrics::text::Format;
use crate::process::exception::Exception;
use crate::process::shebang::Shebang;
use crate::process::stat::Stat;
use crate::process::{health_check, in_use};
use crate::socket::holder::Wanted;
use crate::upgrade::Inheritance;
use crate::upgrade::envelope::Envelope;

/// A request to the admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "tests take it apart")]
pub struct AdminHead {
    /// How many bytes it has.
    pub length: usize,
    /// What is asked for.
    pub path: String,
    /// The hosts that it names.
    pub hosts: Vec<String>,
    /// What it accepts.
    pub accept: String,
}

/// The head at the beginning of these bytes: none if it is not whole, or the status by which it is refused.
pub fn admin_head(bytes: &[u8]) -> Result<Option<AdminHead>, u16> {
    let read = Head::read(bytes).map_err(|answer| answer.status)?;
    Ok(read.map(|(Head { path, hosts, accept, .. }, length)| AdminHead { length, path, hosts, accept }))
}

/// Whether a request to the admin listener may name this host, where no name was allowed.
pub fn allows_host(host: &str) -> bool {
    Hosts::default().allow(host)
}

/// Whether metrics are written in `OpenMetrics` for who accepts this.
pub fn wants_openmetrics(accept: &str) -> bool {
    Format::accepted(accept) == Format::OpenMetrics
}

/// Who a client is, by the first bytes of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests compare them")]
pub enum Finding {
    /// The client, as the number that its key is hashed to.
    Client(u32),
    /// More bytes would not tell.
    Nothing,
    /// Nor would they, because they are encrypted.
    Encrypted,
    /// More bytes may tell.
    TooLittle,
}

/// Looks for the client.
pub fn client(by: &StickyBy, bytes: &[u8]) -> Finding {
    match client_key::find(by, bytes) {
        client_key::Finding::Client(client) => Finding::Client(client.number()),
        client_key::Finding::Nothing => Finding::Nothing,
        client_key::Finding::Encrypted => Finding::Encrypted,
        client_key::Finding::TooLittle => Finding::TooLittle,
    }
}

/// The lines of the control protocol in bytes that come in pieces of this size, and whether that is all of them: behind a line
/// that is too long nothing is read.
pub fn control_lines(bytes: &[u8], piece: usize, limit: usize) -> (Vec<Vec<u8>>, bool) {
    let mut lines = Lines::new(Pieces(bytes.chunks(piece.max(1)).map(<[u8]>::to_vec).collect()), limit);
    let mut whole = Vec::new();
    loop {
        let mut next = std::pin::pin!(lines.next());
        // It waits for nothing but pieces, and has all of them.
        let Poll::Ready(Ok(line)) = next.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()))
        else {
            continue;
        };
        match line {
            Line::Whole(line) => whole.push(line),
            Line::TooLong => return (whole, false),
            Line::End => return (whole, true),
        }
    }
}

/// Bytes that come in pieces.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(into.remaining()));
            into.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The variables in the text of an env file, or the line that is wrong and why.
pub fn env_file(text: &str) -> Result<Vec<(OsString, OsString)>, (usize, String)> {
    env::parse(text).map_err(|(line, problem)| (line, problem.to_string()))
}

/// The last exception in what a program wrote to its stderr: its line, and where it was thrown.
pub fn last_exception(text: &str) -> Option<(String, Option<String>)> {
    Exception::last_in(text).map(|exception| (exception.line, exception.place))
}

/// The last line there that says of an address that it is in use.
pub fn address_in_use(text: &str) -> Option<String> {
    in_use::line_in(text, |line| Wanted::in_words(line).is_some())
}

/// The interpreter line at the beginning of a file, for people, and the program that the kernel starts for it.
pub fn shebang(start: &[u8]) -> Option<(String, Option<PathBuf>)> {
    Shebang::read(start).map(|shebang| (shebang.line.clone(), shebang.program().map(Into::into)))
}

/// The status in the first line of a response to a health check.
pub fn health_status(head: &[u8]) -> Option<u16> {
    health_check::status_of(head)
}

/// The process and its group in what `/proc/PID/stat` has.
pub fn process_stat(bytes: &[u8]) -> Option<(i32, i32)> {
    Stat::parse(bytes).map(|stat| (stat.pid, stat.group))
}

/// The state that a master has left, written again, and why a cluster could not go on with what its parts say, if so; or why it is none.
pub fn left_state(bytes: &[u8]) -> Result<(Vec<u8>, Option<String>), String> {
    let envelope = Envelope::read(bytes).map_err(|error| error.to_string())?;
    let written = envelope.write().map_err(|error| error.to_string())?;
    let rehearsed = Cluster::builder("/bin/sh").rehearse(&mut Inheritance::of_words(envelope));
    Ok((written, rehearsed.err().map(|error| error.to_string())))
}
