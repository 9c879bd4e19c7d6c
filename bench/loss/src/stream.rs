//! A connection's bytes, over TCP, a unix socket or TLS, and what can be seen of it before anything is sent.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What the other end has done to a connection on which nothing is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Nothing.
    Open,
    /// It was closed, or something was said that nobody asked for; a client does not use such a connection.
    Ended,
    /// It was reset.
    Reset,
}

impl Stream {
    /// The client's own port.
    pub(crate) fn port(&self) -> Option<u16> {
        let address = match self {
            Self::Tcp(stream) => stream.local_addr(),
            Self::Tls(stream) => stream.get_ref().0.local_addr(),
            Self::Unix(_) => return None,
        };
        address.ok().map(|address| address.port())
    }

    /// Looks at the socket itself: the runtime may not have heard yet of what has just arrived.
    pub(crate) async fn idle(&mut self) -> Idle {
        let mut byte = [0_u8; 1];
        let seen = recv(self.descriptor(), &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        match seen.map(|(_, length)| length) {
            Err(Errno::AGAIN) => Idle::Open,
            Ok(1..) if matches!(self, Self::Tls(_)) => self.idle_within_tls().await,
            Ok(_) => Idle::Ended,
            Err(_) => Idle::Reset,
        }
    }

    /// Under TLS, bytes on an idle connection may be session tickets, which are of no concern here.
    async fn idle_within_tls(&mut self) -> Idle {
        // The runtime learns of the bytes when the task gives way.
        tokio::task::yield_now().await;
        let mut byte = [0_u8; 1];
        tokio::select! {
            biased;
            read = self.read(&mut byte) => if read.is_err() { Idle::Reset } else { Idle::Ended },
            () = std::future::ready(()) => Idle::Open,
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
