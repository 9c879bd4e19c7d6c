//! Who has an address that cannot be had, as far as `/proc` tells this user.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::report::worker::written;

/// How much of a table of the kernel's is read. In those of TCP, what listens stands first.
const MOST_BYTES: u64 = 1 << 20;
/// The state of a socket of TCP that listens.
const LISTENS: &str = "0A";
/// How many descriptors of a process are looked at. Servers open what they listen on early.
const MOST_DESCRIPTORS: usize = 1024;
/// How many processes are looked at where they were named.
const MOST_PROCESSES: usize = 1024;
/// How much of a command line is shown.
const MOST_CHARS: usize = 80;

/// An address that someone else has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    /// A port, at this address if that is known.
    Port(PortOf, Option<IpAddr>, u16),
    /// A unix socket.
    Path(PathBuf),
}

/// Whose port it is, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PortOf {
    Tcp,
    Udp,
    Either,
}

impl PortOf {
    /// The tables of the kernel's that have its sockets.
    fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Tcp => &["tcp", "tcp6"],
            Self::Udp => &["udp", "udp6"],
            Self::Either => &["tcp", "tcp6", "udp", "udp6"],
        }
    }
}

/// A process that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    /// The beginning of its command line.
    pub(crate) command: String,
}

impl Holder {
    /// As it is now.
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid, command: command_of(pid) }
    }

    /// With the name that the kernel has for it in the place of its command line: to read that takes a lock of the process, which
    /// may be held for long.
    pub(crate) fn by_name(pid: u32) -> Self {
        let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        Self { pid, command: String::from_utf8_lossy(&name).trim_end().to_owned() }
    }

    pub(crate) fn is_this_process(&self) -> bool {
        self.pid == std::process::id()
    }

    pub(crate) fn in_brackets(&self) -> String {
        match self.command.as_str() {
            "" => format!("(process {})", self.pid),
            command => format!("(process {}: {command})", self.pid),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, command } = self;
        match (self.is_this_process(), command.as_str()) {
            (true, _) => write!(f, "this recluster has it, process {pid}"),
            (false, "") => write!(f, "process {pid} has it"),
            (false, command) => write!(f, "process {pid} has it: {command}"),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(_, _, port) => write!(f, "port {port}"),
            Self::Path(path) => f.write_str(&written(path)),
        }
    }
}

impl Wanted {
    /// The address in what a program said of it: `… 127.0.0.1:8080`, `… port 8080`, `… ('::1', 8080)`, `… /run/app.sock`.
    pub(crate) fn in_words(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let address = words.iter().rev().find_map(|word| address_in(word.trim_end_matches(is_around)));
        let number = |counts: fn(&str) -> bool| {
            let mut pairs = words.iter().skip(1).zip(&words).rev().filter(|(_, before)| counts(before));
            pairs.find_map(|(word, _)| {
                let port = word.trim_matches(is_around).parse().ok().filter(|port| *port > 0)?;
                Some(Self::Port(PortOf::Either, None, port))
            })
        };
        let path = || words.iter().find_map(|word| path_in(word)).map(|path| Self::Path(path.into()));
        let is_port = |before: &str| before.trim_matches(is_around).eq_ignore_ascii_case("port");
        let is_no_error = |before: &str| !before.ends_with("rror") && !before.ends_with("Errno");
        address.or_else(|| number(is_port)).or_else(path).or_else(|| number(is_no_error))
    }

    /// The process that has it, if one can be seen in this time. The caller waits for it.
    pub(crate) fn holder(&self, patience: Duration) -> Option<Holder> {
        self.sockets().holder(patience)
    }

    /// The sockets that have it.
    pub(crate) fn sockets(&self) -> Sockets {
        Sockets(match self {
            Self::Port(protocol, ip, port) => protocol
                .tables()
                .iter()
                .flat_map(|table| of_ports(&read(table), table.starts_with("tcp"), *ip, *port))
                .collect(),
            Self::Path(path) => of_paths(&read("unix"), &written(path)),
        })
    }
}

