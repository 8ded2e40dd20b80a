//! turmoil's network as a node sees it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use quorate::host::{Duplex, Listener, Network, SimulatedListener, Stream};
use turmoil::net::{TcpListener, TcpStream};

pub struct SimNetwork;

impl Network for SimNetwork {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Listener>> {
        Box::pin(async move {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?;
            Ok(Listener::Simulated(Arc::new(Accepting(listener))))
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move { Ok(Stream::Simulated(Box::new(TcpStream::connect(address).await?))) })
    }
}

struct Accepting(TcpListener);

impl SimulatedListener for Accepting {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Duplex>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            let stream: Box<dyn Duplex> = Box::new(stream);
            Ok((stream, from))
        })
    }
}
