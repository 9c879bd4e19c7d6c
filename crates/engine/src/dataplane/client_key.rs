//! What the first bytes of a connection say about the client. Bytes in, a verdict out.

use std::net::IpAddr;

use ppp::{HeaderResult, PartialResult as _, v1, v2};

use super::client_hash::Client;
use crate::config::balance::StickyBy;

/// How many headers a request may have that are looked through.
const HEADERS: usize = 128;
/// What a TLS connection begins with: a handshake's record, of any version 3.
const TLS: [u8; 2] = [0x16, 0x03];

/// How long a text header of the PROXY protocol is at most, in bytes.
const PROXY_TEXT: usize = 107;

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// Whose connection it is.
    Client(Client),
    /// It will never be seen.
    Nothing,
    /// It will never be seen, because it is encrypted.
    Encrypted,
    /// It may be seen when there are more bytes.
    TooLittle,
}

/// Looks for the client.
pub(super) fn look(by: &StickyBy, bytes: &[u8]) -> Looked {
    match by {
        StickyBy::Ip => Looked::Nothing,
        StickyBy::ProxyProtocol => look_at_proxy(bytes),
        StickyBy::Header(_) | StickyBy::Cookie(_) | StickyBy::Query(_) => look_at_request(by, bytes),
    }
}

fn look_at_request(by: &StickyBy, bytes: &[u8]) -> Looked {
    if !bytes.is_empty() && bytes.iter().zip(&TLS).all(|(byte, tls)| byte == tls) {
        return if bytes.len() < TLS.len() { Looked::TooLittle } else { Looked::Encrypted };
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => Looked::TooLittle,
        Err(_) => Looked::Nothing,
        Ok(httparse::Status::Complete(_)) => {
            let key = match by {
                StickyBy::Header(name) => header(&request, name),
                StickyBy::Cookie(name) => cookie(&request, name),
                StickyBy::Query(name) => parameter(&request, name),
                StickyBy::Ip | StickyBy::ProxyProtocol => None,
            };
            key.map_or(Looked::Nothing, |key| Looked::Client(Client::named(key)))
        }
    }
}

/// The first entry of a header that has one.
fn header<'a>(request: &httparse::Request<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    let values = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let mut entries = values.filter_map(|header| header.value.split(|&byte| byte == b',').next());
    entries.find_map(said)
}

/// The value of a cookie.
fn cookie<'a>(request: &httparse::Request<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    let values = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("cookie"));
    let pairs = values.flat_map(|header| header.value.split(|&byte| byte == b';'));
    pairs.filter_map(|pair| value_of(pair.trim_ascii(), name)).find_map(said)
}

/// The value of a parameter, as it stands in the URL.
fn parameter<'a>(request: &httparse::Request<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    let (_, query) = request.path?.split_once('?')?;
    let query = query.split('#').next()?;
    query.split('&').filter_map(|pair| value_of(pair.as_bytes(), name)).find_map(said)
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

/// A key that says nothing is none.
fn said(key: &[u8]) -> Option<&[u8]> {
    Some(key.trim_ascii()).filter(|key| !key.is_empty())
}

fn look_at_proxy(bytes: &[u8]) -> Looked {
    // The parser takes some beginnings of a text header for wrong ones.
    let is_cut = bytes.len() < PROXY_TEXT && !bytes.contains(&b'\n');
    if is_cut && bytes.iter().zip(v1::PROTOCOL_PREFIX.as_bytes()).all(|(byte, proxy)| byte == proxy) {
        return Looked::TooLittle;
    }
    let header = HeaderResult::parse(bytes);
    if header.is_incomplete() {
        return Looked::TooLittle;
    }
    let source: Option<IpAddr> = match header {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
            v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
            v1::Addresses::Unknown => None,
        },
        HeaderResult::V2(Ok(header)) => match header.addresses {
            v2::Addresses::IPv4(addresses) => Some(addresses.source_address.into()),
            v2::Addresses::IPv6(addresses) => Some(addresses.source_address.into()),
            v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
        },
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => None,
    };
    source.map_or(Looked::Nothing, |source| Looked::Client(Client::at(source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(key: &str) -> Looked {
        Looked::Client(Client::named(key.as_bytes()))
    }

    /// Every beginning of these bytes is too little.
    fn seen(by: &str, bytes: &[u8]) -> Looked {
        let by = by.parse().unwrap();
        for end in 0..bytes.len() {
            assert_eq!(look(&by, &bytes[..end]), Looked::TooLittle, "{:?}", &bytes[..end]);
        }
        look(&by, bytes)
    }

    #[test]
    fn a_header_is_found_whatever_its_case() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-FOR:  10.0.0.7 , 10.0.0.8\r\n\r\n";
        assert_eq!(seen("header:X-Forwarded-For", request), client("10.0.0.7"));
        assert_eq!(seen("header:Via", request), Looked::Nothing);
        // An empty one says nothing, and the next one may.
        assert_eq!(seen("header:A", b"GET / HTTP/1.1\r\nA:\r\nA: b\r\n\r\n"), client("b"));
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let request = b"GET / HTTP/1.1\r\nCookie: asid=1; sid=anna\r\nCookie: sid=otto\r\n\r\n";
        assert_eq!(seen("cookie:sid", request), client("anna"));
        assert_eq!(seen("cookie:id", request), Looked::Nothing);
    }

    #[test]
    fn a_parameter_is_found_in_the_query() {
        let request = b"GET /socket.io/?EIO=4&sid=anna HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(seen("query:sid", request), client("anna"));
        assert_eq!(seen("query:id", request), Looked::Nothing);
        assert_eq!(seen("query:sid", b"GET /sid=anna HTTP/1.1\r\n\r\n"), Looked::Nothing);
    }

    #[test]
    fn what_is_encrypted_is_told_apart_from_what_is_nonsense() {
        assert_eq!(seen("cookie:sid", &[0x16, 0x03]), Looked::Encrypted);
        assert_eq!(look(&StickyBy::Cookie("sid".into()), b"\x16\x07nonsense"), Looked::Nothing);
        assert_eq!(
            look(&StickyBy::Cookie("sid".into()), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            Looked::Nothing
        );
        assert_eq!(look(&StickyBy::Cookie("sid".into()), &[0xff; 40]), Looked::Nothing);
    }

    #[test]
    fn both_versions_of_the_proxy_protocol_are_understood() {
        let text = b"PROXY TCP4 10.0.0.7 127.0.0.1 4711 80\r\n";
        assert_eq!(seen("proxy-protocol", text), client("10.0.0.7"));
        let text = b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n";
        assert_eq!(seen("proxy-protocol", text), client("2001:db8::7"));
        assert_eq!(look(&StickyBy::ProxyProtocol, b"PROXY UNKNOWN\r\n"), Looked::Nothing);
        let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        binary.extend([10, 0, 0, 7, 127, 0, 0, 1, 0x12, 0x67, 0, 80]);
        assert_eq!(seen("proxy-protocol", &binary), client("10.0.0.7"));
        // LOCAL: the proxy's own health check.
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0";
        assert_eq!(seen("proxy-protocol", local), Looked::Nothing);
        assert_eq!(look(&StickyBy::ProxyProtocol, b"GET / HTTP/1.1\r\n"), Looked::Nothing);
    }
}
