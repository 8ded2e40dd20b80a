//! How a transaction leaves its coordinator: what is answered, recorded, and told to the participants.

use super::coordinator::{Answer, Coordinator, Effect};
use super::now::Now;
use super::telling::Telling;
use crate::base::{AttemptId, TxnId};
use crate::machine::{Decide, Decision, Finish, Staged};

impl Coordinator {
    pub(super) fn abort_attempt(&self, attempt: AttemptId) -> Vec<Effect> {
        let Some(active) = self.active.get(&attempt.txn) else {
            return Vec::new();
        };
        let finish = Finish {
            attempt,
            commit: false,
            deadline: active.txn.deadline,
        };
        active
            .txn
            .parts
            .iter()
            .map(|part| Effect::Finish {
                shard: part.shard,
                finish,
            })
            .collect()
    }

    pub(super) fn give_up(&mut self, txn: TxnId, why: &str, now: Now) -> Vec<Effect> {
        self.leave_aborted(txn, Answer::Aborted(why.into()), now)
    }

    /// Answers, and records the abort behind the answer: what was staged must not be left to others.
    pub(super) fn leave_aborted(&mut self, txn: TxnId, answer: Answer, now: Now) -> Vec<Effect> {
        let Some(active) = self.active.get(&txn) else {
            return Vec::new();
        };
        let decide = Box::new(Decide {
            txn,
            deadline: active.txn.deadline,
            decision: Decision::Abort,
            refused: active.refused,
            told: false,
        });
        let below = active.txn.below;
        let mut effects = self.leave(txn, answer, now);
        effects.push(Effect::Decide { decide, below });
        effects
    }

    pub(super) fn leave(&mut self, txn: TxnId, answer: Answer, now: Now) -> Vec<Effect> {
        let mut effects = vec![Effect::Answer { txn, answer }];
        let Some(active) = self.active.remove(&txn) else {
            return effects;
        };
        let started = self.admission.leave(txn, &active.lanes);
        effects.extend(self.start_all(&started, now));
        effects
    }

    /// The coordinator's log has spoken: its record is the outcome, whatever this leader had wanted.
    pub fn decided(&mut self, txn: TxnId, decision: &Decision, now: impl Into<Now>) -> Vec<Effect> {
        let now = now.into();
        let mut effects = Vec::new();
        let resolved = self.resolving.end(txn);
        match decision {
            Decision::Commit {
                attempt,
                participants,
                deadline,
            } => {
                // Told first, so that what starts next finds the locks free.
                if self.telling.contains_key(&txn) {
                    effects.extend(self.note_record(txn));
                } else {
                    let shards = participants.iter().map(|(shard, _)| *shard);
                    let telling = Telling::recorded(*attempt, shards, *deadline);
                    effects.extend(self.tell(txn, telling, now));
                }
                effects.extend(self.leave(txn, Answer::Committed(participants.clone()), now));
            }
            Decision::Abort => {
                // Of a commit that another leader has recorded, and its session has finished.
                effects.extend(self.note_record(txn));
                if let Some(active) = self.active.get(&txn) {
                    let attempt = AttemptId {
                        txn,
                        term: self.term,
                        number: active.number,
                    };
                    effects.extend(self.abort_attempt(attempt));
                }
                if let Some(staged) = resolved {
                    effects.extend(abort_staged(&staged));
                }
                effects.extend(self.leave(
                    txn,
                    Answer::Aborted("it took too long, or recovery had aborted it".into()),
                    now,
                ));
            }
        }
        effects
    }
}

/// Tells every participant of a staged attempt that it is over.
fn abort_staged(staged: &Staged) -> impl Iterator<Item = Effect> {
    let finish = Finish {
        attempt: staged.attempt,
        commit: false,
        deadline: staged.deadline,
    };
    staged
        .participants
        .iter()
        .map(move |&shard| Effect::Finish { shard, finish })
}
