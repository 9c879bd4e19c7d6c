//! The head of a request, from bytes that a client has sent. No IO.

use crate::admin::answer::Answer;

/// The longest head, in bytes.
pub(crate) const HEAD_LIMIT: usize = 8 * 1024;
/// How many header lines there may be.
const MOST_HEADERS: usize = 64;
/// The longest body that is read, and thrown away, in bytes: no request here needs one.
const BODY_LIMIT: u64 = 64 * 1024;

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Other,
}

/// A request, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// As it was sent: nothing here has a name that needs escapes.
    pub(crate) path: String,
    pub(crate) query: String,
    /// The hosts that the client names: in `Host`, and in the target if it is a whole URL.
    pub(crate) hosts: Vec<String>,
    pub(crate) accept: String,
    pub(crate) authorization: Option<Vec<u8>>,
    /// The length of its body.
    pub(crate) length: u64,
    /// It sends the body when it is told to.
    pub(crate) awaits_continue: bool,
    pub(crate) keep_alive: bool,
}

/// A head that is whole, and how many bytes it has.
type Read = Option<(Head, usize)>;

impl Head {
    /// Reads a head at the beginning of these bytes. None if its end is not among them.
    pub(crate) fn read(bytes: &[u8]) -> Result<Read, Answer> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let looked_at = bytes.get(..HEAD_LIMIT).unwrap_or(bytes);
        let length = match request.parse(looked_at) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_LIMIT => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
            Err(httparse::Error::Version) => {
                return Err(Answer::refusal(505, "this is a server of HTTP/1.1"));
            }
            Err(error) => return Err(Answer::refusal(400, format!("not a request: {error}"))),
        };
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version)
        else {
            return Err(Answer::refusal(400, "not a request"));
        };
        let (authority, path, query) = parts(target)?;
        let mut head = Self {
            method: method_of(method),
            path: path.to_owned(),
            query: query.to_owned(),
            hosts: authority.map(str::to_owned).into_iter().collect(),
            accept: String::new(),
            authorization: None,
            length: 0,
            awaits_continue: false,
            keep_alive: version == 1,
        };
        head.hear(request.headers, version == 1)?;
        Ok(Some((head, length)))
    }

    fn hear(&mut self, headers: &[httparse::Header<'_>], is_1_1: bool) -> Result<(), Answer> {
        let refused = |why: &str| Err(Answer::refusal(400, why));
        let named = |name: &'static str| values(headers, name);
        let mut hosts = named("host");
        match (hosts.next(), hosts.next()) {
            (Some(host), None) => match str::from_utf8(host) {
                Ok(host) => self.hosts.push(host.trim().to_owned()),
                Err(_) => return refused("the Host is not text"),
            },
            (Some(_), Some(_)) => return refused("more than one Host"),
            (None, _) if is_1_1 => return refused("no Host"),
            // Health checks of some load balancers send none with HTTP/1.0. Browsers send one in any case.
            (None, _) => {}
        }
        if named("transfer-encoding").next().is_some() {
            return Err(Answer::refusal(411, "a body needs a Content-Length"));
        }
        let mut lengths = named("content-length");
        if let Some(length) = lengths.next() {
            let digits =
                str::from_utf8(length).ok().filter(|text| text.bytes().all(|it| it.is_ascii_digit()));
            let Some(length) = digits.filter(|text| !text.is_empty()) else {
                return refused("the Content-Length is no number");
            };
            if lengths.next().is_some() {
                return refused("more than one Content-Length");
            }
            // A number that is too long is too much.
            self.length = length.parse().unwrap_or(u64::MAX);
            if self.length > BODY_LIMIT {
                return Err(Answer::refusal(413, format!("a body is at most {BODY_LIMIT} bytes long")));
            }
        }
        let mut authorizations = named("authorization");
        self.authorization = authorizations.next().map(<[u8]>::to_vec);
        if authorizations.next().is_some() {
            return refused("more than one Authorization");
        }
        let texts =
            |name: &'static str| named(name).map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
        self.accept = texts("accept");
        self.awaits_continue = texts("expect").eq_ignore_ascii_case("100-continue");
        let closes = texts("connection").split(',').any(|word| word.trim().eq_ignore_ascii_case("close"));
        self.keep_alive &= !closes;
        Ok(())
    }

    /// Whether the query has this name, and what it says of it.
    pub(crate) fn asked(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (key == name).then_some(value)
        })
    }

    /// Whether the query has this name, and does not say no.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.asked(name).is_some_and(|value| !matches!(value, "0" | "false" | "no"))
    }
}

