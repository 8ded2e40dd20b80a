//! Sockets: TCP, or whatever a simulation puts in its place.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, tcp};

use crate::base::limits::FRAGMENT_BYTES;

/// Both directions of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Where a node listens and dials.
pub trait Network: Send + Sync {
    /// Listens on an address.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Listener>>;
    /// Connects to an address; small writes go out at once.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>>;

    /// Bytes of a message between nodes that goes in one piece, [`FRAGMENT_BYTES`] at the most.
    fn fragment_bytes(&self) -> usize {
        FRAGMENT_BYTES
    }
}

/// The operating system's TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Network for Tcp {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Listener>> {
        Box::pin(async move { TcpListener::bind(address).await.map(Listener::Tcp) })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        })
    }
}

/// A simulation's listener.
pub trait SimulatedListener: Send + Sync {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Duplex>, SocketAddr)>>;
}

/// Takes connections.
pub enum Listener {
    Tcp(TcpListener),
    Simulated(Arc<dyn SimulatedListener>),
}

impl Listener {
    /// The next connection; small writes go out at once.
    ///
    /// # Errors
    /// The system's.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), from))
            }
            Listener::Simulated(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((Stream::Simulated(stream), from))
            }
        }
    }
}

/// One connection.
pub enum Stream {
    Tcp(TcpStream),
    Simulated(Box<dyn Duplex>),
}

/// The reading half of a connection.
pub enum ReadHalf {
    Tcp(tcp::OwnedReadHalf),
    Simulated(tokio::io::ReadHalf<Box<dyn Duplex>>),
}

/// The writing half of a connection.
pub enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    Simulated(tokio::io::WriteHalf<Box<dyn Duplex>>),
}

impl Stream {
    /// Both halves, to be used by two tasks.
    #[must_use]
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Stream::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Stream::Simulated(stream) => {
                let (read, write) = tokio::io::split(stream);
                (ReadHalf::Simulated(read), WriteHalf::Simulated(write))
            }
        }
    }
}

/// Hands a poll on to whichever connection it is.
macro_rules! reads {
    ($kind:ty) => {
        impl AsyncRead for $kind {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
                    Self::Simulated(stream) => Pin::new(stream).poll_read(cx, buf),
                }
            }
        }
    };
}

macro_rules! writes {
    ($kind:ty) => {
        impl AsyncWrite for $kind {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
                    Self::Simulated(stream) => Pin::new(stream).poll_write(cx, buf),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
                    Self::Simulated(stream) => Pin::new(stream).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
                    Self::Simulated(stream) => Pin::new(stream).poll_shutdown(cx),
                }
            }
        }
    };
}

reads!(Stream);
reads!(ReadHalf);
writes!(Stream);
writes!(WriteHalf);
