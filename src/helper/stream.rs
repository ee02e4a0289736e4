//! A connection to an HTTP server: a socket, or TLS upon one.

#[cfg(feature = "https")]
use super::tls::Tls;
use std::io::{self, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A connection to an HTTP server. A read waits once at most, as long as its socket's time-out says, and fails with
/// `WouldBlock` where nothing came of that; so who reads has to watch the clock, and nothing else.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "https")]
    Tls(Box<Tls>),
}

impl Stream {
    /// How long a read and a write may wait.
    pub(super) fn set_timeouts(&self, read: Duration, write: Duration) -> io::Result<()> {
        self.socket().set_read_timeout(Some(read))?;
        self.socket().set_write_timeout(Some(write))
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            #[cfg(feature = "https")]
            Stream::Tls(tls) => tls.socket(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buf),
            #[cfg(feature = "https")]
            Stream::Tls(tls) => tls.read(buf),
        }
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read_vectored(bufs),
            #[cfg(feature = "https")]
            Stream::Tls(tls) => tls.read_vectored(bufs),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(buf),
            #[cfg(feature = "https")]
            Stream::Tls(tls) => tls.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            #[cfg(feature = "https")]
            Stream::Tls(tls) => tls.flush(),
        }
    }
}
