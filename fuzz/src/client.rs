//! Who a client is, by the first bytes of its connection: HTTP, TLS and both versions of the PROXY protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use recluster::StickyBy;
use recluster::fuzzing::{Finding, client as find};

/// Bytes arrive in any pieces, and the first finding counts: whatever comes after it, it is the same. An address is found again
/// in both versions of the PROXY protocol and in a header.
pub fn client(input: &[u8]) {
    let Some((&by, bytes)) = input.split_first() else { return };
    let by = match by % 4 {
        0 => StickyBy::Header("X-Forwarded-For".to_owned()),
        1 => StickyBy::Cookie("sid".to_owned()),
        2 => StickyBy::Query("sid".to_owned()),
        _ => StickyBy::ProxyProtocol,
    };
    let at_once = find(&by, bytes);
    let beginnings = (0..bytes.len()).filter_map(|end| bytes.get(..end));
    let first =
        beginnings.map(|beginning| find(&by, beginning)).find(|finding| *finding != Finding::TooLittle);
    assert_eq!(first.unwrap_or(at_once), at_once, "{by}");
    if let Some(address) = bytes.first_chunk() {
        the_same_everywhere(IpAddr::from(Ipv4Addr::from(*address)));
    }
    if let Some(address) = bytes.first_chunk() {
        the_same_everywhere(IpAddr::from(Ipv6Addr::from(*address)));
    }
}

fn the_same_everywhere(address: IpAddr) {
    let text = match address {
        IpAddr::V4(_) => format!("PROXY TCP4 {address} 127.0.0.1 4711 80\r\n"),
        IpAddr::V6(_) => format!("PROXY TCP6 {address} ::1 4711 80\r\n"),
    };
    let header = format!("GET / HTTP/1.1\r\nX-Forwarded-For: {address}\r\n\r\n");
    let in_header = find(&StickyBy::Header("X-Forwarded-For".to_owned()), header.as_bytes());
    assert!(matches!(in_header, Finding::Client(_)), "{address}");
    assert_eq!(find(&StickyBy::ProxyProtocol, text.as_bytes()), in_header, "{text:?}");
    assert_eq!(find(&StickyBy::ProxyProtocol, &binary(address)), in_header, "{address}");
}

/// A header of version 2, as the specification has it.
fn binary(address: IpAddr) -> Vec<u8> {
    const PROXY: u8 = 0x21;
    const TCP4: u8 = 0x11;
    const TCP6: u8 = 0x21;
    let (family, own): (u8, Vec<u8>) = match address {
        IpAddr::V4(address) => (TCP4, address.octets().into()),
        IpAddr::V6(address) => (TCP6, address.octets().into()),
    };
    let ports = [0x12, 0x67, 0, 80];
    let length = u8::try_from(2 * own.len() + ports.len()).expect("it is short");
    [b"\r\n\r\n\0\r\nQUIT\n", &[PROXY, family, 0, length][..], &own, &vec![0; own.len()], &ports].concat()
}
