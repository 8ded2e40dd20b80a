//! What must be so, checked at every record, entry, read and answer. Each check has a name; a breach begins with it.
//!
//! | name | what |
//! |---|---|
//! | reads, snapshot reads | a read sees what was committed, and a key as expired only after that is in the log |
//! | strict | what goes on as strict has no command that fails; what is rolled back has failed, and so |
//! | replies | what an operation is answered is what it would have replied at the moment of its record or entry |
//! | conditions | what was read under WATCH had not changed then |
//! | once | an operation is executed once, and not after its gateway was told that nothing had happened |
//! | outcomes | what a gateway is told is what happened |
//! | records | a decision never changes |
//! | deadlines | nothing is staged, and without that no commit recorded, after its deadline in replicated time |
//! | votes | no participant votes yes after it said no, nor on an attempt whose record is retired |
//! | retired | a retired record has no prepared participant |
//! | time | replicated time is the largest that was stamped |
//! | state | a shard's keys are those that were committed, no others |
//! | bank | there is as much money as at the start |
//! | digests | the running digest of a shard's keys is what a walk over them finds |
//! | snapshots, replicas | equal states after a snapshot, and on two replicas |
//! | deadlock | transactions do not wait for each other in a circle |
//! | rest | when all faults are over, everything ends, and within its deadline |
//!
//! The checkers of histories (`judge.rs`) come on top, and know nothing of all this.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use quorate::base::{AttemptId, GroupId, Millis, Reply, RequestId, TxnId};
use quorate::machine::keyspace::Value;
use quorate::machine::{Decision, No, Response, Scope, Staged, Vote};
use quorate::txn::Coordinator;

use super::gateway::by_shard;
use super::message::OpId;
use super::model::{Cell, number};
use super::op::{Look, Outcome, State};
use super::workload::{ACCOUNTS, FIRST_MONEY, Kind, accounts, pair, tokens};
use super::world::World;

/// Whether all checks but the judge's are switched off.
static JUDGE_ALONE: AtomicBool = AtomicBool::new(false);
const JUDGES: [&str; 2] = ["strict serializability", "linearizability"];

/// For the whole process: leaves it to the checkers of histories alone to find a fault.
pub fn judge_alone(alone: bool) {
    JUDGE_ALONE.store(alone, Ordering::Relaxed);
}

/// Fails the run unless `holds`, in the name of a check.
pub fn check(holds: bool, name: &str, why: impl FnOnce() -> String) {
    if !holds && (JUDGES.contains(&name) || !JUDGE_ALONE.load(Ordering::Relaxed)) {
        breach(name, &why());
    }
}

#[expect(clippy::panic, reason = "a run fails by panicking")]
fn breach(name: &str, why: &str) {
    panic!("{name}: {why}");
}

/// What the logs have said first.
#[derive(Debug, Default)]
pub struct Records {
    pub ops: BTreeMap<RequestId, OpId>,
    decisions: BTreeMap<TxnId, Decision>,
    retired: BTreeSet<TxnId>,
    single: BTreeMap<OpId, Response>,
}

impl Records {
    /// Whether the record of its transaction commits this attempt.
    fn commits(&self, attempt: AttemptId) -> bool {
        matches!(self.decisions.get(&attempt.txn), Some(Decision::Commit { attempt: a, .. }) if *a == attempt)
    }
}

impl World {
    /// A read has found `look`; says the model's generation of it.
    pub fn check_read(&self, op: OpId, key: &Bytes, look: &Look) -> u64 {
        let cell = self.model.now(key);
        let expected = cell.map(|cell| (&cell.value, cell.expires));
        let found = look.value.as_ref().map(|value| (value, look.expires));
        check(found == expected, "reads", || {
            format!("op {op} reads {key:?} as {found:?}, which is {expected:?}")
        });
        cell.map_or(0, |cell| cell.generation)
    }

    /// A read over all shards that found nothing changed: one moment's balances and pairs.
    pub fn check_snapshot(&self, op: OpId) {
        let seen = &self.ops[op].seen;
        let value = |key: &Bytes| seen[key].value.as_ref();
        if self.ops[op].kind == Kind::Seek {
            let there = tokens(self.keys).map(|key| value(&key).is_some());
            return check(there[0] != there[1], "snapshot reads", || {
                format!("op {op} saw tokens {there:?}, of which there is always one")
            });
        }
        let balance = |key: &Bytes| value(key).map_or(0, |text| number(text));
        let sum: i64 = accounts(self.keys).iter().map(balance).sum();
        check(sum == self.money(), "snapshot reads", || {
            format!("op {op} saw {sum} of {}", self.money())
        });
        for n in 0..self.keys.shards() {
            let [one, other] = pair(self.keys, n);
            check(value(&one) == value(&other), "snapshot reads", || {
                format!("op {op} saw pair {n} half set")
            });
        }
    }

