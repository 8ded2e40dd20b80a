//! The coordinator group's state: which transactions were decided how.
//!
//! ```text
//!  (no record) ─Stage─▶ staged ─all have prepared─▶ Commit ─all participants told─▶ retired ─session moves on─▶ forgotten
//!       │                 └─────one has refused───▶ Abort  ─────────────────────────────────session moves on─▶ forgotten
//!       └──first Decide──▶ Commit or Abort
//! ```
//! The record of a commit follows behind the answer, and mostly behind the participants' acknowledgements: such a one is
//! retired from the start.
//!
//! Parallel commit (Taft et al., "CockroachDB: The Resilient Geo-Distributed SQL Database", 2020): a staged attempt whose
//! participants have all prepared it *is* committed. So it is never aborted without the word of a participant that has
//! refused it for good, and none is staged instead without that. Participants keep their votes until they see in this log that
//! the attempt is not staged any more (`Read::Staged`).
//!
//! Presumed abort (Mohan, Lindsay, Obermarck, 1986): who finds no record gets an Abort logged first, so that a commit
//! can never follow. A commit past the transaction's deadline is an abort, so nothing must be remembered for ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::read::{Read, ReadOutcome, Seen};
use super::request::{Batch, Body, Decide, Decision, Refusal, Response, Stage, Staged, Ticket};
use super::sessions::{Known, Sessions};
use crate::base::{AttemptId, Millis, Mutant, TxnId, mutant};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Coordinator {
    /// Commits that not all participants have acknowledged: a durable queue.
    pub(super) unretired: BTreeMap<TxnId, Decision>,
    pub(super) outcomes: Sessions<Decision>,
    /// Attempts whose outcome depends on their participants.
    staged: BTreeMap<TxnId, Staged>,
    time: Millis,
}

impl Coordinator {
    #[must_use]
    pub fn time(&self) -> Millis {
        self.time
    }

    /// Commits whose participants have not all acknowledged.
    #[must_use]
    pub fn unretired(&self) -> &BTreeMap<TxnId, Decision> {
        &self.unretired
    }

    /// Attempts that are staged and not decided.
    #[must_use]
    pub fn staged(&self) -> &BTreeMap<TxnId, Staged> {
        &self.staged
    }

    /// The recorded decision, while it is remembered.
    #[must_use]
    pub fn decision(&self, txn: TxnId) -> Option<&Decision> {
        self.unretired.get(&txn).or_else(|| self.outcomes.get(txn))
    }

    pub(super) fn apply(&mut self, index: u64, batch: Batch) -> Vec<(Ticket, Response)> {
        self.time = self.time.max(batch.time);
        let answer = |(at, request): (u32, super::Request)| {
            let response = match request.body {
                Body::Stage(stage) => self.stage(*stage, request.below),
                Body::Decide(decide) => self.decide(*decide, request.below),
                Body::Retire(txn) => {
                    self.unretired.remove(&txn);
                    if mutant::is(Mutant::OutcomeForgottenWhenRetired) {
                        self.outcomes.forget(txn);
                    }
                    Response::Done
                }
                Body::Sweep | Body::Digest => Response::Done,
                Body::Withdraw => self.withdraw(request.id),
                Body::Run { .. }
                | Body::Evict(_)
                | Body::Full
                | Body::Prepare(_)
                | Body::Finish(_)
                | Body::Inquire { .. }
                | Body::Forget(_)
                | Body::Functions(_) => Response::Refused(Refusal::Misdirected),
            };
            (Ticket { index, at }, response)
        };
        (0..).zip(batch.requests).map(answer).collect()
    }

    /// The first attempt stays, until it is decided or a participant has refused it.
    fn stage(&mut self, stage: Stage, below: u64) -> Response {
        let Stage { staged, refused } = stage;
        let txn = staged.attempt.txn;
        if let Some(decision) = self.unretired.get(&txn) {
            return Response::Decision(decision.clone());
        }
        match self.staged.get(&txn) {
            Some(before) if !covers(refused, before) => return Response::Staged(before.clone()),
            _ => self.staged.remove(&txn),
        };
        match self.outcomes.look_up(txn, below, self.time) {
            Known::Seen(decision) => Response::Decision(decision.clone()),
            Known::Finished => Response::Decision(Decision::Abort),
            Known::Full => Response::Refused(Refusal::Full),
            Known::New if self.time > staged.deadline && !mutant::is(Mutant::CommitPastDeadline) => {
                self.record(txn, Decision::Abort)
            }
            Known::New => {
                self.staged.insert(txn, staged.clone());
                Response::Staged(staged)
            }
        }
    }

