//! What must be so: every executed operation applied once, at the moment its record or entry came to be.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate::base::{GroupId, Reply, RequestId, TxnId};
use quorate::machine::keyspace::Value;
use quorate::machine::{Command, Decision, Response};
use quorate::txn::Coordinator;

use crate::gateway::number;
use crate::message::OpId;
use crate::op::{ACCOUNTS, Kind, Outcome, State, Write, account, pair};
use crate::world::World;

const FIRST_MONEY: i64 = 1000;

pub struct Model {
    values: Vec<BTreeMap<Bytes, i64>>,
    ops: BTreeMap<RequestId, OpId>,
    /// What the coordinators' logs have answered first.
    records: BTreeMap<TxnId, Decision>,
    replies: BTreeMap<OpId, Response>,
    total: i64,
}

impl Model {
    pub fn new(shards: u16) -> Model {
        let accounts = |shard| (0..ACCOUNTS).map(move |n| (account(shard, n), FIRST_MONEY));
        let values: Vec<BTreeMap<Bytes, i64>> = (0..shards).map(|shard| accounts(shard).collect()).collect();
        let total = values.iter().flat_map(BTreeMap::values).sum();
        Model {
            values,
            ops: BTreeMap::new(),
            records: BTreeMap::new(),
            replies: BTreeMap::new(),
            total,
        }
    }

    pub fn first_commands(&self, shard: usize) -> Vec<Command> {
        let pairs = self.values[shard].iter();
        let pairs = pairs.map(|(key, value)| (key.clone(), Bytes::from(value.to_string())));
        vec![Command::MSet {
            pairs: pairs.collect(),
        }]
    }

    pub fn start(&mut self, id: RequestId, op: OpId) {
        self.ops.insert(id, op);
    }

    pub fn value(&self, shard: u16, key: &Bytes) -> i64 {
        let values = &self.values[usize::from(shard)];
        values.get(key).copied().unwrap_or(0)
    }

    fn keys(&self) -> i64 {
        let keys: usize = self.values.iter().map(BTreeMap::len).sum();
        i64::try_from(keys).expect("few keys")
    }

    fn is_account(key: &Bytes) -> bool {
        key.starts_with(b"a")
    }

    /// A read over all shards that found nothing changed: one moment's balances and pairs.
    pub fn check_snapshot(&self, seen: &BTreeMap<(u16, Bytes), (i64, u64)>) {
        let money = seen.iter().filter(|((_, key), _)| Model::is_account(key));
        let sum: i64 = money.map(|(_, (value, _))| value).sum();
        assert_eq!(sum, self.total, "a snapshot read saw other money than there is");
        let shards = u16::try_from(self.values.len()).expect("few shards");
        for n in 0..shards {
            let side = |shard: u16| seen[&(shard, pair(n, shard))].0;
            assert_eq!(
                side(n),
                side((n + 1) % shards),
                "a snapshot read saw pair {n} half set"
            );
        }
    }
}

impl World {
    /// The log has executed an operation: that happens once, and never after it was reported undone.
    fn happen(&mut self, op: OpId) {
        let done = &mut self.ops[op];
        assert!(!done.happened, "op {op} ({:?}) is executed twice", done.id);
        assert_ne!(
            done.state,
            State::Over(Outcome::Nothing),
            "op {op} ({:?}) is executed after its gateway was told that nothing happened",
            done.id
        );
        done.happened = true;
        for effect in &done.effects {
            let values = &mut self.model.values[usize::from(effect.shard)];
            let value = values.entry(effect.key.clone()).or_default();
            match effect.write {
                Write::Set(new) => *value = new,
                Write::Add(by) => *value += by,
            }
        }
    }

    /// A single shard's log has answered a request.
    pub fn ran(&mut self, op: OpId, response: &Response) {
        if let Response::Replies(_) = response {
            match self.model.replies.get(&op) {
                None => {
                    self.model.replies.insert(op, response.clone());
                    self.stats.add("single requests run");
                    self.happen(op);
                }
                Some(before) => assert_eq!(before, response, "op {op}: another reply the second time"),
            }
        }
    }

    /// A coordinator's log has answered for a transaction.
    pub fn recorded(&mut self, group: GroupId, txn: TxnId, decision: &Decision) {
        let op = self.model.ops[&txn];
        let Some(before) = self.model.records.get(&txn).cloned() else {
            self.model.records.insert(txn, decision.clone());
            if let Decision::Commit { participants, .. } = decision {
                self.stats.add("commits");
                self.check_replies(op, participants);
                self.happen(op);
            } else {
                self.stats.add("aborts recorded");
            }
            return;
        };
        let log = self.log(group).machine.as_coordinator();
        let forgotten = log.is_some_and(|log| log.decision(txn).is_none());
        // Whoever asks after the gateway has closed the number learns no more than that nothing new will come of it.
        let closed = matches!(self.ops[op].state, State::Over(_) | State::Left);
        let stray = forgotten && closed && *decision == Decision::Abort;
        assert!(
            before == *decision || stray,
            "the decision of {txn} changes from {before:?} to {decision:?}"
        );
    }

