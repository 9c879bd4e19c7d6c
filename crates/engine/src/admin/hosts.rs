//! Which hosts a request may name.
//!
//! A web page elsewhere can have the browser of somebody on this machine ask for `http://its.own.name:9464/`, and its owner can have that
//! name mean 127.0.0.1 a moment later (DNS rebinding): then the browser lets the page read the answer. But the browser says the name. So
//! names are answered that mean this machine and no other, and addresses, which nobody can have mean something else.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The names that are allowed beside `localhost`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| bare(&name).to_owned()).collect())
    }

    /// Whether what a request says in `Host`, or in the place of it, is allowed.
    pub(crate) fn allow(&self, host: &str) -> bool {
        if let Some(rest) = host.strip_prefix('[') {
            let Some((address, port)) = rest.split_once(']') else { return false };
            return address.parse::<Ipv6Addr>().is_ok() && is_port(port);
        }
        let at = host.find(':').unwrap_or(host.len());
        let (name, port) = host.split_at(at);
        let name = bare(name);
        let is_known = || self.0.iter().any(|known| known.eq_ignore_ascii_case(name));
        is_port(port)
            && (name.parse::<Ipv4Addr>().is_ok() || name.eq_ignore_ascii_case("localhost") || is_known())
    }
}

/// A name without the point that may end it.
fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Whether this is nothing, or a colon and a port.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_that_are_known_are_allowed() {
        let hosts = Hosts::new(["metrics.example.".to_owned(), "prod-7".to_owned()]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "192.0.2.7:1",
            "[::1]",
            "[::1]:9464",
            "localhost",
            "LOCALHOST:80",
            "localhost.:80",
            "metrics.example:9464",
            "Metrics.Example.",
            "prod-7",
        ] {
            assert!(hosts.allow(host), "{host}");
        }
    }

    #[test]
    fn names_that_others_may_give_this_machine_are_not() {
        let hosts = Hosts::new(["prod-7".to_owned()]);
        for host in [
            "",
            "evil.example",
            "evil.example:9464",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.example@127.0.0.1",
            "127.1",
            "0x7f000001",
            "[::1",
            "[evil]",
            "[::1]evil",
            "localhost:a",
            "prod-7.evil.example",
            ":9464",
            "localhost:1:2",
        ] {
            assert!(!hosts.allow(host), "{host}");
        }
    }
}