    fn money(&self) -> i64 {
        FIRST_MONEY * i64::try_from(ACCOUNTS).expect("few") * i64::from(self.keys.shards())
    }

    /// The log has executed an operation: that happens once, and never after it was reported undone.
    fn happen(&mut self, op: OpId, times: &[Millis]) {
        let done = &self.ops[op];
        check(!done.happened(), "once", || {
            format!("op {op} ({:?}) is executed twice", done.id)
        });
        check(done.state != State::Over(Outcome::Nothing), "once", || {
            format!(
                "op {op} ({:?}) is executed after its gateway was told that nothing happened",
                done.id
            )
        });
        if done.watches || done.kind.is_optimistic() {
            for (key, look) in &done.seen {
                let generation = self.model.at(key, times).map_or(0, |cell| cell.generation);
                check(generation == look.generation, "conditions", || {
                    format!("op {op} goes on, although {key:?} has changed or expired since it was read")
                });
            }
        }
        self.stats.add(done.kind.name());
        let commands = done.commands.clone();
        let expected = commands.iter().map(|command| self.model.run(command, times));
        let expected: Vec<_> = expected.collect();
        let fails = expected.iter().any(super::model::Expect::is_error);
        check(!fails || !self.ops[op].strict, "strict", || {
            format!("op {op} is applied, although it is strict and one of {commands:?} fails")
        });
        self.stats.add(if fails { "errors applied" } else { "no errors" });
        self.ops[op].expected = Some(expected);
    }

    /// A single shard's log has answered a request.
    pub fn ran(&mut self, op: OpId, response: &Response) {
        if let (Response::Failed(failed), None) = (response, self.records.single.get(&op)) {
            self.check_failing(op, self.ops[op].group, failed);
            self.records.single.insert(op, response.clone());
        }
        let Response::Replies(replies) = response else {
            return;
        };
        if let Some(before) = self.records.single.get(&op) {
            return check(before == response, "replies", || {
                format!("op {op} is answered {response:?} after {before:?}")
            });
        }
        self.records.single.insert(op, response.clone());
        self.stats.add("single requests run");
        let times = self.model.times.clone();
        self.happen(op, &times);
        if let GroupId::Shard(shard) = self.ops[op].group {
            let replies = self.ops[op].merge(&BTreeMap::from([(shard, replies.clone())]));
            self.check_replies(op, &replies);
        }
    }

    /// A participant has voted.
    pub fn voted(&mut self, shard: GroupId, attempt: AttemptId, vote: &Vote) {
        self.stats.add(if matches!(vote, Vote::Yes(_)) {
            "votes yes"
        } else {
            "votes no"
        });
        if let Vote::No(why) = vote {
            if let No::Failed(failed) = why {
                self.check_failing(self.records.ops[&attempt.txn], shard, failed);
            }
            self.refused.insert((attempt, shard));
            return;
        }
        check(!self.refused.contains(&(attempt, shard)), "votes", || {
            format!("{shard} votes yes on {attempt}, which it had refused")
        });
        let back = self.records.retired.contains(&attempt.txn) && self.records.commits(attempt);
        check(!back, "votes", || {
            format!("{shard} votes yes on {attempt}, whose record is retired")
        });
        if let GroupId::Shard(n) = shard {
            let time = self.model.times[usize::from(n)];
            self.voted.entry((attempt, shard)).or_insert(time);
        }
        if let Vote::Yes(replies) = vote {
            self.votes.insert((attempt, shard), replies.clone());
        }
        self.commit_if_all_agree(attempt);
    }

    /// A participant was asked about an attempt and has not prepared it.
    pub fn ruled_out(&mut self, shard: GroupId, attempt: AttemptId) {
        self.refused.insert((attempt, shard));
    }

