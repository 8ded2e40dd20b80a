//! A coordinator's leader as `src/cluster/driver.rs` drives it: alive, deposed without knowing it, deposed and knowing
//! it with its deliveries still under way, or dead.

use std::collections::BTreeMap;

use quorate::base::{AttemptId, GroupId, TxnId};
use quorate::machine::{Body, Decide, Decision, Finish, Machine, Prepared, Read, ReadOutcome, Request, Seen};
use quorate::txn::{Answer, Coordinator, Effect, Query, Txn};

use super::message::{Decider, Message, OpId, Waiter};
use super::world::World;

/// What is sent again until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delivery {
    Stage(AttemptId),
    Inquire(AttemptId, GroupId),
    Prepare(AttemptId, GroupId),
    Decide(TxnId),
    Finish(AttemptId, GroupId),
    Retire(TxnId),
}

pub struct Leader {
    pub group: GroupId,
    pub term: u64,
    /// `None` once it knows that it was deposed: only its deliveries go on.
    pub coordinator: Option<Coordinator>,
    /// Deposed, and not aware of it: the log as it last saw it.
    view: Option<Machine>,
    waiters: BTreeMap<TxnId, Vec<(OpId, u32)>>,
    pub deliveries: BTreeMap<Delivery, Message>,
}

impl World {
    pub fn leader(&mut self, term: u64) -> Option<&mut Leader> {
        self.leaders.iter_mut().find(|leader| leader.term == term)
    }

    /// The leader's coordinator, if it still is one.
    fn coordinator(&mut self, term: u64) -> Option<&mut Coordinator> {
        self.leader(term)?.coordinator.as_mut()
    }

    pub fn current(&self, group: GroupId) -> Option<u64> {
        let is_current =
            |leader: &&Leader| leader.group == group && leader.view.is_none() && leader.coordinator.is_some();
        self.leaders.iter().find(is_current).map(|leader| leader.term)
    }

    /// Whom a question reaches: mostly the leader, at times one that believes it still is.
    fn asked(&mut self, group: GroupId) -> Option<u64> {
        let stale: Vec<u64> = self
            .leaders
            .iter()
            .filter(|l| l.group == group && l.view.is_some() && l.coordinator.is_some())
            .map(|leader| leader.term)
            .collect();
        if !stale.is_empty() && self.rng.per_mille(250) {
            let at = self.rng.index(stale.len());
            return Some(stale[at]);
        }
        self.current(group)
    }

    /// Fills vacancies, sooner or later.
    pub fn elect(&mut self) {
        for n in 0..self.coordinators.len() {
            let group = self.coordinators[n].group;
            if self.current(group).is_some() || !(self.healing || self.rng.per_mille(300)) {
                continue;
            }
            self.terms += 1;
            let term = self.terms;
            self.leaders.push(Leader {
                group,
                term,
                coordinator: Some(Coordinator::new(group, term)),
                view: None,
                waiters: BTreeMap::new(),
                deliveries: BTreeMap::new(),
            });
            self.stats.add("elections");
            self.note(|| format!("{group} elects term {term}"));
            self.take_over(term);
        }
    }

    /// The commits that are not retired become this leader's. Not only at its start: one that an earlier leader sent
    /// off may be recorded after that.
    fn take_over(&mut self, term: u64) {
        let Some(group) = self.leader(term).map(|leader| leader.group) else {
            return;
        };
        let coordinator = self.log(group).coordinator();
        let (unretired, staged) = (coordinator.unretired().clone(), coordinator.staged().clone());
        let now = self.clock();
        let leader = self.leader(term).filter(|leader| leader.view.is_none());
        let effects =
            leader.and_then(|leader| Some(leader.coordinator.as_mut()?.recover(&unretired, &staged, now)));
        self.perform(term, effects.unwrap_or_default());
    }

