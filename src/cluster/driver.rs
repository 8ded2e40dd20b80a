//! Runs a coordinator group's transactions while its replica here leads: performs what [`txn::Coordinator`] asks for.
//!
//! ```text
//!  follower ─elected, own term applied─▶ leading: recover, then serve ─term or leader changes─▶ follower
//! ```
//!
//! When leadership goes, the in-memory coordinator goes with it; callers hear that the outcome is open and ask the next
//! leader, which finds a record or logs an abort.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use fail::fail_point;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::message::{Failure, Told};
use super::router::Router;
use crate::base::limits::TXNS_ACTIVE_MAX;
use crate::base::{AttemptId, GroupId, Millis, TxnId};
use crate::host::Clock;
use crate::machine::{Body, Decide, Decision, Finish, Request, Response, Staged, Vote};
use crate::raft::Group;
use crate::txn::{Answer, Coordinator, Effect, Now, Query, Txn};

/// How often leadership is looked at, and attempts that wait are started again, with and without transactions.
pub(super) const TICK: Duration = Duration::from_millis(2);
const IDLE_TICK: Duration = Duration::from_millis(25);
/// How often the log is looked through for commits that nobody tells.
const RECOVER_EVERY: Duration = Duration::from_secs(1);
/// How often acknowledged commits are taken from the log's queue.
const RETIRE_EVERY: Duration = Duration::from_millis(50);
/// How long a new leader may take to confirm itself before it tries again.
const CONFIRM: Duration = Duration::from_millis(500);

/// A question to the driver; unanswered (dropped) means that leadership was lost on the way.
pub enum DriverCall {
    Begin {
        txn: Box<Txn>,
        answer: oneshot::Sender<Told>,
    },
    Query {
        attempt: AttemptId,
        deadline: Millis,
        answer: oneshot::Sender<Told>,
    },
    Inspect {
        only: Option<TxnId>,
        answer: oneshot::Sender<Told>,
    },
    Settle {
        txn: TxnId,
        now: bool,
        answer: oneshot::Sender<Told>,
    },
}

/// What a spawned delivery reports back.
pub(super) enum Report {
    Staged(AttemptId, Staged),
    Vote(AttemptId, GroupId, Vote),
    Unreachable(AttemptId),
    Inquired(AttemptId, GroupId, Vote),
    Undecided(Staged),
    Decided(TxnId, Decision),
    Told(Finish, GroupId),
}

pub struct Driver {
    pub(super) group: Group,
    pub(super) router: Router,
    pub(super) clock: Clock,
    /// Where its steady clock begins.
    started: Instant,
    pub(super) reports: mpsc::Sender<(u64, Report)>,
    pub(super) leading: Option<Leading>,
}

pub(super) struct Leading {
    pub(super) coordinator: Coordinator,
    /// When the log was last looked through for commits of earlier leaders.
    recovered: Instant,
    waiters: BTreeMap<TxnId, Vec<oneshot::Sender<Told>>>,
    /// Acknowledged by all participants; kept for [`RETIRE_EVERY`] to be retired together.
    retiring: Vec<TxnId>,
    retired: Instant,
}

impl Driver {
    /// Starts the driver of `group`'s replica here and hooks it up to the router.
    pub fn spawn(group: Group, router: Router, clock: Clock) {
        let (calls, mut inbox) = mpsc::channel(TXNS_ACTIVE_MAX);
        router.set_driver(group.id(), calls);
        // Deliveries wait for room here: the driver always drains it.
        let (reports, mut results) = mpsc::channel(TXNS_ACTIVE_MAX);
        let mut driver = Driver {
            group,
            router,
            clock,
            started: Instant::now(),
            reports,
            leading: None,
        };
        tokio::spawn(async move {
            // One timer that stays: another for each turn would wake the thread's event loop each time.
            let mut tick = pin!(tokio::time::sleep(IDLE_TICK));
            loop {
                tokio::select! {
                    biased;
                    // First, and by the clock: under load there is always a report or a call.
                    () = &mut tick => {
                        driver.follow_leadership().await;
                        driver.tick();
                        tick.as_mut().reset(Instant::now() + IDLE_TICK);
                    }
                    Some((term, report)) = results.recv() => driver.report(term, report),
                    Some(call) = inbox.recv() => driver.call(call).await,
                }
                let soon = Instant::now() + TICK;
                if driver.is_busy() && tick.deadline() > soon {
                    tick.as_mut().reset(soon);
                }
            }
        });
    }

    /// Whether there are transactions.
    fn is_busy(&self) -> bool {
        let leading = self.leading.as_ref();
        leading.is_some_and(|leading| leading.coordinator.active() > 0)
    }

