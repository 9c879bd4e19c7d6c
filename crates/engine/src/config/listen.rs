//! How an address that the master binds is written: [`Listen`].

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use recluster_wire::env::SocketName;

use crate::config::address::{BindAddress, Kind};
use crate::report::error::StartError;
use crate::report::worker::{is_abstract, written};

/// The default length of the accept queue: the same as in Node.
const BACKLOG: u32 = 511;

/// An address for the master to bind: what `--listen` takes.
///
/// `[NAME=]ADDRESS[?OPTION=VALUE[&…]]`, where the address is
///
/// - `8080` or `*:8080`: TCP on every address, IPv6 and IPv4;
/// - `127.0.0.1:8080`, `0.0.0.0:8080`, `[::1]:8080`, `[::]:8080`: TCP on this one (`[::]`: every IPv6 address);
/// - `unix:/path` or `/path`: a unix stream socket; `unix:@name`: one in the kernel's abstract namespace, which is no file;
/// - `udp:` before any of the first two: a UDP socket.
///
/// Port 0 lets the kernel choose. Options: `backlog`, the length of the accept queue (511); `mode`, the permissions of a
/// unix socket in octal (777 without the bits of the umask).
///
/// ```
/// # use recluster::Listen;
/// let listen: Listen = "web=127.0.0.1:8080?backlog=1024".parse()?;
/// assert_eq!(listen.name(), Some("web"));
/// # Ok::<(), recluster::ListenError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub(crate) name: Option<SocketName>,
    pub(crate) at: BindAddress,
    /// The length of the accept queue.
    pub(crate) backlog: u32,
    /// The permissions of the file of a unix socket.
    pub(crate) mode: Option<u32>,
    text: String,
}

/// An address in the words of a systemd socket unit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketUnit {
    /// `ListenStream` or `ListenDatagram`.
    pub listen: &'static str,
    /// Its value.
    pub address: String,
    /// The port of an IP address. Zero lets the kernel choose, which such a unit cannot say.
    pub port: Option<u16>,
    /// The path of a unix socket.
    pub path: Option<PathBuf>,
    /// It is every IPv6 address, and no IPv4 address.
    pub only_v6: bool,
    /// `Backlog`.
    pub backlog: u32,
    /// `SocketMode`.
    pub mode: Option<u32>,
}

/// Why a text is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// It is none of the forms.
    #[error(
        "'{0}' is no address: write 8080, 127.0.0.1:8080, [::1]:8080, unix:/path, unix:@name, or udp: before an IP address or port"
    )]
    NoAddress(String),
    /// The name cannot be passed on to workers.
    #[error("'{0}' is no name for a listener: 1 to 255 bytes without a colon or a control character")]
    BadName(String),
    /// An option that there is not.
    #[error(
        "there is no option '{0}' of this address: there are backlog=N and, for a unix socket that is a file, mode=OCTAL"
    )]
    UnknownOption(String),
    /// An option's value that cannot be.
    #[error("'{value}' is no value of {option}: {expected}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What would be one.
        expected: &'static str,
    },
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let (head, options) = text.split_once('?').unwrap_or((text, ""));
        // A path may have a `=` in it, and is no name.
        let is_path = head.starts_with('/') || head.starts_with("unix:");
        let (name, address) = match head.split_once('=').filter(|_| !is_path) {
            Some((name, address)) => {
                let name = name.parse().map_err(|_| ListenError::BadName(name.to_owned()))?;
                (Some(name), address)
            }
            None => (None, head),
        };
        let at = BindAddress::parse(address).ok_or_else(|| ListenError::NoAddress(address.to_owned()))?;
        let mut listen = Self { name, at, backlog: BACKLOG, mode: None, text: address.to_owned() };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            listen.set(option)?;
        }
        Ok(listen)
    }
}

