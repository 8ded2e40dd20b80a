//! This node's groups, and calls from peers to them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::Snapshot;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::group::Group;
use super::link::{Dispatch, Links, Responder, ServiceHandler};
use super::shared::Latest;
use super::state_machine::{SnapshotHandle, snapshot_name};
use super::wire::{Call, Return, SnapshotPart};
use crate::base::{GroupId, Millis, Mutant, NodeId, mutant};
use crate::host::blocking;
use crate::storage::{SnapshotWriter, Snapshots};

/// This node's groups, as peers reach them.
pub struct Groups {
    replicas: RwLock<BTreeMap<GroupId, Group>>,
    service: OnceLock<ServiceHandler>,
    snapshots: Snapshots,
    latest: Latest,
    incoming: Mutex<BTreeMap<(NodeId, GroupId), Incoming>>,
    /// Set while the node has forgotten its votes: it must not grant any.
    refilling: AtomicBool,
    /// Until then a leader may rely on what this node's last process has acknowledged.
    leased_until: Mutex<Option<Instant>>,
}

struct Incoming {
    transfer: u64,
    next: u64,
    name: String,
    writer: SnapshotWriter,
}

impl Groups {
    /// Makes the registry and hooks it up to the links.
    #[must_use]
    pub fn new(links: &Links, snapshots: Snapshots, refilling: bool) -> Arc<Groups> {
        let groups = Arc::new(Groups {
            replicas: RwLock::new(BTreeMap::new()),
            service: OnceLock::new(),
            snapshots,
            latest: Latest::default(),
            incoming: Mutex::new(BTreeMap::new()),
            refilling: AtomicBool::new(refilling),
            leased_until: Mutex::new(None),
        });
        links.set_dispatch(Arc::new(Handle(Arc::clone(&groups))));
        groups
    }

    /// Sets who answers service messages; once.
    pub fn set_service(&self, service: ServiceHandler) {
        // A node sets it once, while it is put together.
        let _ = self.service.set(service);
    }

    pub fn insert(&self, group: Group) {
        self.replicas.write().insert(group.id(), group);
    }

    /// Lets all replicas go. Links, groups and this registry know each other, so a node that ends has to say so.
    pub fn clear(&self) {
        self.replicas.write().clear();
    }

    #[must_use]
    pub fn get(&self, group: GroupId) -> Option<Group> {
        self.replicas.read().get(&group).cloned()
    }

    /// The groups with a replica here.
    #[must_use]
    pub fn all(&self) -> Vec<Group> {
        self.replicas.read().values().cloned().collect()
    }

    /// The largest replicated time of all groups here.
    #[must_use]
    pub fn time(&self) -> Millis {
        self.latest.get()
    }

    /// What the groups here say their replicated time with.
    #[must_use]
    pub fn latest(&self) -> Latest {
        self.latest.clone()
    }

    /// Whether votes are withheld.
    #[must_use]
    pub fn is_refilling(&self) -> bool {
        self.refilling.load(Ordering::Relaxed)
    }

    /// Withholds votes until a lease that the node's last process may have granted is over (a lease is not on disk).
    pub fn lease_until(&self, until: Instant) {
        *self.leased_until.lock() = Some(until);
    }

    /// Waits until no lease is left that the node's last process may have granted.
    pub async fn lease_over(&self) {
        let until = *self.leased_until.lock();
        if let Some(until) = until.filter(|_| !mutant::is(Mutant::LeaseForgottenAtRestart)) {
            tokio::time::sleep_until(until).await;
        }
    }

