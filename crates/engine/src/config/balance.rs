//! How new connections reach workers: the values of `--balance` and `--sticky-by`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How new connections reach workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Balance {
    /// The master accepts and passes connections on, each to a worker with room.
    RoundRobin,
    /// Workers accept by themselves on one shared socket; the kernel picks.
    Shared,
    /// Workers accept, each on a socket of its own; what waits for a busy one goes to an idle one. For TCP of Node workers,
    /// else as round-robin.
    #[default]
    Kernel,
    /// All connections of one client reach the same slot. For Node workers, of up to 512 slots.
    Sticky(StickyBy),
}

impl Balance {
    /// What does not work where workers have not loaded the preload, as in Deno and Bun. The master cannot look at processes of
    /// another user.
    pub(crate) fn caveat_without_preload(&self, is_node: bool, of_other_user: bool) -> Option<&'static str> {
        match self {
            Self::Sticky(by) if by.is_request() => Some(
                "without the lossless drain (--drain-http, Node alone), workers do not close a connection behind its first \
                 response: one connection counts as one client, and a proxy in front must not reuse it for another",
            ),
            Self::Kernel if is_node && of_other_user => Some(
                "without the lossless drain (--drain-http), nobody can tell which worker of another user is idle: what waits \
                 for a busy one is not given to another",
            ),
            Self::RoundRobin | Self::Shared | Self::Kernel | Self::Sticky(_) => None,
        }
    }

    /// Whether workers accept by themselves, where that is possible.
    pub(crate) fn has_workers_accept(&self) -> bool {
        matches!(self, Self::Shared | Self::Kernel | Self::Sticky(StickyBy::Ip))
    }

    /// What identifies a client under `sticky`.
    pub(crate) fn sticky_by(&self) -> Option<&StickyBy> {
        match self {
            Self::Sticky(by) => Some(by),
            Self::RoundRobin | Self::Shared | Self::Kernel => None,
        }
    }
}

/// The name alone, without what `sticky` goes by.
impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin => "round-robin",
            Self::Shared => "shared",
            Self::Kernel => "kernel",
            Self::Sticky(_) => "sticky",
        })
    }
}

/// What identifies a client: two connections with the same value are of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StickyBy {
    /// The client's IP address, of IPv6 the first 64 bits. On a unix socket clients have none, and any worker gets them.
    Ip,
    /// The value of this header of the first request, such as `X-Forwarded-For`. Of a list with commas the first entry counts,
    /// and an IP address, with a port or without, counts as above.
    Header(String),
    /// The value of this cookie in the first request.
    Cookie(String),
    /// The value of this parameter in the URL of the first request.
    Query(String),
    /// The source address in the PROXY protocol's header, of version 1 or 2.
    ProxyProtocol,
}

impl StickyBy {
    /// Whether an HTTP request says which client it is.
    pub(crate) fn is_request(&self) -> bool {
        matches!(self, Self::Header(_) | Self::Cookie(_) | Self::Query(_))
    }
}

impl fmt::Display for StickyBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip => f.write_str("ip"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::ProxyProtocol => f.write_str("proxy-protocol"),
        }
    }
}

/// The text is no [`StickyBy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is nothing to know a client by: say ip, header:NAME, cookie:NAME, query:NAME or proxy-protocol"
)]
pub struct ParseStickyByError(String);

impl FromStr for StickyBy {
    type Err = ParseStickyByError;

    fn from_str(text: &str) -> Result<Self, ParseStickyByError> {
        let no = || ParseStickyByError(text.to_owned());
        let (kind, name) = text.split_once(':').map_or((text, None), |(kind, name)| (kind, Some(name)));
        // What RFC 9110 and RFC 6265 allow in the names of headers and cookies.
        let is_token =
            |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        let is_plain =
            |name: &str| !name.contains(|c: char| c.is_whitespace() || c.is_control() || "&=#".contains(c));
        match (kind, name.filter(|name| !name.is_empty())) {
            ("ip", None) if name.is_none() => Ok(Self::Ip),
            ("proxy-protocol", None) if name.is_none() => Ok(Self::ProxyProtocol),
            ("header", Some(name)) if is_token(name) => Ok(Self::Header(name.to_owned())),
            ("cookie", Some(name)) if is_token(name) => Ok(Self::Cookie(name.to_owned())),
            ("query", Some(name)) if is_plain(name) => Ok(Self::Query(name.to_owned())),
            _ => Err(no()),
        }
    }
}

/// Limits of looking at what a connection begins with. Where one is reached, the client is known by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a value that users write out")]
pub struct PeekLimits {
    /// How many bytes are looked at. At least 1; more than 64 KiB is taken as that.
    pub bytes: usize,
    /// How long they may take to come.
    pub timeout: Duration,
    /// How many connections are looked at at a time; at least 1, and never more than a quarter of the descriptors that the
    /// process may have. One more, and the oldest is waited for no longer.
    pub connections: usize,
}

impl Default for PeekLimits {
    /// 16 KiB, which is as much as Node takes of a request's head; 2 s; 10,000.
    fn default() -> Self {
        Self { bytes: 16 << 10, timeout: Duration::from_secs(2), connections: 10_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_can_be_read() {
        for text in ["ip", "header:X-Forwarded-For", "cookie:connect.sid", "query:sid", "proxy-protocol"] {
            assert_eq!(text.parse::<StickyBy>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in
            ["", "ip:", "ip:4", "header", "header:", "header:a b", "cookie:a=b", "query:a&b", "sid", "IP"]
        {
            let said = text.parse::<StickyBy>().unwrap_err().to_string();
            assert!(said.starts_with(&format!("'{text}' is nothing to know a client by")), "{said}");
        }
    }

    fn all() -> [Balance; 5] {
        let by_cookie = StickyBy::Cookie("sid".to_owned());
        [
            Balance::RoundRobin,
            Balance::Shared,
            Balance::Kernel,
            Balance::Sticky(StickyBy::Ip),
            Balance::Sticky(by_cookie),
        ]
    }

    #[test]
    fn each_balance_has_its_name() {
        let names = all().map(|balance| balance.to_string());
        assert_eq!(names, ["round-robin", "shared", "kernel", "sticky", "sticky"]);
        assert_eq!(Balance::default(), Balance::Kernel);
    }

    #[test]
    fn workers_accept_where_the_kernel_can_choose() {
        assert_eq!(all().map(|balance| balance.has_workers_accept()), [false, true, true, true, false]);
        let by = all().map(|balance| balance.sticky_by().map(ToString::to_string));
        assert_eq!(by, [None, None, None, Some("ip".to_owned()), Some("cookie:sid".to_owned())]);
    }

    #[test]
    fn what_needs_the_preload_says_so_where_there_is_none() {
        let has_caveat = |is_node, of_other_user| {
            all().map(|balance| balance.caveat_without_preload(is_node, of_other_user).is_some())
        };
        assert_eq!(has_caveat(true, true), [false, false, true, false, true]);
        assert_eq!(has_caveat(true, false), [false, false, false, false, true]);
        assert_eq!(has_caveat(false, true), [false, false, false, false, true]);
    }

    #[test]
    fn only_some_clients_are_known_by_what_they_ask() {
        let is_request = |text: &str| text.parse::<StickyBy>().unwrap().is_request();
        for text in ["header:x", "cookie:x", "query:x"] {
            assert!(is_request(text), "{text}");
        }
        assert!(!is_request("ip") && !is_request("proxy-protocol"));
    }
}
