//! One group's replica on this node: the handle that the cluster floor works with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Config, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::hibernation::{Hibernation, HibernationOptions};
use super::link::Links;
use super::log_store::LogStore;
use super::network::Factory;
use super::proposer::{Proposal, Proposer};
use super::reader::{Query, Reader};
use super::shared::Shared;
use super::state_machine::StateMachine;
use super::waiter::Waiter;
use super::wire::Call;
use super::{LogId, Raft};
use crate::base::limits::{APPEND_ENTRIES_MAX, GROUP_QUEUE_MAX};
use crate::base::{GroupId, NodeId};
use crate::host::Clock;
use crate::machine::{Digest, Machine, Read, Request, Response, Seen};
use crate::storage::{Journal, Snapshots};

/// Why a group did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// Nothing happened; who may lead is named if known.
    #[error("not the leader (it may be {0:?})")]
    NotLeader(Option<NodeId>),
    /// Nothing happened: too much waits already.
    #[error("too many requests wait")]
    Busy,
    /// It may happen yet.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The replica has stopped for good.
    #[error("stopped: {0}")]
    Stopped(String),
}

/// What a group needs to run.
#[derive(Clone)]
pub struct GroupOptions {
    pub node: NodeId,
    pub members: BTreeSet<NodeId>,
    pub heartbeat_ms: u64,
    pub election_min_ms: u64,
    pub election_max_ms: u64,
    /// For how long the majority's last word is enough for a read; `None`: it is asked for each.
    pub lease: Option<Duration>,
    pub hibernation: HibernationOptions,
    pub clock: Clock,
    /// Distinguishes this process from its earlier lives.
    pub boot: u32,
}

/// A replica at a glance.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GroupStatus {
    pub group: String,
    pub leader: Option<NodeId>,
    pub term: u64,
    pub role: String,
    pub asleep: bool,
    pub last_log: u64,
    pub committed: u64,
    pub applied: u64,
    pub snapshot: u64,
}

/// Handle to one replica; cheap to clone.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    id: GroupId,
    raft: Raft,
    shared: Arc<Shared>,
    members: BTreeSet<NodeId>,
    proposals: mpsc::Sender<Proposal>,
    queries: mpsc::Sender<Query>,
    hibernation: Arc<Hibernation>,
    journal: Journal,
    /// Leader and term, as last announced: asked at every request, so not worth a copy of all metrics.
    leader: Arc<Mutex<(Option<NodeId>, u64)>>,
}

impl Group {
    /// Starts the replica from what the journal and the snapshots hold.
    ///
    /// # Errors
    /// Storage that cannot be read, in words.
    pub async fn start(
        id: GroupId,
        options: GroupOptions,
        journal: Journal,
        snapshots: Snapshots,
        links: Links,
    ) -> Result<Group, String> {
        let shared = Arc::new(Shared::new(id, options.node));
        let config = config(id, &options).validate().map_err(|e| e.to_string())?;
        let log = LogStore::new(id.number(), journal.clone());
        let machine = StateMachine::new(Arc::clone(&shared), journal.clone(), snapshots);
        let purged_reads = log.purged_reads();
        let factory = Factory {
            group: id,
            links,
            purged_reads,
        };
        let raft = Raft::new(options.node, Arc::new(config), factory, log, machine);
        let raft = raft.await.map_err(|e| format!("{id} cannot start: {e}"))?;
        let hibernation = Arc::new(Hibernation::new(raft.clone(), options.hibernation));
        let (proposals, queue) = mpsc::channel(GROUP_QUEUE_MAX);
        let (hurry, hurried) = watch::channel(false);
        let proposer = Proposer::new(
            raft.clone(),
            Arc::clone(&shared),
            Arc::clone(&options.clock),
            options.boot,
            hurried,
            Arc::clone(&hibernation),
        );
        tokio::spawn(proposer.run(queue));
        let (queries, queue) = mpsc::channel(GROUP_QUEUE_MAX);
        let reader = Reader {
            raft: raft.clone(),
            hibernation: Arc::clone(&hibernation),
            shared: Arc::clone(&shared),
            clock: options.clock,
            proposer: proposals.clone(),
            hurry,
            timeout: Duration::from_millis(options.election_max_ms),
            lease: options.lease,
        };
        tokio::spawn(reader.run(queue));
        let leader = Arc::new(Mutex::new((None, 0)));
        tokio::spawn(follow_leader(raft.clone(), Arc::clone(&leader)));
        let inner = Inner {
            id,
            raft,
            shared,
            members: options.members,
            proposals,
            queries,
            hibernation,
            journal,
            leader,
        };
        Ok(Group {
            inner: Arc::new(inner),
        })
    }

