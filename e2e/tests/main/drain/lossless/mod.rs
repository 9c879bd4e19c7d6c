//! The lossless drain of Node workers: no client loses a request because its worker is replaced, and the worker ends as
//! soon as it has no connection left.

mod applications;
mod cleaning_up;
mod connections;
mod edges;
mod goodbye;
mod http2;
mod keep_alive;
mod pipelined;
mod responses;
mod streams;
mod upgraded;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use recluster_e2e::{Connection, Launch, Master, Node, Running, on};
use serde_json::json;

/// A cluster of one worker that has all the time it wants to drain, and whose idle connections have it, too.
pub(crate) fn cluster() -> Launch {
    Launch::fixture("drains.js").workers(1).option("--bake", "100ms").option("--idle-grace", "1h")
}

/// Reloads, and waits until the old worker has been told by its application's message.
#[track_caller]
pub(crate) fn tell(master: &Master) {
    master.reload().expect_code(0);
    master.wait_stdout("told");
}

/// Reloads, and waits until Node has closed the old worker's server.
#[track_caller]
pub(crate) fn drain(master: &Master) {
    tell(master);
    master.wait_stdout("closing");
}

/// Waits until the old worker has ended, of its own accord and long before its timeout.
#[track_caller]
pub(crate) fn left(master: &Master) {
    assert_eq!(master.wait(on("exit").generation(1)).at("/exit"), &json!({ "code": 0 }));
    assert!(master.seen(&on("overdue")).is_empty(), "it was sent no signal");
}

/// Makes a request that is the first or not the last one of its connection.
#[track_caller]
pub(crate) fn answered(connection: &mut Connection<impl Read + Write>) {
    let response = connection.get("/").expect("an answer");
    assert_eq!(response.text("generation"), "1");
    assert_ne!(response.header("connection").as_deref(), Some("close"), "the connection lives on");
}

/// Makes a request that the old worker answers as the last one of its connection.
#[track_caller]
pub(crate) fn answered_last(mut connection: Connection<impl Read + Write>) {
    connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is open");
    last_answer(connection);
}

/// Reads an answer of the old worker that is the last one of its connection.
#[track_caller]
pub(crate) fn last_answer(mut connection: Connection<impl Read + Write>) {
    let response = connection.response().expect("an answer");
    assert_eq!(response.text("generation"), "1");
    assert_eq!(response.header("connection").as_deref(), Some("close"));
    ended(connection);
}

/// Waits until the other end has closed the connection, without a reset and without another word, and closes it too.
#[track_caller]
pub(crate) fn ended(mut connection: Connection<impl Read + Write>) {
    assert_eq!(connection.read_to_end().expect("an end and no reset"), "");
}

/// A way to a cluster that carries whatever is sent to it over TLS.
pub(crate) struct Tunnel {
    process: Running,
    connections: Cell<u32>,
}

impl Tunnel {
    /// A tunnel that asks for this protocol, `http/1.1` or `h2`.
    pub(crate) fn to(master: &Master, protocol: &str) -> Self {
        let mut command = Node::under_test().client("clients/tls-tunnel.js");
        command.arg(master.address().port().to_string()).arg(protocol);
        Self { process: Running::start(command), connections: Cell::new(0) }
    }

    /// A new connection to this cluster, after its handshake.
    #[track_caller]
    pub(crate) fn connect(&self, master: &Master) -> Connection<TcpStream> {
        let port = self.process.wait_stdout("").parse().expect("it prints its port");
        let connection = Connection::open(SocketAddr::from(([127, 0, 0, 1], port))).expect("it listens");
        self.connections.set(self.connections.get() + 1);
        master.wait_stdout(&format!("secured {}", self.connections.get()));
        connection
    }
}