    /// What was read under locks is what there was at the moment of the record.
    fn check_replies(&mut self, op: OpId, participants: &[(GroupId, Vec<Reply>)]) {
        let replies = participants.iter().flat_map(|(_, replies)| replies);
        match self.ops[op].kind {
            Kind::Count => {
                let sum: i64 = replies.map(number).sum();
                assert_eq!(
                    sum,
                    self.model.keys(),
                    "op {op} counted other keys than there are"
                );
                self.stats.add("counts");
            }
            Kind::Audit => {
                let balances = replies.flat_map(|reply| match reply {
                    Reply::Array(items) => items.iter().map(number).collect(),
                    _ => Vec::new(),
                });
                let sum: i64 = balances.sum();
                assert_eq!(sum, self.model.total, "op {op} counted other money than there is");
                self.stats.add("audits");
            }
            _ => {}
        }
    }

    /// After an entry: the group's committed view is the model's.
    pub fn check_group(&mut self, group: GroupId) {
        match group {
            GroupId::Shard(n) => self.check_shard(usize::from(n)),
            GroupId::Coordinator(_) => {
                let money: i64 = self
                    .model
                    .values
                    .iter()
                    .flatten()
                    .filter(|(key, _)| Model::is_account(key))
                    .map(|(_, value)| value)
                    .sum();
                assert_eq!(money, self.model.total, "money came or went");
            }
        }
    }

    fn check_shard(&self, n: usize) {
        let shard = self.shards[n].machine.as_shard().expect("a shard's log");
        // Committed, but not told here yet: an intent that counts already.
        let mut late: BTreeMap<&Bytes, Vec<Write>> = BTreeMap::new();
        for prepared in shard.prepared() {
            let txn = prepared.attempt.txn;
            let counts = matches!(self.model.records.get(&txn), Some(Decision::Commit { attempt, .. }) if *attempt == prepared.attempt);
            if counts {
                let op = &self.ops[self.model.ops[&txn]];
                for effect in op.effects.iter().filter(|e| usize::from(e.shard) == n) {
                    late.entry(&effect.key).or_default().push(effect.write);
                }
            }
        }
        let mut there = shard.keyspace().len();
        for (key, &expected) in &self.model.values[n] {
            let stored = shard.keyspace().get(key);
            let mut value = stored.map_or(0, |object| {
                let Value::Str(bytes) = &object.value;
                number(&Reply::Bulk(bytes.clone()))
            });
            for write in late.get(key).into_iter().flatten() {
                match write {
                    Write::Set(new) => value = *new,
                    Write::Add(by) => value += by,
                }
            }
            there += usize::from(stored.is_none() && late.contains_key(key));
            assert_eq!(
                value, expected,
                "{key:?} of shard {n} is not what was committed (left), or was committed twice"
            );
        }
        let expected = self.model.values[n].len();
        assert_eq!(
            there, expected,
            "shard {n} holds keys that nobody has committed, or lacks some"
        );
    }

    /// Whether nothing is under way anywhere.
    pub fn at_rest(&self) -> bool {
        self.unrest().is_empty()
    }

    /// What is still under way.
    pub fn unrest(&self) -> Vec<String> {
        let mut unrest = Vec::new();
        for log in &self.shards {
            let shard = log.machine.as_shard().expect("a shard's log");
            let (prepared, parked) = (shard.prepared().count(), shard.parked());
            if prepared > 0 || parked > 0 || !shard.locks().is_free() {
                unrest.push(format!("{}: {prepared} prepared, {parked} parked", log.group));
            }
        }
        for log in &self.coordinators {
            let coordinator = log.machine.as_coordinator().expect("a coordinator's log");
            let unretired = coordinator.unretired().len();
            if unretired > 0 {
                unrest.push(format!("{}: {unretired} not retired", log.group));
            }
        }
        for leader in &self.leaders {
            let active = leader.coordinator.as_ref().map_or(0, Coordinator::active);
            let deliveries: Vec<_> = leader.deliveries.keys().collect();
            if active > 0 || !deliveries.is_empty() {
                unrest.push(format!("term {}: {active} active, {deliveries:?}", leader.term));
            }
        }
        for (number, op) in self.ops.iter().enumerate() {
            if !matches!(op.state, State::Over(_) | State::Left) {
                unrest.push(format!("op {number}: {:?}", op.state));
            }
        }
        unrest
    }

    /// At rest: all is as the model says, and every outcome that was told is true.
    pub fn check_end(&mut self) {
        for n in 0..self.shards.len() {
            self.check_shard(n);
        }
        for (number, op) in self.ops.iter().enumerate() {
            if let State::Over(outcome) = op.state
                && op.id.is_some()
            {
                assert_eq!(op.happened, outcome == Outcome::Done, "op {number} at the end");
            }
        }
    }
}
