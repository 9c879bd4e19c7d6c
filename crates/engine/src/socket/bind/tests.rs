//! Binding real sockets on loopback and in a directory of the test's own.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::pin::pin;

use super::*;
use crate::socket::probe::tests::leave_stale;
use crate::socket::races::{Race, race};

fn listen(text: &str) -> Listen {
    text.parse().unwrap()
}

fn bound_at(text: &str) -> (Bound, SocketAddr) {
    let bound = bind(&listen(text)).unwrap();
    let address = bound.address.ip().unwrap();
    (bound, address)
}

#[test]
fn a_port_of_the_kernels_choice_is_known() {
    let (_tcp, address) = bound_at("127.0.0.1:0");
    assert_ne!(address.port(), 0);
    TcpStream::connect(address).unwrap();
    let (udp, address) = bound_at("udp:127.0.0.1:0");
    assert!(matches!(udp.address, Address::Udp(_)));
    UdpSocket::bind(address).unwrap_err();
}

#[test]
fn everywhere_takes_both_families() {
    let (bound, address) = bound_at("0");
    TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).unwrap();
    assert_eq!(bound.at(), Some(BindAddress::Everywhere { port: address.port(), kind: Kind::Tcp }));
    if address.is_ipv6() && TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        TcpStream::connect((Ipv6Addr::LOCALHOST, address.port())).unwrap();
    }
    let (_bound, address) = bound_at("udp:0");
    UdpSocket::bind((Ipv4Addr::LOCALHOST, address.port())).unwrap_err();
}

#[test]
fn one_address_of_ipv6_is_for_ipv6_alone() {
    if Socket::new(Domain::IPV6, Type::STREAM, None).is_ok() {
        let (bound, address) = bound_at("[::]:0");
        assert!(SockRef::from(&bound.socket).only_v6().unwrap());
        assert_eq!(bound.at(), Some(BindAddress::One { address, kind: Kind::Tcp }));
    }
}

#[test]
fn without_ipv6_every_address_is_one_of_ipv4() {
    let refusing = |errno: i32| {
        on_every_address(|ip| if ip.is_ipv6() { Err(io::Error::from_raw_os_error(errno)) } else { Ok(ip) })
    };
    for errno in [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL] {
        assert_eq!(refusing(errno).unwrap(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    }
    for errno in [libc::EADDRINUSE, libc::EACCES, libc::EINVAL] {
        assert_eq!(refusing(errno).unwrap_err().raw_os_error(), Some(errno));
    }
    assert_eq!(on_every_address(Ok).unwrap(), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
}

/// What this very kernel says where it lacks a family, and where no interface has the address.
#[test]
fn the_errors_of_this_kernel_are_recognised() {
    // Econet was removed in Linux 3.5, and its number was not given away.
    let no_family = Socket::new(Domain::from(libc::AF_ECONET), Type::STREAM, None).unwrap_err();
    assert!(lacks_ipv6(&no_family), "{no_family}");
    // Of the addresses that RFC 3849 reserves for documentation.
    let address = "[2001:db8::1]:0".parse().unwrap();
    let no_address = bind_ip(address, Kind::Tcp, true, false, 1).unwrap_err();
    assert!(lacks_ipv6(&no_address), "{no_address}");
    let (_owner, address) = bound_at("127.0.0.1:0");
    assert!(!lacks_ipv6(&bind_ip(address, Kind::Tcp, true, false, 1).unwrap_err()));
}

#[test]
fn the_backlog_is_the_one_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("it.sock");
    let _bound = bind(&listen(&format!("unix:{}?backlog=0", path.display()))).unwrap();
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(&SockAddr::unix(&path).unwrap()).map(|()| socket)
    };
    // Linux lets one more wait than the backlog says.
    let _first = connect().unwrap();
    assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_unix_socket_has_the_permissions_asked_for_and_goes_with_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("it.sock");
    let it = listen(&format!("unix:{}?mode=600", path.display()));
    let bound = bind(&it).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    UnixStream::connect(&path).unwrap();
    assert_eq!(bind(&it).unwrap_err().kind(), io::ErrorKind::AddrInUse, "its owner lives");
    drop(bound);
    assert!(!path.exists());
}

#[test]
fn permissions_of_a_socket_are_given_to_nothing_else() {
    for kind in [Race::OfTheName, Race::OfTheDirectory] {
        race(kind, |path| bind(&listen(&format!("unix:{}?mode=666", path.display()))));
    }
}

#[test]
fn permissions_hold_whatever_the_umask() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [0o000, 0o600, 0o622, 0o660, 0o666, 0o777] {
        let path = directory.path().join("it.sock");
        let _bound = bind(&listen(&format!("unix:{}?mode={mode:o}", path.display()))).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode, "{mode:o}");
    }
}

