//! Which worker is meant, what it still has, and where it listens.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use recluster_core::Exit;
use serde::{Deserialize, Serialize, Serializer};

use crate::upgrade::plain::{Bytes, Plain};

/// Which worker an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Worker {
    /// Its number: counts from 1, never used again.
    pub id: u64,
    /// Its slot, zero-based: the worker's `WORKER_ID`.
    pub slot: u32,
    /// Its generation.
    pub generation: u64,
    /// Its process; none where the process could not be started.
    pub pid: Option<u32>,
}

/// Which limit a worker exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecycleReason {
    /// It and what it started use too much memory.
    Memory {
        /// What they use, in bytes.
        bytes: u64,
        /// What they may use, in bytes.
        limit: u64,
    },
    /// It has lived long enough.
    Age {
        /// Whole seconds since its start.
        seconds: u64,
    },
}

/// What a draining Node worker still has, as it reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Held {
    /// Open connections.
    pub connections: u32,
    /// How many of these are upgraded (WebSocket), or speak something else than HTTP.
    pub upgraded: u32,
    /// Requests that have not been answered whole.
    pub requests: u32,
    /// What else kept its event loop alive when its last connection was gone (`process.getActiveResourcesInfo()`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alive: Vec<Resource>,
}

/// Things of one kind that keep an event loop alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Resource {
    /// Node's name for the kind: `Timeout`, `TCPSocketWrap`.
    pub name: String,
    /// How many there are.
    pub count: u32,
}

impl Resource {
    pub(crate) fn new(name: impl Into<String>, count: u32) -> Self {
        Self { name: name.into(), count }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, upgraded, requests, alive } = self;
        if *connections == 0 {
            f.write_str("no connection")?;
            let resources: Vec<String> = alive.iter().map(ToString::to_string).collect();
            if resources.is_empty() {
                return Ok(());
            }
            return write!(f, ", kept alive by {}", resources.join(", "));
        }
        f.write_str(&counted(*connections, "open connection", "s"))?;
        if *upgraded > 0 {
            write!(f, ", {upgraded} of them upgraded")?;
        }
        if *requests > 0 {
            write!(f, ", {} in progress", counted(*requests, "request", "s"))?;
        }
        Ok(())
    }
}

/// A count with what is counted, which takes this ending where there are several.
fn counted(count: u32, what: &str, plural: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { plural })
}

/// In words where Node's name says little.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, count } = self;
        let (what, plural) = match name.as_str() {
            "Timeout" => ("timer", "s"),
            "TCPSocketWrap" => ("TCP connection", "s"),
            "TCPServerWrap" => ("TCP server", "s"),
            "PipeWrap" => ("pipe", "s"),
            "PipeServerWrap" => ("unix socket server", "s"),
            "UDPWrap" => ("UDP socket", "s"),
            "ProcessWrap" => ("child process", "es"),
            "FSEventWrap" => ("watched file", "s"),
            "StatWatcher" => ("polled file", "s"),
            "MessagePort" => ("message port", "s"),
            name => (name, ""),
        };
        f.write_str(&counted(*count, what, plural))
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// UDP.
    Udp(SocketAddr),
    /// A unix socket; an abstract one begins with a NUL.
    Unix(PathBuf),
    /// A descriptor that the master was started with.
    Fd(i32),
}

impl Address {
    /// Where to connect over IP, or to send to.
    pub(crate) fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(*address),
            Self::Unix(_) | Self::Fd(_) => None,
        }
    }
}

/// An address, as a part of the master leaves it: a path may be no text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(Bytes),
    Fd(i32),
}

impl Plain for Address {
    type Form = Place;

    fn plain(&self) -> Place {
        match self {
            Self::Tcp(address) => Place::Tcp(*address),
            Self::Udp(address) => Place::Udp(*address),
            Self::Unix(path) => Place::Unix(path.plain()),
            Self::Fd(number) => Place::Fd(*number),
        }
    }

    fn of_plain(form: Place) -> Self {
        match form {
            Place::Tcp(address) => Self::Tcp(address),
            Place::Udp(address) => Self::Udp(address),
            Place::Unix(path) => Self::Unix(PathBuf::of_plain(path)),
            Place::Fd(number) => Self::Fd(number),
        }
    }
}