    /// Leads if and only if the replica does, in its term.
    async fn follow_leadership(&mut self) {
        let leads = self.group.leads_in();
        if self
            .leading
            .as_ref()
            .is_some_and(|leading| leads != Some(leading.coordinator.term()))
        {
            tracing::info!(group = %self.group.id(), "no longer coordinating");
            self.leading = None;
        }
        if let Some(term) = leads
            && self.leading.is_none()
        {
            // Everything of earlier terms that will ever be in the log has been applied after this.
            let confirmed = tokio::time::timeout(CONFIRM, self.group.confirmed_index()).await;
            if !matches!(confirmed, Ok(Ok(_))) || self.group.leader().1 != term {
                return;
            }
            let mut coordinator = Coordinator::new(self.group.id(), term);
            let now = self.now();
            let effects = self.group.peek(|machine| {
                let machine = machine.as_coordinator()?;
                Some(coordinator.recover(machine.unretired(), machine.staged(), now))
            });
            tracing::info!(group = %self.group.id(), term, "coordinating");
            self.leading = Some(Leading {
                coordinator,
                recovered: Instant::now(),
                waiters: BTreeMap::new(),
                retiring: Vec::new(),
                retired: Instant::now(),
            });
            self.perform(effects.unwrap_or_default());
        }
    }

