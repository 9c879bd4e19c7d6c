//! [`HookUrl`]: where a hook posts to. Plain HTTP alone: what wants TLS has a client of its own.

use std::fmt;

const DEFAULT_PORT: u16 = 80;

/// An address of the form `http://HOST:PORT/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HookUrl {
    /// A name or an IP address; one of IPv6 without its brackets.
    host: String,
    port: Option<u16>,
    /// The path and the query.
    target: String,
}

/// Why a text is no such address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HookUrlError {
    /// It wants TLS.
    #[error(
        "a hook speaks http alone; for https let a client do it: \
         exec:curl -fsS --json @- https://HOST/PATH"
    )]
    Https,
    /// It is of another kind.
    #[error("a hook cannot post to {0}://; write http:// or exec: and a command")]
    Scheme(String),
    /// It has a user in it, or a password.
    #[error("the address of a hook cannot have a user or a password in it; exec:curl --user can say them")]
    User,
    /// There is no host, or it has characters that a host has not.
    #[error("the address of a hook has no host: write http://HOST:PORT/PATH")]
    Host,
    /// The port is none.
    #[error("'{0}' is no port: write a number from 1 to 65535")]
    Port(String),
    /// The path has characters that must be escaped.
    #[error(
        "the path of a hook's address has a space or another character that must be written as %20 or the like"
    )]
    Path,
}

impl HookUrl {
    /// The address that this is behind the colon of its scheme.
    pub(super) fn new(scheme: &str, rest: &str) -> Result<Self, HookUrlError> {
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => return Err(HookUrlError::Https),
            other => return Err(HookUrlError::Scheme(other.to_owned())),
        }
        let rest = rest.trim_start_matches("//");
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(HookUrlError::User);
        }
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(HookUrlError::Path);
        }
        let (host, port) = split_port(authority)?;
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { host: host.to_owned(), port, target: format!("{slash}{target}") })
    }

    /// The host and the port, to connect to.
    pub(crate) fn place(&self) -> (&str, u16) {
        (&self.host, self.port.unwrap_or(DEFAULT_PORT))
    }

    /// As a request names them.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        self.port.map_or(host.clone(), |port| format!("{host}:{port}"))
    }

    /// The path and the query.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }
}

impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.target)
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), HookUrlError> {
    let (host, behind) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, behind) = v6.split_once(']').ok_or(HookUrlError::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| HookUrlError::Host)?;
            (host, behind)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_name) {
        return Err(HookUrlError::Host);
    }
    let port = match behind.strip_prefix(':') {
        None if behind.is_empty() => None,
        None => return Err(HookUrlError::Host),
        Some("") => None,
        Some(port) => {
            let number = port.parse().ok().filter(|number| *number != 0);
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            Some(number.filter(|_| is_number).ok_or_else(|| HookUrlError::Port(port.to_owned()))?)
        }
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HookUrl, HookUrlError> {
        let (scheme, rest) = text.split_once(':').unwrap();
        HookUrl::new(scheme, rest)
    }

    #[test]
    fn addresses_have_a_host_a_port_and_a_path() {
        for (text, host, port, target) in [
            ("http://hooks.example", "hooks.example", 80, "/"),
            ("http://hooks.example/", "hooks.example", 80, "/"),
            ("HTTP://127.0.0.1:9000/a/b?c=d#e", "127.0.0.1", 9000, "/a/b?c=d"),
            ("http://[::1]:8080?c", "::1", 8080, "/?c"),
            ("http://hook:/x", "hook", 80, "/x"),
        ] {
            let url = read(text).unwrap();
            assert_eq!((url.place(), url.target()), ((host, port), target), "{text}");
        }
        assert_eq!(read("http://[::1]:81/x").unwrap().to_string(), "http://[::1]:81/x");
        assert_eq!(read("http://a/x").unwrap().authority(), "a");
    }

    #[test]
    fn what_is_none_is_told_why() {
        for (text, error) in [
            ("https://x/", HookUrlError::Https),
            ("ftp://x/", HookUrlError::Scheme("ftp".to_owned())),
            ("http:///x", HookUrlError::Host),
            ("http://", HookUrlError::Host),
            ("http://a b/", HookUrlError::Host),
            ("http://[::1/", HookUrlError::Host),
            ("http://[x]/", HookUrlError::Host),
            ("http://[::1]80/", HookUrlError::Host),
            ("http://me:secret@x/", HookUrlError::User),
            ("http://x:0/", HookUrlError::Port("0".to_owned())),
            ("http://x:+80/", HookUrlError::Port("+80".to_owned())),
            ("http://x:65536/", HookUrlError::Port("65536".to_owned())),
            ("http://x/a b", HookUrlError::Path),
            ("http://x/a\r\nHost: y", HookUrlError::Path),
            ("http://x/é", HookUrlError::Path),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
    }
}