    fn withholds_votes(&self) -> Option<&'static str> {
        if self.is_refilling() {
            return Some("this node is being refilled and grants no vote");
        }
        let leased = self
            .leased_until
            .lock()
            .is_some_and(|until| Instant::now() < until);
        let forgotten = mutant::is(Mutant::LeaseForgottenAtRestart);
        (leased && !forgotten)
            .then_some("this node has restarted less than a lease ago and grants no vote yet")
    }

    /// The node has forgotten its votes: from now on it grants none.
    pub fn refill(&self) {
        self.refilling.store(true, Ordering::Relaxed);
    }

    /// The node holds again what the cluster had committed: it may vote.
    pub fn refilled(&self) {
        self.refilling.store(false, Ordering::Relaxed);
    }

    async fn take_part(&self, from: NodeId, group: &Group, part: SnapshotPart) -> io::Result<Return> {
        let key = (from, group.id());
        let current = self.incoming.lock().remove(&key);
        let mut incoming = match current {
            Some(incoming) if incoming.transfer == part.transfer && incoming.next == part.seq => incoming,
            other => {
                if let Some(stale) = other {
                    drop(stale.writer);
                    self.snapshots.remove(&stale.name)?;
                }
                if part.seq != 0 {
                    return Ok(Return::Refused("the transfer's beginning is missing".into()));
                }
                let name = snapshot_name(group.id().number(), 0);
                let writer = self.snapshots.create(&name)?;
                Incoming {
                    transfer: part.transfer,
                    next: 0,
                    name,
                    writer,
                }
            }
        };
        incoming.next += 1;
        let Some((vote, meta)) = part.last else {
            let incoming = blocking(move || incoming.writer.write(&part.data).map(|()| incoming)).await?;
            self.incoming.lock().insert(key, incoming);
            return Ok(Return::SnapshotPart);
        };
        let name = incoming.name;
        blocking(move || incoming.writer.finish()).await?;
        let handle = SnapshotHandle {
            snapshots: self.snapshots.clone(),
            name,
        };
        let snapshot = Snapshot {
            meta,
            snapshot: handle,
        };
        match group.raft().install_full_snapshot(vote, snapshot).await {
            Ok(response) => Ok(Return::Snapshot(response)),
            Err(e) => Ok(Return::Refused(e.to_string())),
        }
    }

    /// Of each group whether its leader's vote is still the one that is held here.
    fn confirm(&self, votes: &[(GroupId, Bytes)]) -> Return {
        let held = |(id, vote): &(GroupId, Bytes)| self.get(*id).is_some_and(|group| group.holds(vote));
        let held = votes.iter().map(held).collect();
        // Asked last: of a group that has just begun to be refilled it is known by now.
        if self.is_refilling() {
            return Return::Refused("this node has forgotten its votes".into());
        }
        Return::Confirm(held)
    }

    async fn raft_call(self: Arc<Self>, from: NodeId, call: Call) -> Return {
        if let Call::Confirm(votes) = &call {
            return self.confirm(votes);
        }
        let (Call::Append(id, _)
        | Call::Vote(id, _)
        | Call::PreVote(id, _)
        | Call::TransferLeader(id, _)
        | Call::Snapshot(id, _)
        | Call::ReadIndex(id, _)) = call
        else {
            return Return::Refused("not for Raft".into());
        };
        let Some(group) = self.get(id) else {
            return Return::Refused(format!("{id} has no replica here, or not yet"));
        };
        group.called(&call);
        let raft = group.raft();
        let refused = |e: String| Return::Refused(e);
        if matches!(call, Call::Vote(..) | Call::PreVote(..))
            && let Some(why) = self.withholds_votes()
        {
            return refused(why.into());
        }
        match call {
            Call::Append(_, rpc) => raft
                .append_entries(rpc)
                .await
                .map_or_else(|e| refused(e.to_string()), Return::Append),
            Call::Vote(_, rpc) => raft
                .vote(rpc)
                .await
                .map_or_else(|e| refused(e.to_string()), Return::Vote),
            Call::PreVote(_, rpc) => raft
                .pre_vote(rpc)
                .await
                .map_or_else(|e| refused(e.to_string()), Return::Vote),
            Call::TransferLeader(_, rpc) => {
                let answer = raft.handle_transfer_leader(rpc).await;
                answer.map_or_else(|e| refused(e.to_string()), Return::TransferLeader)
            }
            Call::Snapshot(_, part) => {
                let answer = self.take_part(from, &group, *part).await;
                answer.unwrap_or_else(|e| refused(format!("snapshot: {e}")))
            }
            Call::ReadIndex(_, vote) => {
                let told = group.read_index(&vote).await;
                told.map_or_else(|e| refused(e.to_string()), Return::ReadIndex)
            }
            Call::Confirm(_) | Call::Service(_) => Return::Refused("not for Raft".into()),
        }
    }
}

struct Handle(Arc<Groups>);

impl Dispatch for Handle {
    fn call(&self, from: NodeId, call: Call) -> BoxFuture<'static, Return> {
        let groups = Arc::clone(&self.0);
        Box::pin(groups.raft_call(from, call))
    }

    fn service(&self, from: NodeId, message: Bytes, answer: Responder) {
        match self.0.service.get() {
            Some(service) => service(from, message, answer),
            None => answer.respond(Return::Refused("starting".into())),
        }
    }
}
