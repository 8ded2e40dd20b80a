//! One task a group that answers reads: one ReadIndex round for all that wait at that moment, or none within a lease.
//!
//! ```text
//!  reads ─▶ ReadIndex (a quorum confirms the leader) ─▶ applied that far ─▶ machine.read ─┬─▶ Ready: answer
//!                                                                                          ├─▶ Locked, by what was prepared when it was first looked at: wait for an apply, look again
//!                                                                                          └─▶ Expired: log the expiry, look again
//! ```
//!
//! A read that waits needs no second round: the state it sees later is at least as new as the one it was promised.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::error::{LinearizableReadError, RaftError};
use openraft::{LinearizerOption, RaftState, ServerState};
use tokio::sync::{mpsc, oneshot, watch};

use super::confirm::{Confirmer, Leadership};
use super::follower::ReadIndex;
use super::group::GroupError;
use super::hibernation::Hibernation;
use super::proposer::Proposal;
use super::shared::Shared;
use super::waiter::Waiter;
use super::{Raft, TypeConfig};
use crate::base::limits::GROUP_QUEUE_MAX;
use crate::base::{Mutant, NodeId, codec, mutant};
use crate::host::Clock;
use crate::machine::{Body, Read, ReadOutcome, Request, Seen};

/// A read on its way.
pub struct Query {
    pub read: Read,
    pub answer: Waiter<Seen>,
}

/// What the leader's task is asked.
pub enum Question {
    Read(Query),
    /// By a follower that answers reads itself.
    Index(Waiter<ReadIndex>),
}

/// One whose leader is confirmed, and the log index that was applied when it was first looked at.
struct Waiting {
    query: Query,
    asked: Option<u64>,
}

pub struct Reader {
    pub raft: Raft,
    pub hibernation: Arc<Hibernation>,
    pub shared: Arc<Shared>,
    pub clock: Clock,
    pub proposer: mpsc::Sender<Proposal>,
    /// Tells the proposer whether reads wait for locks.
    pub hurry: watch::Sender<bool>,
    /// For how long the majority's last word is enough; `None`: it is asked each time.
    pub lease: Option<Duration>,
    pub confirmer: Confirmer,
    pub leadership: Leadership,
    /// The group's other members.
    pub peers: BTreeSet<NodeId>,
    /// How long a round may take before its reads are told to try elsewhere.
    pub timeout: Duration,
}