#[test]
fn a_stale_unix_socket_is_replaced_and_a_file_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("it.sock");
    leave_stale(&path);
    bind_unix(&path, false, Permissions::Usual).unwrap_err();
    let (socket, file) = bind_unix(&path, true, Permissions::Usual).unwrap();
    drop((socket, file));
    fs::write(&path, "mine").unwrap();
    bind_unix(&path, true, Permissions::Usual).unwrap_err();
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn an_abstract_socket_has_no_file() {
    let path = PathBuf::from(format!("\0recluster-bind-test-{}", std::process::id()));
    let (socket, file) = bind_unix(&path, true, Permissions::Usual).unwrap();
    assert!(file.is_none());
    assert!(socket.local_addr().unwrap().as_abstract_namespace().is_some());
    assert_eq!(bind_unix(&path, true, Permissions::Usual).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

fn adopt(socket: impl Into<OwnedFd>) -> Bound {
    Bound::adopt(socket.into(), None).unwrap()
}

#[test]
fn an_adopted_socket_says_what_it_is() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let tcp = adopt(tcp);
    assert_eq!(tcp.address, Address::Tcp(address));
    assert_eq!(tcp.given(), Given { name: None, address: GivenAddress::Tcp(address) });
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    assert_eq!(adopt(udp).given().address, GivenAddress::Udp(address));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("it.sock");
    let unix = adopt(UnixListener::bind(&path).unwrap());
    assert_eq!(unix.at(), Some(BindAddress::Unix(path.clone())));
    drop(unix);
    assert!(path.exists(), "the file belongs to the process that bound it");
}

#[tokio::test]
async fn adopted_sockets_come_first() {
    let adopted = adopt(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = adopted.address.clone();
    let bound = bind_all(vec![adopted], &[listen("web=127.0.0.1:0")], &mut Pool::default()).await.unwrap();
    assert_eq!(bound[0].address, address);
    assert_eq!(bound[1].name.as_ref().map(SocketName::as_str), Some("web"));
}

#[tokio::test]
async fn an_address_twice_is_refused_before_anything_is_bound() {
    let directory = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", directory.path().join("it.sock").display());
    let error = bind_all(
        Vec::new(),
        &[listen(&unix), listen("8080"), listen("127.0.0.1:8080")],
        &mut Pool::default(),
    )
    .await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "cannot listen on 127.0.0.1:8080 twice: name it once (8080 has it already)"
    );
    assert!(!directory.path().join("it.sock").exists());
}

#[tokio::test]
async fn an_address_that_an_adopted_socket_overlaps_is_not_waited_for() {
    let adopted = adopt(TcpListener::bind("127.0.0.1:0").unwrap());
    let text = adopted.address.to_string().replace("127.0.0.1:", "");
    let error = bind_all(vec![adopted], &[listen(&text)], &mut Pool::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {text} twice: name it once (a socket it was started with has it already)")
    );
}

/// A socket unit may hold what the command line names.
#[tokio::test]
async fn an_address_at_which_an_adopted_socket_is_means_that_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("it.sock");
    let (unix, datagrams) = (UnixListener::bind(&path).unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (other, tcp) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("[::]:0").unwrap());
    let listens = [
        listen(&format!("web={}", tcp.local_addr().unwrap().port())),
        listen("127.0.0.1:0"),
        listen(&format!("unix:{}/./it.sock", directory.path().display())),
        listen(&format!("udp:{}", datagrams.local_addr().unwrap())),
    ];
    let inode = |socket: &OwnedFd| rustix::fs::fstat(socket).unwrap().st_ino;
    let adopted: Vec<Bound> = vec![adopt(unix), adopt(other), adopt(datagrams), adopt(tcp)];
    preview_all(&adopted, &listens).await.unwrap();
    let inodes: Vec<u64> = adopted.iter().map(|bound| inode(&bound.socket)).collect();
    let bound = bind_all(adopted, &listens, &mut Pool::default()).await.unwrap();
    let bound_inodes: Vec<u64> = bound.iter().map(|bound| inode(&bound.socket)).collect();
    assert_eq!(bound_inodes.len(), 5, "one was bound: {bound:?}");
    assert_eq!([bound_inodes[0], bound_inodes[1]], [inodes[1], inodes[3]], "what is not named comes first");
    assert_eq!(bound[1].name.as_ref().map(SocketName::as_str), Some("web"));
    assert_eq!(bound_inodes[3..], [inodes[0], inodes[2]]);
}

