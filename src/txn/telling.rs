//! What follows the answer to a commit: the participants are told, and the log gets the record.
//!
//! ```text
//!  committed ─┬─ Finish to each participant ─▶ all have acknowledged ──┐
//!             └─ twice RECORD_EVERY_MS at the most ────────────────────┴─▶ Decide, told or not ─▶ Retire, unless it was told
//! ```
//!
//! Until the log has the record, who takes over finds the attempt staged, and the votes that the participants keep.

use std::collections::{BTreeMap, BTreeSet};

use super::coordinator::{Coordinator, Effect};
use super::now::Now;
use crate::base::limits::REPLIES_BYTES_MAX;
use crate::base::{AttemptId, GroupId, Millis, Mutant, Reply, TxnId, mutant};
use crate::machine::{Decide, Decision, Finish, Staged};

/// How long records of commits are gathered for one log entry: nobody waits for them.
const RECORD_EVERY_MS: Millis = 50;

#[derive(Debug)]
pub(super) struct Telling {
    attempt: AttemptId,
    deadline: Millis,
    below: u64,
    /// Who has not acknowledged it.
    pub(super) left: BTreeSet<GroupId>,
    record: Record,
    /// It was left for the next entry of records once: not again.
    put_off: bool,
}

#[derive(Debug)]
enum Record {
    Due(Vec<(GroupId, Vec<Reply>)>),
    /// On its way to the log, having been told to all or not.
    Sent(Vec<(GroupId, Vec<Reply>)>, bool),
    Logged,
}

impl Telling {
    pub fn unrecorded(
        attempt: AttemptId,
        participants: Vec<(GroupId, Vec<Reply>)>,
        deadline: Millis,
        below: u64,
    ) -> Telling {
        Telling {
            attempt,
            deadline,
            below,
            left: participants.iter().map(|(shard, _)| *shard).collect(),
            record: Record::Due(participants),
            put_off: false,
        }
    }

    pub fn recorded(attempt: AttemptId, shards: impl Iterator<Item = GroupId>, deadline: Millis) -> Telling {
        Telling {
            attempt,
            deadline,
            below: 0,
            left: shards.collect(),
            record: Record::Logged,
            put_off: false,
        }
    }

    fn decision(&self, participants: &[(GroupId, Vec<Reply>)]) -> Decision {
        Decision::Commit {
            attempt: self.attempt,
            participants: participants.to_vec(),
            deadline: self.deadline,
        }
    }
}

/// The participants' replies, as the record of a commit and the answer have them: they fit into one.
pub(super) fn remembered(votes: BTreeMap<GroupId, Vec<Reply>>) -> Vec<(GroupId, Vec<Reply>)> {
    let mut participants: Vec<_> = votes.into_iter().collect();
    let replies = participants.iter_mut().flat_map(|(_, replies)| replies);
    Reply::leave_out(replies, REPLIES_BYTES_MAX);
    participants
}

impl Coordinator {
    /// What this leader has committed, as long as its log need not say so.
    #[must_use]
    pub fn commit(&self, txn: TxnId) -> Option<Decision> {
        let telling = self.telling.get(&txn)?;
        match &telling.record {
            Record::Due(participants) | Record::Sent(participants, _) => Some(telling.decision(participants)),
            Record::Logged => None,
        }
    }

    /// Takes over the commits that an earlier leader recorded and did not see acknowledged, and what it had staged.
    pub fn recover(
        &mut self,
        unretired: &BTreeMap<TxnId, Decision>,
        staged: &BTreeMap<TxnId, Staged>,
        now: impl Into<Now>,
    ) -> Vec<Effect> {
        let now = now.into();
        let mut effects = Vec::new();
        for (txn, staged) in staged {
            // What stands in the way of an active one, that one will be told.
            if !self.active.contains_key(txn) && !self.telling.contains_key(txn) {
                effects.extend(self.resolving.begin(staged.clone(), BTreeMap::new()));
            }
        }
        for (&txn, decision) in unretired
            .iter()
            .filter(|_| !mutant::is(Mutant::NewLeaderForgetsCommits))
        {
            if let Decision::Commit {
                attempt,
                participants,
                deadline,
            } = decision
                && !self.telling.contains_key(&txn)
            {
                let shards = participants.iter().map(|(shard, _)| *shard);
                let telling = Telling::recorded(*attempt, shards, *deadline);
                effects.extend(self.tell(txn, telling, now));
            }
        }
        effects
    }

    pub(super) fn tell(&mut self, txn: TxnId, telling: Telling, now: Now) -> Vec<Effect> {
        let finish = Finish {
            attempt: telling.attempt,
            commit: true,
            deadline: telling.deadline,
        };
        let told = telling.left.iter().map(|&shard| Effect::Finish { shard, finish });
        let told = told.collect();
        if self.telling.is_empty() {
            self.recording = now.steady + RECORD_EVERY_MS;
        }
        self.telling.insert(txn, telling);
        told
    }

    /// A participant has acknowledged a commit.
    pub fn told(&mut self, attempt: AttemptId, shard: GroupId) -> Vec<Effect> {
        let txn = attempt.txn;
        let Some(telling) = self.telling.get_mut(&txn).filter(|t| t.attempt == attempt) else {
            return Vec::new();
        };
        telling.left.remove(&shard);
        if mutant::is(Mutant::RetiredAfterFirstAck) {
            telling.left.clear();
        }
        match telling.record {
            Record::Logged if telling.left.is_empty() => {
                self.telling.remove(&txn);
                vec![Effect::Retire { txn }]
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn record_when_due(&mut self, now: Now) -> Vec<Effect> {
        if now.steady < self.recording {
            return Vec::new();
        }
        self.recording = now.steady + RECORD_EVERY_MS;
        let mut effects = Vec::new();
        for (&txn, telling) in &mut self.telling {
            let told = telling.left.is_empty();
            let Record::Due(participants) = &mut telling.record else {
                continue;
            };
            // Once all have acknowledged it, one entry is enough.
            if !told && !std::mem::replace(&mut telling.put_off, true) {
                continue;
            }
            let participants = std::mem::take(participants);
            let decide = Box::new(Decide {
                txn,
                deadline: telling.deadline,
                decision: telling.decision(&participants),
                refused: None,
                told,
            });
            telling.record = Record::Sent(participants, told);
            effects.push(Effect::Decide {
                decide,
                below: telling.below,
            });
        }
        effects
    }

    /// The log has it.
    pub(super) fn note_record(&mut self, txn: TxnId) -> Vec<Effect> {
        let Some(telling) = self.telling.get_mut(&txn) else {
            return Vec::new();
        };
        // Recorded as told by nobody but this leader: if another was faster, its record is looked after by `recover`.
        let retired = matches!(telling.record, Record::Sent(_, true));
        telling.record = Record::Logged;
        if !telling.left.is_empty() {
            return Vec::new();
        }
        self.telling.remove(&txn);
        let retire = (!retired).then_some(Effect::Retire { txn });
        retire.into_iter().collect()
    }
}
