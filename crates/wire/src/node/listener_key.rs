//! Which requests to listen mean the same socket.

use serde::{Deserialize, Serialize};

use super::message::{QueryServer, SocketKind};

/// The identity of a listener, across workers: two queries with equal keys want the same socket.
///
/// If a worker asks for a socket on which it is already, the second request has to be tried as a new
/// bind, so that it fails as it would without a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ListenerKey {
    /// As in [`QueryServer`].
    pub address: Option<String>,
    /// As in [`QueryServer`]. None and 0 both mean a random port, but workers count them apart.
    pub port: Option<u16>,
    /// As in [`QueryServer`].
    pub kind: Option<SocketKind>,
    /// As in [`QueryServer`].
    pub fd: Option<u32>,
    /// The query's index where the port is random, and only there: so the first `listen(0)` of every
    /// worker gets one port, and the second one another.
    pub index: Option<u32>,
}

impl From<&QueryServer> for ListenerKey {
    fn from(query: &QueryServer) -> Self {
        let has_ports = query.kind != Some(SocketKind::Unix);
        let random_port = has_ports && query.fd.is_none() && query.port.unwrap_or(0) == 0;
        Self {
            address: query.address.clone(),
            port: query.port,
            kind: query.kind,
            fd: query.fd,
            index: random_port.then_some(query.index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(port: u16, index: u32) -> QueryServer {
        QueryServer {
            seq: 1,
            index,
            address: None,
            port: Some(port),
            kind: Some(SocketKind::Tcp4),
            fd: None,
            flags: 0,
            backlog: None,
            readable_all: false,
            writable_all: false,
            data: None,
        }
    }

    fn same(one: &QueryServer, other: &QueryServer) -> bool {
        ListenerKey::from(one) == ListenerKey::from(other)
    }

    #[test]
    fn a_named_port_is_one_listener_whatever_the_index() {
        assert!(same(&tcp(80, 0), &tcp(80, 1)));
        assert!(!same(&tcp(80, 0), &tcp(81, 0)));
    }

    #[test]
    fn a_random_port_is_told_apart_by_index() {
        assert!(same(&tcp(0, 1), &tcp(0, 1)));
        assert!(!same(&tcp(0, 0), &tcp(0, 1)));
        let udp = |index| QueryServer { port: None, kind: Some(SocketKind::Udp4), ..tcp(0, index) };
        assert!(!same(&udp(0), &udp(1)));
    }

    #[test]
    fn a_unix_socket_and_an_inherited_one_have_no_port_to_be_random() {
        let unix = |index| QueryServer { port: None, kind: Some(SocketKind::Unix), ..tcp(0, index) };
        assert!(same(&unix(0), &unix(1)));
        let fd = |index| QueryServer { port: None, kind: None, fd: Some(5), ..tcp(0, index) };
        assert!(same(&fd(0), &fd(1)));
    }

    #[test]
    fn address_kind_and_fd_belong_to_the_identity_and_the_rest_does_not() {
        let base = tcp(80, 0);
        let others = [
            QueryServer { address: Some("127.0.0.1".into()), ..base.clone() },
            QueryServer { kind: Some(SocketKind::Tcp6), ..base.clone() },
            QueryServer { fd: Some(5), ..base.clone() },
        ];
        for other in &others {
            assert!(!same(&base, other), "{other:?}");
        }
        assert!(same(&base, &QueryServer { seq: 9, flags: 1, backlog: Some(5), ..base.clone() }));
    }
}