impl Listen {
    /// The name by which workers may know it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_ref().map(SocketName::as_str)
    }

    /// The address as a systemd socket unit says it.
    pub fn socket_unit(&self) -> SocketUnit {
        let of = |kind: &Kind| if *kind == Kind::Udp { "ListenDatagram" } else { "ListenStream" };
        let (listen, address, port, path) = match &self.at {
            BindAddress::Everywhere { port, kind } => (of(kind), port.to_string(), Some(*port), None),
            BindAddress::One { address, kind } => (of(kind), address.to_string(), Some(address.port()), None),
            BindAddress::Unix(path) if is_abstract(path) => ("ListenStream", written(path), None, None),
            BindAddress::Unix(path) => {
                ("ListenStream", path.to_string_lossy().into_owned(), None, Some(path.clone()))
            }
        };
        let is_all_of_v6 = |address: &SocketAddr| address.is_ipv6() && address.ip().is_unspecified();
        let only_v6 = matches!(&self.at, BindAddress::One { address, .. } if is_all_of_v6(address));
        SocketUnit { listen, address, port, path, only_v6, backlog: self.backlog, mode: self.mode }
    }

    fn set(&mut self, option: &str) -> Result<(), ListenError> {
        let unknown = || ListenError::UnknownOption(option.to_owned());
        let (name, value) = option.split_once('=').ok_or_else(unknown)?;
        let bad = |option, expected| ListenError::BadOption { option, value: value.to_owned(), expected };
        match (name, &self.at) {
            ("backlog", _) => {
                self.backlog = value.parse().map_err(|_| bad("backlog", "a whole number"))?;
            }
            ("mode", BindAddress::Unix(path)) if !is_abstract(path) => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o777);
                self.mode = Some(mode.ok_or_else(|| bad("mode", "permissions in octal, such as 660"))?);
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// Gives it a name, if it has none.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = self.name.or_else(|| name.parse().ok());
        self
    }

    /// Whether every worker can have a listener of its own at such an address, and a use for it.
    pub(crate) fn suits_checks(&self, is_node: bool) -> Result<(), StartError> {
        let has_own = match &self.at {
            BindAddress::Everywhere { port, kind } => *port == 0 && *kind == Kind::Tcp,
            BindAddress::One { address, kind } => address.port() == 0 && *kind == Kind::Tcp,
            BindAddress::Unix(_) => false,
        };
        let reason = match (is_node, has_own) {
            (true, _) => "a Node worker needs none: it is asked over a connection that is handed to it alone",
            (false, false) => {
                "each worker needs one of its own: name a TCP address with port 0, such as 127.0.0.1:0"
            }
            (false, true) => return Ok(()),
        };
        Err(StartError::CheckListen { address: self.to_string(), reason })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Listen {
        text.parse().unwrap()
    }

    #[test]
    fn names_and_options() {
        let it = listen("web=8080?backlog=7");
        assert_eq!((it.name(), it.backlog), (Some("web"), 7));
        assert_eq!(listen("unix:/a?mode=660").mode, Some(0o660));
        for path in ["/run/a=b.sock", "unix:/run/a=b.sock"] {
            assert_eq!((listen(path).name(), listen(path).to_string()), (None, path.to_owned()));
            assert_eq!(listen(&format!("web={path}")).to_string(), path);
        }
    }

    #[test]
    fn a_socket_unit_says_the_same_address() {
        let unit = |text: &str| {
            let unit = listen(text).socket_unit();
            (format!("{}={}", unit.listen, unit.address), unit.only_v6)
        };
        for (text, line, only_v6) in [
            ("8080", "ListenStream=8080", false),
            ("web=127.0.0.1:80?backlog=9", "ListenStream=127.0.0.1:80", false),
            ("[::]:80", "ListenStream=[::]:80", true),
            ("[::1]:80", "ListenStream=[::1]:80", false),
            ("udp:53", "ListenDatagram=53", false),
            ("unix:/run/web/web.sock?mode=660", "ListenStream=/run/web/web.sock", false),
            ("unix:@web", "ListenStream=@web", false),
        ] {
            assert_eq!(unit(text), (line.to_owned(), only_v6), "{text}");
        }
        let unit = listen("unix:/a?mode=660").socket_unit();
        assert_eq!((unit.mode, unit.port, unit.path), (Some(0o660), None, Some("/a".into())));
        assert_eq!(
            (listen("80?backlog=9").socket_unit().backlog, listen("80").socket_unit().port),
            (9, Some(80))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| text.parse::<Listen>().unwrap_err().to_string();
        assert!(error("nowhere").starts_with("'nowhere' is no address: write 8080"));
        assert!(error("99999").starts_with("'99999' is no address"));
        assert!(error("unix:").starts_with("'unix:' is no address"));
        for directory in ["unix:/run/", "/run/.", "unix:run/", "unix:."] {
            assert!(error(directory).starts_with(&format!("'{directory}' is no address")));
        }
        assert!(error("a:b=8080").starts_with("'a:b' is no name"));
        assert!(error("unix:@").starts_with("'unix:@' is no address"));
        for text in ["8080?mode=660", "unix:@web?mode=660"] {
            assert!(error(text).starts_with("there is no option 'mode=660' of this address"));
        }
        assert_eq!(error("8080?backlog=x"), "'x' is no value of backlog: a whole number");
        assert_eq!(error("unix:/a?mode=999"), "'999' is no value of mode: permissions in octal, such as 660");
    }

    #[test]
    fn a_name_is_not_replaced() {
        assert_eq!(listen("8080").named("check").name(), Some("check"));
        assert_eq!(listen("web=8080").named("check").name(), Some("web"));
        assert_eq!(listen("web=8080?backlog=7").to_string(), "8080", "its address alone");
    }

    #[test]
    fn a_listener_for_checks_needs_a_port_for_each_worker() {
        for text in ["127.0.0.1:0", "0"] {
            assert!(listen(text).suits_checks(false).is_ok(), "{text}");
        }
        for text in ["127.0.0.1:8080", "8080", "udp:127.0.0.1:0", "unix:/it.sock"] {
            let error = listen(text).suits_checks(false).unwrap_err().to_string();
            assert!(error.contains("name a TCP address with port 0"), "{error}");
        }
        let error = listen("127.0.0.1:0").suits_checks(true).unwrap_err().to_string();
        assert!(error.starts_with("--check-listen 127.0.0.1:0: a Node worker needs none"), "{error}");
    }
}
