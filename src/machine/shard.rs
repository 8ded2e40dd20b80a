//! A shard's state: keys, locks, prepared transactions, parked requests, reply table.
//!
//! ```text
//!            ┌────────── locks in the way ──▶ parked ── freed ──┐
//!  Run ──────┤                                                  ├──▶ run on an overlay ─▶ apply its writes
//!            └──────────────────────────────────────────────────┘
//!            ┌─ older owner ──▶ No (dies)
//!  Prepare ──┼─ younger owners ──▶ parked ── freed ──▶ (again)
//!            └─ free ──▶ conditions, run on an overlay ──▶ intent + locks, Yes
//!  Finish ───▶ apply the intent (commit) or drop it (abort), free the locks, remember the attempt until its deadline
//! ```
//!
//! Wait-die (Rosenkrantz, Stearns, Lewis, 1978): a prepare waits for younger owners only, so waits cannot form a cycle.
//! A `Run` holds nothing while it waits, so it may always wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Command;
use super::finished::Finished;
use super::functions::Libraries;
use super::interest::Interest;
use super::keyspace::{Garbage, Keyspace};
use super::locks::{Locks, Scope, scope_of};
use super::overlay::{Overlay, Writes};
use super::parked::{Parked, ParkedTable};
use super::removals::Removals;
use super::request::Vote;
use super::request::{
    Age, Batch, Body, Condition, No, Prepare, Prepared, Refusal, Request, Response, Ticket,
};
use super::run::replies;
use super::second_phase::Kept;
use super::sessions::{Known, Sessions};
use super::strict::failed;
use super::tally::Tally;
use super::warming::warm;
use crate::base::limits::{PARKED_MAX, PREPARED_MAX};
use crate::base::{AttemptId, GroupId, Millis, Mutant, Reply, RequestId, mutant};

/// A prepared transaction: its intent and what it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Intent {
    pub(super) age: Age,
    pub(super) coordinator: GroupId,
    pub(super) deadline: Millis,
    since: Millis,
    /// Log index of the entry that prepared it.
    pub(super) at: u64,
    pub(super) scope: Scope,
    pub(super) writes: Writes,
    pub(super) replies: Vec<Reply>,
}

/// What the reply table can say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Not seen, or forgotten.
    Unknown,
    /// It waits for a lock.
    Waits,
    Executed,
    /// It was answered and had no effect.
    Refused,
}

/// What the reply table holds for a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Answered {
    Done(Response),
    Parked(Ticket),
}

/// Everything of a shard but its keys: small, and written as one piece of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub(super) locks: Locks,
    pub(super) prepared: BTreeMap<AttemptId, Intent>,
    /// Attempts that were refused or finished (committed?), until no message of theirs can count any more.
    pub(super) finished: Finished,
    /// Committed attempts that their coordinator's log may still show as staged.
    pub(super) kept: BTreeMap<AttemptId, Kept>,
    pub(super) parked: ParkedTable,
    pub(super) sessions: Sessions<Answered>,
    pub(super) time: Millis,
    pub(super) last_write: u64,
    pub(super) removals: Removals,
}

#[derive(Debug, Clone, Default)]
pub struct Shard {
    pub(super) keyspace: Keyspace,
    pub(super) head: Head,
    /// Of the first shard alone.
    pub(super) libraries: Libraries,
}

/// The entry being applied, and the answers so far.
pub(super) struct Applying {
    pub(super) index: u64,
    pub(super) seed: u64,
    /// What needs more memory is refused.
    pub(super) full: bool,
    /// See [`super::Machine::apply_heard`].
    heard: bool,
    pub(super) out: Vec<(Ticket, Response)>,
}

impl Shard {
    #[must_use]
    pub fn from_parts(keyspace: Keyspace, head: Head, libraries: Libraries) -> Shard {
        Shard {
            keyspace,
            head,
            libraries,
        }
    }

    #[must_use]
    pub fn parts(&self) -> (&Keyspace, &Head) {
        (&self.keyspace, &self.head)
    }

    pub(super) fn take_garbage(&mut self) -> Garbage {
        self.keyspace.take_garbage()
    }

    #[must_use]
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// What `INFO` counts here.
    #[must_use]
    pub fn tally(&self) -> &Arc<Tally> {
        &self.keyspace.tally
    }

    pub(super) fn keep_tally(&mut self, tally: Arc<Tally>) {
        self.keyspace.tally = tally;
    }

