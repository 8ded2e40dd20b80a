//! turmoil's network as a node sees it; and packets that have arrived and are not heard, as if one before them were missing.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use quorate::host::{Duplex, Listener, Network, SimulatedListener, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::world::PEER_PORT;

/// The peers that a node does not hear at present.
#[derive(Clone, Default)]
pub struct Unheard(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    peers: BTreeSet<IpAddr>,
    readers: Vec<Waker>,
}

impl Unheard {
    /// What `peer` says waits in the socket from now on.
    pub fn hold(&self, peer: IpAddr) {
        self.0.lock().peers.insert(peer);
    }

    pub fn release(&self, peer: IpAddr) {
        let mut held = self.0.lock();
        held.peers.remove(&peer);
        held.readers.drain(..).for_each(Waker::wake);
    }
}

pub struct SimNetwork {
    pub unheard: Unheard,
}

impl SimNetwork {
    fn heard(&self, stream: TcpStream, peer: IpAddr) -> Box<dyn Duplex> {
        Box::new(Heard {
            stream,
            peer,
            unheard: self.unheard.clone(),
        })
    }
}

impl Network for SimNetwork {
    /// So short that most appends, forwarded requests and answers are cut, and that others overtake them.
    fn fragment_bytes(&self) -> usize {
        200
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Listener>> {
        Box::pin(async move {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?;
            let network = SimNetwork {
                unheard: self.unheard.clone(),
            };
            let accepting = Accepting {
                listener,
                network: (address.port() == PEER_PORT).then_some(network),
            };
            Ok(Listener::Simulated(Arc::new(accepting)))
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            let peer = stream.peer_addr()?.ip();
            Ok(Stream::Simulated(self.heard(stream, peer)))
        })
    }
}

struct Accepting {
    listener: TcpListener,
    /// On the port for peers.
    network: Option<SimNetwork>,
}

impl SimulatedListener for Accepting {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Duplex>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await?;
            let stream = match &self.network {
                None => Box::new(stream),
                Some(network) => network.heard(stream, from.ip()),
            };
            Ok((stream, from))
        })
    }
}

/// A connection of which nothing is read while it is not heard.
struct Heard {
    stream: TcpStream,
    peer: IpAddr,
    unheard: Unheard,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut held = self.unheard.0.lock();
        if held.peers.contains(&self.peer) {
            held.readers.push(cx.waker().clone());
            return Poll::Pending;
        }
        drop(held);
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
