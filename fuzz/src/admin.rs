//! Requests to the admin listener.

use recluster::AdminAddress;
use recluster::fuzzing::{AdminHead, admin_head, allows_host, wants_openmetrics};

use crate::pieces;

/// A head means the same whatever follows it, and whole or in pieces; what is refused stays refused. No host is allowed that could be
/// another's name.
pub fn admin(input: &[u8]) {
    let Some((piece, bytes)) = pieces::split(input) else { return };
    let at_once = admin_head(bytes);
    let mut come = 0;
    let in_pieces = loop {
        come = bytes.len().min(come + piece);
        match admin_head(bytes.get(..come).unwrap_or_default()) {
            Ok(None) if come < bytes.len() => {}
            read => break read,
        }
    };
    match (&at_once, &in_pieces) {
        (Ok(Some(whole)), Ok(Some(other))) => assert_eq!(whole, other),
        (Ok(None), read) => assert_eq!(*read, Ok(None)),
        // What is wrong further on may be seen sooner or later, with another status.
        (Err(_), read) => assert!(read.is_err()),
        (Ok(Some(_)), read) => assert_eq!(&at_once, read, "a head that is whole"),
    }
    if let Ok(Some(AdminHead { length, path, hosts, accept })) = at_once {
        assert!(length <= bytes.len() && path.starts_with('/'));
        for host in &hosts {
            of_this_machine(host);
        }
        wants_openmetrics(&accept);
    }
    if let Ok(text) = str::from_utf8(bytes) {
        of_this_machine(text);
        if let Ok(address) = text.parse::<AdminAddress>() {
            let again: AdminAddress = address.to_string().parse().expect("what is written can be read");
            assert_eq!(again.is_exposed(), address.is_exposed());
        }
    }
}

fn of_this_machine(host: &str) {
    if !allows_host(host) {
        return;
    }
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || b".:[]".contains(&byte);
    let name = host.split(':').next().unwrap_or_default().trim_end_matches('.');
    assert!(host.bytes().all(is_part) || name.eq_ignore_ascii_case("localhost"), "{host:?}");
}