    /// A coordinator's log holds an attempt staged.
    pub fn staged(&mut self, staged: &Staged) {
        let (attempt, deadline) = (staged.attempt, staged.deadline);
        if !self.staged.contains_key(&attempt) {
            let time = self.log(self.coordinator_of(attempt.txn)).machine.time();
            check(time <= deadline, "deadlines", || {
                format!("{attempt} is staged at {time}, after its deadline {deadline}")
            });
        }
        self.staged.insert(staged.attempt, staged.clone());
        self.commit_if_all_agree(staged.attempt);
    }

    /// Staged, and prepared by all: from now on that is the record, whoever writes it down.
    fn commit_if_all_agree(&mut self, attempt: AttemptId) {
        let Some(staged) = self.staged.get(&attempt) else {
            return;
        };
        let vote = |shard: &GroupId| Some((*shard, self.votes.get(&(attempt, *shard))?.clone()));
        let participants: Option<Vec<_>> = staged.participants.iter().map(vote).collect();
        if let Some(mut participants) = participants {
            participants.sort_by_key(|(shard, _)| *shard);
            let deadline = staged.deadline;
            let commit = Decision::Commit {
                attempt,
                participants,
                deadline,
            };
            self.stats.add("commits by agreement");
            self.recorded(attempt.txn, &commit);
        }
    }

    /// A coordinator's log has answered for a transaction.
    pub fn recorded(&mut self, txn: TxnId, decision: &Decision) {
        let op = self.records.ops[&txn];
        let Some(before) = self.records.decisions.get(&txn).cloned() else {
            self.records.decisions.insert(txn, decision.clone());
            match decision {
                Decision::Commit {
                    attempt,
                    participants,
                    deadline,
                } => {
                    let time = self.log(self.coordinator_of(txn)).machine.time();
                    // Once it is staged, and prepared in time, the record of it may take as long as it likes.
                    let staged = self.staged.contains_key(attempt);
                    check(staged || time <= *deadline, "deadlines", || {
                        format!("{txn} is committed at {time}, after its deadline {deadline}")
                    });
                    self.committed(op, *attempt, participants);
                }
                Decision::Abort => self.stats.add("aborts recorded"),
            }
            return;
        };
        // A retired record may be forgotten once nobody waits for it; who asks then, hears that nothing new will come.
        let retired = self.records.retired.contains(&txn);
        let stray = retired && !self.ops[op].is_open() && *decision == Decision::Abort;
        check(before == *decision || stray, "records", || {
            format!("the decision of {txn} changes from {before:?} to {decision:?}")
        });
    }

    fn committed(&mut self, op: OpId, attempt: AttemptId, participants: &[(GroupId, Vec<Reply>)]) {
        self.stats.add("commits");
        // A participant's replies and intent are of the moment of its vote; its locks hold them until the record.
        let mut times = self.model.times.clone();
        for (n, time) in (0..).zip(&mut times) {
            if let Some(voted) = self.voted.get(&(attempt, GroupId::Shard(n))) {
                *time = *voted;
            }
        }
        self.happen(op, &times);
        let replies = self.ops[op].merge(&by_shard(participants));
        self.check_replies(op, &replies);
    }

    /// What an operation was answered is what it had to be at the moment it happened.
    pub fn check_replies(&self, op: OpId, replies: &[Reply]) {
        let asked = &self.ops[op];
        let Some(expected) = &asked.expected else { return };
        let fit = replies.len() == expected.len() && expected.iter().zip(replies).all(|(e, r)| e.fits(r));
        check(fit, "replies", || {
            format!(
                "op {op}, {:?}, is answered {replies:?} instead of {expected:?}",
                asked.commands
            )
        });
        if let (Kind::Audit, [Reply::Array(balances)]) = (asked.kind, replies) {
            let balance = |reply: &Reply| match reply {
                Reply::Bulk(text) => number(text),
                _ => 0,
            };
            let sum: i64 = balances.iter().map(balance).sum();
            check(sum == self.money(), "bank", || {
                format!("op {op} counts {sum} of {}", self.money())
            });
        }
    }

    /// All participants have acknowledged, it is said.
    pub fn retired(&mut self, txn: TxnId) {
        self.records.retired.insert(txn);
        for log in &self.shards {
            let left = log
                .shard()
                .prepared()
                .find(|p| self.records.commits(p.attempt) && p.attempt.txn == txn);
            check(left.is_none(), "retired", || {
                format!(
                    "the record of {txn} is retired, and {} has not heard of it",
                    log.group
                )
            });
        }
    }