/// Addresses, as the program around a cluster leaves them: `#[serde(with = "addresses")]`.
pub mod addresses {
    use serde::{Deserializer, Serializer};

    use crate::report::worker::Address;
    use crate::upgrade::plain;

    /// Writes them.
    pub fn serialize<S: Serializer>(addresses: &Vec<Address>, serializer: S) -> Result<S::Ok, S::Error> {
        plain::serialize(addresses, serializer)
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Address>, D::Error> {
        plain::deserialize(deserializer)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", written(path)),
            Self::Fd(number) => write!(f, "fd:{number}"),
        }
    }
}

/// Whether a path is a name in the kernel's abstract namespace, and no file.
pub(crate) fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&0)
}

/// The path of a unix socket as people write it: an abstract name begins with `@`.
pub(crate) fn written(path: &Path) -> String {
    path.display().to_string().replace('\0', "@")
}

/// How a process ended, as an object with one field.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
pub(crate) fn exit_map<S: Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap;
    let mut map = serializer.serialize_map(Some(1))?;
    match exit {
        Exit::Code(code) => map.serialize_entry("code", code)?,
        Exit::Signal(signal) => map.serialize_entry("signal", signal)?,
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn addresses_are_left_as_events_say_them_and_by_their_bytes_where_these_are_no_text() {
        let ip: SocketAddr = "[::1]:8080".parse().unwrap();
        let odd = Address::Unix(OsString::from_vec(vec![b'a', 0xff]).into());
        let text = [Address::Tcp(ip), Address::Udp(ip), Address::Unix("/run/it.sock".into()), Address::Fd(3)];
        for address in &text {
            let left = serde_json::to_value(address.plain()).unwrap();
            assert_eq!(left, serde_json::to_value(address).unwrap());
            assert_eq!(Address::of_plain(serde_json::from_value(left).unwrap()), *address);
        }
        let left = serde_json::to_value(odd.plain()).unwrap();
        assert_eq!(left, serde_json::json!({"unix": {"hex": "61ff"}}));
        assert_eq!(Address::of_plain(serde_json::from_value(left).unwrap()), odd);
    }

    #[test]
    fn addresses_are_written_as_they_are_given() {
        let ip: SocketAddr = "[::1]:8080".parse().unwrap();
        let forms = [
            (Address::Tcp(ip), "[::1]:8080", Some(ip)),
            (Address::Udp(ip), "udp:[::1]:8080", Some(ip)),
            (Address::Unix("/run/it.sock".into()), "unix:/run/it.sock", None),
            (Address::Unix("\0it".into()), "unix:@it", None),
            (Address::Fd(3), "fd:3", None),
        ];
        for (address, text, ip) in forms {
            assert_eq!((address.to_string().as_str(), address.ip()), (text, ip));
        }
    }

    #[test]
    fn what_a_worker_still_has_is_one_line() {
        let alive =
            |pairs: &[(&str, u32)]| pairs.iter().map(|&(name, count)| Resource::new(name, count)).collect();
        let words = [
            (3, 1, 2, "3 open connections, 1 of them upgraded, 2 requests in progress"),
            (1, 1, 0, "1 open connection, 1 of them upgraded"),
            (1, 0, 1, "1 open connection, 1 request in progress"),
            (2, 0, 0, "2 open connections"),
            (0, 0, 0, "no connection"),
        ];
        for (connections, upgraded, requests, expected) in words {
            let held = Held { connections, upgraded, requests, ..Held::default() };
            assert_eq!(held.to_string(), expected);
        }
        let held = Held {
            alive: alive(&[("Timeout", 3), ("TCPSocketWrap", 1), ("GetAddrInfoReqWrap", 2)]),
            ..Held::default()
        };
        assert_eq!(
            held.to_string(),
            "no connection, kept alive by 3 timers, 1 TCP connection, 2 GetAddrInfoReqWrap"
        );
        let names = [("ProcessWrap", 2), ("FSEventWrap", 4), ("StatWatcher", 1)];
        let held = Held { alive: alive(&names), ..Held::default() };
        assert_eq!(
            held.to_string(),
            "no connection, kept alive by 2 child processes, 4 watched files, 1 polled file"
        );
    }
}
