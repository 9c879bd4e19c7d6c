//! Ports for the inspector of Node workers. Several processes that were told the same port would have one inspector in all,
//! that of whoever came first: so each worker gets its own, as Node's cluster module gives one to each of its workers.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, TcpListener};

use rustix::process::{Pid, test_kill_process};

/// Where Node listens for a debugger unless it is told otherwise.
const USUAL: u16 = 9229;
/// The lowest port that Node takes.
const LOWEST: u32 = 1024;
/// How many ports are tried for a worker.
const TRIES: u32 = 64;
/// The options that open the inspector, and those that only say where a signal opens it.
const OPENING: [&str; 3] = ["--inspect", "--inspect-brk", "--inspect-wait"];
const NAMING: [&str; 2] = ["--inspect-port", "--debug-port"];

/// Where workers are to listen for a debugger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    host: Option<String>,
    port: u16,
}

/// Where one worker is to listen for a debugger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) port: u16,
    /// The port that its slot has by rights, where that is taken.
    pub(crate) instead_of: Option<u16>,
}

/// The ports that workers have which still live.
#[derive(Debug, Default)]
pub(crate) struct Ports(Vec<(u16, Pid)>);

/// Where workers are to listen for a debugger, if they are, by `NODE_OPTIONS` and node's arguments: the later word counts.
pub(crate) fn wanted(node_options: Option<&OsStr>, args: &[OsString]) -> Option<Wanted> {
    let options = node_options.and_then(OsStr::to_str).unwrap_or_default();
    let args = args.iter().filter_map(|arg| arg.to_str());
    let mut words = options.split_whitespace().chain(args).peekable();
    let mut wanted: Option<Wanted> = None;
    while let Some(word) = words.next() {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let is_naming = NAMING.contains(&name);
        if !is_naming && !OPENING.contains(&name) {
            continue;
        }
        let value = if is_naming && value.is_none() { words.next() } else { value };
        let place = wanted.get_or_insert(Wanted { host: None, port: USUAL });
        if let Some((host, port)) = value.map(parse) {
            place.host = host.or(place.host.take());
            place.port = port.unwrap_or(place.port);
        }
    }
    wanted
}

/// `PORT`, `HOST`, `HOST:PORT` or `[IPV6]:PORT`. What is none of these is Node's to refuse.
fn parse(value: &str) -> (Option<String>, Option<u16>) {
    if let Ok(port) = value.parse() {
        return (None, Some(port));
    }
    let (host, port) = match value.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => value.rsplit_once(':').map_or((value, None), |(host, port)| (host, Some(port))),
    };
    (Some(host.to_owned()).filter(|host| !host.is_empty()), port.and_then(|port| port.parse().ok()))
}

impl Wanted {
    /// Whether nobody listens there. Of a name that had to be looked up that is not known.
    fn is_free(&self, port: u16) -> bool {
        let host = match self.host.as_deref() {
            None | Some("localhost") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Some(host) => host.parse().ok(),
        };
        host.is_none_or(|host| TcpListener::bind((host, port)).is_ok())
    }
}

impl Ports {
    /// A port for the next worker of this slot: the first one and the slot's number, or, where an old worker of the slot or
    /// another process has that, one that is no other slot's. None where the kernel is to choose.
    pub(crate) fn choose(&mut self, wanted: &Wanted, slot: u32, slots: u32) -> Option<Place> {
        if wanted.port == 0 {
            return None;
        }
        self.0.retain(|(_, pid)| test_kill_process(*pid).is_ok());
        let step = slots.max(slot + 1);
        let first = u32::from(wanted.port).saturating_add(slot);
        let candidates =
            (0..TRIES).filter_map(|round| within(first.saturating_add(round.saturating_mul(step))));
        let is_taken = |port: &u16| self.0.iter().any(|(taken, _)| taken == port);
        let by_rights = candidates.clone().next()?;
        let free = candidates.clone().find(|port| !is_taken(port) && wanted.is_free(*port));
        let port = free.unwrap_or(by_rights);
        Some(Place { port, instead_of: (port != by_rights).then_some(by_rights) })
    }

    /// A worker has got this port.
    pub(crate) fn give(&mut self, port: u16, worker: Pid) {
        self.0.push((port, worker));
    }
}

/// A port behind the last one is one from the lowest on, as in Node's cluster module.
fn within(port: u32) -> Option<u16> {
    let past = port.checked_sub(u32::from(u16::MAX) + 1);
    u16::try_from(past.map_or(port, |past| LOWEST + past % LOWEST)).ok()
}

#[cfg(test)]
mod tests {
    use rustix::process::getpid;

    use super::*;

    fn wanted_by(options: &str, args: &[&str]) -> Option<(Option<String>, u16)> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        wanted(Some(OsStr::new(options)), &args).map(|Wanted { host, port }| (host, port))
    }

    #[test]
    fn the_place_is_what_node_makes_of_its_options() {
        let at = |host: Option<&str>, port| Some((host.map(str::to_owned), port));
        assert_eq!(
            wanted_by("--max-old-space-size=99", &["--inspect-publish-uid=http", "--no-warnings"]),
            None
        );
        assert_eq!(wanted_by("", &["--inspect"]), at(None, 9229));
        assert_eq!(wanted_by("--inspect-brk=9300", &[]), at(None, 9300));
        assert_eq!(
            wanted_by("--inspect=0.0.0.0:9300", &["--inspect-port", "9400"]),
            at(Some("0.0.0.0"), 9400)
        );
        assert_eq!(wanted_by("", &["--inspect=[::1]:9229"]), at(Some("::1"), 9229));
        assert_eq!(wanted_by("", &["--inspect-wait=localhost"]), at(Some("localhost"), 9229));
        assert_eq!(wanted_by("--inspect", &["--debug-port=0"]), at(None, 0));
        assert_eq!(wanted_by("", &["--inspect-port=9500"]), at(None, 9500), "a signal opens it there");
    }

    #[test]
    fn each_slot_has_its_port_and_a_successor_another_one_while_the_old_worker_lives() {
        let base = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() - 200;
        let wanted = Wanted { host: Some("a.host.that.is.not.asked".to_owned()), port: base };
        let mut ports = Ports::default();
        let at = |port, instead_of| Some(Place { port, instead_of });
        assert_eq!([0, 1].map(|slot| ports.choose(&wanted, slot, 2)), [at(base, None), at(base + 1, None)]);
        ports.give(base, getpid());
        assert_eq!(ports.choose(&wanted, 0, 2), at(base + 2, Some(base)));
        assert_eq!(ports.choose(&wanted, 1, 2), at(base + 1, None));
        assert_eq!(ports.choose(&Wanted { port: 0, ..wanted }, 0, 2), None);
    }

    #[test]
    fn a_port_that_another_process_has_is_passed_over() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let chosen = Ports::default().choose(&Wanted { host: None, port }, 0, 1);
        assert!(chosen.is_some_and(|chosen| chosen.instead_of == Some(port)), "{chosen:?}");
    }

    #[test]
    fn behind_the_last_port_comes_the_lowest_that_node_takes() {
        assert_eq!([65535, 65536, 65538].map(within), [Some(65535), Some(1024), Some(1026)]);
    }
}
