//! The coordinator group's state: which transactions were decided how.
//!
//! ```text
//!  (no record) ─first Decide─▶ Commit ─all participants told─▶ retired ─session moves on─▶ forgotten
//!                    └───────▶ Abort  ─────────────────────────────────session moves on─▶ forgotten
//! ```
//!
//! Presumed abort (Mohan, Lindsay, Obermarck, 1986): who finds no record gets an Abort logged first, so that a commit
//! can never follow. A commit past the transaction's deadline is an abort, so nothing must be remembered for ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::read::{Read, ReadOutcome, Seen};
use super::request::{Batch, Body, Decide, Decision, Refusal, Response, Ticket};
use super::sessions::{Known, Sessions};
use crate::base::{Millis, Mutant, TxnId, mutant};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Coordinator {
    /// Commits that not all participants have acknowledged: a durable queue.
    pub(super) unretired: BTreeMap<TxnId, Decision>,
    pub(super) outcomes: Sessions<Decision>,
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

    /// The recorded decision, while it is remembered.
    #[must_use]
    pub fn decision(&self, txn: TxnId) -> Option<&Decision> {
        self.unretired.get(&txn).or_else(|| self.outcomes.get(txn))
    }

    pub(super) fn apply(&mut self, index: u64, batch: Batch) -> Vec<(Ticket, Response)> {
        self.time = self.time.max(batch.time);
        let answer = |(at, request): (u32, super::Request)| {
            let response = match request.body {
                Body::Decide(decide) => self.decide(*decide, request.below),
                Body::Retire(txn) => {
                    self.unretired.remove(&txn);
                    if mutant::is(Mutant::OutcomeForgottenWhenRetired) {
                        self.outcomes.forget(txn);
                    }
                    Response::Done
                }
                Body::Sweep => Response::Done,
                Body::Run { .. } | Body::Prepare(_) | Body::Finish(_) | Body::Withdraw => {
                    Response::Refused(Refusal::Misdirected)
                }
            };
            (Ticket { index, at }, response)
        };
        (0..).zip(batch.requests).map(answer).collect()
    }

    /// First record wins. Every answer without a record is one that no later entry can change.
    fn decide(&mut self, decide: Decide, below: u64) -> Response {
        let recorded = self.unretired.get(&decide.txn);
        if let Some(decision) = recorded.filter(|_| !mutant::is(Mutant::DecidedTwice)) {
            return Response::Decision(decision.clone());
        }
        let decision = match self.outcomes.look_up(decide.txn, below, self.time) {
            Known::Seen(_) if mutant::is(Mutant::DecidedTwice) => decide.decision,
            Known::Seen(decision) => return Response::Decision(decision.clone()),
            // The session will not ask again, and a commit of a finished number is refused here for ever.
            Known::Finished => return Response::Decision(Decision::Abort),
            Known::Full => return Response::Refused(Refusal::Full),
            Known::New if self.time > decide.deadline && !mutant::is(Mutant::CommitPastDeadline) => {
                Decision::Abort
            }
            Known::New => decide.decision,
        };
        self.outcomes.record(decide.txn, decision.clone());
        if let Decision::Commit { .. } = decision {
            self.unretired.insert(decide.txn, decision.clone());
        }
        Response::Decision(decision)
    }

    pub(super) fn read(&self, read: &Read) -> ReadOutcome {
        ReadOutcome::Ready(match read {
            Read::Status(id) => self
                .decision(*id)
                .map_or(Seen::Nothing, |d| Seen::Decision(d.clone())),
            Read::Run { .. } => Seen::Nothing,
        })
    }
}