    /// First record wins. Every answer without a record is one that no later entry can change.
    fn decide(&mut self, decide: Decide, below: u64) -> Response {
        let Decide {
            txn,
            deadline,
            decision,
            refused,
            told,
        } = decide;
        let recorded = self.unretired.get(&txn);
        if let Some(decision) = recorded.filter(|_| !mutant::is(Mutant::DecidedTwice)) {
            return Response::Decision(decision.clone());
        }
        let known = self.outcomes.look_up(txn, below, self.time);
        // What is staged is looked at first: the session may have moved on, having been told of the commit.
        if let Some(staged) = self.staged.get(&txn)
            && !mutant::is(Mutant::FinishedSessionsUnstage)
        {
            let commits = matches!(&decision, Decision::Commit { attempt, .. } if *attempt == staged.attempt);
            if !commits && !covers(refused, staged) {
                return Response::Staged(staged.clone());
            }
            let finished = matches!(known, Known::Finished);
            self.staged.remove(&txn);
            let decision = if commits { decision } else { Decision::Abort };
            if !finished {
                self.outcomes.record(txn, decision.clone());
            }
            return self.queue(txn, decision, told);
        }
        match known {
            Known::Seen(_) if mutant::is(Mutant::DecidedTwice) => {}
            Known::Seen(decision) => return Response::Decision(decision.clone()),
            // It was staged, and is not any more: another leader has recorded it, and the session has moved on since.
            _ if told => return Response::Decision(decision),
            // The session will not ask again, and a commit of a finished number is refused here for ever.
            Known::Finished => return Response::Decision(Decision::Abort),
            Known::Full => return Response::Refused(Refusal::Full),
            Known::New => {}
        }
        let late = self.time > deadline && !mutant::is(Mutant::CommitPastDeadline);
        self.record(txn, if late { Decision::Abort } else { decision })
    }

    /// As a decision to abort, but by somebody who knows of no attempt: of a finished number it cannot be said that it was
    /// not committed.
    fn withdraw(&mut self, id: Option<TxnId>) -> Response {
        let Some(txn) = id else {
            return Response::Refused(Refusal::Misdirected);
        };
        if let Some(decision) = self.unretired.get(&txn) {
            return Response::Decision(decision.clone());
        }
        if let Some(staged) = self.staged.get(&txn) {
            return Response::Staged(staged.clone());
        }
        // Before a look makes its session a known one: to refuse it now would prove nothing.
        if self.outcomes.may_have_forgotten(txn.session) {
            return Response::Refused(Refusal::Finished);
        }
        match self.outcomes.look_up(txn, 0, self.time) {
            Known::Seen(decision) => Response::Decision(decision.clone()),
            Known::Finished => Response::Refused(Refusal::Finished),
            Known::Full => Response::Refused(Refusal::Full),
            Known::New => self.record(txn, Decision::Abort),
        }
    }

    fn record(&mut self, txn: TxnId, decision: Decision) -> Response {
        self.outcomes.record(txn, decision.clone());
        self.queue(txn, decision, false)
    }

    /// Unless that has been done, the participants have to be told.
    fn queue(&mut self, txn: TxnId, decision: Decision, told: bool) -> Response {
        if let (Decision::Commit { .. }, false) = (&decision, told) {
            self.unretired.insert(txn, decision.clone());
        }
        Response::Decision(decision)
    }

    pub(super) fn read(&self, read: &Read) -> ReadOutcome {
        ReadOutcome::Ready(match read {
            Read::Status(id) => self
                .decision(*id)
                .map_or(Seen::Nothing, |d| Seen::Decision(d.clone())),
            Read::Staged(attempts) => Seen::Staged(self.still_staged(attempts)),
            Read::Run { .. } | Read::Values { .. } | Read::Functions(_) => Seen::Nothing,
        })
    }

    fn still_staged(&self, attempts: &[AttemptId]) -> Vec<AttemptId> {
        let is_staged = |attempt: &&AttemptId| {
            let staged = self.staged.get(&attempt.txn);
            staged.is_some_and(|staged| staged.attempt == **attempt)
                && !mutant::is(Mutant::VoteForgottenWhileStaged)
        };
        attempts.iter().filter(is_staged).copied().collect()
    }
}

/// Whether the word that `refused` was refused rules `staged` out: a leader begins an attempt only when its last is dead.
fn covers(refused: Option<AttemptId>, staged: &Staged) -> bool {
    let attempt = staged.attempt;
    mutant::is(Mutant::StagedAbortedUnasked)
        || refused
            .is_some_and(|r| r.txn == attempt.txn && r.term == attempt.term && r.number >= attempt.number)
}
