//! One task a group that answers reads: one ReadIndex round for all that wait at that moment, or none within a lease.
//!
//! ```text
//!  reads ─▶ ReadIndex (a quorum confirms the leader) ─▶ applied that far ─▶ machine.read ─┬─▶ Ready: answer
//!                                                                                          ├─▶ Locked, by what was prepared when it was first looked at: wait for an apply, look again
//!                                                                                          └─▶ Expired: log the expiry, look again
//! ```
//!
//! A read that waits needs no second round: the state it sees later is at least as new as the one it was promised.

use std::sync::Arc;
use std::time::Duration;

use openraft::LinearizerOption;
use openraft::async_runtime::WatchReceiver;
use openraft::error::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot, watch};

use super::group::GroupError;
use super::hibernation::Hibernation;
use super::proposer::Proposal;
use super::shared::Shared;
use super::waiter::Waiter;
use super::{Raft, TypeConfig};
use crate::base::limits::GROUP_QUEUE_MAX;
use crate::base::{Mutant, mutant};
use crate::host::Clock;
use crate::machine::{Body, Read, ReadOutcome, Request, Seen};

/// A read on its way.
pub struct Query {
    pub read: Read,
    pub answer: Waiter<Seen>,
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
    /// How long a round may take before its reads are told to try elsewhere.
    pub timeout: Duration,
}

impl Reader {
    /// Runs until every sender is gone.
    pub async fn run(self, mut queue: mpsc::Receiver<Query>) {
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
                    match self.confirm().await {
                        Ok(()) => waiting.extend(fresh.drain(..).map(|query| Waiting { query, asked: None })),
                        Err(error) => fresh.drain(..).for_each(|query| refuse(query, &error)),
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

    async fn confirm(&self) -> Result<(), GroupError> {
        if mutant::is(Mutant::ReadAnywhere)
            || mutant::is(Mutant::ReadWithoutQuorum) && self.believes_to_lead()
        {
            return Ok(());
        }
        // Where the last word is too old, or leadership is being handed over, the majority is asked as well.
        let age = self.lease.unwrap_or(Duration::ZERO);
        let round = async {
            let linearizer = self
                .raft
                .get_read_linearizer(LinearizerOption::new(Some(age), true))
                .await
                .map_err(explain)?;
            let ready = linearizer.await_ready(&self.raft).await;
            ready
                .map(drop)
                .map_err(|fatal| GroupError::Stopped(fatal.to_string()))
        };
        tokio::time::timeout(self.timeout, round)
            .await
            .map_err(|_| GroupError::NotLeader(None))?
    }

    /// Answers what can be answered; gives back what has to wait for the next apply.
    async fn serve(&self, looked_at: Vec<Waiting>) -> Vec<Waiting> {
        let now = (self.clock)();
        let mut waiting = Vec::new();
        let (mut expired, mut locked) = (false, false);
        self.shared.with(|state| {
            let applied = state.applied.map_or(0, |id| id.index);
            for Waiting { query, asked } in looked_at {
                if query.answer.is_closed() {
                    continue;
                }
                let asked = asked.unwrap_or(applied);
                let outcome = state.machine.read(&query.read, now, asked);
                if let ReadOutcome::Ready(seen) = outcome {
                    query.answer.send(Ok(seen));
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
        self.hurry
            .send_if_modified(|hurry| std::mem::replace(hurry, locked) != locked);
        if expired {
            let (answer, _) = oneshot::channel();
            let sweep = Proposal {
                request: Request::anonymous(Body::Sweep),
                answer: Waiter::Task(answer),
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