impl Reader {
    /// Runs until every sender is gone.
    pub async fn run(self, mut queue: mpsc::Receiver<Question>) {
        let mut fresh = Vec::new();
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut applied = self.shared.watch_applied();
        loop {
            tokio::select! {
                biased;
                taken = queue.recv_many(&mut fresh, GROUP_QUEUE_MAX) => {
                    if taken == 0 {
                        return;
                    }
                    self.hibernation.wake();
                    applied.mark_unchanged();
                    let confirmed = self.confirm().await;
                    let now = (self.clock)();
                    for question in fresh.drain(..) {
                        match (question, &confirmed) {
                            (Question::Read(query), Ok(_)) => waiting.push(Waiting { query, asked: None }),
                            (Question::Read(query), Err(error)) => refuse(query, error),
                            (Question::Index(answer), &Ok(index)) => answer.send(Ok(ReadIndex { index, now })),
                            (Question::Index(answer), Err(error)) => answer.send(Err(error.clone())),
                        }
                    }
                }
                changed = applied.changed(), if !waiting.is_empty() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            waiting = self.serve(waiting).await;
        }
    }

    fn believes_to_lead(&self) -> bool {
        self.raft.metrics().borrow_watched().current_leader == Some(self.shared.node)
    }

    /// Makes sure that this replica leads; the log index up to which a read that began before has to see.
    async fn confirm(&self) -> Result<u64, GroupError> {
        if mutant::is(Mutant::ReadAnywhere)
            || mutant::is(Mutant::ReadWithoutQuorum) && self.believes_to_lead()
        {
            return Ok(self.shared.with(|state| state.applied.map_or(0, |id| id.index)));
        }
        let round = async {
            match self.lease {
                Some(age) => self.within_lease(age).await,
                None => self.with_quorum().await,
            }
        };
        tokio::time::timeout(self.timeout, round)
            .await
            .map_err(|_| GroupError::NotLeader(None))?
    }

    /// Relies on the majority's last word, if it is not older than that; else, and where leadership is being handed over,
    /// the majority is asked.
    async fn within_lease(&self, age: Duration) -> Result<u64, GroupError> {
        let option = LinearizerOption::new(Some(age), true);
        let linearizer = self.raft.get_read_linearizer(option).await.map_err(explain)?;
        let index = linearizer.read_log_id().index();
        let ready = linearizer.await_ready(&self.raft).await;
        ready
            .map(|_| index)
            .map_err(|fatal| GroupError::Stopped(fatal.to_string()))
    }

    /// Asks the majority now. The index is taken first: who held the leader's vote afterwards held it then.
    async fn with_quorum(&self) -> Result<u64, GroupError> {
        let (vote, index) = match self.leadership.settled() {
            Some(settled) => settled,
            None => self.vote_and_index().await?,
        };
        let confirmed = self
            .confirmer
            .confirm(self.shared.group, vote, self.peers.clone());
        if !confirmed.await {
            return Err(GroupError::NotLeader(None));
        }
        let mut applied = self.shared.watch_applied();
        let ready = applied.wait_for(|&applied| applied >= index).await;
        ready
            .map(|_| index)
            .map_err(|_| GroupError::Stopped("the state is gone".into()))
    }

    /// The vote by which this replica leads, and up to where the log is committed.
    async fn vote_and_index(&self) -> Result<(Bytes, u64), GroupError> {
        let me = self.shared.node;
        let leads = move |state: &RaftState<TypeConfig>| {
            let vote = *state.vote_ref();
            if state.server_state != ServerState::Leader || vote.leader_id.node_id != me || !vote.committed {
                let leader = vote.committed.then_some(vote.leader_id.node_id);
                return Err(GroupError::NotLeader(leader.filter(|&node| node != me)));
            }
            // Before an entry of its own term is committed, a leader does not know how far the log was.
            let committed = state.cluster_committed().copied();
            let own = committed.filter(|id| id.leader_id == vote.leader_id);
            let index = own.or(state.log_ids.last().copied()).map_or(0, |id| id.index);
            Ok((vote, index))
        };
        let state = self.raft.with_raft_state(leads).await;
        let (vote, index) = state.map_err(|fatal| GroupError::Stopped(fatal.to_string()))??;
        let vote = codec::encode(&vote).map_err(|e| GroupError::Stopped(e.to_string()))?;
        Ok((vote.into(), index))
    }

    /// Answers what can be answered; gives back what has to wait for the next apply.
    async fn serve(&self, looked_at: Vec<Waiting>) -> Vec<Waiting> {
        let now = (self.clock)();
        let (mut waiting, mut answers) = (Vec::new(), Vec::with_capacity(looked_at.len()));
        let (mut expired, mut locked) = (false, false);
        self.shared.with(|state| {
            let applied = state.applied.map_or(0, |id| id.index);
            state
                .machine
                .warm_for(looked_at.iter().map(|waiting| &waiting.query.read));
            for Waiting { query, asked } in looked_at {
                if query.answer.is_closed() {
                    continue;
                }
                let asked = asked.unwrap_or(applied);
                let outcome = state.machine.read(&query.read, now, asked);
                if let ReadOutcome::Ready(seen) = outcome {
                    answers.push((query.answer, seen));
                    continue;
                }
                expired |= outcome == ReadOutcome::Expired;
                locked |= outcome == ReadOutcome::Locked;
                waiting.push(Waiting {
                    query,
                    asked: Some(asked),
                });
            }
        });
        // Others want the state meanwhile.
        for (answer, seen) in answers {
            answer.send(Ok(seen));
        }
        self.hurry
            .send_if_modified(|hurry| std::mem::replace(hurry, locked) != locked);
        if expired {
            let (answer, _) = oneshot::channel();
            let sweep = Proposal {
                request: Request::anonymous(Body::Sweep),
                answer: Waiter::Task(answer),
                presence: None,
            };
            if self.proposer.send(sweep).await.is_err() {
                waiting
                    .drain(..)
                    .for_each(|waiting| refuse(waiting.query, &GroupError::NotLeader(None)));
            }
        }
        waiting
    }
}

fn refuse(query: Query, error: &GroupError) {
    query.answer.send(Err(error.clone()));
}

fn explain(error: RaftError<TypeConfig, LinearizableReadError<TypeConfig>>) -> GroupError {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(to)) => {
            GroupError::NotLeader(to.leader_id)
        }
        RaftError::APIError(_) => GroupError::NotLeader(None),
        RaftError::Fatal(fatal) => GroupError::Stopped(fatal.to_string()),
    }
}