    #[must_use]
    pub fn id(&self) -> GroupId {
        self.inner.id
    }

    pub(super) fn raft(&self) -> &Raft {
        &self.inner.raft
    }

    /// A peer's replica calls: one that only says that it still leads wakes nobody.
    pub(super) fn called(&self, call: &Call) {
        match call {
            Call::Append(_, rpc)
                if rpc.entries.is_empty() && rpc.leader_commit.map_or(0, |id| id.index) <= self.applied() =>
            {
                self.inner.hibernation.heard();
            }
            _ => self.inner.hibernation.wake(),
        }
    }

    /// Lets the replica sleep or wakes it; to be called every 100 ms or so.
    pub async fn look_after_sleep(&self) {
        let leads = self.is_leader();
        let has_leader = self.leader().0.is_some();
        self.inner.hibernation.look(leads, has_leader).await;
    }

    /// Whether this replica neither beats nor listens for heartbeats, since nobody uses the group.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.inner.hibernation.is_asleep()
    }

    /// Nodes with a replica.
    #[must_use]
    pub fn members(&self) -> &BTreeSet<NodeId> {
        &self.inner.members
    }

    /// Puts a request through the log and waits until it is applied and answered.
    ///
    /// # Errors
    /// [`GroupError`]; only `Unknown` and `Stopped` leave the outcome open.
    pub async fn propose(&self, request: Request) -> Result<Response, GroupError> {
        let (answer, rx) = oneshot::channel();
        self.propose_to(request, Waiter::Task(answer));
        rx.await.unwrap_or_else(|_| Err(dropped()))
    }

    /// As [`Group::propose`]; the answer is passed on from where it comes to be.
    pub fn propose_then(
        &self,
        request: Request,
        then: impl FnOnce(Result<Response, GroupError>) + Send + 'static,
    ) {
        self.propose_to(request, Waiter::pass_on(then, dropped()));
    }

    fn propose_to(&self, request: Request, answer: Waiter<Response>) {
        if let Err(full) = self.inner.proposals.try_send(Proposal { request, answer }) {
            full.into_inner().answer.send(Err(GroupError::Busy));
        }
    }

    /// Answers a linearizable read, if this replica leads.
    ///
    /// # Errors
    /// [`GroupError`]; a read has no effect, so all of them are definite.
    pub async fn read(&self, read: Read) -> Result<Seen, GroupError> {
        let (answer, rx) = oneshot::channel();
        self.read_to(read, Waiter::Task(answer));
        rx.await.unwrap_or(Err(GroupError::NotLeader(None)))
    }

    /// As [`Group::read`]; the answer is passed on from where it comes to be.
    pub fn read_then(&self, read: Read, then: impl FnOnce(Result<Seen, GroupError>) + Send + 'static) {
        self.read_to(read, Waiter::pass_on(then, GroupError::NotLeader(None)));
    }

    fn read_to(&self, read: Read, answer: Waiter<Seen>) {
        if let Err(full) = self.inner.queries.try_send(Query { read, answer }) {
            full.into_inner().answer.send(Err(GroupError::Busy));
        }
    }

    /// Looks at the replica's state as it is here, however old.
    pub fn peek<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        self.inner.shared.with(|state| look(&state.machine))
    }

    /// Whether a snapshot of this replica is being written.
    #[must_use]
    pub fn writes_snapshot(&self) -> bool {
        self.inner.shared.with(|state| state.writes_snapshot)
    }

    /// Bytes of log entries applied since the last snapshot was cut, if they are enough for the next: at least `least`, and
    /// half of the last one's bytes, so that a large state is not written again and again for a little log.
    #[must_use]
    pub fn snapshot_is_due(&self, least: u64) -> Option<u64> {
        let (since, last) = self
            .inner
            .shared
            .with(|state| (state.bytes_since_snapshot, state.snapshot_bytes));
        (since >= least.max(last / 2)).then_some(since)
    }

    /// Index of the last applied entry.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.inner
            .shared
            .with(|state| state.applied.map_or(0, |id| id.index))
    }

    /// Index of the last applied entry, and the checksum of the state there. Costs a walk over the whole state.
    ///
    /// # Errors
    /// A state that cannot be encoded.
    pub fn digest(&self) -> Result<(u64, u32), crate::base::codec::CodecError> {
        self.inner.shared.with(|state| {
            let index = state.applied.map_or(0, |id| id.index);
            Ok((index, state.machine.digest()?))
        })
    }

    /// Whether anything was applied here since the last entry that asked for digests.
    #[must_use]
    pub fn changed_since_digest(&self) -> bool {
        self.inner.shared.with(|state| state.digests.changed)
    }

    /// The last digest that was noted here, and at which log index.
    #[must_use]
    pub fn last_digest(&self) -> Option<(u64, Digest)> {
        self.inner
            .shared
            .with(|state| state.digests.noted.back().copied())
    }

    /// The digest that was noted here at a log index, while it is remembered.
    #[must_use]
    pub fn digest_at(&self, index: u64) -> Option<Digest> {
        let of_index = |&(at, digest): &(u64, Digest)| (at == index).then_some(digest);
        self.inner
            .shared
            .with(|state| state.digests.noted.iter().find_map(of_index))
    }

    /// Stops the replica for good, since what it holds is wrong.
    pub async fn fail(&self, why: String) {
        self.inner.shared.with(|state| {
            state.digests.failure.get_or_insert(why);
        });
        self.shutdown().await;
    }

    /// Changes whenever an entry is applied.
    #[must_use]
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        self.inner.shared.watch_applied()
    }

    /// The leader and term as this replica knows them.
    #[must_use]
    pub fn leader(&self) -> (Option<NodeId>, u64) {
        *self.inner.leader.lock()
    }

    /// Whether this replica believes to lead.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leader().0 == Some(self.inner.shared.node)
    }

    /// Whether the group was ever set up here.
    ///
    /// # Errors
    /// A replica that has stopped.
    pub async fn is_initialized(&self) -> Result<bool, GroupError> {
        self.inner
            .raft
            .is_initialized()
            .await
            .map_err(|e| GroupError::Stopped(e.to_string()))
    }

    /// Sets the group up with its members; doing it on several nodes, or twice, is harmless.
    pub async fn initialize(&self) {
        let members = self.inner.members.clone();
        if let Err(e) = self.inner.raft.initialize(members).await {
            tracing::debug!(group = %self.inner.id, "not initialized: {e}");
        }
    }

    /// Lets or forbids this replica to stand for election.
    pub fn may_elect(&self, may: bool) {
        self.inner.raft.runtime_config().elect(may);
    }

    /// Hands leadership to another member, if it keeps up.
    pub async fn transfer_leader(&self, to: NodeId) {
        self.inner.hibernation.wake();
        if let Err(e) = self.inner.raft.trigger().transfer_leader(to).await {
            tracing::warn!(group = %self.inner.id, to, "cannot hand over: {e}");
        }
    }

    /// Log index that a quorum has confirmed as committed now; only at the leader.
    ///
    /// # Errors
    /// As for a read.
    pub async fn confirmed_index(&self) -> Result<u64, GroupError> {
        self.inner.hibernation.wake();
        let linearizer = self
            .inner
            .raft
            .get_read_linearizer(openraft::ReadPolicy::ReadIndex)
            .await;
        let linearizer = linearizer.map_err(|_| GroupError::NotLeader(None))?;
        let state = linearizer.await_ready(&self.inner.raft).await;
        let state = state.map_err(|e| GroupError::Stopped(e.to_string()))?;
        Ok(state.applied().map_or(0, |id| id.index))
    }

    /// Cuts a snapshot; the log behind it is purged when it is on disk.
    pub async fn cut_snapshot(&self) {
        if let Err(e) = self.inner.raft.trigger().snapshot().await {
            tracing::warn!(group = %self.inner.id, "cannot cut a snapshot: {e}");
        }
    }

    /// Purges the log behind the current snapshot, but for the last `keep_bytes` of it: a follower that is a little
    /// behind needs no snapshot then.
    pub async fn purge_behind_snapshot(&self, keep_bytes: usize) {
        let snapshot = self
            .inner
            .raft
            .metrics()
            .borrow_watched()
            .snapshot
            .map(|id| id.index);
        let Some(snapshot) = snapshot else { return };
        let upto = self.inner.journal.with(self.inner.id.number(), |log| {
            let mut kept = 0;
            let mut behind = (log.first..=snapshot.min(log.end().saturating_sub(1))).rev();
            behind.find(|&index| {
                kept += log.get(index).map_or(0, bytes::Bytes::len);
                kept > keep_bytes
            })
        });
        if let Some(upto) = upto
            && let Err(e) = self.inner.raft.trigger().purge_log(upto).await
        {
            tracing::warn!(group = %self.inner.id, upto, "cannot purge the log: {e}");
        }
    }

    /// Why the replica has stopped, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        if let Some(why) = self.inner.shared.with(|state| state.digests.failure.clone()) {
            return Some(format!("{}: {why}", self.inner.id));
        }
        let metrics = self.inner.raft.metrics();
        let state = &metrics.borrow_watched().running_state;
        let error = state.as_ref().err();
        error.map(|e| format!("{}: {e}", self.inner.id))
    }

    #[must_use]
    pub fn status(&self) -> GroupStatus {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        GroupStatus {
            group: self.inner.id.to_string(),
            leader: metrics.current_leader,
            term: metrics.current_term,
            role: format!("{:?}", metrics.state).to_lowercase(),
            asleep: self.is_asleep(),
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: index(metrics.local_committed),
            applied: index(metrics.last_applied),
            snapshot: index(metrics.snapshot),
        }
    }

    /// Stops the replica; what it holds on disk stays.
    pub async fn shutdown(&self) {
        if let Err(e) = self.inner.raft.shutdown().await {
            tracing::warn!(group = %self.inner.id, "did not stop cleanly: {e}");
        }
    }
}