    /// Kills a process, deposes one behind its back, or lets it notice.
    pub fn disturb_leaders(&mut self) {
        if self.leaders.is_empty() {
            return;
        }
        let at = self.rng.index(self.leaders.len());
        let what = self.rng.below(3);
        let leader = &mut self.leaders[at];
        let (group, term) = (leader.group, leader.term);
        match what {
            0 => {
                self.leaders.remove(at);
            }
            1 if leader.view.is_none() && leader.coordinator.is_some() => {
                let machine = self.log(group).machine.clone();
                self.leaders[at].view = Some(machine);
                self.stats.add("depositions");
            }
            _ => leader.notice(),
        }
        self.note(|| {
            format!(
                "term {term} of {group}: {}",
                ["dies", "is deposed", "notices"][what as usize]
            )
        });
    }

    pub fn depose_stale(&mut self) {
        for leader in self.leaders.iter_mut().filter(|leader| leader.view.is_some()) {
            leader.notice();
        }
    }

    fn perform(&mut self, term: u64, effects: Vec<Effect>) {
        for effect in effects {
            if self.dies_before(term, &effect) {
                return;
            }
            let Some(leader) = self.leader(term) else { return };
            let group = leader.group;
            match effect {
                Effect::Stage { stage, below } => {
                    let key = Delivery::Stage(stage.staged.attempt);
                    self.deliver_until_answered(term, key, Message::Stage { term, below, stage });
                }
                Effect::Inquire {
                    shard,
                    attempt,
                    deadline,
                } => {
                    self.stats.add("inquiries");
                    let message = Message::Inquire {
                        term,
                        shard,
                        attempt,
                        deadline,
                    };
                    self.deliver_until_answered(term, Delivery::Inquire(attempt, shard), message);
                }
                Effect::Prepare { shard, prepare } => {
                    let key = Delivery::Prepare(prepare.attempt, shard);
                    self.deliver_until_answered(term, key, Message::Prepare { term, shard, prepare });
                }
                Effect::Decide { decide, below } => {
                    let (key, by) = (Delivery::Decide(decide.txn), Decider::Leader(term));
                    self.deliver_until_answered(term, key, Message::Decide { by, below, decide });
                }
                Effect::Finish { shard, finish } => {
                    let message = Message::Finish { term, shard, finish };
                    if finish.commit {
                        let key = Delivery::Finish(finish.attempt, shard);
                        self.deliver_until_answered(term, key, message);
                    } else {
                        self.stats.add("attempts aborted");
                        self.send(message);
                    }
                }
                Effect::Answer { txn, answer } => {
                    let waiters = leader.waiters.remove(&txn).unwrap_or_default();
                    self.note(|| format!("term {term} of {group} answers {txn}: {answer:?}"));
                    for (op, ask) in waiters {
                        let answer = answer.clone();
                        self.send(Message::Answer { op, ask, answer });
                    }
                }
                Effect::Retire { txn } => {
                    self.deliver_until_answered(term, Delivery::Retire(txn), Message::Retire { term, txn });
                }
            }
        }
    }

    fn dies_before(&mut self, term: u64, effect: &Effect) -> bool {
        let crash = self.profile.crash;
        let dies = !self.healing && self.rng.per_mille(crash / 4);
        if dies {
            self.note(|| format!("term {term} dies before {effect:?}"));
            self.stats.add("deaths between effects");
            self.leaders.retain(|leader| leader.term != term);
        }
        dies
    }

    fn deliver_until_answered(&mut self, term: u64, key: Delivery, message: Message) {
        if let Some(leader) = self.leader(term) {
            leader.deliveries.insert(key, message.clone());
        }
        self.send(message);
    }

    pub fn resend_some(&mut self) {
        let all: Vec<(u64, Delivery)> = self
            .leaders
            .iter()
            .flat_map(|leader| leader.deliveries.keys().map(|&key| (leader.term, key)))
            .collect();
        if !all.is_empty() {
            let (term, key) = all[self.rng.index(all.len())];
            self.resend(term, key);
        }
    }

