//! An answer, and its bytes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use crate::admin::date;
use crate::control::room::Shared;

/// Plain words.
pub(super) const PLAIN: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// What a client is answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: Arc<Shared>,
    /// The methods that there are, where another one was used.
    pub(super) allow: Option<&'static str>,
    /// What a page may load and run, of a page.
    pub(super) policy: Option<&'static str>,
}

impl Answer {
    pub(super) fn new(status: u16, kind: &'static str, body: Vec<u8>) -> Self {
        Self::shared(status, kind, Arc::new(Shared::new(body)))
    }

    /// One whose body others are given as well.
    pub(super) fn shared(status: u16, kind: &'static str, body: Arc<Shared>) -> Self {
        Self { status, kind, body, allow: None, policy: None }
    }

    /// One line of words.
    pub(super) fn words(status: u16, words: impl Into<String>) -> Self {
        let mut line = words.into();
        line.push('\n');
        Self::new(status, PLAIN, line.into_bytes())
    }

    /// One line that says why not.
    pub(super) fn refusal(status: u16, why: impl Into<String>) -> Self {
        Self::words(status, why)
    }

    /// The methods that there are instead.
    pub(super) fn not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::refusal(405, format!("this takes {allow}")) }
    }

    /// Its first bytes, up to the body.
    pub(super) fn head(&self, keep_alive: bool) -> String {
        let reason = reason(self.status);
        let date = date::http(SystemTime::now());
        let length = self.body.line().len();
        let mut head = format!(
            "HTTP/1.1 {} {reason}\r\nDate: {date}\r\nContent-Type: {}\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
            self.status, self.kind
        );
        // A String takes all that is written to it.
        if let Some(allow) = self.allow {
            let _ = write!(head, "Allow: {allow}\r\n");
        }
        if let Some(policy) = self.policy {
            let _ = write!(head, "Content-Security-Policy: {policy}\r\nReferrer-Policy: no-referrer\r\n");
        }
        if self.status == 401 {
            head.push_str("WWW-Authenticate: Bearer realm=\"recluster\"\r\n");
        }
        if !keep_alive {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        head
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_its_length_and_says_whether_the_connection_goes_on() {
        let head = Answer::words(200, "it serves").head(true);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nDate: ") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Length: 10\r\n") && !head.contains("Connection:"), "{head}");
        let head = Answer::not_allowed("GET, HEAD").head(false);
        assert!(
            head.contains("\r\nAllow: GET, HEAD\r\n") && head.contains("\r\nConnection: close\r\n"),
            "{head}"
        );
        assert!(Answer::refusal(401, "").head(true).contains("\r\nWWW-Authenticate: Bearer "));
    }
}
