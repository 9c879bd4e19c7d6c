//! An HTTP/2 client of a few lines (RFC 9113): it opens streams and tells each frame that comes, so that a test can
//! say what is sent before a GOAWAY arrives and what after it.

use std::io::{self, Read, Write};

use crate::Connection;

/// What a client sends first.
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The flag of a frame that is the last one of its stream.
const END_STREAM: u8 = 1;
/// The flag of a frame with the whole head of a request.
const END_HEADERS: u8 = 4;
/// The flag of a frame that acknowledges another one.
const ACK: u8 = 1;
/// A response's first header where that is `:status: 200` (RFC 7541, appendix A).
const STATUS_200: u8 = 0x88;

/// A connection that speaks HTTP/2.
#[derive(Debug)]
pub struct Http2<S> {
    connection: Connection<S>,
}

/// The kinds of frames that a test looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Some of a body.
    Data,
    /// The head of a message.
    Headers,
    /// A stream is given up, or was refused.
    Reset,
    /// No stream beyond the one that it names will be served.
    GoAway,
    /// Anything else.
    Other(u8),
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// The stream that it belongs to; 0 is the connection itself.
    pub stream: u32,
    /// Whether it is the last one of its stream.
    pub ends: bool,
    /// What it holds.
    pub payload: Vec<u8>,
}

impl<S: Read + Write> Http2<S> {
    /// Begins a session on a connection.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn open(connection: Connection<S>) -> io::Result<Self> {
        let mut session = Self { connection };
        session.connection.send(PREFACE)?;
        session.send(Kind::Other(SETTINGS), 0, 0, &[])?;
        // Room for as many answers as a test may get.
        session.send(Kind::Other(WINDOW_UPDATE), 0, 0, &(1_u32 << 30).to_be_bytes())?;
        Ok(session)
    }

    /// Sends the head of a request for a path; more is to come unless it `ends`. Streams of clients are odd, each
    /// greater than the one before.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn begin(&mut self, stream: u32, path: &str, ends: bool) -> io::Result<()> {
        let method = if ends { GET } else { POST };
        let mut block = vec![method, SCHEME_HTTP];
        for (name, value) in [(PATH, path), (AUTHORITY, "localhost")] {
            block.extend([name, u8::try_from(value.len()).expect("a short value")]);
            block.extend(value.bytes());
        }
        self.send(Kind::Headers, END_HEADERS | u8::from(ends), stream, &block)
    }

    /// Sends the rest of a request.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn finish(&mut self, stream: u32) -> io::Result<()> {
        self.send(Kind::Data, END_STREAM, stream, b"end")
    }

    /// The next frame that is no mere housekeeping.
    ///
    /// # Errors
    ///
    /// When the connection ends.
    pub fn next_frame(&mut self) -> io::Result<Frame> {
        loop {
            let frame = self.frame()?;
            match frame.kind {
                Kind::Other(kind @ (SETTINGS | PING)) if !frame.ends => {
                    self.send(Kind::Other(kind), ACK, 0, if kind == PING { &frame.payload } else { &[] })?;
                }
                Kind::Other(_) => {}
                Kind::Data | Kind::Headers | Kind::Reset | Kind::GoAway => return Ok(frame),
            }
        }
    }

    /// Reads the answer on a stream: its head and then all of its body.
    ///
    /// # Errors
    ///
    /// When the connection ends before it does.
    #[track_caller]
    pub fn answer(&mut self, stream: u32) -> io::Result<String> {
        Ok(self.answer_or_goaway(stream)?.expect("an answer, and no GOAWAY before"))
    }

    /// The same, where a GOAWAY may come first: the last stream that is served.
    ///
    /// # Errors
    ///
    /// When the connection ends before either.
    #[track_caller]
    pub fn answer_or_goaway(&mut self, stream: u32) -> io::Result<Result<String, u32>> {
        let mut body = Vec::new();
        loop {
            let frame = self.next_frame()?;
            if frame.kind == Kind::GoAway {
                return Ok(Err(frame.last_stream()));
            }
            assert_eq!(frame.stream, stream, "{frame:?}");
            match frame.kind {
                Kind::Headers => assert_eq!(frame.payload.first(), Some(&STATUS_200), "{frame:?}"),
                Kind::Data => body.extend(&frame.payload),
                Kind::Reset | Kind::GoAway | Kind::Other(_) => panic!("no answer: {frame:?}"),
            }
            if frame.ends {
                return Ok(Ok(String::from_utf8_lossy(&body).into_owned()));
            }
        }
    }

    /// Waits for a GOAWAY; the last stream that is served.
    ///
    /// # Errors
    ///
    /// When the connection ends before that.
    #[track_caller]
    pub fn goaway(&mut self) -> io::Result<u32> {
        Ok(self.next_frame()?.last_stream())
    }

    /// Reads until the other end closes; nothing but farewells and housekeeping may come before.
    ///
    /// # Errors
    ///
    /// When the connection is reset.
    #[track_caller]
    pub fn end(&mut self) -> io::Result<()> {
        loop {
            match self.next_frame() {
                Ok(frame) => assert_eq!(frame.kind, Kind::GoAway, "the connection was to end: {frame:?}"),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind.number(), flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.connection.send(frame)
    }

    fn frame(&mut self) -> io::Result<Frame> {
        let head = self.connection.read(9)?;
        let length = usize::try_from(number(&head[..3])).expect("24 bits");
        let (kind, ends, stream) = (Kind::of(head[3]), head[4] & END_STREAM != 0, number(&head[5..]));
        Ok(Frame { kind, stream, ends, payload: self.connection.read(length)? })
    }
}

impl Frame {
    /// The last stream that is served, of a GOAWAY that tells of no error.
    #[track_caller]
    pub fn last_stream(&self) -> u32 {
        assert_eq!(self.kind, Kind::GoAway, "{self:?}");
        assert_eq!(number(&self.payload[4..8]), 0, "{self:?}");
        number(&self.payload[..4])
    }
}

/// A number of several bytes, the most significant one first.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const PING: u8 = 6;

// The headers of a request, as HPACK has them (RFC 7541): whole, or a name whose value follows.
const GET: u8 = 0x82;
const POST: u8 = 0x83;
const SCHEME_HTTP: u8 = 0x86;
const AUTHORITY: u8 = 0x01;
const PATH: u8 = 0x04;

impl Kind {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Data,
            1 => Self::Headers,
            3 => Self::Reset,
            7 => Self::GoAway,
            other => Self::Other(other),
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Headers => 1,
            Self::Reset => 3,
            Self::GoAway => 7,
            Self::Other(number) => number,
        }
    }
}