#[tokio::test]
async fn a_preview_says_what_binding_would_and_keeps_nothing() {
    let owner = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = owner.local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("unix:{}", directory.path().join(name).display());
    let _alive = UnixListener::bind(directory.path().join("alive.sock")).unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    let refused = [
        port.to_string(),
        format!("127.0.0.1:{port}"),
        "203.0.113.1:0".to_owned(),
        at("alive.sock"),
        at("file"),
        at("file/it.sock"),
        at("gone/it.sock"),
        at(&"x".repeat(108)),
    ];
    for text in refused {
        let previewed = preview(&listen(&text)).unwrap_err();
        let bound = bind(&listen(&text)).unwrap_err();
        assert_eq!(previewed.to_string(), bound.to_string(), "{text}");
    }
    leave_stale(&directory.path().join("stale.sock"));
    for text in ["127.0.0.1:0".to_owned(), "udp:0".to_owned(), at("new.sock"), at("stale.sock")] {
        preview_all(&[], &[listen(&text)]).await.unwrap();
        bind(&listen(&text)).unwrap();
    }
}

#[tokio::test]
async fn an_address_that_stays_in_use_is_refused() {
    let owner = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = owner.local_addr().unwrap().to_string();
    let error = bind_patiently(&listen(&text), &[], Duration::ZERO, bind).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {text}: Address already in use")), "{error}");
}

#[tokio::test]
async fn an_address_whose_owner_leaves_is_waited_for() {
    let owner = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = listen(&owner.local_addr().unwrap().to_string());
    let mut waiting = pin!(bind_patiently(&listen, &[], Duration::from_secs(3600), bind));
    tokio::select! {
        biased;
        bound = &mut waiting => panic!("{bound:?}"),
        () = std::future::ready(()) => drop(owner),
    }
    waiting.await.unwrap();
}

#[tokio::test]
async fn what_a_manager_has_kept_is_as_it_was_bound_first() {
    let kept = TcpListener::bind("127.0.0.1:0").unwrap();
    kept.set_nonblocking(true).unwrap();
    let address = kept.local_addr().unwrap();
    let mut pool = Pool::default();
    pool.add(KeptName { number: 3, place: 0, file: None }, kept.into());
    let bound = bind_all(Vec::new(), &[listen(&format!("web={address}"))], &mut pool).await.unwrap();
    let [bound] = bound.as_slice() else { panic!("one") };
    assert_eq!(
        (&bound.address, bound.kept),
        (&Address::Tcp(address), Some(KeptName { number: 3, place: 0, file: None }))
    );
    assert_eq!(bound.name.as_ref().map(ToString::to_string).as_deref(), Some("web"));
    let flags = rustix::fs::fcntl_getfl(&bound.socket).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "a program that is not Node waits in accept");
}
