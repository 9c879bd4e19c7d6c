//! Who the client is, by the first bytes of its connection: bytes in, a finding out.

use std::net::IpAddr;

use ppp::{PartialResult as _, v1, v2};

use super::client_hash::Client;
use crate::config::balance::StickyBy;

/// How many headers a request may have; in one with more, no client is found.
const HEADERS: usize = 128;
/// The first bytes of a TLS connection: a record of a handshake, of any version 3.
const TLS: [u8; 2] = [0x16, 0x03];

/// How long a text header of the PROXY protocol is at most, in bytes.
const PROXY_TEXT: usize = 107;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Whose connection it is.
    Client(Client),
    /// More bytes would not tell.
    Nothing,
    /// More bytes would not tell, because they are encrypted.
    Encrypted,
    /// More bytes may tell.
    TooLittle,
}

/// Looks for the client.
pub(crate) fn find(by: &StickyBy, bytes: &[u8]) -> Finding {
    match by {
        StickyBy::Ip => Finding::Nothing,
        StickyBy::ProxyProtocol => find_in_proxy(bytes),
        StickyBy::Header(_) | StickyBy::Cookie(_) | StickyBy::Query(_) => find_in_request(by, bytes),
    }
}

fn find_in_request(by: &StickyBy, bytes: &[u8]) -> Finding {
    if !bytes.is_empty() && bytes.iter().zip(&TLS).all(|(byte, tls)| byte == tls) {
        return if bytes.len() < TLS.len() { Finding::TooLittle } else { Finding::Encrypted };
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => Finding::TooLittle,
        Err(_) => Finding::Nothing,
        Ok(httparse::Status::Complete(_)) => {
            let key = match by {
                StickyBy::Header(name) => header(&request, name),
                StickyBy::Cookie(name) => cookie(&request, name),
                StickyBy::Query(name) => parameter(&request, name),
                StickyBy::Ip | StickyBy::ProxyProtocol => None,
            };
            key.map_or(Finding::Nothing, |key| Finding::Client(Client::named(key)))
        }
    }
}

/// The first entry of the first header of this name that has one.
fn header<'a>(request: &httparse::Request<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    let values = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let mut entries = values.filter_map(|header| header.value.split(|&byte| byte == b',').next());
    entries.find_map(non_empty)
}

/// The value of a cookie.
fn cookie<'a>(request: &httparse::Request<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    let values = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("cookie"));
    let pairs = values.flat_map(|header| header.value.split(|&byte| byte == b';'));
    pairs.filter_map(|pair| value_of(pair.trim_ascii(), name)).find_map(non_empty)
}

/// The value of a parameter, as it stands in the URL.
fn parameter<'a>(request: &httparse::Request<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    let (_, query) = request.path?.split_once('?')?;
    let query = query.split('#').next()?;
    query.split('&').filter_map(|pair| value_of(pair.as_bytes(), name)).find_map(non_empty)
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

/// A key that is empty is none.
fn non_empty(key: &[u8]) -> Option<&[u8]> {
    Some(key.trim_ascii()).filter(|key| !key.is_empty())
}

fn find_in_proxy(bytes: &[u8]) -> Finding {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, its)| byte == its);
    if begins(v2::PROTOCOL_PREFIX) {
        find_in_binary(bytes)
    } else if begins(v1::PROTOCOL_PREFIX.as_bytes()) {
        find_in_text(bytes.get(..PROXY_TEXT).unwrap_or(bytes))
    } else {
        Finding::Nothing
    }
}

/// A header is a line. The parser says of some beginnings that they are none, and of some lines that they are only a beginning.
fn find_in_text(bytes: &[u8]) -> Finding {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() < PROXY_TEXT { Finding::TooLittle } else { Finding::Nothing };
    };
    let line = bytes.get(..=end).unwrap_or(bytes);
    at(match v1::Header::try_from(line).ok().map(|header| header.addresses) {
        Some(v1::Addresses::Tcp4(addresses)) => Some(addresses.source_address.into()),
        Some(v1::Addresses::Tcp6(addresses)) => Some(addresses.source_address.into()),
        Some(v1::Addresses::Unknown) | None => None,
    })
}

fn find_in_binary(bytes: &[u8]) -> Finding {
    match v2::Header::try_from(bytes) {
        Err(error) if error.is_incomplete() => Finding::TooLittle,
        // The proxy speaks for itself: whatever addresses it writes are to be ignored.
        Err(_) | Ok(v2::Header { command: v2::Command::Local, .. }) => Finding::Nothing,
        Ok(header) => at(match header.addresses {
            v2::Addresses::IPv4(addresses) => Some(addresses.source_address.into()),
            v2::Addresses::IPv6(addresses) => Some(addresses.source_address.into()),
            v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
        }),
    }
}

