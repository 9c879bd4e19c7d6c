//! Who has an address that cannot be had, as far as `/proc` tells this user.

use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How much of a table of the kernel's is read. In those of TCP, what listens stands first.
const MOST_BYTES: u64 = 1 << 20;
/// How much of a command line is shown.
const MOST_CHARS: usize = 80;

/// An address that someone else has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A port, at this address if that is known.
    Port(PortOf, Option<IpAddr>, u16),
    /// A unix socket.
    Path(PathBuf),
}

/// Whose port it is, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pid: u32,
    command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, command } = self;
        match (*pid == std::process::id(), command.as_str()) {
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
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Wanted {
    /// The address in what a program said of it: `… 127.0.0.1:8080`, `… port 8080`, `… ('::1', 8080)`, `… /run/app.sock`.
    pub(crate) fn in_words(line: &str) -> Option<Self> {
        let is_around = |c: char| "()[]{}'\",;:".contains(c);
        let words: Vec<&str> = line.split_whitespace().collect();
        let path = words.iter().map(|word| word.trim_matches(is_around)).find(|word| word.starts_with('/'));
        let address = words.iter().rev().find_map(|word| address_in(word.trim_end_matches(is_around)));
        let number = || {
            let pairs = words.iter().skip(1).zip(&words).rev();
            let mut numbers =
                pairs.filter(|(_, before)| !before.ends_with("rror") && !before.ends_with("Errno"));
            numbers.find_map(|(word, _)| {
                let port = word.trim_matches(is_around).parse().ok().filter(|port| *port > 0)?;
                Some(Self::Port(PortOf::Either, None, port))
            })
        };
        address.or_else(|| path.map(|path| Self::Path(path.into()))).or_else(number)
    }

    /// The process that has it, if one can be seen in this time. The caller waits for it.
    pub(crate) fn holder(&self, patience: Duration) -> Option<Holder> {
        let until = Instant::now() + patience;
        let inodes = match self {
            Self::Port(protocol, ip, port) => protocol
                .tables()
                .iter()
                .flat_map(|table| of_ports(&read(table), table.starts_with("tcp"), *ip, *port))
                .collect(),
            Self::Path(path) => of_paths(&read("unix"), &path.to_string_lossy()),
        };
        process_with(&inodes, until)
    }
}

fn address_in(word: &str) -> Option<Wanted> {
    let (host, port) = word.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let host = host.rsplit(['/', '@']).next().unwrap_or_default().trim_matches(['[', ']']);
    Some(Wanted::Port(PortOf::Either, host.parse().ok(), port))
}

fn read(table: &str) -> String {
    let mut bytes = Vec::new();
    // What cannot be read tells nothing.
    let _ = File::open(format!("/proc/net/{table}"))
        .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The inodes of the sockets that have a port.
fn of_ports(table: &str, listening: bool, ip: Option<IpAddr>, port: u16) -> Vec<u64> {
    const LISTENS: &str = "0A";
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

/// The first process that has one of these sockets open.
fn process_with(inodes: &[u64], until: Instant) -> Option<Holder> {
    if inodes.is_empty() {
        return None;
    }
    let names: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids: Vec<u32> = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let has_it = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.any(|link| names.iter().any(|name| link.as_os_str() == name.as_str()))
    };
    let pid = pids.into_iter().take_while(|_| Instant::now() < until).find(has_it)?;
    Some(Holder { pid, command: command_of(pid) })
}

fn command_of(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ");
    words.chars().take(MOST_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

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
                "OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use",
                Wanted::Port(PortOf::Either, None, 8000),
            ),
        ];
        for (words, wanted) in golden {
            assert_eq!(Wanted::in_words(words), Some(wanted), "{words}");
        }
        for words in
            ["OSError: [Errno 98] Address already in use", "Address already in use (os error 98)", ""]
        {
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
        let port = |protocol, address: SocketAddr| Wanted::Port(protocol, Some(address.ip()), address.port());
        let v4 = v4.local_addr().unwrap();
        let all = [
            port(PortOf::Tcp, v4),
            port(PortOf::Either, v4),
            Wanted::Port(PortOf::Either, None, v4.port()),
            Wanted::Port(PortOf::Tcp, "0.0.0.0".parse().ok(), v4.port()),
            port(PortOf::Tcp, v6.local_addr().unwrap()),
            port(PortOf::Udp, udp.local_addr().unwrap()),
            Wanted::Path(path),
        ];
        for wanted in all {
            let holder = wanted.holder(LONG).unwrap_or_else(|| panic!("{wanted:?}"));
            assert_eq!(holder.pid, std::process::id(), "{wanted:?}");
        }
        assert_eq!(Wanted::Port(PortOf::Tcp, "127.0.0.77".parse().ok(), v4.port()).holder(LONG), None);
        assert_eq!(Wanted::Path("/nowhere.sock".into()).holder(LONG), None);
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