    fn now(&self) -> Now {
        Now {
            replicated: (self.clock)(),
            steady: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX),
        }
    }

    async fn call(&mut self, call: DriverCall) {
        self.follow_leadership().await;
        let leader = self.group.leader().0.filter(|_| self.leading.is_none());
        let not_leader = Told::Failed(Failure::NotLeader(leader));
        match call {
            DriverCall::Begin { answer, .. }
            | DriverCall::Query { answer, .. }
            | DriverCall::Inspect { answer, .. }
            | DriverCall::Settle { answer, .. }
                if self.leading.is_none() =>
            {
                send(answer, not_leader);
            }
            DriverCall::Begin { txn, answer } => self.begin(*txn, answer),
            DriverCall::Query {
                attempt,
                deadline,
                answer,
            } => self.query(attempt, deadline, answer),
            DriverCall::Inspect { only, answer } => self.inspect(only, answer),
            DriverCall::Settle { txn, now, answer } => self.settle(txn, now, answer),
        }
    }

    fn begin(&mut self, txn: Txn, answer: oneshot::Sender<Told>) {
        let recorded = self.recorded(txn.id);
        let now = self.now();
        let Some(leading) = &mut self.leading else { return };
        if !leading.coordinator.is_active(txn.id) {
            match recorded {
                Some(Decision::Commit { participants, .. }) => {
                    return send(answer, Told::Answer(Answer::Committed(participants)));
                }
                Some(Decision::Abort) => {
                    return send(
                        answer,
                        Told::Answer(Answer::Aborted("recovery had aborted it".into())),
                    );
                }
                None if leading.coordinator.active() >= TXNS_ACTIVE_MAX => {
                    return send(answer, Told::Failed(Failure::Busy));
                }
                None => {}
            }
        }
        leading.waiters.entry(txn.id).or_default().push(answer);
        let effects = leading.coordinator.begin(txn, now);
        let prepares = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Prepare { .. }));
        self.perform(effects);
        if prepares {
            fail_point!("txn-prepares-sent", |_| die_after_delivery("txn-prepares-sent"));
        }
    }

    /// By the log, or by this leader, if the log says no more than that it is staged.
    pub(super) fn recorded(&self, txn: TxnId) -> Option<Decision> {
        let committed = || self.leading.as_ref()?.coordinator.commit(txn);
        self.group
            .peek(|machine| machine.as_coordinator()?.decision(txn).cloned())
            .or_else(committed)
    }

    /// A participant asks. Without a record, an abort is logged first, and only then told.
    fn query(&self, attempt: AttemptId, deadline: Millis, answer: oneshot::Sender<Told>) {
        let Some(leading) = &self.leading else { return };
        if let Some(decision) = self.recorded(attempt.txn) {
            return send(answer, Told::Decision(Some(decision)));
        }
        match leading.coordinator.query(attempt) {
            Query::Pending => send(answer, Told::Decision(None)),
            Query::Abort => send(answer, Told::Decision(Some(Decision::Abort))),
            Query::Unknown => {
                let decide = Box::new(Decide {
                    txn: attempt.txn,
                    deadline,
                    decision: Decision::Abort,
                    refused: None,
                    told: false,
                });
                let request = Request::anonymous(Body::Decide(decide));
                let (group, reports, term) = (self.group.clone(), self.reports.clone(), self.term());
                tokio::spawn(async move {
                    let told = match group.propose(request).await {
                        Ok(Response::Decision(decision)) => Told::Decision(Some(decision)),
                        Ok(Response::Staged(staged)) => {
                            let _ = reports.send((term, Report::Undecided(staged))).await;
                            Told::Decision(None)
                        }
                        Ok(_) => Told::Decision(None),
                        Err(error) => Told::Failed(error.into()),
                    };
                    send(answer, told);
                });
            }
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        let Some(leading) = &mut self.leading else { return };
        let mut effects = leading.coordinator.tick(now);
        if effects.iter().any(is_record) {
            fail_point!("txn-unrecorded", |_| std::process::abort());
        }
        let mut retiring = Vec::new();
        if leading.retired.elapsed() >= RETIRE_EVERY {
            leading.retired = Instant::now();
            retiring = std::mem::take(&mut leading.retiring);
        }
        // An earlier leader's commit may have been recorded after this one had begun: it must be told, too.
        if leading.recovered.elapsed() >= RECOVER_EVERY {
            leading.recovered = Instant::now();
            let coordinator = &mut leading.coordinator;
            let recovered = self.group.peek(|machine| {
                let machine = machine.as_coordinator()?;
                Some(coordinator.recover(machine.unretired(), machine.staged(), now))
            });
            effects.extend(recovered.unwrap_or_default());
        }
        if !retiring.is_empty() {
            self.retire(retiring);
        }
        self.perform(effects);
    }

    fn report(&mut self, term: u64, report: Report) {
        let now = self.now();
        let Some(leading) = &mut self.leading else { return };
        let coordinator = &mut leading.coordinator;
        if coordinator.term() != term {
            return;
        }
        let effects = match report {
            Report::Vote(attempt, shard, vote) => {
                // Where the prepares are sent and the leader is about to die, no vote counts.
                fail_point!("txn-prepares-sent", |_| ());
                coordinator.vote(attempt, shard, vote, now)
            }
            Report::Staged(attempt, staged) => {
                fail_point!("txn-prepares-sent", |_| ());
                coordinator.staged(attempt, &staged, now)
            }
            Report::Inquired(attempt, shard, vote) => coordinator.inquired(attempt, shard, vote),
            Report::Undecided(staged) => coordinator.undecided(&staged),
            Report::Unreachable(attempt) => coordinator.unreachable(attempt),
            Report::Decided(txn, decision) => {
                if matches!(decision, Decision::Commit { .. }) {
                    fail_point!("txn-decision-logged", |_| std::process::abort());
                }
                coordinator.decided(txn, &decision, now)
            }
            Report::Told(finish, shard) => {
                if finish.commit {
                    fail_point!("txn-half-told", |_| std::process::abort());
                    coordinator.told(finish.attempt, shard)
                } else {
                    Vec::new()
                }
            }
        };
        if effects.iter().any(is_commit) {
            fail_point!("txn-all-voted", |_| std::process::abort());
        }
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let mut told_one = false;
        for effect in effects {
            match effect {
                Effect::Stage { stage, below } => self.deliver_stage(stage, below),
                Effect::Prepare { shard, prepare } => self.deliver_prepare(shard, prepare),
                Effect::Inquire {
                    shard,
                    attempt,
                    deadline,
                } => self.deliver_inquiry(shard, attempt, deadline),
                Effect::Decide { decide, below } => self.deliver_decide(decide, below),
                Effect::Finish { shard, finish } => {
                    if finish.commit && told_one && tells_only_one() {
                        continue;
                    }
                    told_one |= finish.commit;
                    self.deliver_finish(shard, finish);
                }
                Effect::Answer { txn, answer } => {
                    let Some(leading) = &mut self.leading else {
                        continue;
                    };
                    for waiter in leading.waiters.remove(&txn).unwrap_or_default() {
                        send(waiter, Told::Answer(answer.clone()));
                    }
                }
                Effect::Retire { txn } => {
                    if let Some(leading) = &mut self.leading {
                        leading.retiring.push(txn);
                    }
                }
            }
        }
    }

    pub(super) fn term(&self) -> u64 {
        self.leading
            .as_ref()
            .map_or(0, |leading| leading.coordinator.term())
    }

    pub(super) fn deadline(&self, at: Millis) -> Instant {
        Instant::now() + Duration::from_millis(at.saturating_sub(self.now().replicated))
    }
}

fn is_commit(effect: &Effect) -> bool {
    matches!(effect, Effect::Finish { finish, .. } if finish.commit)
}

fn is_record(effect: &Effect) -> bool {
    matches!(effect, Effect::Decide { decide, .. } if matches!(decide.decision, Decision::Commit { .. }))
}

/// Test builds only: ends the process once what was sent has had time to arrive.
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "called from failpoints, which release builds leave out")
)]
pub(super) fn die_after_delivery(point: &'static str) {
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        tracing::error!("failpoint {point}: dying");
        std::process::abort();
    });
}

/// Test builds only: makes a commit reach one participant and no other.
fn tells_only_one() -> bool {
    fail_point!("txn-half-told", |_| true);
    false
}

pub(super) fn send(answer: oneshot::Sender<Told>, told: Told) {
    // A caller that has timed out asks for the outcome by id.
    let _ = answer.send(told);
}
