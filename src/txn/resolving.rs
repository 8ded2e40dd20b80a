//! Staged attempts whose leader is gone, or has lost sight of a participant: everybody is asked, and the answers decide.
//!
//! ```text
//!  staged ─▶ Inquire each participant ─┬─ all have prepared ─▶ commit
//!                                      └─ one refuses, for good ─▶ abort
//! ```

use std::collections::BTreeMap;

use super::coordinator::Effect;
use super::telling::remembered;
use crate::base::{AttemptId, GroupId, Reply, TxnId};
use crate::machine::{Decide, Decision, Staged, Vote};

#[derive(Debug)]
struct Asked {
    staged: Staged,
    votes: BTreeMap<GroupId, Vec<Reply>>,
    /// The outcome is on its way to the log.
    decided: bool,
}

/// The staged attempts that a leader is finding out about.
#[derive(Debug, Default)]
pub(super) struct Resolving {
    asked: BTreeMap<TxnId, Asked>,
}

impl Resolving {
    pub fn contains(&self, txn: TxnId) -> bool {
        self.asked.contains_key(&txn)
    }

    /// The participants that have not answered for it.
    pub fn silent(&self, txn: TxnId) -> Vec<GroupId> {
        let Some(asked) = self.asked.get(&txn).filter(|asked| !asked.decided) else {
            return Vec::new();
        };
        let participants = asked.staged.participants.iter().copied();
        participants
            .filter(|shard| !asked.votes.contains_key(shard))
            .collect()
    }

    /// Begins to ask about an attempt; `votes` are known already. One that is being asked about just goes on; one
    /// that was decided here and is staged in the log all the same is asked about again: that decision may be lost.
    pub fn begin(&mut self, staged: Staged, votes: BTreeMap<GroupId, Vec<Reply>>) -> Vec<Effect> {
        let (attempt, deadline) = (staged.attempt, staged.deadline);
        let under_way = |asked: &Asked| asked.staged.attempt == attempt && !asked.decided;
        if self.asked.get(&attempt.txn).is_some_and(under_way) {
            return Vec::new();
        }
        let unknown = staged
            .participants
            .iter()
            .filter(|shard| !votes.contains_key(shard));
        let effects = unknown.map(|&shard| Effect::Inquire {
            shard,
            attempt,
            deadline,
        });
        let effects = effects.collect();
        let asked = Asked {
            staged,
            votes,
            decided: false,
        };
        self.asked.insert(attempt.txn, asked);
        effects
    }

    /// A participant's word. Its replies count, if it has prepared; if not, it never will.
    pub fn hear(&mut self, attempt: AttemptId, shard: GroupId, vote: Vote) -> Option<Effect> {
        let asked = self.asked.get_mut(&attempt.txn)?;
        if asked.staged.attempt != attempt || asked.decided {
            return None;
        }
        let (decision, refused) = match vote {
            Vote::Yes(replies) => {
                asked.votes.insert(shard, replies);
                if asked.votes.len() < asked.staged.participants.len() {
                    return None;
                }
                let commit = Decision::Commit {
                    attempt,
                    participants: remembered(std::mem::take(&mut asked.votes)),
                    deadline: asked.staged.deadline,
                };
                (commit, None)
            }
            Vote::No(_) => (Decision::Abort, Some(attempt)),
        };
        asked.decided = true;
        let decide = Box::new(Decide {
            txn: attempt.txn,
            deadline: asked.staged.deadline,
            decision,
            refused,
            told: false,
        });
        Some(Effect::Decide { decide, below: 0 })
    }

    /// The log has decided. What was being asked about, if anything was.
    pub fn end(&mut self, txn: TxnId) -> Option<Staged> {
        self.asked.remove(&txn).map(|asked| asked.staged)
    }
}
