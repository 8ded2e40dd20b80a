//! The end of an attempt at a participant: questions about it, its commit or abort, and for how long that is remembered.

use serde::{Deserialize, Serialize};

use super::request::{Finish, No, Response, Vote};
use super::shard::{Applying, Shard};
use crate::base::{AttemptId, GroupId, Millis, Mutant, Reply, mutant};

/// The vote of a committed attempt. Until its coordinator's log has the decision, who inquires has to hear it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) coordinator: GroupId,
    pub(super) replies: Vec<Reply>,
}

impl Shard {
    /// Attempts that were committed here and whose votes are still kept, with their coordinators.
    pub fn kept(&self) -> impl Iterator<Item = (AttemptId, GroupId)> + '_ {
        self.head
            .kept
            .iter()
            .map(|(&attempt, kept)| (attempt, kept.coordinator))
    }

    /// Whether an attempt is prepared here, or was committed. If not, it never will be.
    pub(super) fn inquire(
        &mut self,
        attempt: AttemptId,
        deadline: Millis,
        applying: &mut Applying,
    ) -> Response {
        if let Some(intent) = self.head.prepared.get(&attempt) {
            return Response::Vote(Vote::Yes(intent.replies.clone()));
        }
        if let Some(kept) = self.head.kept.get(&attempt) {
            return Response::Vote(Vote::Yes(kept.replies.clone()));
        }
        match self.head.finished.get(attempt) {
            // The decision is there, and will be found: these replies are nobody's.
            Some(true) => return Response::Vote(Vote::Yes(Vec::new())),
            Some(false) => {}
            None if mutant::is(Mutant::InquiryRefusesNothing) => {}
            None => self.remember_finished(attempt, deadline, false),
        }
        self.refuse_parked(attempt, applying);
        Response::Vote(Vote::No(No::Late))
    }

    fn refuse_parked(&mut self, attempt: AttemptId, applying: &mut Applying) {
        if let Some(ticket) = self.head.parked.of_attempt(attempt)
            && let Some(parked) = self.unpark(ticket)
        {
            let late = Response::Vote(Vote::No(No::Late));
            Self::answer(&parked, ticket, &late, &mut applying.out);
        }
    }

    pub(super) fn finish(&mut self, finish: Finish, applying: &mut Applying) {
        let Finish {
            attempt,
            commit,
            deadline,
        } = finish;
        if let Some(intent) = self.head.prepared.remove(&attempt) {
            self.remember_finished(attempt, deadline, commit);
            self.keyspace.interest.notices.decided(attempt, commit);
            if commit || mutant::is(Mutant::AbortAppliesIntent) {
                self.keyspace.interest.tracked.by(Some(attempt.txn));
                self.write(intent.writes, applying.index);
            }
            if commit && !mutant::is(Mutant::VoteForgottenAtCommit) {
                let kept = Kept {
                    coordinator: intent.coordinator,
                    replies: intent.replies,
                };
                self.head.kept.insert(attempt, kept);
            }
            if !commit && mutant::is(Mutant::AbortKeepsLocks) {
                return;
            }
            let woken = self.head.locks.unlock(&intent.scope, attempt);
            self.wake(&woken, applying);
            return;
        }
        // A commit that finds neither intent nor memory of one would have lost a half of a transaction.
        let before = self.head.finished.get(attempt) == Some(true) || self.head.kept.contains_key(&attempt);
        assert!(
            !commit || before || self.head.time > deadline,
            "commit of {attempt}, which did not prepare here or was aborted"
        );
        if before && !mutant::is(Mutant::AbortAfterCommit) {
            // A participant asked, was told to commit by others meanwhile, and its question came up when the record
            // had been retired and forgotten: "abort" then speaks of attempts that are still prepared.
            return;
        }
        self.remember_finished(attempt, deadline, commit);
        self.refuse_parked(attempt, applying);
    }

    pub(super) fn remember_finished(&mut self, attempt: AttemptId, deadline: Millis, committed: bool) {
        if deadline >= self.head.time {
            self.head.finished.insert(attempt, deadline, committed);
        }
    }

    pub(super) fn forget_kept(&mut self, attempts: &[AttemptId]) {
        for attempt in attempts {
            self.head.kept.remove(attempt);
        }
    }

    pub(super) fn forget_finished(&mut self) {
        let gone = self.head.finished.forget_before(self.head.time);
        if mutant::is(Mutant::VoteForgottenAtDeadline) {
            self.forget_kept(&gone);
        }
    }
}
