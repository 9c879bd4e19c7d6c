//! One connection and one request on it. Knows sockets, tokio's and the kernel's.

use std::net::SocketAddr;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::answer;
use crate::fault::Fault;

/// The longest answer there is: a head and a pid.
const ANSWER_LIMIT: usize = 4096;

/// A connection, and the worker that has answered on it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) pid: u32,
    pub(crate) stream: TcpStream,
}

/// Opens a connection, sends the request and reads the answer.
pub(crate) async fn ask(server: SocketAddr, request: &str) -> Result<Answered, Fault> {
    let mut stream = TcpStream::connect(server).await.map_err(|_| Fault::Connect)?;
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::with_capacity(ANSWER_LIMIT);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(Fault::Closed);
        }
        if let Some(pid) = answer::pid(&bytes)? {
            return Ok(Answered { pid, stream });
        }
        if bytes.len() >= ANSWER_LIMIT {
            return Err(Fault::Answer);
        }
    }
}

impl Answered {
    /// The server closes the connection, as it was asked to, and says no more.
    pub(crate) async fn close(mut self) -> Result<(), Fault> {
        match self.stream.read(&mut [0]).await? {
            0 => Ok(()),
            _ => Err(Fault::Answer),
        }
    }

    /// Whether nothing has come since the answer, not even the end of the connection.
    pub(crate) fn is_held(&self) -> bool {
        // The socket itself is asked: the runtime may not have heard yet of what has just arrived.
        let seen = recv(&self.stream, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        seen.is_err_and(|error| error == Errno::AGAIN)
    }
}