fn dropped() -> GroupError {
    GroupError::Unknown("the waiter was dropped".into())
}

async fn follow_leader(raft: Raft, leader: Arc<Mutex<(Option<NodeId>, u64)>>) {
    let mut metrics = raft.server_metrics();
    loop {
        let now = {
            let metrics = metrics.borrow_watched();
            (metrics.current_leader, metrics.vote.leader_id.term)
        };
        *leader.lock() = now;
        if metrics.changed().await.is_err() {
            *leader.lock() = (None, now.1);
            return;
        }
    }
}

fn config(id: GroupId, options: &GroupOptions) -> Config {
    Config {
        cluster_name: id.to_string(),
        heartbeat_interval: options.heartbeat_ms,
        election_timeout_min: options.election_min_ms,
        election_timeout_max: options.election_max_ms,
        max_payload_entries: APPEND_ENTRIES_MAX,
        // What replication carries anyway needs no heartbeat beside it.
        heartbeat_min_interval: Some(options.heartbeat_ms / 2),
        // Snapshots are cut by bytes of log, not by entries: a driver triggers them.
        snapshot_policy: SnapshotPolicy::Never,
        // Purged by bytes, too.
        max_in_snapshot_log_to_keep: u64::MAX / 4,
        // A follower gets a snapshot when its entries are purged, not when it lags.
        replication_lag_threshold: u64::MAX / 4,
        install_snapshot_timeout: 60_000,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        // A wiped node comes back under its id; it grants no vote until it has been refilled.
        allow_log_reversion: Some(true),
        quorum_loss_probe_interval: Some(options.election_max_ms * 3),
        ..Config::default()
    }
}
