//! Sockets that a worker has from its start, announced by the variables of every manager that passes sockets on:
//! systemd, `Server::Starter` and einhorn. A program that was written for one of them finds its sockets unchanged.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The number of the first socket in the worker. The others follow it without a gap.
pub const FIRST_FD: u32 = 3;
/// The longest name of a socket, in bytes.
pub const MAX_NAME: usize = 255;

/// systemd: how many sockets there are, from [`FIRST_FD`] on.
pub const LISTEN_FDS: &str = "LISTEN_FDS";
/// systemd: their names, joined by colons.
pub const LISTEN_FDNAMES: &str = "LISTEN_FDNAMES";
/// systemd: the process that they are for. One of [`OWN_PID`](super::OWN_PID).
pub const LISTEN_PID: &str = "LISTEN_PID";
/// `Server::Starter`: addresses and numbers, as `host:port=3;/path=4`.
pub const SERVER_STARTER_PORT: &str = "SERVER_STARTER_PORT";
/// `Server::Starter`: counts the generations, from 1.
pub const SERVER_STARTER_GENERATION: &str = "SERVER_STARTER_GENERATION";
/// einhorn: how many sockets there are.
pub const EINHORN_FD_COUNT: &str = "EINHORN_FD_COUNT";
/// einhorn: what the name of the variable with a socket's number begins with; its index, from 0, follows.
pub const EINHORN_FD: &str = "EINHORN_FD_";

/// nginx: the numbers of the sockets that it takes over, as from an nginx before it: `3;4;`. Users set it, since only they
/// know that the program is nginx.
pub const NGINX: &str = "NGINX";

/// What systemd calls a socket that has no name.
const NAMELESS: &str = "unknown";

/// The sockets that one worker is given at its start, in the order of their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activation {
    /// The first of them is [`FIRST_FD`] in the worker.
    pub sockets: Vec<Given>,
    /// The worker's generation, from 1.
    pub generation: u64,
}

/// One socket that a worker is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The name by which the worker can ask for it.
    pub name: Option<SocketName>,
    /// Where it is bound.
    pub address: GivenAddress,
}

/// Where a socket is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenAddress {
    /// It listens.
    Tcp(SocketAddr),
    /// It takes datagrams.
    Udp(SocketAddr),
    /// A unix stream socket that listens; the path.
    Unix(String),
}

/// A name that can stand in [`LISTEN_FDNAMES`]: 1 to [`MAX_NAME`] bytes, without colon and control character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketName(Box<str>);

/// The text is no [`SocketName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSocketName;

/// The numbers in the value of [`NGINX`]. Each ends with a semicolon or a colon, as nginx reads them.
pub fn nginx_numbers(value: &str) -> impl Iterator<Item = u32> {
    value.split_inclusive([';', ':']).filter_map(|number| number.strip_suffix([';', ':'])?.parse().ok())
}

impl Activation {
    /// The variables to set, as names and values; none where there are no sockets.
    ///
    /// [`LISTEN_PID`] is not among them: see [`OWN_PID`](super::OWN_PID).
    pub fn variables(&self) -> Vec<(String, String)> {
        if self.sockets.is_empty() {
            return Vec::new();
        }
        let count = self.sockets.len().to_string();
        let mut variables = vec![
            (LISTEN_FDS.to_owned(), count.clone()),
            (LISTEN_FDNAMES.to_owned(), self.names()),
            (SERVER_STARTER_PORT.to_owned(), self.ports()),
            (SERVER_STARTER_GENERATION.to_owned(), self.generation.to_string()),
            (EINHORN_FD_COUNT.to_owned(), count),
        ];
        let numbers = self.numbered().enumerate();
        variables.extend(numbers.map(|(index, (fd, _))| (format!("{EINHORN_FD}{index}"), fd.to_string())));
        variables
    }

    fn names(&self) -> String {
        let names: Vec<_> = self
            .sockets
            .iter()
            .map(|socket| socket.name.as_ref().map_or(NAMELESS, SocketName::as_str))
            .collect();
        names.join(":")
    }

    /// Without the paths that this convention has no way to write: it splits at `;` and at the first `=`.
    fn ports(&self) -> String {
        let writable = self.numbered().filter(|(_, socket)| socket.address.suits_server_starter());
        let ports: Vec<_> = writable.map(|(fd, socket)| format!("{}={fd}", socket.address)).collect();
        ports.join(";")
    }