fn at(source: Option<IpAddr>) -> Finding {
    source.map_or(Finding::Nothing, |source| Finding::Client(Client::at(source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(key: &str) -> Finding {
        Finding::Client(Client::named(key.as_bytes()))
    }

    /// Every beginning of these bytes is too little.
    fn seen(by: &str, bytes: &[u8]) -> Finding {
        let by = by.parse().unwrap();
        for end in 0..bytes.len() {
            assert_eq!(find(&by, &bytes[..end]), Finding::TooLittle, "{:?}", &bytes[..end]);
        }
        find(&by, bytes)
    }

    #[test]
    fn a_header_is_found_whatever_its_case() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-FOR:  10.0.0.7 , 10.0.0.8\r\n\r\n";
        assert_eq!(seen("header:X-Forwarded-For", request), client("10.0.0.7"));
        assert_eq!(seen("header:Via", request), Finding::Nothing);
        // An empty one says nothing, and the next one may.
        assert_eq!(seen("header:A", b"GET / HTTP/1.1\r\nA:\r\nA: b\r\n\r\n"), client("b"));
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let request = b"GET / HTTP/1.1\r\nCookie: asid=1; sid=anna\r\nCookie: sid=otto\r\n\r\n";
        assert_eq!(seen("cookie:sid", request), client("anna"));
        assert_eq!(seen("cookie:id", request), Finding::Nothing);
    }

    #[test]
    fn a_parameter_is_found_in_the_query() {
        let request = b"GET /socket.io/?EIO=4&sid=anna HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(seen("query:sid", request), client("anna"));
        assert_eq!(seen("query:id", request), Finding::Nothing);
        assert_eq!(seen("query:sid", b"GET /sid=anna HTTP/1.1\r\n\r\n"), Finding::Nothing);
    }

    #[test]
    fn what_is_encrypted_is_told_apart_from_what_is_nonsense() {
        assert_eq!(seen("cookie:sid", &[0x16, 0x03]), Finding::Encrypted);
        assert_eq!(find(&StickyBy::Cookie("sid".into()), b"\x16\x07nonsense"), Finding::Nothing);
        assert_eq!(
            find(&StickyBy::Cookie("sid".into()), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            Finding::Nothing
        );
        assert_eq!(find(&StickyBy::Cookie("sid".into()), &[0xff; 40]), Finding::Nothing);
    }

    #[test]
    fn both_versions_of_the_proxy_protocol_are_understood() {
        let text = b"PROXY TCP4 10.0.0.7 127.0.0.1 4711 80\r\n";
        assert_eq!(seen("proxy-protocol", text), client("10.0.0.7"));
        let text = b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n";
        assert_eq!(seen("proxy-protocol", text), client("2001:db8::7"));
        assert_eq!(find(&StickyBy::ProxyProtocol, b"PROXY UNKNOWN\r\n"), Finding::Nothing);
        let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        binary.extend([10, 0, 0, 7, 127, 0, 0, 1, 0x12, 0x67, 0, 80]);
        assert_eq!(seen("proxy-protocol", &binary), client("10.0.0.7"));
        // LOCAL: the proxy's own health check.
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0";
        assert_eq!(seen("proxy-protocol", local), Finding::Nothing);
        binary[12] = 0x20;
        assert_eq!(seen("proxy-protocol", &binary), Finding::Nothing, "its addresses are nobody's");
        assert_eq!(find(&StickyBy::ProxyProtocol, b"GET / HTTP/1.1\r\n"), Finding::Nothing);
    }

    #[test]
    fn what_was_found_in_the_first_bytes_is_found_in_more() {
        // The parser takes the first two, whole as they are, for beginnings.
        for text in [
            &b"P\rP\r\n"[..],
            b"PROXY TCP4 a\rTCP4\n",
            b"PROXY \r\n",
            b"P\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31",
            &[b'P'; 200],
        ] {
            let findings = (0..=text.len()).map(|end| find(&StickyBy::ProxyProtocol, &text[..end]));
            let mut after = findings.skip_while(|finding| *finding == Finding::TooLittle);
            assert!(
                after.all(|finding| finding == Finding::Nothing),
                "{:?}",
                text.escape_ascii().to_string()
            );
        }
    }
}
