//! What a coordinator's driver sends: each in a task of its own, again and again until it is answered or pointless.

use std::time::Duration;

use fail::fail_point;
use futures::future::join_all;
use tokio::time::Instant;

use super::driver::{Driver, Report, TICK};
use super::message::{Ask, Told};
use crate::base::{AttemptId, GroupId, Millis, TxnId};
use crate::machine::{Body, Decide, Finish, Prepare, Refusal, Request, Response, Stage};

/// How long one delivery is tried before it is looked at anew.
const DELIVERY: Duration = Duration::from_secs(5);

impl Driver {
    pub(super) fn deliver_prepare(&self, shard: GroupId, prepare: Box<Prepare>) {
        let (router, reports, term) = (self.router.clone(), self.reports.clone(), self.term());
        let (attempt, deadline) = (prepare.attempt, self.deadline(prepare.deadline));
        tokio::spawn(async move {
            let ask = Ask::Propose(Request::anonymous(Body::Prepare(prepare)));
            let report = match router.ask(shard, &ask, deadline).await {
                Ok(Told::Response(Response::Vote(vote))) => Report::Vote(attempt, shard, vote),
                // It may have prepared, or may yet.
                _ => Report::Unreachable(attempt),
            };
            // The driver outlives its deliveries, but for the end of the process.
            let _ = reports.send((term, report)).await;
        });
    }

    /// Through the log until it answers: without its word nobody may act on the votes.
    pub(super) fn deliver_stage(&self, stage: Box<Stage>, below: u64) {
        fail_point!("txn-unstaged", |_| super::driver::die_after_delivery(
            "txn-unstaged"
        ));
        let (router, reports, term) = (self.router.clone(), self.reports.clone(), self.term());
        let (group, attempt) = (self.group.id(), stage.staged.attempt);
        let mut request = Request::anonymous(Body::Stage(stage));
        request.below = below;
        tokio::spawn(async move {
            let ask = Ask::Propose(request);
            let report = loop {
                match router.ask(group, &ask, Instant::now() + DELIVERY).await {
                    Ok(Told::Response(Response::Staged(staged))) => break Report::Staged(attempt, staged),
                    Ok(Told::Response(Response::Decision(decision))) => {
                        break Report::Decided(attempt.txn, decision);
                    }
                    Ok(Told::Response(Response::Refused(Refusal::Full))) | Err(_) => {
                        tokio::time::sleep(TICK).await;
                    }
                    Ok(other) => {
                        tracing::error!(%attempt, "staging was answered with {other:?}");
                        return;
                    }
                }
            };
            let _ = reports.send((term, report)).await;
        });
    }

    pub(super) fn deliver_inquiry(&self, shard: GroupId, attempt: AttemptId, deadline: Millis) {
        let (router, reports, term) = (self.router.clone(), self.reports.clone(), self.term());
        tokio::spawn(async move {
            let ask = Ask::Propose(Request::anonymous(Body::Inquire { attempt, deadline }));
            // Only this participant knows, so there is no giving up.
            loop {
                match router.ask(shard, &ask, Instant::now() + DELIVERY).await {
                    Ok(Told::Response(Response::Vote(vote))) => {
                        let _ = reports.send((term, Report::Inquired(attempt, shard, vote))).await;
                        return;
                    }
                    other => {
                        tracing::warn!(%shard, %attempt, "not known yet whether it is prepared: {other:?}");
                        tokio::time::sleep(TICK).await;
                    }
                }
            }
        });
    }

    pub(super) fn deliver_decide(&self, decide: Box<Decide>, below: u64) {
        let (router, reports, term) = (self.router.clone(), self.reports.clone(), self.term());
        let (group, txn) = (self.group.id(), decide.txn);
        tokio::spawn(async move {
            let mut request = Request::anonymous(Body::Decide(decide));
            request.below = below;
            let ask = Ask::Propose(request);
            // There is no giving up: only the log knows the outcome once this has been sent.
            loop {
                match router.ask(group, &ask, Instant::now() + DELIVERY).await {
                    Ok(Told::Response(Response::Decision(decision))) => {
                        let _ = reports.send((term, Report::Decided(txn, decision))).await;
                        return;
                    }
                    Ok(Told::Response(Response::Staged(staged))) => {
                        let _ = reports.send((term, Report::Undecided(staged))).await;
                        return;
                    }
                    Ok(Told::Response(Response::Refused(Refusal::Full))) | Err(_) => {
                        tokio::time::sleep(TICK).await;
                    }
                    Ok(other) => {
                        tracing::error!(%txn, "a decision was answered with {other:?}");
                        return;
                    }
                }
            }
        });
    }

    pub(super) fn deliver_finish(&self, shard: GroupId, finish: Finish) {
        let (router, reports, term) = (self.router.clone(), self.reports.clone(), self.term());
        tokio::spawn(async move {
            let ask = Ask::Propose(Request::anonymous(Body::Finish(finish)));
            loop {
                match router.ask(shard, &ask, Instant::now() + DELIVERY).await {
                    Ok(_) => {
                        let _ = reports.send((term, Report::Told(finish, shard))).await;
                        return;
                    }
                    // Who prepared and hears nothing will ask; only commits must be acknowledged.
                    Err(_) if !finish.commit => return,
                    Err(e) => {
                        tracing::warn!(%shard, attempt = %finish.attempt, "commit not delivered yet: {e:?}");
                    }
                }
            }
        });
    }

    /// All together, so that they share a log entry: nobody waits for it.
    pub(super) fn retire(&self, txns: Vec<TxnId>) {
        let (router, group) = (self.router.clone(), self.group.id());
        tokio::spawn(async move {
            let retired = txns.into_iter().map(|txn| {
                let router = &router;
                async move {
                    let ask = Ask::Propose(Request::anonymous(Body::Retire(txn)));
                    while router.ask(group, &ask, Instant::now() + DELIVERY).await.is_err() {
                        tracing::debug!(%txn, "not retired yet");
                    }
                }
            });
            join_all(retired).await;
        });
    }
}
