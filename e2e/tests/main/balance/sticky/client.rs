//! Clients with addresses of their own, all of them in the loopback network, and the slots that answer them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;

use recluster_e2e::{Connection, Response};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

/// Connects from one of this machine's addresses.
pub(crate) fn stream_from(source: Ipv4Addr, to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(source, 0))?;
    connect(&socket, &to)?;
    Ok(socket)
}

/// The same, to speak HTTP on.
pub(crate) fn connect_from(source: Ipv4Addr, to: SocketAddr) -> io::Result<Connection<TcpStream>> {
    speak_on(stream_from(source, to)?)
}

/// Speaks HTTP on a socket that is connected.
pub(crate) fn speak_on(socket: OwnedFd) -> io::Result<Connection<TcpStream>> {
    Connection::over(TcpStream::from(socket))
}

/// A client: from where it comes, and what it says in each request.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    source: Ipv4Addr,
    target: String,
    headers: Vec<(String, String)>,
}

impl Client {
    /// One that says nothing of itself.
    pub(crate) fn from(source: Ipv4Addr) -> Self {
        Self { source, target: "/".to_owned(), headers: Vec::new() }
    }

    /// One of many behind the same address.
    pub(crate) fn anyone() -> Self {
        Self::from(Ipv4Addr::LOCALHOST)
    }

    /// It sends this header as well.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// It asks for this instead of `/`.
    pub(crate) fn target(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    /// From where it comes.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.source
    }

    /// Its request.
    pub(crate) fn request(&self) -> String {
        let mut lines = vec![format!("GET {} HTTP/1.1", self.target), "Host: localhost".to_owned()];
        lines.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        lines.join("\r\n") + "\r\n\r\n"
    }

    /// Connects, and asks nothing yet.
    pub(crate) fn connect(&self, to: SocketAddr) -> Connection<TcpStream> {
        connect_from(self.source, to).expect("somebody should listen")
    }

    /// Connects and asks; the answer is still to come.
    pub(crate) fn begin(&self, to: SocketAddr) -> Connection<TcpStream> {
        let mut connection = self.connect(to);
        connection.send(self.request()).expect("it is connected");
        connection
    }

    /// The answer on a connection of its own.
    pub(crate) fn ask(&self, to: SocketAddr) -> Response {
        self.begin(to).response().expect("the request should be answered")
    }
}

/// The slot that answered.
pub(crate) fn slot_of(answer: &Response) -> u64 {
    answer.text("slot").parse().expect("a number")
}

/// So many clients, each with an address of its own. There are fewer than 2^23 such addresses.
pub(crate) fn addresses(count: u32) -> Vec<Client> {
    let first = u32::from(Ipv4Addr::new(127, 64, 0, 1));
    (first..).take(count as usize).map(|address| Client::from(address.into())).collect()
}

/// So many clients that differ in the value of a header alone.
pub(crate) fn with_header(name: &str, count: usize) -> Vec<Client> {
    (0..count).map(|number| Client::anyone().header(name, &format!("client-{number}"))).collect()
}

/// The slot that each client is answered by.
pub(crate) fn slots(clients: &[Client], to: SocketAddr) -> Vec<u64> {
    clients.iter().map(|client| slot_of(&client.ask(to))).collect()
}

/// The first client whose slot this is.
pub(crate) fn client_of(slot: u64, clients: &[Client], slots: &[u64]) -> Client {
    let found = slots.iter().position(|other| *other == slot);
    clients[found.expect("every slot has clients")].clone()
}
