//! What a coordinator's driver sends: to who leads here at once, else in a task of its own, again and again until it is answered
//! or pointless.

use std::time::Duration;

use fail::fail_point;
use futures::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::driver::{Driver, Report, TICK};
use super::message::{Ask, Told};
use super::router::Router;
use crate::base::{AttemptId, GroupId, Millis, TxnId};
use crate::machine::{Body, Decide, Finish, Prepare, Refusal, Request, Response, Stage};

/// How long one delivery is tried before it is looked at anew.
const DELIVERY: Duration = Duration::from_secs(5);

/// Where a delivery's outcome is reported.
struct Delivery {
    router: Router,
    reports: mpsc::Sender<(u64, Report)>,
    term: u64,
}

impl Delivery {
    /// The driver outlives its deliveries, but for the end of the process.
    async fn report(self, report: Report) {
        let _ = self.reports.send((self.term, report)).await;
    }

    /// As [`Delivery::report`], from where nothing may be waited for.
    fn report_now(self, report: Report) {
        if let Err(TrySendError::Full((_, report))) = self.reports.try_send((self.term, report)) {
            spawn(self.report(report));
        }
    }

    /// Asks the replica here, if it leads: most do, and it needs no task. `heard` gets its answer, or nothing.
    fn begin(
        self,
        group: GroupId,
        request: Request,
        heard: impl FnOnce(Delivery, Option<Response>) + Send + 'static,
    ) {
        let router = self.router.clone();
        router.propose_here(group, request, |answer| heard(self, answer));
    }

    async fn prepare(self, shard: GroupId, prepare: Box<Prepare>, deadline: Instant) {
        let attempt = prepare.attempt;
        let ask = Ask::Propose(Request::anonymous(Body::Prepare(prepare)));
        let report = match self.router.ask(shard, &ask, deadline).await {
            Ok(Told::Response(Response::Vote(vote))) => Report::Vote(attempt, shard, vote),
            // It may have prepared, or may yet.
            _ => Report::Unreachable(attempt),
        };
        self.report(report).await;
    }

    /// Through the coordinator's log until it answers: only that knows the outcome once this has been sent, and without its word
    /// nobody may act on the votes.
    async fn insist(self, group: GroupId, request: Request, report: impl Fn(Response) -> Option<Report>) {
        let ask = Ask::Propose(request);
        loop {
            match self.router.ask(group, &ask, Instant::now() + DELIVERY).await {
                Ok(Told::Response(Response::Refused(Refusal::Full))) | Err(_) => {
                    tokio::time::sleep(TICK).await;
                }
                Ok(told) => {
                    let report = match told {
                        Told::Response(response) => report(response),
                        _ => None,
                    };
                    return match report {
                        Some(report) => self.report(report).await,
                        None => tracing::error!(%group, "the log does not answer what was asked of it"),
                    };
                }
            }
        }
    }

    async fn finish(self, shard: GroupId, finish: Finish) {
        let ask = Ask::Propose(Request::anonymous(Body::Finish(finish)));
        loop {
            match self.router.ask(shard, &ask, Instant::now() + DELIVERY).await {
                Ok(_) => return self.report(Report::Told(finish, shard)).await,
                // Who prepared and hears nothing will ask; only commits must be acknowledged.
                Err(_) if !finish.commit => return,
                Err(e) => {
                    tracing::warn!(%shard, attempt = %finish.attempt, "commit not delivered yet: {e:?}");
                }
            }
        }
    }
}

/// For callbacks, which are also called when the process ends and everything is dropped: then there is nothing more to do.
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(task);
    }
}

impl Driver {
    fn delivery(&self) -> Delivery {
        Delivery {
            router: self.router.clone(),
            reports: self.reports.clone(),
            term: self.term(),
        }
    }

    pub(super) fn deliver_prepare(&self, shard: GroupId, prepare: Box<Prepare>) {
        let (attempt, deadline) = (prepare.attempt, self.deadline(prepare.deadline));
        let request = Request::anonymous(Body::Prepare(prepare.clone()));
        self.delivery()
            .begin(shard, request, move |delivery, answer| match answer {
                Some(Response::Vote(vote)) => delivery.report_now(Report::Vote(attempt, shard, vote)),
                _ => spawn(delivery.prepare(shard, prepare, deadline)),
            });
    }

    pub(super) fn deliver_stage(&self, stage: Box<Stage>, below: u64) {
        fail_point!("txn-unstaged", |_| super::driver::die_after_delivery(
            "txn-unstaged"
        ));
        let attempt = stage.staged.attempt;
        self.insist(Body::Stage(stage), below, move |response| match response {
            Response::Staged(staged) => Some(Report::Staged(attempt, staged)),
            Response::Decision(decision) => Some(Report::Decided(attempt.txn, decision)),
            _ => None,
        });
    }

    pub(super) fn deliver_finish(&self, shard: GroupId, finish: Finish) {
        let request = Request::anonymous(Body::Finish(finish));
        self.delivery()
            .begin(shard, request, move |delivery, answer| match answer {
                Some(_) => delivery.report_now(Report::Told(finish, shard)),
                None => spawn(delivery.finish(shard, finish)),
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
        let txn = decide.txn;
        self.insist(Body::Decide(decide), below, move |response| match response {
            Response::Decision(decision) => Some(Report::Decided(txn, decision)),
            Response::Staged(staged) => Some(Report::Undecided(staged)),
            _ => None,
        });
    }

    /// Has its own group's log say a word on a transaction.
    fn insist(&self, body: Body, below: u64, report: impl Fn(Response) -> Option<Report> + Send + 'static) {
        let mut request = Request::anonymous(body);
        request.below = below;
        let (group, again) = (self.group.id(), request.clone());
        self.delivery().begin(group, request, move |delivery, answer| {
            match answer.and_then(&report) {
                Some(report) => delivery.report_now(report),
                None => spawn(delivery.insist(group, again, report)),
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
