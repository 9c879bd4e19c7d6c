//! Where a socket is bound, as the kernel says it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use socket2::{SockAddr, Type};

use crate::report::worker::Address;

/// Where a socket of this type is bound.
pub(crate) fn address_of(local: &SockAddr, kind: Type) -> Address {
    match (local.as_socket(), kind) {
        (Some(local), Type::DGRAM) => Address::Udp(local),
        (Some(local), _) => Address::Tcp(local),
        (None, _) => Address::Unix(unix_path(local)),
    }
}

/// The path of a unix socket; an abstract name begins with a NUL.
fn unix_path(local: &SockAddr) -> PathBuf {
    let name =
        local.as_abstract_namespace().map(|name| PathBuf::from(OsString::from_vec([b"\0", name].concat())));
    name.or_else(|| local.as_pathname().map(PathBuf::from)).unwrap_or_default()
}