    fn numbered(&self) -> impl Iterator<Item = (u32, &Given)> {
        (FIRST_FD..).zip(&self.sockets)
    }
}

impl GivenAddress {
    fn suits_server_starter(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Udp(_) => true,
            Self::Unix(path) => !path.contains(['=', ';', '\0']),
        }
    }
}

/// As `Server::Starter` writes it. UDP and TCP look alike there: a program asks the socket.
impl fmt::Display for GivenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Udp(address) => address.fmt(f),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

impl SocketName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SocketName {
    type Err = BadSocketName;

    fn from_str(name: &str) -> Result<Self, BadSocketName> {
        let fits = (1..=MAX_NAME).contains(&name.len());
        let clean = !name.contains(|c: char| c == ':' || c.is_control());
        if fits && clean { Ok(Self(name.into())) } else { Err(BadSocketName) }
    }
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BadSocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of a socket has 1 to {MAX_NAME} bytes, without colon and control character")
    }
}

impl std::error::Error for BadSocketName {}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: Option<&str>, address: GivenAddress) -> Given {
        Given { name: name.map(|name| name.parse().expect("a good name")), address }
    }

    fn tcp(address: &str) -> GivenAddress {
        GivenAddress::Tcp(address.parse().expect("an address"))
    }

    fn udp(address: &str) -> GivenAddress {
        GivenAddress::Udp(address.parse().expect("an address"))
    }

    #[test]
    fn nginx_takes_what_it_finds_the_end_of() {
        let numbers = |value| nginx_numbers(value).collect::<Vec<_>>();
        assert_eq!(numbers("3;4:"), [3, 4]);
        assert_eq!(numbers("3;12"), [3], "nginx does not take the last one either");
        assert!(numbers("").is_empty() && numbers("/etc/nginx").is_empty() && numbers("3").is_empty());
    }

    #[test]
    fn each_convention_finds_its_words() {
        let activation = Activation {
            sockets: vec![
                given(Some("http"), tcp("127.0.0.1:8080")),
                given(None, GivenAddress::Unix("/run/app.sock".into())),
                given(Some("dns"), udp("[::1]:53")),
                given(Some("all"), tcp("[::]:80")),
            ],
            generation: 7,
        };
        let variables = activation.variables();
        let written: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            written,
            [
                "LISTEN_FDS=4",
                "LISTEN_FDNAMES=http:unknown:dns:all",
                "SERVER_STARTER_PORT=127.0.0.1:8080=3;/run/app.sock=4;[::1]:53=5;[::]:80=6",
                "SERVER_STARTER_GENERATION=7",
                "EINHORN_FD_COUNT=4",
                "EINHORN_FD_0=3",
                "EINHORN_FD_1=4",
                "EINHORN_FD_2=5",
                "EINHORN_FD_3=6",
            ]
        );
    }

    #[test]
    fn without_sockets_there_is_nothing_to_tell() {
        assert_eq!(Activation { sockets: Vec::new(), generation: 7 }.variables(), []);
    }

    #[test]
    fn a_path_that_server_starter_would_misread_is_kept_from_it_alone() {
        let paths = ["/run/a;b", "/run/a=b", "\0abstract", "/run/fine"];
        let sockets = paths.map(|path| given(None, GivenAddress::Unix(path.into()))).to_vec();
        let variables = Activation { sockets, generation: 1 }.variables();
        assert!(variables.contains(&("SERVER_STARTER_PORT".into(), "/run/fine=6".into())), "{variables:?}");
        assert!(variables.contains(&("LISTEN_FDS".into(), "4".into())), "{variables:?}");
    }

    #[test]
    fn a_name_is_one_word_between_colons() {
        for good in ["http", "my app.socket", "é", &"x".repeat(255)] {
            assert_eq!(good.parse::<SocketName>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "a:b", "a\nb", "a\0b", "\u{7f}", &"x".repeat(256)] {
            assert_eq!(bad.parse::<SocketName>(), Err(BadSocketName), "{bad:?}");
        }
        assert_eq!(
            BadSocketName.to_string(),
            "the name of a socket has 1 to 255 bytes, without colon and control character"
        );
    }
}