    pub fn resend_all(&mut self) {
        let all: Vec<(u64, Delivery)> = self
            .leaders
            .iter()
            .flat_map(|leader| leader.deliveries.keys().map(|&key| (leader.term, key)))
            .collect();
        for (term, key) in all {
            self.resend(term, key);
        }
    }

    fn resend(&mut self, term: u64, key: Delivery) {
        let (now, busy) = (self.clock(), self.rng.per_mille(30));
        let Some(leader) = self.leader(term) else { return };
        let Some(message) = leader.deliveries.get(&key).cloned() else {
            return;
        };
        // Too late, or the participant's node has too much to do.
        if let (Message::Prepare { prepare, .. }, Delivery::Prepare(attempt, _)) = (&message, key)
            && (busy || now > prepare.deadline)
        {
            leader.deliveries.remove(&key);
            // To a participant that leads here it goes without a task that would know when it is too late.
            let silent = now > prepare.deadline && self.rng.per_mille(500);
            let Some(leader) = self.leader(term).filter(|_| !silent) else {
                return self.stats.add("silent");
            };
            let effects = leader.coordinator.as_mut().map(|c| c.unreachable(attempt));
            self.stats.add("unreachable");
            return self.perform(term, effects.unwrap_or_default());
        }
        self.send(message);
    }

    pub fn tick_all(&mut self) {
        let terms: Vec<u64> = self.leaders.iter().map(|leader| leader.term).collect();
        for term in terms {
            let now = self.clock();
            let effects = self.coordinator(term).map(|c| c.tick(now));
            self.perform(term, effects.unwrap_or_default());
            if self.healing || self.rng.per_mille(200) {
                self.take_over(term);
            }
        }
        // A process that has noticed and has nothing under way does nothing any more.
        self.leaders
            .retain(|leader| leader.coordinator.is_some() || !leader.deliveries.is_empty());
    }

    fn answered(&mut self, term: u64, key: Delivery) {
        if let Some(leader) = self.leader(term) {
            leader.deliveries.remove(&key);
        }
    }

    pub fn deliver(&mut self, message: Message) {
        self.note(|| format!("arrives: {message:?}"));
        let now = self.clock();
        let (term, effects) = match message {
            Message::Begin { op, ask, txn } => return self.begin(op, ask, *txn),
            Message::Answer { op, ask, answer } => return self.hear_answer(op, ask, &answer),
            Message::Response { op, response } => return self.hear_response(op, &response),
            Message::Vote {
                term,
                attempt,
                shard,
                vote,
            } => {
                self.answered(term, Delivery::Prepare(attempt, shard));
                (
                    term,
                    self.coordinator(term).map(|c| c.vote(attempt, shard, vote, now)),
                )
            }
            Message::Staged {
                term,
                attempt,
                staged,
            } => {
                self.answered(term, Delivery::Stage(attempt));
                (
                    term,
                    self.coordinator(term).map(|c| c.staged(attempt, &staged, now)),
                )
            }
            Message::Undecided { term, txn, staged } => {
                self.answered(term, Delivery::Decide(txn));
                (term, self.coordinator(term).map(|c| c.undecided(&staged)))
            }
            Message::Inquired {
                term,
                attempt,
                shard,
                vote,
            } => {
                self.answered(term, Delivery::Inquire(attempt, shard));
                (
                    term,
                    self.coordinator(term).map(|c| c.inquired(attempt, shard, vote)),
                )
            }
            Message::Told { term, shard, finish } => {
                self.answered(term, Delivery::Finish(finish.attempt, shard));
                let told = |c: &mut Coordinator| c.told(finish.attempt, shard);
                (term, self.coordinator(term).filter(|_| finish.commit).map(told))
            }
            Message::Decided { term, txn, decision } => {
                self.answered(term, Delivery::Decide(txn));
                if let Some(leader) = self.leader(term) {
                    let staging =
                        |key: &Delivery| matches!(key, Delivery::Stage(attempt) if attempt.txn == txn);
                    leader.deliveries.retain(|key, _| !staging(key));
                }
                (
                    term,
                    self.coordinator(term).map(|c| c.decided(txn, &decision, now)),
                )
            }
            Message::Retired { term, txn } => return self.answered(term, Delivery::Retire(txn)),
            Message::Query { shard, prepared } => return self.query(shard, prepared),
            Message::StillStaged {
                shard,
                coordinator,
                attempts,
            } => return self.still_staged(shard, coordinator, attempts),
            other => return self.deliver_to_log(other),
        };
        self.perform(term, effects.unwrap_or_default());
    }

