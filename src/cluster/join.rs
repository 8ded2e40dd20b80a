//! How a node becomes a member: which cluster id it takes, and what it may do until it holds what it must.
//!
//! ```text
//!  identity on disk ───────────────────────────────▶ member
//!  fresh, a peer has an id ──▶ take it ─┬─ cluster has data: refilling (grants no vote) ─ caught up ─▶ member
//!                                       └─ cluster is new ─▶ member
//!  fresh, lowest id, a majority has none ──▶ make one ─▶ member
//! ```
//!
//! A majority without an id cannot belong to a formed cluster, so no second cluster is made beside one that lives.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;

use super::message::{Ask, Told};
use super::node::StartError;
use super::router::Router;
use crate::base::NodeId;
use crate::config::Config;
use crate::host::chance;
use crate::raft::{Group, Groups, Links};
use crate::storage::{Identity, Store};

/// Decides who we are. Waits, as long as it takes, for enough peers to tell.
pub async fn identify(
    store: &Store,
    links: &Links,
    config: &Config,
    me: NodeId,
) -> Result<Identity, StartError> {
    let layout = config.layout();
    if let Some(identity) = Identity::load(store, me, &layout)? {
        return Ok(identity);
    }
    let first = config.nodes.iter().map(|node| node.id).min() == Some(me);
    let mut hellos = links.hellos();
    let identity = loop {
        let peers = hellos.borrow_and_update().clone();
        let ids: Vec<u128> = peers.values().filter_map(|peer| peer.cluster_id).collect();
        if let Some(&cluster_id) = ids.first() {
            if ids.iter().any(|&id| id != cluster_id) {
                return Err(StartError::Disagreement);
            }
            let refilling = peers.values().any(|peer| peer.formed);
            break Identity::new(cluster_id, me, layout, refilling);
        }
        if first && (peers.len() + 1) * 2 > config.nodes.len() {
            let cluster_id = u128::from(chance()) << 64 | u128::from(chance());
            break Identity::new(cluster_id, me, layout, false);
        }
        if hellos.changed().await.is_err() {
            return Err(StartError::Disagreement);
        }
    };
    identity
        .save(store)
        .map_err(|e| StartError::Storage(e.to_string()))?;
    tracing::info!(cluster = %format!("{:032x}", identity.cluster_id), refilling = identity.refilling, "joined");
    Ok(identity)
}

/// Watches, until a peer of our own cluster has linked, whether peers belong to another one: then we are the stranger.
pub async fn watch_for_foreign(links: Links, fatal: watch::Sender<Option<String>>) {
    let mut hellos = links.hellos();
    loop {
        let peers = hellos.borrow_and_update().clone();
        if peers
            .values()
            .any(|peer| peer.cluster_id.is_some() && !peer.foreign)
        {
            return;
        }
        if let Some((node, _)) = peers.iter().find(|(_, peer)| peer.foreign) {
            let why = format!("the data directory belongs to another cluster than node {node}'s");
            fatal.send_replace(Some(why));
            return;
        }
        if hellos.changed().await.is_err() {
            return;
        }
    }
}

/// How long a node that could serve waits for links that are made anew: what asks all nodes would miss some.
pub const SETTLES: Duration = Duration::from_secs(1);

/// Sets a new cluster's groups up: at once where this node is the preferred leader, later where that node is late.
pub async fn form(groups: Arc<Groups>, preferred: impl Fn(&Group) -> bool, patience: Duration) {
    let start = Instant::now();
    loop {
        let mut left = false;
        for group in groups.all() {
            if matches!(group.is_initialized().await, Ok(false)) {
                left = true;
                if preferred(&group) || start.elapsed() > patience {
                    group.initialize().await;
                }
            }
        }
        if !left {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until a leader confirms what is committed, and the replica here has applied it.
pub async fn catch_up(group: &Group, router: &Router) {
    loop {
        let limit = Instant::now() + Duration::from_secs(1);
        if let Ok(Told::Index(index)) = router.ask(group.id(), &Ask::Confirm, limit).await {
            let mut applied = group.watch_applied();
            // The sender lives as long as the group does.
            let _ = applied.wait_for(|&applied| applied >= index).await;
            return;
        }
        tracing::debug!(group = %group.id(), "waits for a leader");
    }
}

/// Lets the replicas here stand for election, which is a vote of their own, as soon as no lease forbids it.
pub async fn vote(groups: &Groups) {
    groups.lease_over().await;
    for group in groups.all() {
        group.may_elect();
    }
}

/// Waits until every group here holds what was committed when we asked; then the node may vote again.
pub async fn refill(groups: Arc<Groups>, router: Router, store: Store, identity: Identity) {
    join_all(groups.all().iter().map(|group| catch_up(group, &router))).await;
    if let Err(e) = identity.refilled().save(&store) {
        tracing::error!("cannot note that the node is refilled: {e}");
        return;
    }
    groups.refilled();
    vote(&groups).await;
    tracing::info!("refilled: this node votes again");
}
