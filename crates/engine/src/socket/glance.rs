//! The connection of a client that may have to give way to others. Whoever decides that sees whether the client has said something that
//! its own task has not read yet.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use rustix::io::ioctl_fionread;
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// What a connection can do without being borrowed for good.
pub(crate) trait Stream: AsFd + Send + Sync + 'static {
    fn readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn take(&self, bytes: &mut [u8]) -> io::Result<usize>;
    fn give(&self, bytes: &[u8]) -> io::Result<usize>;
}

macro_rules! stream {
    ($type:ty) => {
        impl Stream for $type {
            fn readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(context)
            }

            fn writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(context)
            }

            fn take(&self, bytes: &mut [u8]) -> io::Result<usize> {
                self.try_read(bytes)
            }

            fn give(&self, bytes: &[u8]) -> io::Result<usize> {
                self.try_write(bytes)
            }
        }
    };
}

stream!(TcpStream);
stream!(UnixStream);

/// A connection, which is closed when the last of these is dropped.
#[derive(Debug)]
pub(crate) struct Watched<S>(Arc<S>);

impl<S> Clone for Watched<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Deref for Watched<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S: Stream> Watched<S> {
    pub(crate) fn new(stream: S) -> (Self, Glance) {
        let stream = Arc::new(stream);
        let weak: Weak<S> = Arc::downgrade(&stream);
        (Self(stream), Glance(weak))
    }
}

impl<S: Stream> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.readable(context))?;
            match self.0.take(into.initialize_unfilled()) {
                Ok(count) => {
                    into.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<S: Stream> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.writable(context))?;
            match self.0.give(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.0.as_fd(), Shutdown::Write).map_err(io::Error::from))
    }
}

/// A look at a [`Watched`] connection. It does not keep it open.
#[derive(Clone)]
pub(crate) struct Glance(Weak<dyn AsFd + Send + Sync>);

impl Glance {
    /// Whether the client has said something that is not read yet.
    pub(crate) fn unread(&self) -> bool {
        let Some(stream) = self.0.upgrade() else { return false };
        ioctl_fionread(&*stream).is_ok_and(|bytes| bytes > 0)
    }

    /// Hears no more of the client, unless there is something to read, also if that came just now. Returns whether that is so: then a
    /// client by a unix socket cannot say a word any more without being told that nobody hears it.
    pub(crate) fn closes(&self) -> bool {
        if self.unread() {
            return false;
        }
        if let Some(stream) = self.0.upgrade() {
            // One that has left is not heard either.
            let _ = shutdown(&*stream, Shutdown::Read);
        }
        !self.unread()
    }
}

impl fmt::Debug for Glance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Glance")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream as StdUnixStream;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_client_is_heard_to_the_end_of_what_it_has_said_or_told_that_it_is_not() {
        let (here, mut there) = StdUnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let (mut watched, glance) = Watched::new(UnixStream::from_std(here).unwrap());
        there.write_all(b"one").unwrap();
        assert!(glance.unread() && !glance.closes());
        let mut heard = [0; 3];
        watched.read_exact(&mut heard).await.unwrap();
        watched.write_all(b"two").await.unwrap();
        assert_eq!(&heard, b"one");
        assert!(!glance.unread() && glance.closes());
        assert_eq!(there.write_all(b"more").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let mut answer = [0; 3];
        std::io::Read::read_exact(&mut there, &mut answer).unwrap();
        assert_eq!(&answer, b"two");
        drop(watched);
        assert_eq!(std::io::Read::read(&mut there, &mut answer).unwrap(), 0, "a look does not keep it open");
        assert!(!glance.unread() && glance.closes());
    }
}