/// Sockets, by their inodes.
#[derive(Debug)]
pub(crate) struct Sockets(Vec<u64>);

impl Sockets {
    /// Those with these inodes.
    pub(crate) fn of(inodes: impl IntoIterator<Item = u64>) -> Self {
        Self(inodes.into_iter().collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The process that has one of them. Others may have what this process hands over, too.
    pub(crate) fn holder(&self, patience: Duration) -> Option<Holder> {
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let mut pids: Vec<u32> =
            processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable_by_key(|pid| (*pid != std::process::id(), *pid));
        let until = Instant::now() + patience;
        self.first_of(pids.into_iter().take_while(|_| Instant::now() < until))
    }

    /// The first of these processes that has one of them.
    pub(crate) fn holder_among(&self, pids: &[u32]) -> Option<Holder> {
        self.first_of(pids.iter().copied().take(MOST_PROCESSES))
    }

    fn first_of(&self, mut pids: impl Iterator<Item = u32>) -> Option<Holder> {
        let has_it = |pid: &u32| sockets_of(*pid).any(|inode| self.0.contains(&inode));
        (!self.is_empty()).then(|| pids.find(has_it).map(Holder::of))?
    }
}

fn is_around(c: char) -> bool {
    "()[]{}'\",;:".contains(c)
}

/// The first of these processes that listens on sockets which this process does not have, and where. What this process has given
/// away counts as its own.
pub(crate) fn listening(pids: &[u32], given: &[SocketAddr]) -> Option<(Holder, Vec<Wanted>)> {
    let tables = ["tcp", "tcp6"].map(read);
    let rows = tables.iter().flat_map(|table| table.lines().skip(1));
    let of_tcp = rows.filter(|row| !given.iter().any(|given| is_at(row, *given))).filter_map(listening_port);
    let unix = read("unix");
    let of_unix = unix.lines().skip(1).filter_map(listening_path);
    let mut places: BTreeMap<u64, Wanted> = of_tcp.chain(of_unix).collect();
    for inode in sockets_of(std::process::id()) {
        places.remove(&inode);
    }
    let here = |pid| {
        let mut here: Vec<Wanted> = sockets_of(pid).filter_map(|inode| places.get(&inode).cloned()).collect();
        here.sort_unstable();
        here.dedup();
        (!here.is_empty()).then(|| (Holder::of(pid), here))
    };
    pids.iter().take(MOST_PROCESSES).find_map(|pid| here(*pid))
}

/// Whether a socket of TCP has this address.
fn is_at(row: &str, address: SocketAddr) -> bool {
    let local = row.split_whitespace().nth(1).and_then(|local| local.split_once(':'));
    local.is_some_and(|(host, digits)| {
        u16::from_str_radix(digits, 16) == Ok(address.port())
            && ip_of(host) == Some(address.ip().to_canonical())
    })
}

/// The inode and the port of a socket of TCP that listens.
fn listening_port(row: &str) -> Option<(u64, Wanted)> {
    let row: Vec<&str> = row.split_whitespace().collect();
    let (_, digits) = row.get(1)?.split_once(':')?;
    let port = Wanted::Port(PortOf::Tcp, None, u16::from_str_radix(digits, 16).ok()?);
    (row.get(3) == Some(&LISTENS)).then(|| Some((row.get(9)?.parse().ok()?, port)))?
}

/// The inode and the path of a unix socket that listens.
fn listening_path(row: &str) -> Option<(u64, Wanted)> {
    const ACCEPTS: &str = "00010000";
    let mut row = row.split_whitespace().skip(3);
    let listens = row.next()? == ACCEPTS;
    let inode = row.nth(2)?.parse().ok()?;
    let path = row.collect::<Vec<_>>().join(" ");
    (listens && path.starts_with('/')).then(|| (inode, Wanted::Path(path.into())))
}

/// The inodes of the sockets that a process has open.
fn sockets_of(pid: u32) -> impl Iterator<Item = u64> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.take(MOST_DESCRIPTORS).filter_map(|entry| {
        let link = fs::read_link(entry.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

fn address_in(word: &str) -> Option<Wanted> {
    let (host, port) = word.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let is_place = host.starts_with(['/', '.']);
    let host = host.rsplit(['/', '@']).next().unwrap_or_default().trim_matches(['[', ']', '(', '\'', '"']);
    let ip = host.parse().ok();
    // The time of a day is no address.
    let is_name = !host.contains(':') && !host.starts_with(|c: char| c.is_ascii_digit());
    (!is_place && (ip.is_some() || is_name)).then_some(Wanted::Port(PortOf::Either, ip, port))
}

/// A path, but not that of a file with a line, as in `/srv/server.rb:3:in`.
fn path_in(word: &str) -> Option<&str> {
    let path = word.trim_matches(is_around);
    let has_line = path.rsplit_once(':').is_some_and(|(path, _)| !path.is_empty());
    (path.starts_with('/') && !has_line).then_some(path)
}

fn read(table: &str) -> String {
    read_up_to(MOST_BYTES, table).0
}

/// A table as far as this many bytes, and whether that is the whole.
fn read_up_to(most: u64, table: &str) -> (String, bool) {
    let mut bytes = Vec::new();
    // What cannot be read tells nothing.
    let _ = File::open(format!("/proc/net/{table}")).and_then(|file| file.take(most).read_to_end(&mut bytes));
    (String::from_utf8_lossy(&bytes).into_owned(), (bytes.len() as u64) < most)
}

/// Whether a row of these tables is such a one. None where none is, as far as this many bytes, and there are more.
fn is_in(most: u64, tables: &[&str], is_one: impl Fn(&str) -> bool) -> Option<bool> {
    let read = tables.iter().map(|table| read_up_to(most, table));
    let seen: Vec<_> = read.map(|(rows, is_whole)| (rows.lines().skip(1).any(&is_one), is_whole)).collect();
    let is_there = seen.iter().any(|(is_there, _)| *is_there);
    (is_there || seen.iter().all(|(_, is_whole)| *is_whole)).then_some(is_there)
}

/// Whether somebody has a connection that was accepted at this address. The kernel gives an inode to those alone.
pub(crate) fn is_connected_at(ip: IpAddr, port: u16) -> Option<bool> {
    is_in(MOST_BYTES, PortOf::Tcp.tables(), |row| {
        let row: Vec<&str> = row.split_whitespace().collect();
        let local = row.get(1).and_then(|local| local.split_once(':'));
        let is_here = local
            .is_some_and(|(host, digits)| u16::from_str_radix(digits, 16) == Ok(port) && overlaps(ip, host));
        is_here && row.get(3) != Some(&LISTENS) && row.get(9).is_some_and(|inode| *inode != "0")
    })
}

/// The same for the path of a unix socket.
pub(crate) fn is_connected_to(path: &str) -> Option<bool> {
    const CONNECTED: &str = "03";
    is_in(MOST_BYTES, &["unix"], |row| {
        let mut row = row.split_whitespace().skip(5);
        let is_accepted = row.next() == Some(CONNECTED) && row.next().is_some_and(|inode| inode != "0");
        is_accepted && row.collect::<Vec<_>>().join(" ") == path
    })
}

/// The inodes of the sockets that have a port.
fn of_ports(table: &str, listening: bool, ip: Option<IpAddr>, port: u16) -> Vec<u64> {
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = rows.filter_map(|row| {
        let (host, digits) = row.get(1)?.split_once(':')?;
        let has_port = u16::from_str_radix(digits, 16) == Ok(port);
        let at_host = ip.is_none_or(|ip| overlaps(ip, host));
        let listens = !listening || row.get(3) == Some(&LISTENS);
        (has_port && at_host && listens).then(|| row.get(9)?.parse().ok())?
    });
    found.collect()
}

/// Whether both are the same address, or one of them is every address.
fn overlaps(ip: IpAddr, host: &str) -> bool {
    let Some(other) = ip_of(host) else { return false };
    let ip = ip.to_canonical();
    ip == other || ip.is_unspecified() || other.is_unspecified()
}

/// An address as the kernel prints it: words of the machine's byte order, in hexadecimal digits.
fn ip_of(host: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(host.get(8 * at..8 * at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match host.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

/// The inodes of the unix sockets with a path.
fn of_paths(table: &str, path: &str) -> Vec<u64> {
    let rows = table.lines().skip(1).map(|line| line.split_whitespace());
    rows.filter_map(|mut row| Some((row.nth(6)?.parse().ok()?, row.collect::<Vec<_>>().join(" "))))
        .filter_map(|(inode, bound)| (bound == path).then_some(inode))
        .collect()
}

/// Whether a process runs node. What it calls itself may be anything.
pub(crate) fn runs_node(pid: u32) -> bool {
    let binary = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    binary.file_name().is_some_and(|name| name == "node" || name == "nodejs")
}

fn command_of(pid: u32) -> String {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/cmdline"));
    let _ = file.map(|file| file.take(MOST_CHARS as u64 * 8).read_to_end(&mut bytes));
    let words = String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ");
    words.chars().take(MOST_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::OwnedFd;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{self as unix, UnixListener};
    use std::process::Command;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_address_is_found_in_the_words_of_many() {
        let ip = |text: &str| Some(text.parse().unwrap());
        let golden = [
            (
                "Error: listen EADDRINUSE: address already in use :::3999",
                Wanted::Port(PortOf::Either, ip("::"), 3999),
            ),
            (
                "Error: listen EADDRINUSE: address already in use 127.0.0.1:80",
                Wanted::Port(PortOf::Either, ip("127.0.0.1"), 80),
            ),
            ("Error: bind EADDRINUSE null:5353", Wanted::Port(PortOf::Either, None, 5353)),
            (
                "Error: listen EADDRINUSE: address already in use /run/app.sock",
                Wanted::Path("/run/app.sock".into()),
            ),
            ("listen tcp :8080: bind: address already in use", Wanted::Port(PortOf::Either, None, 8080)),
            (
                "listen tcp [::1]:8080: bind: address already in use",
                Wanted::Port(PortOf::Either, ip("::1"), 8080),
            ),
            (
                "Address already in use - bind(2) for \"127.0.0.1\" port 8080 (Errno::EADDRINUSE)",
                Wanted::Port(PortOf::Either, None, 8080),
            ),
            (
                "/srv/app.rb:3:in `initialize': Address already in use - bind(2) for \"127.0.0.1\" port 8080 (Errno::EADDRINUSE)",
                Wanted::Port(PortOf::Either, None, 8080),
            ),
            (
                "PHP Warning: Unable to connect to tcp://127.0.0.1:80 (Address already in use) in /srv/x.php on line 3",
                Wanted::Port(PortOf::Either, ip("127.0.0.1"), 80),
            ),
            (
                "12:34:56 main.go:7: listen tcp localhost:81: bind: address already in use",
                Wanted::Port(PortOf::Either, None, 81),
            ),
            ("2026-01-01 12:34:56 Port 82 was already in use.", Wanted::Port(PortOf::Either, None, 82)),
            ("10:30 cannot bind /run/app.sock: Address already in use", Wanted::Path("/run/app.sock".into())),
            (
                "OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use",
                Wanted::Port(PortOf::Either, None, 8000),
            ),
        ];
        for (words, wanted) in golden {
            assert_eq!(Wanted::in_words(words), Some(wanted), "{words}");
        }
        for words in [
            "OSError: [Errno 98] Address already in use",
            "Address already in use (os error 98)",
            "2026-01-01T12:34:56Z Address already in use",
            "12:34:56 Address already in use",
            "/srv/app.py:3: Address already in use",
            "",
        ] {
            assert_eq!(Wanted::in_words(words), None, "{words}");
        }
    }

    #[test]
    fn whoever_has_it_is_found_for_every_kind_of_socket() {
        let base = tempfile::tempdir().unwrap();
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let v6 = TcpListener::bind("[::1]:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let path = base.path().join("a b.sock");
        let _unix = UnixListener::bind(&path).unwrap();
        let name = format!("recluster-holder-{}", std::process::id());
        let address = unix::SocketAddr::from_abstract_name(&name).unwrap();
        let _abstract = UnixListener::bind_addr(&address).unwrap();
        let port = |protocol, address: SocketAddr| Wanted::Port(protocol, Some(address.ip()), address.port());
        let v4 = v4.local_addr().unwrap();
        let all = [
            port(PortOf::Tcp, v4),
            port(PortOf::Either, v4),
            Wanted::Port(PortOf::Either, None, v4.port()),
            Wanted::Port(PortOf::Tcp, "0.0.0.0".parse().ok(), v4.port()),
            Wanted::Port(PortOf::Tcp, "::ffff:127.0.0.1".parse().ok(), v4.port()),
            port(PortOf::Tcp, v6.local_addr().unwrap()),
            port(PortOf::Udp, udp.local_addr().unwrap()),
            Wanted::Path(path),
            Wanted::Path(format!("\0{name}").into()),
        ];
        for wanted in all {
            let holder = wanted.holder(LONG).unwrap_or_else(|| panic!("{wanted:?}"));
            assert_eq!(holder.pid, std::process::id(), "{wanted:?}");
        }
        assert_eq!(Wanted::Port(PortOf::Tcp, "127.0.0.77".parse().ok(), v4.port()).holder(LONG), None);
        assert_eq!(Wanted::Path("/nowhere.sock".into()).holder(LONG), None);
    }

    #[test]
    fn what_a_process_listens_on_and_this_one_does_not_is_found() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a b.sock");
        let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
        let port = Wanted::Port(PortOf::Tcp, None, tcp.local_addr().unwrap().port());
        // It has them as its stdin and stdout. Ours are closed behind the statement.
        let mut other = Command::new("/bin/sleep")
            .arg("1000000")
            .stdin(OwnedFd::from(tcp))
            .stdout(OwnedFd::from(unix))
            .spawn()
            .unwrap();
        let ours = TcpListener::bind("127.0.0.1:0").unwrap();
        let of_ours = listening(&[std::process::id()], &[]);
        let found = listening(&[std::process::id(), other.id()], &[]);
        drop(ours);
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(of_ours, None);
        let (holder, places) = found.unwrap();
        assert_eq!((holder.pid, places), (other.id(), vec![port, Wanted::Path(path)]));
    }

    #[test]
    fn nothing_is_said_of_what_stands_behind_what_is_read() {
        let (every, no) = (|_: &str| true, |_: &str| false);
        let _listener = UnixListener::bind(tempfile::tempdir().unwrap().path().join("it.sock")).unwrap();
        assert_eq!(is_in(16, &["unix"], no), None);
        assert_eq!(is_in(u64::MAX, &["unix"], no), Some(false));
        assert_eq!(is_in(u64::MAX, &["unix"], every), Some(true));
    }

    #[test]
    fn a_holder_is_named_with_its_command() {
        let other = Holder { pid: 4711, command: "node server.js".to_owned() };
        assert_eq!(other.to_string(), "process 4711 has it: node server.js");
        let own = Holder { pid: std::process::id(), command: "recluster".to_owned() };
        assert!(own.to_string().starts_with("this recluster has it, process "));
        assert!(command_of(std::process::id()).contains("recluster"));
    }
}
