//! An HTTP/1.1 client of a few lines: what it sends and when is entirely the test's business.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::DEADLINE;

/// A connection to a server, kept alive until dropped.
#[derive(Debug)]
pub struct Connection<S> {
    stream: BufReader<S>,
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// One request on a connection of its own.
///
/// # Errors
///
/// When there is no connection, or it ends before the answer does.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    Connection::open(address)?.get(path)
}

impl Connection<TcpStream> {
    /// Connects by TCP.
    ///
    /// # Errors
    ///
    /// When nobody listens.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, DEADLINE)?)
    }

    /// Takes over a stream that is connected already.
    ///
    /// # Errors
    ///
    /// When it takes no deadline.
    pub fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// The port of this end.
    pub fn local_port(&self) -> u16 {
        self.stream.get_ref().local_addr().expect("a connected socket has an address").port()
    }
}

impl Connection<UnixStream> {
    /// Connects by unix socket.
    ///
    /// # Errors
    ///
    /// When nobody listens.
    pub fn open_unix(path: &Path) -> io::Result<Self> {
        Self::on(UnixStream::connect(path)?)
    }

    /// Takes over a stream that is connected already.
    ///
    /// # Errors
    ///
    /// When it takes no deadline.
    pub fn on(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }
}

impl<S: Read + Write> Connection<S> {
    /// One request, answered; the connection can be used again.
    ///
    /// # Errors
    ///
    /// When the connection ends before the answer does.
    pub fn get(&mut self, path: &str) -> io::Result<Response> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))?;
        self.response()
    }

    /// Sends some bytes, of a request or otherwise.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Reads so many bytes, of an answer or otherwise.
    ///
    /// # Errors
    ///
    /// When the connection ends before they came.
    pub fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        in_time(self.stream.read_exact(&mut bytes))?;
        Ok(bytes)
    }

    /// Reads one answer. Its body must have a length.
    ///
    /// # Errors
    ///
    /// When the connection ends before the answer does, or the answer is not HTTP.
    pub fn response(&mut self) -> io::Result<Response> {
        let mut response = self.head()?;
        let length = response.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        response.body = String::from_utf8_lossy(&self.read(length)?).into_owned();
        Ok(response)
    }

    /// Reads the head of an answer, and leaves the body for later.
    ///
    /// # Errors
    ///
    /// When the connection ends before the head does, or the answer is not HTTP.
    pub fn head(&mut self) -> io::Result<Response> {
        Ok(Response { status: status_code(&self.line()?)?, headers: self.headers()?, body: String::new() })
    }

    /// Reads one chunk of an answer that has no length; the last one is empty.
    ///
    /// # Errors
    ///
    /// When the connection ends before it came, or it is not a chunk.
    pub fn chunk(&mut self) -> io::Result<String> {
        let length = self.line()?;
        let length = usize::from_str_radix(&length, 16).map_err(io::Error::other)?;
        let text = String::from_utf8_lossy(&self.read(length)?).into_owned();
        self.line()?;
        Ok(text)
    }

    /// Begins a request that lasts until [`Connection::finish_request`], and waits until a worker has it. `server.js`
    /// answers when the body is complete, and three bytes of it are missing.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn begin_request(&mut self) -> io::Result<()> {
        let head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 3\r\n";
        self.send(format!("{head}Expect: 100-continue\r\n\r\n"))?;
        let interim = self.response()?;
        assert_eq!(interim.status, 100, "{interim:?}");
        Ok(())
    }

    /// Sends the rest of the request that was begun; the answer.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn finish_request(&mut self) -> io::Result<Response> {
        self.send("end")?;
        self.response()
    }

    /// Reads until the other end closes; what came before.
    ///
    /// # Errors
    ///
    /// When the connection is reset.
    pub fn read_to_end(&mut self) -> io::Result<String> {
        let mut text = String::new();
        in_time(self.stream.read_to_string(&mut text))?;
        Ok(text)
    }

    fn headers(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                return Ok(headers);
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if in_time(self.stream.read_line(&mut line))? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Response {
    /// The value of a header, by its name in lower case. Where it occurs several times, the values in one.
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let values: Vec<&str> = values.collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body should be JSON")
    }

    /// A field of the JSON body that must be a string.
    #[track_caller]
    pub fn text(&self, field: &str) -> String {
        let json = self.json();
        json[field].as_str().expect("the field should be a string").to_owned()
    }
}

/// A connection that ends is a result that a test may expect. Silence is not: it would last for ever.
#[track_caller]
fn in_time<T>(result: io::Result<T>) -> io::Result<T> {
    let kind = result.as_ref().err().map(io::Error::kind);
    assert_ne!(kind, Some(io::ErrorKind::WouldBlock), "neither an answer nor an end within {DEADLINE:?}");
    result
}

fn status_code(line: &str) -> io::Result<u16> {
    let code = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    code.ok_or_else(|| io::Error::other(format!("not an answer: {line:?}")))
}
