//! Where the master listens: how an address is written, and which two cannot be bound at the same time.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::report::worker::is_abstract;

/// A place for a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BindAddress {
    /// Every address of the machine, of both families.
    Everywhere {
        port: u16,
        kind: Kind,
    },
    One {
        address: SocketAddr,
        kind: Kind,
    },
    /// A path, or a name in the kernel's abstract namespace behind a NUL.
    Unix(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Udp,
}

impl BindAddress {
    /// Where a socket of this address is. `is_dual`: whether one of all IPv6 addresses takes those of IPv4 as well.
    pub(crate) fn of(address: SocketAddr, kind: Kind, is_dual: impl FnOnce() -> bool) -> Self {
        if address.is_ipv6() && address.ip().is_unspecified() && is_dual() {
            Self::Everywhere { port: address.port(), kind }
        } else {
            Self::One { address, kind }
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("unix:@") {
            return (!name.is_empty()).then(|| Self::Unix(format!("\0{name}").into()));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty() && !is_of_directory(path.as_ref())).then(|| Self::Unix(path.into()));
        }
        if text.starts_with('/') {
            return (!is_of_directory(text.as_ref())).then(|| Self::Unix(text.into()));
        }
        let (kind, text) = text.strip_prefix("udp:").map_or((Kind::Tcp, text), |rest| (Kind::Udp, rest));
        let port = text.strip_prefix("*:").unwrap_or(text);
        if let Some(port) = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit())) {
            return Some(Self::Everywhere { port: port.parse().ok()?, kind });
        }
        let address: SocketAddr = match text.strip_prefix("localhost:") {
            Some(port) => SocketAddr::new(IpAddr::from(Ipv4Addr::LOCALHOST), port.parse().ok()?),
            None => text.parse().ok()?,
        };
        Some(Self::One { address, kind })
    }

    /// Whether the two can never be bound at the same time.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        if let (Self::Unix(one), Self::Unix(other)) = (self, other) {
            return resolved(one) == resolved(other);
        }
        let same_port = self.port().is_some() && self.port() == other.port();
        same_port && (self.includes(other) || other.includes(self))
    }

    /// Whether the kernel chooses the port.
    pub(crate) fn is_of_any_port(&self) -> bool {
        !matches!(self, Self::Unix(_)) && self.port().is_none()
    }

    /// The port, unless the kernel chooses it.
    fn port(&self) -> Option<(u16, Kind)> {
        let (port, kind) = match self {
            Self::Everywhere { port, kind } => (*port, *kind),
            Self::One { address, kind } => (address.port(), *kind),
            Self::Unix(_) => return None,
        };
        (port != 0).then_some((port, kind))
    }

    /// Whether a client that connects to the other one, on the same port, would reach this one.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everywhere { .. }, Self::Everywhere { .. } | Self::One { .. }) => true,
            (Self::One { address: one, .. }, Self::One { address: other, .. }) => {
                let (one, other) = (unmapped(*one), unmapped(*other));
                one == other || (one.ip().is_unspecified() && one.is_ipv4() == other.is_ipv4())
            }
            (Self::One { .. }, Self::Everywhere { .. }) | (Self::Unix(_), _) | (_, Self::Unix(_)) => false,
        }
    }
}

/// Whether a path can be that of a directory alone: it ends with `/`, or with a dot for the directory itself.
pub(crate) fn is_of_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b"."
}

/// The path with the links and dots of its directory followed, if there is such a directory.
fn resolved(path: &Path) -> PathBuf {
    if is_abstract(path) {
        return path.to_owned();
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    match (fs::canonicalize(directory.unwrap_or(Path::new("."))), path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        _ => path.to_owned(),
    }
}

/// The IPv4 address that an address of IPv6 may stand for (`::ffff:127.0.0.1`): both are one place.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> BindAddress {
        BindAddress::parse(text).unwrap()
    }

    #[test]
    fn addresses_in_all_their_forms() {
        let everywhere = |port, kind| BindAddress::Everywhere { port, kind };
        let one = |text: &str, kind| BindAddress::One { address: text.parse().unwrap(), kind };
        let forms = [
            ("8080", everywhere(8080, Kind::Tcp)),
            ("*:8080", everywhere(8080, Kind::Tcp)),
            ("udp:53", everywhere(53, Kind::Udp)),
            ("127.0.0.1:0", one("127.0.0.1:0", Kind::Tcp)),
            ("localhost:80", one("127.0.0.1:80", Kind::Tcp)),
            ("[::1]:8080", one("[::1]:8080", Kind::Tcp)),
            ("udp:127.0.0.1:53", one("127.0.0.1:53", Kind::Udp)),
            ("unix:/run/a.sock", BindAddress::Unix("/run/a.sock".into())),
            ("/run/a.sock", BindAddress::Unix("/run/a.sock".into())),
            ("unix:@a", BindAddress::Unix("\0a".into())),
            ("unix:@a/", BindAddress::Unix("\0a/".into())),
            ("unix:./@a", BindAddress::Unix("./@a".into())),
        ];
        for (text, place) in forms {
            assert_eq!(at(text), place, "{text}");
        }
    }

    #[track_caller]
    fn overlap(one: &str, other: &str) -> bool {
        let (one, other) = (at(one), at(other));
        assert_eq!(one.overlaps(&other), other.overlaps(&one), "{one:?} {other:?}");
        one.overlaps(&other)
    }

    #[test]
    fn an_address_overlaps_whatever_includes_it() {
        assert!(overlap("127.0.0.1:8080", "localhost:8080"));
        assert!(overlap("8080", "*:8080"));
        for specific in ["127.0.0.1:8080", "[::1]:8080", "0.0.0.0:8080", "[::]:8080"] {
            assert!(overlap("8080", specific), "{specific}");
        }
        assert!(overlap("0.0.0.0:8080", "127.0.0.1:8080"));
        assert!(overlap("[::]:8080", "[::1]:8080"));
        assert!(overlap("udp:53", "udp:127.0.0.1:53"));
        for ipv4 in ["127.0.0.1:8080", "0.0.0.0:8080"] {
            assert!(overlap(ipv4, "[::ffff:127.0.0.1]:8080"), "{ipv4}");
        }
        assert!(!overlap("[::]:8080", "[::ffff:127.0.0.1]:8080"));
    }

    #[test]
    fn others_do_not() {
        assert!(!overlap("[::]:8080", "0.0.0.0:8080"), "of one family alone");
        assert!(!overlap("127.0.0.1:8080", "127.0.0.2:8080"));
        assert!(!overlap("8080", "8081"));
        assert!(!overlap("8080", "udp:8080"));
        assert!(!overlap("127.0.0.1:0", "127.0.0.1:0"), "the kernel chooses another port");
        assert!(!overlap("0", "127.0.0.1:0"));
        assert!(!overlap("8080", "unix:/a.sock"));
    }

    #[test]
    fn a_path_is_the_same_however_its_directory_is_named() {
        let home = tempfile::tempdir().unwrap();
        let text = |path: &str| format!("unix:{}", home.path().join(path).display());
        fs::create_dir(home.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", home.path().join("link")).unwrap();
        assert!(overlap(&text("a.sock"), &text("real/../a.sock")));
        assert!(overlap(&text("real/a.sock"), &text("link/a.sock")));
        assert!(!overlap(&text("real/a.sock"), &text("a.sock")));
        assert!(overlap("/nowhere/a.sock", "unix:/nowhere/a.sock"));
        assert!(overlap("unix:@a", "unix:@a") && !overlap("unix:@a", "unix:./@a"));
    }
}
