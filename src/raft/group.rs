//! One group's replica on this node: the handle that the cluster floor works with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use openraft::async_runtime::WatchReceiver;
use openraft::{Config, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::Raft;
use super::confirm::{Confirmer, Leadership};
use super::follower::{FollowerReader, ReadIndex};
use super::gathering::Gathering;
use super::hibernation::Hibernation;
use super::link::Links;
use super::log_store::LogStore;
use super::network::Factory;
use super::options::GroupOptions;
use super::proposer::{Proposal, Proposer};
use super::reader::{Query, Question, Reader};
use super::shared::Shared;
use super::state_machine::StateMachine;
use super::waiter::Waiter;
use super::wire::Call;
use crate::base::limits::{APPEND_ENTRIES_MAX, GROUP_QUEUE_MAX};
use crate::base::{GroupId, NodeId};
use crate::host::Clock;
use crate::machine::{Access, Interest, Machine, Read, Request, Response, Seen};
use crate::storage::{GroupLog, Journal, Snapshots};

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

/// Handle to one replica; cheap to clone.
#[derive(Clone)]
pub struct Group {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) id: GroupId,
    pub(super) raft: Raft,
    pub(super) shared: Arc<Shared>,
    pub(super) members: BTreeSet<NodeId>,
    pub(super) proposals: mpsc::Sender<Proposal>,
    gathering: Arc<Gathering>,
    pub(super) questions: mpsc::Sender<Question>,
    pub(super) followed: mpsc::Sender<Query>,
    pub(super) hibernation: Arc<Hibernation>,
    pub(super) journal: Journal,
    pub(super) leadership: Leadership,
    pub(super) clock: Clock,
    /// Leader and term, as last announced: asked at every request, so not worth a copy of all metrics.
    pub(super) leader: Arc<Mutex<(Option<NodeId>, u64)>>,
    /// The same, for who waits for another.
    elected: watch::Receiver<Option<NodeId>>,
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
        confirmer: Confirmer,
    ) -> Result<Group, String> {
        let shared = options.shared(id);
        let leadership = Leadership::new(journal.clone(), Arc::clone(&shared));
        let raft = start_raft(&options, &shared, &journal, snapshots, links.clone()).await?;
        let hibernation = Arc::new(Hibernation::new(raft.clone(), options.hibernation));
        let (proposals, queue) = mpsc::channel(GROUP_QUEUE_MAX);
        let (hurry, hurried) = watch::channel(false);
        let proposer = Proposer::new(
            raft.clone(),
            Arc::clone(&shared),
            hurried,
            Arc::clone(&hibernation),
            &options,
        );
        tokio::spawn(proposer.run(queue));
        let (questions, queue) = mpsc::channel(GROUP_QUEUE_MAX);
        let reader = Reader {
            raft: raft.clone(),
            hibernation: Arc::clone(&hibernation),
            shared: Arc::clone(&shared),
            clock: Arc::clone(&options.clock),
            proposer: proposals.clone(),
            hurry,
            timeout: Duration::from_millis(options.election_max_ms),
            lease: options.lease,
            confirmer,
            leadership: leadership.clone(),
            peers: options.peers(),
        };
        tokio::spawn(reader.run(queue));
        let leader = Arc::new(Mutex::new((None, 0)));
        let (followed, queue) = mpsc::channel(GROUP_QUEUE_MAX);
        let follower = FollowerReader {
            links,
            journal: journal.clone(),
            shared: Arc::clone(&shared),
            leader: Arc::clone(&leader),
            timeout: Duration::from_millis(options.election_max_ms),
        };
        tokio::spawn(follower.run(queue));
        let (elect, elected) = watch::channel(None);
        tokio::spawn(follow_leader(raft.clone(), Arc::clone(&leader), elect));
        let inner = Inner {
            id,
            raft,
            shared,
            members: options.members,
            proposals,
            gathering: options.gathering,
            questions,
            followed,
            hibernation,
            journal,
            leadership,
            clock: options.clock,
            leader,
            elected,
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

    /// Nodes with a replica.
    #[must_use]
    pub fn members(&self) -> &BTreeSet<NodeId> {
        &self.inner.members
    }

    /// Puts a request through the log and waits until it is applied and answered.
    ///
    /// # Errors
    /// [`GroupError`]; only `Unknown` and `Stopped` leave the outcome open.
    pub fn propose(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Response, GroupError>> + Send + use<> {
        let (answer, rx) = oneshot::channel();
        self.propose_to(request, Waiter::Task(answer));
        rx.map(|answer| answer.unwrap_or_else(|_| Err(dropped())))
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
        let proposal = Proposal::new(request, answer, &self.inner.gathering);
        if let Err(full) = self.inner.proposals.try_send(proposal) {
            full.into_inner().answer.send(Err(GroupError::Busy));
        }
    }

    /// Answers a linearizable read, if this replica leads.
    ///
    /// # Errors
    /// [`GroupError`]; a read has no effect, so all of them are definite.
    pub fn read(&self, read: Read) -> impl Future<Output = Result<Seen, GroupError>> + Send + use<> {
        let (answer, rx) = oneshot::channel();
        self.read_to(read, Waiter::Task(answer));
        rx.map(|answer| answer.unwrap_or(Err(GroupError::NotLeader(None))))
    }

    /// As [`Group::read`]; the answer is passed on from where it comes to be.
    pub fn read_then(&self, read: Read, then: impl FnOnce(Result<Seen, GroupError>) + Send + 'static) {
        self.read_to(read, Waiter::pass_on(then, GroupError::NotLeader(None)));
    }

    fn read_to(&self, read: Read, answer: Waiter<Seen>) {
        let question = Question::Read(Query { read, answer });
        if let Err(full) = self.inner.questions.try_send(question)
            && let Question::Read(query) = full.into_inner()
        {
            query.answer.send(Err(GroupError::Busy));
        }
    }

    /// Answers a linearizable read from this replica, that need not lead: the leader says how far it must have got.
    ///
    /// # Errors
    /// [`GroupError::NotLeader`] also where it has not got so far, or something is in the way: then the leader has to be asked.
    pub fn read_as_follower(
        &self,
        read: Read,
    ) -> impl Future<Output = Result<Seen, GroupError>> + Send + use<> {
        let (answer, rx) = oneshot::channel();
        let answer = Waiter::Task(answer);
        if let Err(full) = self.inner.followed.try_send(Query { read, answer }) {
            full.into_inner().answer.send(Err(GroupError::Busy));
        }
        rx.map(|answer| answer.unwrap_or(Err(GroupError::NotLeader(None))))
    }

    /// Whether this is the vote that the replica holds.
    pub(super) fn holds(&self, vote: &Bytes) -> bool {
        let journal = &self.inner.journal;
        journal.with(self.inner.id.number(), |log| log.vote.as_ref() == Some(vote))
    }

    /// What a read has to see at a follower that holds this vote, if this replica leads.
    pub(super) async fn read_index(&self, vote: &Bytes) -> Result<ReadIndex, GroupError> {
        self.inner.hibernation.wake();
        // The follower held the vote when the read had begun, and with the leader it is two of three: a quorum.
        let two_suffice = self.inner.members.len() <= 3;
        if two_suffice
            && let Some((held, index)) = self.inner.leadership.settled()
            && held == vote
        {
            let now = (self.inner.clock)();
            return Ok(ReadIndex { index, now });
        }
        let (answer, rx) = oneshot::channel();
        let question = Question::Index(Waiter::Task(answer));
        let sent = self.inner.questions.try_send(question);
        sent.map_err(|_| GroupError::Busy)?;
        rx.await.unwrap_or(Err(GroupError::NotLeader(None)))
    }

    /// Whether this replica has applied all of the log that it has: then it is probably not far behind the leader.
    #[must_use]
    pub fn seems_current(&self) -> bool {
        let last = self.inner.journal.with(self.inner.id.number(), GroupLog::end);
        last <= self.applied() + 1
    }

    /// Looks at the replica's state as it is here, however old.
    pub fn peek<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        self.inner.shared.with(|state| look(&state.machine))
    }

    /// Changes what is counted about keys; no part of the state.
    pub fn access<T>(&self, change: impl FnOnce(&mut Access) -> T) -> Option<T> {
        self.inner.shared.with(|state| state.machine.access().map(change))
    }

    /// Makes a key one of interest, or one of none any more; looks at the state at the same moment.
    pub fn interest<T>(&self, look: impl FnOnce(&mut Interest, &Machine) -> T) -> Option<T> {
        self.inner.shared.with(|state| {
            let mut interest = std::mem::take(state.machine.interest()?);
            let looked = look(&mut interest, &state.machine);
            *state.machine.interest()? = interest;
            Some(looked)
        })
    }

    /// Waits until keys of interest have been written since they were last taken.
    pub async fn written(&self) {
        self.inner.shared.written.notified().await;
    }

    /// Waits until keys of which copies are kept have been written.
    pub async fn tracked(&self) {
        self.inner.shared.tracked.notified().await;
    }

    /// Waits until something was done to keys that is to be told.
    pub async fn noticed(&self) {
        self.inner.shared.noticed.notified().await;
    }

    /// Index of the last applied entry.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.inner.shared.applied()
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

    /// Waits until another leader is known here than now.
    pub async fn next_leader(&self) -> NodeId {
        let mut elected = self.inner.elected.clone();
        elected.mark_unchanged();
        let now = *elected.borrow();
        let other = elected
            .wait_for(|leader| leader.is_some() && *leader != now)
            .await;
        match other.map(|leader| *leader) {
            Ok(Some(leader)) => leader,
            // The replica stops.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Whether this replica believes to lead.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leads_in().is_some()
    }

    /// The term in which this replica believes to lead.
    #[must_use]
    pub fn leads_in(&self) -> Option<u64> {
        let (leader, term) = self.leader();
        (leader == Some(self.inner.shared.node)).then_some(term)
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

    /// Stops the replica; what it holds on disk stays.
    pub async fn shutdown(&self) {
        if let Err(e) = self.inner.raft.shutdown().await {
            tracing::warn!(group = %self.inner.id, "did not stop cleanly: {e}");
        }
    }
}

async fn start_raft(
    options: &GroupOptions,
    shared: &Arc<Shared>,
    journal: &Journal,
    snapshots: Snapshots,
    links: Links,
) -> Result<Raft, String> {
    let group = shared.group;
    let config = config(group, options).validate().map_err(|e| e.to_string())?;
    let log = LogStore::new(group.number(), journal.clone());
    let machine = StateMachine::new(Arc::clone(shared), journal.clone(), snapshots);
    let purged_reads = log.purged_reads();
    let factory = Factory {
        group,
        links,
        purged_reads,
    };
    let raft = Raft::new(options.node, Arc::new(config), factory, log, machine);
    raft.await.map_err(|e| format!("{group} cannot start: {e}"))
}

fn dropped() -> GroupError {
    GroupError::Unknown("the waiter was dropped".into())
}

async fn follow_leader(
    raft: Raft,
    leader: Arc<Mutex<(Option<NodeId>, u64)>>,
    elect: watch::Sender<Option<NodeId>>,
) {
    let mut metrics = raft.server_metrics();
    loop {
        let now = {
            let metrics = metrics.borrow_watched();
            (metrics.current_leader, metrics.vote.leader_id.term)
        };
        *leader.lock() = now;
        elect.send_replace(now.0);
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
        // Not before the node may: [`Group::may_elect`].
        enable_elect: false,
        // A wiped node comes back under its id; it grants no vote until it has been refilled.
        allow_log_reversion: Some(true),
        quorum_loss_probe_interval: Some(options.election_max_ms * 3),
        ..Config::default()
    }
}
