//! turmoil's network as a node sees it; and packets that wait for being sent again, in the middle of a connection.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use quorate::host::{Duplex, Listener, Network, SimulatedListener, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use turmoil::net::{TcpListener, TcpStream};

use crate::world::PEER_PORT;

/// Of peers that are not heard at present: how many bytes still arrive. The rest waits.
pub type Unheard = Arc<Mutex<BTreeMap<IpAddr, usize>>>;

pub struct SimNetwork {
    pub unheard: Unheard,
}

impl SimNetwork {
    fn heard(&self, stream: TcpStream, peer: IpAddr) -> Box<dyn Duplex> {
        Box::new(Heard {
            stream,
            peer,
            unheard: Arc::clone(&self.unheard),
            again: None,
        })
    }
}

impl Network for SimNetwork {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Listener>> {
        Box::pin(async move {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?;
            let network = SimNetwork {
                unheard: Arc::clone(&self.unheard),
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
    again: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let left = self.unheard.lock().get(&self.peer).copied();
            let Some(left) = left else {
                return Pin::new(&mut self.stream).poll_read(cx, buf);
            };
            if left > 0 {
                let mut some = [0; 64];
                let most = left.min(some.len()).min(buf.remaining());
                let mut part = ReadBuf::new(&mut some[..most]);
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
                buf.put_slice(part.filled());
                let read = part.filled().len();
                if let Some(left) = self.unheard.lock().get_mut(&self.peer) {
                    *left -= read;
                }
                return Poll::Ready(Ok(()));
            }
            let again = self
                .again
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(1))));
            ready!(again.as_mut().poll(cx));
            self.again = None;
        }
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
