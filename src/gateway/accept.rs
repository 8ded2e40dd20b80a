//! Takes clients' connections, of all ports together as many as are allowed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, TryAcquireError};

use super::memcached;
use super::server::Shared;
use super::session::Session;
use crate::cluster::Node;
use crate::host::{Listener, Stream};

/// What the clients of a port speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    Redis,
    Memcached,
}

#[derive(Clone)]
pub struct Accepting {
    pub node: Node,
    pub shared: Arc<Shared>,
    pub permits: Arc<Semaphore>,
}

impl Accepting {
    /// Until the permits are closed.
    pub async fn accept(self, listener: Listener, face: Face) {
        let section = self.node.config().node(self.node.id()).ok();
        let here = section.and_then(|section| match face {
            Face::Redis => Some(section.client),
            Face::Memcached => section.memcached,
        });
        let here = here.map_or_else(String::new, |address| address.to_string());
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(e) => {
                    tracing::warn!("cannot accept a client: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let permit = match Arc::clone(&self.permits).try_acquire_owned() {
                Ok(permit) => permit,
                Err(TryAcquireError::Closed) => return,
                Err(TryAcquireError::NoPermits) => {
                    self.shared.stats.refused.add(1);
                    tokio::spawn(refuse(stream, face));
                    continue;
                }
            };
            let Accepting { node, shared, .. } = self.clone();
            let tracking = node.tracking().clone();
            shared.stats.accepted.add(1);
            let id = shared.next_client.fetch_add(1, Ordering::Relaxed);
            let client = shared.clients.enter(id, address.to_string(), here.clone());
            tokio::spawn(async move {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let own = Arc::clone(&shared);
                let served = match face {
                    Face::Redis => Session::new(node, own, id, client).serve(stream).await,
                    Face::Memcached => memcached::Session::new(node, own, client).serve(stream).await,
                };
                if let Err(e) = served {
                    tracing::debug!(%address, "connection ended: {e}");
                }
                tracking.off(id);
                shared.clients.leave(id);
                shared.connections.fetch_sub(1, Ordering::Relaxed);
                drop(permit);
            });
        }
    }
}

async fn refuse(mut stream: Stream, face: Face) {
    let why: &[u8] = match face {
        Face::Redis => b"-ERR max number of clients reached\r\n",
        Face::Memcached => b"ERROR Too many open connections\r\n",
    };
    // The socket is new and its buffer empty: the line goes at once, or the client is gone.
    let _ = stream.write_all(why).await;
}
