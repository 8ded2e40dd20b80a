//! Which client asks for what its task does: known to the tracking alone, and only of clients that track.

use bytes::Bytes;

use super::Tracking;
use crate::base::RequestId;
use crate::cluster::node::Node;

/// A client that tracks.
#[derive(Clone)]
pub struct Asker {
    pub id: u64,
    /// It keeps copies of what it reads.
    pub reads: bool,
    /// It does not want to hear of its own writes.
    pub not_own: bool,
    pub tracking: Tracking,
}

tokio::task_local! {
    static ASKER: Asker;
}

/// Does something for a client, if it tracks.
pub async fn on_behalf<F: Future>(asker: Option<Asker>, what: F) -> F::Output {
    match asker {
        Some(asker) => ASKER.scope(asker, what).await,
        None => what.await,
    }
}

/// A request got this number.
pub fn numbered(request: RequestId) {
    // Whoever asks for a client that does not track has no name here.
    let _ = ASKER.try_with(|asker| {
        if asker.not_own {
            asker.tracking.inner.state.lock().table.writes(asker.id, request);
        }
    });
}

/// A script is about to read keys that it did not name.
pub async fn remember_found(node: &Node, keys: &[Bytes]) {
    let reader = ASKER.try_with(|asker| asker.reads.then_some(asker.id));
    if let Ok(Some(id)) = reader {
        node.remember(id, keys).await;
    }
}