    /// After an entry: the group's committed view is the model's.
    pub fn check_group(&mut self, group: GroupId) {
        if let GroupId::Shard(n) = group {
            let (n, time) = (usize::from(n), self.log(group).machine.time());
            check(time == self.model.times[n], "time", || {
                format!(
                    "replicated time of {group} is {time}, and was {}",
                    self.model.times[n]
                )
            });
            self.check_shard(n);
        }
    }

    /// Keys of a shard whose committed writes have not arrived there yet. They are locked: nobody sees them.
    fn under_way(&self, n: usize) -> BTreeSet<Bytes> {
        let mut keys = BTreeSet::new();
        let committed = |attempt: &AttemptId| self.records.commits(*attempt);
        for attempt in self.shards[n]
            .shard()
            .prepared()
            .map(|p| p.attempt)
            .filter(committed)
        {
            let op = &self.ops[self.records.ops[&attempt.txn]];
            for part in op.parts.iter().filter(|part| part.shard == self.shards[n].group) {
                if let Scope::Keys(more) = &part.scope {
                    keys.extend(more.iter().cloned());
                }
            }
        }
        keys
    }

    fn check_shard(&self, n: usize) {
        let keyspace = self.shards[n].shard().keyspace();
        let (cells, now, under_way) = (self.model.cells(n), self.model.times[n], self.under_way(n));
        let mut known = 0;
        for (key, cell) in cells {
            let stored = keyspace.get(key);
            known += usize::from(stored.is_some());
            let is_right = match stored {
                Some(object) => {
                    let Value::Str(text) = object.value() else {
                        unreachable!("strings are all that is written here: {object:?}");
                    };
                    text[..] == cell.value[..] && object.expires() == cell.expires
                }
                None => cell.expired(now),
            };
            check(is_right || under_way.contains(key), "state", || {
                format!("{key:?} of shard {n} is {stored:?} and was committed as {cell:?}")
            });
        }
        let gone = |key: &&Bytes| !cells.contains_key(*key) && keyspace.get(key).is_some();
        known += under_way.iter().filter(gone).count();
        check(known == keyspace.len(), "state", || {
            format!(
                "shard {n} holds {} keys, of which {known} were committed",
                keyspace.len()
            )
        });
    }

    /// Whether nothing is under way anywhere.
    pub fn at_rest(&self) -> bool {
        self.unrest().is_empty()
    }

    /// What is still under way.
    pub fn unrest(&self) -> Vec<String> {
        let mut unrest = Vec::new();
        for log in &self.shards {
            let shard = log.shard();
            let (prepared, parked) = (shard.prepared().count(), shard.parked());
            let kept = shard.kept().count();
            if prepared > 0 || parked > 0 || kept > 0 || !shard.locks().is_free() {
                unrest.push(format!(
                    "{}: {prepared} prepared, {parked} parked, {kept} votes kept",
                    log.group
                ));
            }
        }
        for log in &self.coordinators {
            let (unretired, staged) = (
                log.coordinator().unretired().len(),
                log.coordinator().staged().len(),
            );
            if unretired > 0 || staged > 0 {
                unrest.push(format!("{}: {unretired} not retired, {staged} staged", log.group));
            }
        }
        for leader in &self.leaders {
            let active = leader.coordinator.as_ref().map_or(0, Coordinator::active);
            let deliveries: Vec<_> = leader.deliveries.keys().collect();
            if active > 0 || !deliveries.is_empty() {
                unrest.push(format!("term {}: {active} active, {deliveries:?}", leader.term));
            }
        }
        for (number, op) in self.ops.iter().enumerate().filter(|(_, op)| op.is_open()) {
            unrest.push(format!("op {number}: {:?}", op.state));
        }
        unrest
    }

    /// At rest: all is as the model says, and every outcome that was told is true.
    pub fn check_end(&mut self) {
        for n in 0..self.shards.len() {
            self.check_shard(n);
        }
        let money = |key: &Bytes| self.model.now(key).map_or(0, |cell: &Cell| number(&cell.value));
        let sum: i64 = accounts(self.keys).iter().map(money).sum();
        check(sum == self.money(), "bank", || {
            format!("{sum} is left of {}", self.money())
        });
        for (number, op) in self.ops.iter().enumerate() {
            if let (State::Over(outcome), true) = (op.state, op.id.is_some()) {
                check(op.happened() == (outcome == Outcome::Done), "outcomes", || {
                    format!("op {number} was told {outcome:?}")
                });
            }
        }
    }
}