    fn deliver_to_log(&mut self, message: Message) {
        let (group, request, waiter) = match message {
            Message::Prepare { term, shard, prepare } => {
                let attempt = prepare.attempt;
                let waiter = Waiter::Vote { term, attempt, shard };
                (shard, Request::anonymous(Body::Prepare(prepare)), waiter)
            }
            Message::Stage { term, below, stage } => {
                let attempt = stage.staged.attempt;
                let mut request = Request::anonymous(Body::Stage(stage));
                request.below = below;
                (
                    self.coordinator_of(attempt.txn),
                    request,
                    Waiter::Stage { term, attempt },
                )
            }
            Message::Inquire {
                term,
                shard,
                attempt,
                deadline,
            } => {
                let waiter = Waiter::Inquiry { term, attempt, shard };
                (
                    shard,
                    Request::anonymous(Body::Inquire { attempt, deadline }),
                    waiter,
                )
            }
            Message::Finish { term, shard, finish } => {
                let waiter = Waiter::Told { term, shard, finish };
                (shard, Request::anonymous(Body::Finish(finish)), waiter)
            }
            Message::Decide { by, below, decide } => {
                let group = self.coordinator_of(decide.txn);
                let waiter = Waiter::Decide {
                    by,
                    txn: decide.txn,
                    told: decide.told,
                };
                let mut request = Request::anonymous(Body::Decide(decide));
                request.below = below;
                (group, request, waiter)
            }
            Message::Retire { term, txn } => {
                let request = Request::anonymous(Body::Retire(txn));
                (self.coordinator_of(txn), request, Waiter::Retire { term, txn })
            }
            Message::Verdict {
                shard,
                prepared,
                decision,
            } => {
                let attempt = prepared.attempt;
                let commit = matches!(decision, Decision::Commit { attempt: a, .. } if a == attempt);
                let finish = Finish {
                    attempt,
                    commit,
                    deadline: prepared.deadline,
                };
                self.stats.add("recovered");
                (shard, Request::anonymous(Body::Finish(finish)), Waiter::Nobody)
            }
            Message::Forget { shard, attempts } => {
                self.stats.add("votes forgotten");
                (shard, Request::anonymous(Body::Forget(attempts)), Waiter::Nobody)
            }
            Message::Run { op, shard, request } => (shard, *request, Waiter::Op(op)),
            other => unreachable!("{other:?} is not for a log"),
        };
        self.propose(group, request, waiter);
    }

    fn begin(&mut self, op: OpId, ask: u32, txn: Txn) {
        let now = self.clock();
        let Some(term) = self.asked(self.coordinator_of(txn.id)) else {
            return;
        };
        let recorded = self.record_seen_by(term, txn.id);
        let Some(leader) = self.leader(term) else { return };
        let Some(coordinator) = &mut leader.coordinator else {
            return;
        };
        if !coordinator.is_active(txn.id)
            && let Some(decision) = recorded
        {
            let answer = match decision {
                Decision::Commit { participants, .. } => Answer::Committed(participants),
                Decision::Abort => Answer::Aborted("recovery had aborted it".into()),
            };
            return self.send(Message::Answer { op, ask, answer });
        }
        leader.waiters.entry(txn.id).or_default().push((op, ask));
        let effects = coordinator.begin(txn, now);
        self.perform(term, effects);
    }

