//! One task a group that answers reads where the replica follows: the leader says, once for all reads that wait at that
//! moment, up to which entry they have to see, and this node's memory answers.
//! (Ongaro, "Consensus: Bridging Theory and Practice", 2014, section 6.4.)
//!
//! ```text
//!  reads ─▶ leader: a read index, confirmed by a quorum, and its clock
//!        ─▶ applied here that far? no lock, no expiry in the way? ─┬─▶ machine.read: answer
//!                                                                  └─▶ no: whoever asks is sent to the leader
//! ```
//!
//! What this saves is the way of each read to the leader and back. A follower hears a few milliseconds late what is
//! committed, so a group that is being written is read at its leader ([`Group::seems_current`](super::Group)).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::group::GroupError;
use super::link::Links;
use super::reader::Query;
use super::shared::Shared;
use super::waiter::Waiter;
use super::wire::{Call, Return};
use crate::base::limits::GROUP_QUEUE_MAX;
use crate::base::{Millis, Mutant, NodeId, mutant};
use crate::machine::{Read, ReadOutcome, Seen};
use crate::storage::Journal;

/// How long a read of large values waits for this replica to catch up: a follower hears within some milliseconds what is committed.
const CATCH_UP: Duration = Duration::from_millis(200);

/// What a read at a follower has to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadIndex {
    /// Entries up to this one.
    pub index: u64,
    /// What has expired at this time: the leader's.
    pub now: Millis,
}

pub struct FollowerReader {
    pub links: Links,
    pub shared: Arc<Shared>,
    pub journal: Journal,
    pub leader: Arc<Mutex<(Option<NodeId>, u64)>>,
    /// How long the leader may take before reads are told to try elsewhere.
    pub timeout: Duration,
}

impl FollowerReader {
    /// Runs until every sender is gone.
    pub async fn run(self, mut queue: mpsc::Receiver<Query>) {
        let mut waiting = Vec::new();
        while queue.recv_many(&mut waiting, GROUP_QUEUE_MAX).await > 0 {
            let leader = self.leader.lock().0;
            let told = match leader {
                Some(leader) => self.ask(leader).await,
                None => None,
            };
            // Another one may have been elected while this one was silent.
            let leader = self.leader.lock().0;
            if let Some(told) = told.filter(|told| told.index > self.applied()) {
                self.put_off(&mut waiting, told);
            }
            let answers: Vec<_> = self.shared.with(|state| {
                let applied = state.applied.map_or(0, |id| id.index);
                let told = told.filter(|told| told.index <= applied);
                let look = |read: &Read| match told {
                    Some(told) => state.machine.read(read, told.now, applied),
                    None => ReadOutcome::Locked,
                };
                let looked = waiting.drain(..).map(|query| (query.answer, look(&query.read)));
                looked.collect()
            });
            // Others want the state meanwhile.
            for (answer, outcome) in answers {
                send(answer, outcome, leader);
            }
        }
    }

    fn applied(&self) -> u64 {
        self.shared.with(|state| state.applied.map_or(0, |id| id.index))
    }

    /// Large values are better waited for than sent: such reads are answered once this replica has applied what they must see.
    fn put_off(&self, waiting: &mut Vec<Query>, told: ReadIndex) {
        let patient = waiting.extract_if(.., |query| matches!(query.read, Read::Values { .. }));
        for Query { read, answer } in patient {
            let (shared, leader) = (Arc::clone(&self.shared), Arc::clone(&self.leader));
            tokio::spawn(async move {
                let mut applied = shared.watch_applied();
                let there = applied.wait_for(|applied| *applied >= told.index);
                // Where it takes too long, the leader is asked.
                let there = tokio::time::timeout(CATCH_UP, there).await.is_ok();
                let outcome = if there {
                    shared.with(|state| state.machine.read(&read, told.now, told.index))
                } else {
                    ReadOutcome::Locked
                };
                send(answer, outcome, leader.lock().0);
            });
        }
    }

    async fn ask(&self, leader: NodeId) -> Option<ReadIndex> {
        if mutant::is(Mutant::FollowerReadsUnasked) {
            return Some(ReadIndex { index: 0, now: 0 });
        }
        let group = self.shared.group;
        let vote = self.journal.with(group.number(), |log| log.vote.clone())?;
        let answer = self.links.call(leader, Call::ReadIndex(group, vote)).ok()?;
        match tokio::time::timeout(self.timeout, answer).await.ok()? {
            Ok(Return::ReadIndex(told)) => Some(told),
            _ => None,
        }
    }
}

fn send(answer: Waiter<Seen>, outcome: ReadOutcome, leader: Option<NodeId>) {
    answer.send(match outcome {
        ReadOutcome::Ready(seen) => Ok(seen),
        ReadOutcome::Locked | ReadOutcome::Expired => Err(GroupError::NotLeader(leader)),
    });
}