    pub(super) fn interest(&mut self) -> &mut Interest {
        &mut self.keyspace.interest
    }

    #[must_use]
    pub fn locks(&self) -> &Locks {
        &self.head.locks
    }

    #[must_use]
    pub fn time(&self) -> Millis {
        self.head.time
    }

    /// Log index of the last entry that changed any key.
    #[must_use]
    pub fn last_write(&self) -> u64 {
        self.head.last_write
    }

    #[must_use]
    pub fn parked(&self) -> usize {
        self.head.parked.len()
    }

    /// Prepared, undecided transactions.
    pub fn prepared(&self) -> impl Iterator<Item = Prepared> + '_ {
        self.head.prepared.iter().map(|(&attempt, intent)| Prepared {
            attempt,
            coordinator: intent.coordinator,
            deadline: intent.deadline,
            since: intent.since,
        })
    }

    /// Whether requests wait whose deadline the clock has passed, so that an entry should let time pass.
    #[must_use]
    pub fn has_overdue(&self, now: Millis) -> bool {
        self.head.parked.overdue(now).is_some()
    }

    /// The reply table's word on a request.
    #[must_use]
    pub fn fate(&self, id: RequestId) -> Fate {
        match self.head.sessions.get(id) {
            None => Fate::Unknown,
            Some(Answered::Parked(_)) => Fate::Waits,
            Some(Answered::Done(Response::Replies(_))) => Fate::Executed,
            // A conflict, a failure or a refusal: kept, so that no copy is executed after all.
            Some(Answered::Done(_)) => Fate::Refused,
        }
    }

    pub(super) fn apply(&mut self, index: u64, batch: Batch, heard: bool) -> Vec<(Ticket, Response)> {
        let backwards = mutant::is(Mutant::ReplicatedTimeGoesBack);
        self.head.time = if backwards {
            batch.time
        } else {
            self.head.time.max(batch.time)
        };
        let mut applying = Applying {
            index,
            seed: batch.seed,
            full: false,
            heard,
            out: Vec::with_capacity(if heard { batch.requests.len() } else { 0 }),
        };
        self.forget_finished();
        self.refuse_overdue(&mut applying);
        warm(&self.keyspace, &self.head.prepared, &batch.requests);
        for (at, request) in (0..).zip(batch.requests) {
            self.request(Ticket { index, at }, request, &mut applying);
        }
        applying.out
    }

    fn request(&mut self, ticket: Ticket, request: Request, applying: &mut Applying) {
        if matches!(request.body, Body::Withdraw) && self.is_forgotten(request.id) {
            return applying.out.push((ticket, Response::Refused(Refusal::Finished)));
        }
        if let Some(id) = request
            .id
            .filter(|_| !mutant::is(Mutant::ReplyTableNeverConsulted))
        {
            match self.head.sessions.look_up(id, request.below, self.head.time) {
                Known::New => {}
                Known::Seen(Answered::Done(response)) => {
                    return applying.out.push((ticket, response.clone()));
                }
                Known::Seen(&Answered::Parked(first)) => return self.head.parked.join(first, ticket),
                Known::Finished => return applying.out.push((ticket, Response::Refused(Refusal::Finished))),
                Known::Full => return applying.out.push((ticket, Response::Refused(Refusal::Full))),
            }
        }
        self.keyspace.interest.tracked.by(request.id);
        let response = match &request.body {
            Body::Run {
                commands,
                conditions,
                mode,
            } => match self.in_the_way_of(commands, conditions) {
                Some(scope) => self.park(ticket, request, scope),
                None => {
                    let response = self.run(commands, conditions, *mode, applying);
                    let answer = applying.heard.then(|| response.clone());
                    self.keep(request.id, response);
                    answer
                }
            },
            Body::Prepare(_) => self.prepare(ticket, request, applying),
            Body::Finish(finish) => {
                self.finish(*finish, applying);
                Some(Response::Done)
            }
            Body::Inquire { attempt, deadline } => Some(self.inquire(*attempt, *deadline, applying)),
            Body::Sweep => {
                self.sweep(applying.index);
                Some(Response::Done)
            }
            Body::Digest => Some(Response::Done),
            Body::Evict(keys) => {
                self.evict(keys, applying.index);
                Some(Response::Done)
            }
            Body::Full => {
                applying.full = true;
                Some(Response::Done)
            }
            Body::Withdraw => {
                let response = Response::Refused(Refusal::Deadline);
                self.remember(request.id, &response);
                Some(response)
            }
            Body::Functions(change) => Some(self.change_functions(change, request.id, applying.index)),
            Body::Forget(attempts) => {
                self.forget_kept(attempts);
                Some(Response::Done)
            }
            Body::Decide(_) | Body::Stage(_) | Body::Retire(_) => {
                Some(Response::Refused(Refusal::Misdirected))
            }
        };
        applying.out.extend(response.map(|response| (ticket, response)));
    }

    /// What commands touch, if part of it is locked.
    fn in_the_way_of(&self, commands: &[Command], conditions: &[Condition]) -> Option<Scope> {
        if self.head.locks.is_free() || mutant::is(Mutant::RunsIgnoreLocks) {
            return None;
        }
        let scope = scope_of(commands, conditions);
        // Copied, if it is to stay: see `Request::detach`.
        (!self.head.locks.in_the_way(&scope).is_empty()).then(|| scope.detached())
    }

    /// Before a look makes its session a known one: to refuse it now would prove nothing.
    fn is_forgotten(&self, id: Option<RequestId>) -> bool {
        id.is_none_or(|id| self.head.sessions.may_have_forgotten(id.session))
    }

    pub(super) fn remember(&mut self, id: Option<RequestId>, response: &Response) {
        if id.is_some() {
            self.keep(id, response.clone());
        }
    }

    fn keep(&mut self, id: Option<RequestId>, response: Response) {
        let forget = !matches!(response, Response::Replies(_)) && mutant::is(Mutant::RefusalsNotRemembered);
        if let Some(id) = id.filter(|_| !forget) {
            self.head.sessions.record(id, Answered::Done(response));
        }
    }

    fn park(&mut self, ticket: Ticket, request: Request, scope: Scope) -> Option<Response> {
        if self.head.parked.len() >= PARKED_MAX {
            // Kept, so that no copy is executed after this has been told.
            let response = Response::Refused(Refusal::Full);
            self.remember(request.id, &response);
            return Some(response);
        }
        if let Some(id) = request.id {
            self.head.sessions.record(id, Answered::Parked(ticket));
        }
        self.head.locks.wait(&scope, ticket);
        self.head.parked.insert(ticket, request, scope, None);
        None
    }

    pub(super) fn unpark(&mut self, ticket: Ticket) -> Option<Parked> {
        let parked = self.head.parked.remove(ticket)?;
        self.head.locks.stop_waiting(&parked.scope, ticket);
        Some(parked)
    }

    pub(super) fn answer(
        parked: &Parked,
        ticket: Ticket,
        response: &Response,
        out: &mut Vec<(Ticket, Response)>,
    ) {
        out.push((ticket, response.clone()));
        out.extend(parked.also.iter().map(|&copy| (copy, response.clone())));
    }

    fn refuse_overdue(&mut self, applying: &mut Applying) {
        while let Some(ticket) = self.head.parked.overdue(self.head.time) {
            let Some(parked) = self.unpark(ticket) else { break };
            let response = match parked.attempt {
                Some(_) => Response::Vote(Vote::No(No::Late)),
                None => Response::Refused(Refusal::Deadline),
            };
            // Remembered: a copy that comes after the refusal must not be executed.
            self.remember(parked.request.id, &response);
            Self::answer(&parked, ticket, &response, &mut applying.out);
        }
    }

    pub(super) fn write(&mut self, writes: Writes, index: u64) {
        if !writes.is_empty() {
            self.head.last_write = index;
            self.head.removals.note(&writes, index);
            writes.apply(&mut self.keyspace, index);
        }
    }

    fn prepare(&mut self, ticket: Ticket, request: Request, applying: &mut Applying) -> Option<Response> {
        let Body::Prepare(prepare) = &request.body else {
            return None;
        };
        if let Some(intent) = self.head.prepared.get(&prepare.attempt)
            && !mutant::is(Mutant::PrepareExecutedTwice)
        {
            return Some(Response::Vote(Vote::Yes(intent.replies.clone())));
        }
        if let Some(first) = self.head.parked.of_attempt(prepare.attempt) {
            self.head.parked.join(first, ticket);
            return None;
        }
        let over = self.head.finished.get(prepare.attempt).is_some();
        if over && !mutant::is(Mutant::FinishedAttemptPreparesAgain)
            || self.head.time > prepare.deadline && !mutant::is(Mutant::LatePrepareAccepted)
        {
            return Some(Response::Vote(Vote::No(No::Late)));
        }
        let prepared = self.head.prepared.len() + self.head.kept.len();
        let full = prepared >= PREPARED_MAX || self.head.parked.len() >= PARKED_MAX;
        if full {
            return Some(self.refuse(prepare, No::Full));
        }
        match self.waits(prepare) {
            Some(true) => {
                let scope = prepare.scope.clone();
                let prepare = prepare.clone();
                self.head.locks.wait(&scope, ticket);
                self.head.parked.insert(ticket, request, scope, Some(&prepare));
                None
            }
            Some(false) => Some(self.refuse(prepare, No::Locked)),
            None => Some(self.vote(prepare, applying)),
        }
    }

    /// `None`: nothing is in the way. Else whether the prepare may wait for all that is.
    fn waits(&self, prepare: &Prepare) -> Option<bool> {
        let owners = self.head.locks.in_the_way(&prepare.scope);
        if owners.is_empty() {
            return None;
        }
        let younger = |owner: &AttemptId| {
            // An older attempt of the same transaction is about to be aborted: no cycle runs through it.
            mutant::is(Mutant::YoungerWaitsForOlder)
                || owner.txn == prepare.attempt.txn
                || self.head.prepared.get(owner).is_some_and(|i| prepare.age < i.age)
        };
        Some(owners.iter().all(younger))
    }

    /// Says no, and keeps to it for as long as the attempt can come again.
    fn refuse(&mut self, prepare: &Prepare, why: No) -> Response {
        if !mutant::is(Mutant::YesAfterNo) {
            self.remember_finished(prepare.attempt, prepare.deadline, false);
        }
        Response::Vote(Vote::No(why))
    }

    fn vote(&mut self, prepare: &Prepare, applying: &Applying) -> Response {
        if !self.hold(&prepare.conditions) && !mutant::is(Mutant::ConditionsIgnoredAtPrepare) {
            return self.refuse(prepare, No::Condition);
        }
        if let Some(failed) = applying.left_out(&prepare.commands) {
            return self.refuse(prepare, No::Failed(failed));
        }
        self.note_access(&prepare.commands, self.head.time);
        let mut view = Overlay::new(&self.keyspace, self.head.time, applying.seed);
        view.record(self.keyspace.interest.notices.notes());
        let replies = replies(&prepare.commands, &mut view, false);
        let notices = view.take_notices();
        if let Some(failed) = failed(prepare.strict, &prepare.commands, &replies) {
            return self.refuse(prepare, No::Failed(failed));
        }
        let intent = Intent {
            age: prepare.age,
            coordinator: prepare.coordinator,
            deadline: prepare.deadline,
            since: self.head.time,
            at: applying.index,
            scope: prepare.scope.clone(),
            writes: view.writes,
            replies: replies.clone(),
        };
        if mutant::is(Mutant::IntentsAppliedAtPrepare) {
            self.write(intent.writes.clone(), applying.index);
        }
        self.head.locks.lock(&intent.scope, prepare.attempt);
        self.head.prepared.insert(prepare.attempt, intent);
        self.keyspace.interest.notices.prepared(prepare.attempt, notices);
        Response::Vote(Vote::Yes(replies))
    }

    /// Gives those who waited for freed locks another go, in order of arrival.
    pub(super) fn wake(&mut self, woken: &BTreeSet<Ticket>, applying: &mut Applying) {
        for &ticket in woken.iter().filter(|_| !mutant::is(Mutant::FreedLocksWakeNobody)) {
            let Some(parked) = self.head.parked.get(ticket) else {
                continue;
            };
            let response = match &parked.request.body {
                Body::Prepare(prepare) => {
                    let prepare = prepare.clone();
                    match self.waits(&prepare) {
                        Some(true) => continue,
                        Some(false) => self.refuse(&prepare, No::Locked),
                        None => self.vote(&prepare, applying),
                    }
                }
                Body::Run {
                    commands,
                    conditions,
                    mode,
                } if self.head.locks.in_the_way(&parked.scope).is_empty() => {
                    let (commands, conditions, mode) = (commands.clone(), conditions.clone(), *mode);
                    let id = parked.request.id;
                    self.keyspace.interest.tracked.by(id);
                    let response = self.run(&commands, &conditions, mode, applying);
                    self.remember(id, &response);
                    response
                }
                _ => continue,
            };
            if let Some(parked) = self.unpark(ticket) {
                Self::answer(&parked, ticket, &response, &mut applying.out);
            }
        }
    }
}