/// The values of all headers of this name.
fn values<'a>(headers: &'a [httparse::Header<'a>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

fn too_large() -> Answer {
    Answer::refusal(431, format!("a head is at most {HEAD_LIMIT} bytes and {MOST_HEADERS} lines long"))
}

fn method_of(word: &str) -> Method {
    match word {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        _ => Method::Other,
    }
}

/// The host in a target, if it names one; its path and its query.
fn parts(target: &str) -> Result<(Option<&str>, &str, &str), Answer> {
    let (authority, rest) = match target.strip_prefix("http://") {
        Some(url) => {
            let end = url.find(['/', '?']).unwrap_or(url.len());
            let (authority, rest) = url.split_at(end);
            (Some(authority), rest)
        }
        None if target.starts_with('/') => (None, target),
        None => return Err(Answer::refusal(400, "the target is no path")),
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A URL without a path names the root.
    Ok((authority, if path.is_empty() { "/" } else { path }, query))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        let (head, length) = Head::read(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, text.len());
        head
    }

    fn refusal(text: &str) -> u16 {
        Head::read(text.as_bytes()).unwrap_err().status
    }

    #[test]
    fn a_request_is_read_when_it_is_whole() {
        let text = "GET /scale?n=3&wait HTTP/1.1\r\nHost: a:1\r\nAccept: x\r\naccept: y\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(Head::read(&text.as_bytes()[..end]).unwrap(), None);
        }
        let head = head(text);
        assert_eq!((head.method, head.path.as_str()), (Method::Get, "/scale"));
        assert_eq!((head.asked("n"), head.asked("wait"), head.asked("m")), (Some("3"), Some(""), None));
        assert!(head.wants("wait") && head.keep_alive);
        assert_eq!((head.hosts, head.accept.as_str()), (vec!["a:1".to_owned()], "x,y"));
        let behind = format!("{text}GET / HTTP/1.1\r\n");
        assert_eq!(Head::read(behind.as_bytes()).unwrap().unwrap().1, text.len());
    }

    #[test]
    fn words_that_say_no_are_no() {
        for (query, wanted) in [
            ("", false),
            ("wait", true),
            ("wait=1", true),
            ("wait=false", false),
            ("wait=0", false),
            ("waits", false),
        ] {
            assert_eq!(
                head(&format!("GET /?{query} HTTP/1.1\r\nHost: a\r\n\r\n")).wants("wait"),
                wanted,
                "{query}"
            );
        }
    }

    #[test]
    fn a_target_may_be_a_whole_url() {
        let head = head("GET http://evil.example/metrics?a HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!((head.path.as_str(), head.query.as_str()), ("/metrics", "a"));
        assert_eq!(head.hosts, ["evil.example", "localhost"]);
        assert_eq!(parts("http://a").unwrap(), (Some("a"), "/", ""));
        assert_eq!(parts("http://a?b").unwrap(), (Some("a"), "/", "b"));
        assert_eq!(refusal("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    }

    #[test]
    fn what_two_servers_could_read_in_two_ways_is_refused() {
        let with = |headers: &str| refusal(&format!("POST /reload HTTP/1.1\r\n{headers}\r\n"));
        assert_eq!(with(""), 400);
        assert_eq!(with("Host: a\r\nHost: a\r\n"), 400);
        assert_eq!(with("Host: a\r\nContent-Length: +1\r\n"), 400);
        assert_eq!(with("Host: a\r\nContent-Length:\r\n"), 400);
        assert_eq!(with("Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n"), 400);
        assert_eq!(with("Host: a\r\nTransfer-Encoding: chunked\r\n"), 411);
        assert_eq!(with("Host: a\r\nContent-Length: 99999999999999999999999\r\n"), 413);
        assert_eq!(with("Host: a\r\nAuthorization: a\r\nAuthorization: b\r\n"), 400);
        assert_eq!(with("Host : a\r\n"), 400);
        assert_eq!(refusal("GET / HTTP/2.0\r\n\r\n"), 505);
        assert_eq!(refusal("\u{16}\u{3}\u{1}"), 400, "TLS");
    }

    #[test]
    fn a_head_has_a_longest_and_a_number_of_lines() {
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_LIMIT));
        assert_eq!(refusal(&long), 431);
        let fits = format!("GET /{}", "x".repeat(HEAD_LIMIT - 6));
        assert_eq!(Head::read(fits.as_bytes()).unwrap(), None);
        let many = "A: b\r\n".repeat(MOST_HEADERS + 1);
        assert_eq!(refusal(&format!("GET / HTTP/1.1\r\n{many}\r\n")), 431);
    }

    #[test]
    fn old_clients_need_no_host_and_have_one_answer() {
        let head = head("GET /readyz HTTP/1.0\r\n\r\n");
        assert!(head.hosts.is_empty() && !head.keep_alive);
        let closing = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n";
        assert!(!super::Head::read(closing.as_bytes()).unwrap().unwrap().0.keep_alive);
    }

    #[test]
    fn a_body_is_announced() {
        let head =
            head("POST /stop HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!((head.method, head.length, head.awaits_continue), (Method::Post, 5, true));
    }
}