    /// The record as the leader's replica has it, or as the leader will have it recorded.
    fn record_seen_by(&mut self, term: u64, txn: TxnId) -> Option<Decision> {
        let leader = self.leader(term)?;
        let group = leader.group;
        let committed = leader.coordinator.as_ref().and_then(|c| c.commit(txn));
        let recorded = match &leader.view {
            Some(view) => view.as_coordinator()?.decision(txn).cloned(),
            None => self.log(group).coordinator().decision(txn).cloned(),
        };
        recorded.or(committed)
    }

    fn query(&mut self, shard: GroupId, prepared: Prepared) {
        let attempt = prepared.attempt;
        let Some(term) = self.asked(prepared.coordinator) else {
            return;
        };
        let recorded = self.record_seen_by(term, attempt.txn);
        let Some(leader) = self.leader(term) else { return };
        let stale = leader.view.is_some();
        let Some(coordinator) = &leader.coordinator else {
            return;
        };
        let decision = match (recorded, coordinator.query(attempt)) {
            (Some(decision), _) => decision,
            (None, Query::Abort) => Decision::Abort,
            (None, Query::Pending) => return,
            (None, Query::Unknown) => {
                let decide = Box::new(Decide {
                    txn: attempt.txn,
                    deadline: prepared.deadline,
                    decision: Decision::Abort,
                    refused: None,
                    told: false,
                });
                let by = Decider::Participant(shard, prepared);
                // Only the real leader's proposal gets into the log.
                if !stale {
                    self.send(Message::Decide { by, below: 0, decide });
                }
                return;
            }
        };
        self.note(|| format!("term {term} tells {shard} about {attempt}: {decision:?}"));
        self.send(Message::Verdict {
            shard,
            prepared,
            decision,
        });
    }

    pub fn recover_some_shard(&mut self) {
        let shard = self.rng.index(self.shards.len());
        self.recover_shard(shard);
        self.ask_to_forget(shard);
    }

    /// As `src/cluster/forgetting.rs`: asks whether the votes that a shard keeps are still needed.
    pub fn ask_to_forget(&mut self, shard: usize) {
        let log = &self.shards[shard];
        let group = log.group;
        let mut kept: BTreeMap<GroupId, Vec<AttemptId>> = BTreeMap::new();
        for (attempt, coordinator) in log.shard().kept() {
            kept.entry(coordinator).or_default().push(attempt);
        }
        for (coordinator, attempts) in kept {
            self.send(Message::StillStaged {
                shard: group,
                coordinator,
                attempts,
            });
        }
    }

    /// A read that the coordinator's leader has confirmed: of the log as it is.
    fn still_staged(&mut self, shard: GroupId, coordinator: GroupId, mut attempts: Vec<AttemptId>) {
        let read = Read::Staged(attempts.clone());
        let ReadOutcome::Ready(Seen::Staged(staged)) = self.log(coordinator).machine.read(&read, 0, u64::MAX)
        else {
            unreachable!("a coordinator says at once what is staged");
        };
        attempts.retain(|attempt| !staged.contains(attempt));
        if !attempts.is_empty() {
            self.send(Message::Forget { shard, attempts });
        }
    }

    /// As `src/cluster/recovery.rs`: asks about everything that has been prepared for too long.
    pub fn recover_shard(&mut self, shard: usize) {
        let now = self.clock();
        let log = &self.shards[shard];
        let group = log.group;
        let patience = self.profile.patience;
        let overdue: Vec<Prepared> = log
            .shard()
            .prepared()
            .filter(|p| now.saturating_sub(p.since) > patience)
            .collect();
        for prepared in overdue {
            self.send(Message::Query {
                shard: group,
                prepared,
            });
        }
    }
}

impl Leader {
    fn notice(&mut self) {
        self.coordinator = None;
        self.view = None;
        self.waiters.clear();
    }
}
