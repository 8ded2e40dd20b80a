//! openraft's network over the links, and the other end: calls from peers to this node's groups.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2, Snapshot};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::bare_commits::with_fewer_bare_commits;
use super::group::Group;
use super::link::{Dispatch, Links, Responder, ServiceHandler};
use super::log_store::PurgedReads;
use super::state_machine::{SnapshotHandle, snapshot_name};
use super::wire::{Call, LinkError, Return, SnapshotPart};
use super::{TypeConfig, Vote};
use crate::base::limits::SNAPSHOT_FRAME_BYTES;
use crate::base::{GroupId, Millis, Mutant, NodeId, mutant};
use crate::host::{blocking, chance};
use crate::machine::Machine;
use crate::storage::{SnapshotWriter, Snapshots};

type OurSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotHandle>;
type Rpc<T> = Result<T, RPCError<TypeConfig>>;
type BoxStream<'s, T> = std::pin::Pin<Box<dyn Stream<Item = T> + Send + 's>>;

/// How long one append may take before the stream is given up and started anew.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer may take to install a snapshot it has received.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Makes clients of one group for openraft.
pub struct Factory {
    pub group: GroupId,
    pub links: Links,
    pub purged_reads: PurgedReads,
}

/// One group's client to one peer.
pub struct Network {
    group: GroupId,
    target: NodeId,
    links: Links,
    purged_reads: PurgedReads,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, _node: &openraft::impls::EmptyNode) -> Network {
        Network {
            group: self.group,
            target,
            links: self.links.clone(),
            purged_reads: self.purged_reads.clone(),
        }
    }
}

/// `Unreachable`, not `NetworkError`: only that makes openraft back off.
fn unreachable(error: &LinkError) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(error))
}

fn unexpected(target: NodeId, answer: &Return) -> RPCError<TypeConfig> {
    unreachable(&LinkError::Refused {
        node: target,
        why: format!("unexpected answer {answer:?}"),
    })
}

impl Network {
    async fn ask(&self, call: Call, limit: Duration) -> Rpc<Return> {
        let answer = self.links.call(self.target, call).map_err(|e| unreachable(&e))?;
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|e| unreachable(&e)),
            Err(_) => Err(unreachable(&LinkError::Broken(self.target))),
        }
    }

    /// Sends an append at once (the order of calls is the order on the wire); the future is its result.
    fn send_append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> impl Future<Output = Rpc<StreamAppendResult<TypeConfig>>> + Send + use<> {
        let target = self.target;
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(prev);
        let sent = if request.entries.is_empty() && self.purged_reads.take() {
            let why = "what it needs is purged".into();
            Err(LinkError::Refused { node: target, why })
        } else {
            self.links.call(target, Call::Append(self.group, request))
        };
        async move {
            let answer = sent.map_err(|e| unreachable(&e))?;
            let answer = tokio::time::timeout(APPEND_TIMEOUT, answer).await;
            let answer = answer.map_err(|_| unreachable(&LinkError::Broken(target)))?;
            match answer.map_err(|e| unreachable(&e))? {
                Return::Append(response) => Ok(response.into_stream_result(prev, last)),
                other => Err(unexpected(target, &other)),
            }
        }
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: OurSnapshot,
    ) -> Result<Return, StreamingError<TypeConfig>> {
        let broken = |e: io::Error| {
            let error = LinkError::Refused {
                node: self.target,
                why: format!("snapshot: {e}"),
            };
            StreamingError::Unreachable(Unreachable::new(&error))
        };
        let from = snapshot.snapshot.clone();
        let mut reader = blocking(move || from.snapshots.read(&from.name))
            .await
            .map_err(broken)?;
        let transfer = chance();
        for seq in 0.. {
            let (next, back) = blocking(move || Ok((reader.next(SNAPSHOT_FRAME_BYTES)?, reader)))
                .await
                .map_err(broken)?;
            reader = back;
            let last = next.is_none().then(|| (vote, snapshot.meta.clone()));
            let done = last.is_some();
            let part = SnapshotPart {
                transfer,
                seq,
                data: next.unwrap_or_default().into(),
                last,
            };
            let limit = if done { INSTALL_TIMEOUT } else { APPEND_TIMEOUT };
            let answer = self.ask(Call::Snapshot(self.group, Box::new(part)), limit).await;
            let answer = answer.map_err(|e| broken(io::Error::other(e)))?;
            if done {
                return Ok(answer);
            }
        }
        Err(broken(io::Error::other("a snapshot without end")))
    }
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        match self.ask(Call::Append(self.group, rpc), option.soft_ttl()).await? {
            Return::Append(response) => Ok(response),
            other => Err(unexpected(self.target, &other)),
        }
    }

    /// One append at a time, and what is appended meanwhile goes with the next. openraft takes an answer for an answer to
    /// everything that ends at the same log id; were a bare commit index on its way behind an append, the append's answer would
    /// count as one to a question that the peer has not heard, and a deposed leader would take it for the confirmation of a
    /// read (`tests/sim/late.rs`).
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let network = &*self;
        let results: BoxStream<'s, _> = if mutant::is(Mutant::AppendsOverlap) {
            Box::pin(input.map(|request| network.send_append(request)).buffered(32))
        } else {
            Box::pin(with_fewer_bare_commits(input).then(|request| network.send_append(request)))
        };
        // The first failure or conflict is the last answer: openraft starts a new stream from where the peer is. This one
        // must end right there: were it asked for another request, it would read entries that may be purged by now.
        let until_failure = futures::stream::unfold(Some(results), |results| async move {
            let mut results = results?;
            let item = results.next().await?;
            let rest = matches!(item, Ok(Ok(_))).then_some(results);
            Some((item, rest))
        });
        let stream: BoxStream<'s, _> = Box::pin(until_failure);
        Box::pin(std::future::ready(Ok(stream)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        match self.ask(Call::Vote(self.group, rpc), option.hard_ttl()).await? {
            Return::Vote(response) => Ok(response),
            other => Err(unexpected(self.target, &other)),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        match self
            .ask(Call::PreVote(self.group, rpc), option.hard_ttl())
            .await?
        {
            Return::Vote(response) => Ok(response),
            other => Err(unexpected(self.target, &other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: OurSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let answer = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answer = self.send_snapshot(vote, snapshot) => answer?,
        };
        match answer {
            Return::Snapshot(response) => Ok(response),
            other => {
                let why = format!("unexpected answer {other:?}");
                Err(StreamingError::Unreachable(Unreachable::new(
                    &LinkError::Refused {
                        node: self.target,
                        why,
                    },
                )))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        match self
            .ask(Call::TransferLeader(self.group, req), option.hard_ttl())
            .await?
        {
            Return::TransferLeader(response) => Ok(response),
            other => Err(unexpected(self.target, &other)),
        }
    }
}

/// This node's groups, as peers reach them.
pub struct Groups {
    replicas: RwLock<BTreeMap<GroupId, Group>>,
    service: OnceLock<ServiceHandler>,
    snapshots: Snapshots,
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
        let replicas = self.replicas.read();
        replicas
            .values()
            .map(|group| group.peek(Machine::time))
            .max()
            .unwrap_or(0)
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
        if self.is_refilling() {
            return Return::Refused("this node has forgotten its votes".into());
        }
        let held = |(id, vote): &(GroupId, Bytes)| self.get(*id).is_some_and(|group| group.holds(vote));
        Return::Confirm(votes.iter().map(held).collect())
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
