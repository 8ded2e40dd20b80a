//! A node's way to its peers, which a test can cut: what is sent meanwhile is lost without a word, as between machines.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::host::{Duplex, Listener, Network, SimulatedListener, Stream, Tcp};

/// Cheap to clone.
#[derive(Clone)]
pub struct Cutting {
    peer: SocketAddr,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    /// Odd while the node is cut off.
    changes: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    fn is_cut(&self) -> bool {
        self.changes() % 2 == 1
    }
}

impl Cutting {
    /// Of the node that listens to its peers at `peer`.
    pub fn new(peer: SocketAddr) -> Cutting {
        Cutting {
            peer,
            gate: Arc::default(),
        }
    }

    /// Cuts it off, or lets it through again; connections do not survive that.
    pub fn cut(&self, cut: bool) {
        if self.gate.is_cut() != cut {
            self.gate.changes.fetch_add(1, Ordering::SeqCst);
        }
        self.gate.waiting.lock().drain(..).for_each(Waker::wake);
    }
}

impl Network for Cutting {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Listener>> {
        if address != self.peer {
            return Tcp.bind(address);
        }
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let gate = Arc::clone(&self.gate);
            Ok(Listener::Simulated(Arc::new(Gated { listener, gate })))
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            if self.gate.is_cut() {
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            let stream = TcpStream::connect(address).await?;
            Ok(Stream::Simulated(through(stream, &self.gate)?))
        })
    }
}

fn through(stream: TcpStream, gate: &Arc<Gate>) -> io::Result<Box<dyn Duplex>> {
    stream.set_nodelay(true)?;
    let (gate, born) = (Arc::clone(gate), gate.changes());
    Ok(Box::new(Through { stream, gate, born }))
}

struct Gated {
    listener: TcpListener,
    gate: Arc<Gate>,
}

impl SimulatedListener for Gated {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Duplex>, SocketAddr)>> {
        Box::pin(async move {
            loop {
                let (stream, from) = self.listener.accept().await?;
                if !self.gate.is_cut() {
                    return Ok((through(stream, &self.gate)?, from));
                }
            }
        })
    }
}

struct Through {
    stream: TcpStream,
    gate: Arc<Gate>,
    born: u64,
}

impl Through {
    /// `Ok(true)`: it goes through. `Ok(false)`: it is lost.
    fn goes(&self) -> io::Result<bool> {
        let changes = self.gate.changes();
        if changes.is_multiple_of(2) && changes != self.born {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(changes == self.born)
    }
}

impl AsyncRead for Through {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.goes()? {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        self.gate.waiting.lock().push(cx.waker().clone());
        if self.gate.is_cut() {
            return Poll::Pending;
        }
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

impl AsyncWrite for Through {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.goes()? {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
