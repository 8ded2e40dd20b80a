//! Gateways as `src/cluster/execute.rs` works: numbers and watermarks, `Begin` asked again at the next leader, an
//! unanswered transaction settled by an abort that is logged, a single shard's request sent again under its id.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate::base::mutant::{self, Mutant};
use quorate::base::{GroupId, Reply, RequestId, TxnId};
use quorate::machine::keyspace::Value;
use quorate::machine::{
    Body, Condition, Decide, Decision, Mode, Read, ReadOutcome, Refusal, Request, Response, Seen,
};
use quorate::txn::{Answer, Txn};

use super::checks::check;
use super::message::{Decider, Message, OpId, Waiter};
use super::op::{Look, Op, Outcome, State};
use super::workload::Kind;
use super::world::World;

#[derive(Debug)]
pub struct Gateway {
    session: u64,
    next: u64,
    open: BTreeMap<GroupId, BTreeSet<u64>>,
}

/// Sessions of one place over its lives.
const LIVES: u64 = 1 << 20;
/// Operations that run at one time.
const OPEN_MAX: usize = 6;

impl Gateway {
    pub fn new(place: u64) -> Gateway {
        Gateway {
            session: place * LIVES,
            next: 1,
            open: BTreeMap::new(),
        }
    }

    /// As `src/cluster/numbering.rs`.
    fn number(&mut self, group: GroupId) -> (RequestId, u64) {
        let seq = self.next;
        self.next += 1;
        let open = self.open.entry(group).or_default();
        open.insert(seq);
        let below = open.first().copied().unwrap_or(seq);
        let session = u128::from(self.session);
        (RequestId { session, seq }, below)
    }
}

/// Replies by shard, as a coordinator's record has them.
pub fn by_shard(participants: &[(GroupId, Vec<Reply>)]) -> BTreeMap<u16, Vec<Reply>> {
    let of_shard = |(group, replies): &(GroupId, Vec<Reply>)| match group {
        GroupId::Shard(n) => Some((*n, replies.clone())),
        GroupId::Coordinator(_) => None,
    };
    participants.iter().filter_map(of_shard).collect()
}

impl World {
    /// The coordinator group of a transaction: by its session.
    pub fn coordinator_of(&self, txn: TxnId) -> GroupId {
        let place = usize::try_from(txn.session / u128::from(LIVES)).expect("a gateway's place");
        self.coordinators[place % self.coordinators.len()].group
    }

    pub fn start_op(&mut self) {
        let open = self.ops.iter().filter(|op| op.is_open()).count();
        if self.ops.len() >= self.profile.ops || open >= OPEN_MAX {
            return;
        }
        let gateway = self.rng.index(self.gateways.len());
        let kind = Kind::some(self.profile.focus, &mut self.rng);
        let mut op = Op::new(kind, gateway);
        op.draw(self.ops.len(), self.keys, self.now, &mut self.rng);
        self.enter(op);
    }

    fn enter(&mut self, op: Op) {
        let number = self.ops.len();
        self.note(|| format!("op {number}: {op:?}"));
        self.ops.push(op);
    }

    pub fn poke_some_op(&mut self) {
        if !self.ops.is_empty() {
            // The younger ones mostly: the older are over.
            let last = self.ops.len().min(8);
            let op = self.ops.len() - 1 - self.rng.index(last);
            self.poke(op);
        }
    }

    pub fn poke_all_ops(&mut self) {
        for op in 0..self.ops.len() {
            self.poke(op);
        }
    }

    fn poke(&mut self, op: OpId) {
        if !self.ops[op].is_open() {
            return;
        }
        let now = self.clock();
        match self.ops[op].state {
            State::Reading => self.read_next(op),
            State::Checking => self.check_next(op),
            State::Asking if now > self.ops[op].deadline || self.rng.per_mille(60) => self.settle(op),
            State::Asking if self.rng.per_mille(300) => {
                self.ops[op].asks += 1;
                self.ask(op);
            }
            State::Asking | State::Over(_) | State::Left => {}
            State::Settling | State::Running if !self.healing && self.rng.per_mille(30) => {
                self.note(|| format!("op {op} is left"));
                self.ops[op].state = State::Left;
            }
            State::Settling => self.settle(op),
            State::Running => self.run_again(op),
        }
    }

    /// Reads one key at its leader. `None`: a lock or an expiry that is not logged yet is in the way. With what was seen
    /// comes whether it passed over a transaction that was prepared after it had begun.
    fn read_key(&mut self, op: OpId, at: usize, conditions: Vec<Condition>) -> Option<(Seen, bool)> {
        let key = self.ops[op].to_read[at].clone();
        let moment = self.moment();
        let log = &self.shards[self.model.shard_of(&key)];
        let read = if conditions.is_empty() {
            let (keys, most) = (vec![key], u64::MAX);
            Read::Values { keys, most }
        } else {
            Read::Run {
                commands: Vec::new(),
                conditions,
                seed: 0,
                versions: true,
                misses: false,
            }
        };
        let (group, now) = (log.group, log.clock(self.now));
        let begun = *self.ops[op].look_begun.get_or_insert((log.index(), moment));
        // Whoever writes by what it reads is judged by the model, which knows one value at a time.
        let passes = self.ops[op].kind.only_looks() || self.ops[op].kind.is_snapshot();
        let asked = if passes { begun.0 } else { u64::MAX };
        match log.machine.read(&read, now, asked) {
            ReadOutcome::Ready(seen) => {
                let passed = log.machine.read(&read, now, u64::MAX) == ReadOutcome::Locked;
                if passed {
                    self.stats.add("reads that passed a later lock");
                }
                self.ops[op].invoked = begun.1;
                self.ops[op].look_begun = None;
                Some((seen, passed))
            }
            ReadOutcome::Locked => {
                self.stats.add("reads that met a lock");
                None
            }
            ReadOutcome::Expired => {
                self.stats.add("expiries logged for a read");
                self.propose(group, Request::anonymous(Body::Sweep), Waiter::Nobody);
                None
            }
        }
    }

    fn read_next(&mut self, op: OpId) {
        let at = self.ops[op].seen.len();
        if at < self.ops[op].to_read.len() {
            let Some((seen, passed)) = self.read_key(op, at, Vec::new()) else {
                return;
            };
            let key = self.ops[op].to_read[at].clone();
            let mut look = look_of(&seen);
            if !passed {
                look.generation = self.check_read(op, &key, &look);
            }
            self.ops[op].seen.insert(key, look);
            // As a call of its own this read ends here.
            self.ops[op].returned = self.moment();
            return;
        }
        match self.ops[op].kind {
            kind if kind.is_snapshot() => self.ops[op].state = State::Checking,
            kind if kind.only_looks() => {
                self.stats.add("looks");
                self.ops[op].state = State::Over(Outcome::Done);
            }
            _ => self.launch(op),
        }
    }

    /// Snapshot read, second round: has anything changed since the first?
    fn check_next(&mut self, op: OpId) {
        let at = self.ops[op].asks as usize;
        let Some(key) = self.ops[op].to_read.get(at).cloned() else {
            self.check_snapshot(op);
            self.stats.add("snapshots read");
            self.ops[op].state = State::Over(Outcome::Done);
            return;
        };
        let touched = self.ops[op].seen[&key].touched.clone();
        match self.read_key(op, at, vec![touched]) {
            None => {}
            Some((Seen::Conflict, _)) => {
                self.ops[op].seen.clear();
                self.ops[op].asks = 0;
                self.ops[op].state = State::Reading;
            }
            Some(_) => self.ops[op].asks += 1,
        }
    }

    /// Takes a number and sends it off.
    fn launch(&mut self, op: OpId) {
        let (now, seed, moment) = (self.clock(), self.rng.next(), self.moment());
        self.ops[op].conclude(op, self.keys, &mut self.rng);
        self.ops[op].spread(self.keys, now, seed);
        let gateway = self.ops[op].gateway;
        let session = u128::from(self.gateways[gateway].session);
        let (group, state) = match &self.ops[op].parts[..] {
            [only] => (only.shard, State::Running),
            _ => (self.coordinator_of(TxnId { session, seq: 0 }), State::Asking),
        };
        let (id, below) = self.gateways[gateway].number(group);
        self.records.ops.insert(id, op);
        let timeout = self.profile.timeout;
        let launched = &mut self.ops[op];
        launched.id = Some(id);
        (launched.below, launched.group, launched.state) = (below, group, state);
        (launched.started, launched.deadline, launched.asks) = (now, now + timeout, 1);
        launched.invoked = moment;
        match state {
            State::Running => self.run_again(op),
            _ => self.ask(op),
        }
    }

    fn number_of(&self, op: OpId) -> RequestId {
        self.ops[op].id.expect("it has been launched")
    }

    fn ask(&mut self, op: OpId) {
        let (id, asked) = (self.number_of(op), &self.ops[op]);
        let txn = Box::new(Txn {
            id,
            below: asked.below,
            started: asked.started,
            deadline: asked.deadline,
            parts: asked.parts.clone(),
            strict: asked.strict,
        });
        let ask = asked.asks;
        self.send(Message::Begin { op, ask, txn });
    }

    fn settle(&mut self, op: OpId) {
        let (txn, deadline) = (self.number_of(op), self.ops[op].deadline);
        self.ops[op].state = State::Settling;
        self.send(Message::Decide {
            by: Decider::Gateway(op),
            below: self.ops[op].below,
            decide: Box::new(Decide {
                txn,
                deadline,
                decision: Decision::Abort,
                refused: None,
                told: false,
            }),
        });
    }

    fn run_again(&mut self, op: OpId) {
        let (id, running) = (self.number_of(op), &self.ops[op]);
        let [part] = &running.parts[..] else {
            unreachable!("only what concerns one shard is run there");
        };
        let request = Box::new(Request {
            id: Some(id),
            below: running.below,
            deadline: running.deadline,
            body: Body::Run {
                commands: part.commands.clone(),
                conditions: part.conditions.clone(),
                mode: if running.strict {
                    Mode::Strict
                } else {
                    Mode::Together
                },
            },
        });
        let shard = part.shard;
        self.send(Message::Run { op, shard, request });
    }

    pub fn hear_answer(&mut self, op: OpId, ask: u32, answer: &Answer) {
        if self.ops[op].state != State::Asking || self.ops[op].asks != ask {
            return;
        }
        let believes = ask == 1 || mutant::is(Mutant::NoBelievedAfterAskingTwice);
        match answer {
            Answer::Committed(participants) => self.done(op, &by_shard(participants)),
            // Another copy of the question may still be on its way to somebody: only a record rules that out.
            Answer::Conflict | Answer::Aborted(_) | Answer::Failed(..) if !believes => self.settle(op),
            Answer::Conflict => {
                self.stats.add("conflicts");
                self.over(op, Outcome::Nothing);
            }
            Answer::Failed(shard, failed) => {
                self.check_failure(op, *shard, failed);
                self.stats.add("roll-backs over shards");
                self.over(op, Outcome::Nothing);
            }
            Answer::Aborted(_) => {
                self.stats.add("aborts");
                self.over(op, Outcome::Nothing);
            }
        }
    }

    pub fn hear_response(&mut self, op: OpId, response: &Response) {
        match (self.ops[op].state, response) {
            (State::Over(_) | State::Left, _) => return,
            (State::Running, Response::Replies(replies)) => {
                let GroupId::Shard(shard) = self.ops[op].group else {
                    unreachable!("only a shard runs requests");
                };
                self.done(op, &BTreeMap::from([(shard, replies.clone())]));
            }
            (State::Settling, Response::Decision(Decision::Commit { participants, .. })) => {
                self.done(op, &by_shard(participants));
            }
            (State::Running, Response::Failed(failed)) => {
                self.check_failure(op, self.ops[op].group, failed);
                self.stats.add("roll-backs on one shard");
                self.over(op, Outcome::Nothing);
            }
            (State::Running, Response::Conflict | Response::Refused(Refusal::Deadline))
            | (State::Settling, Response::Decision(Decision::Abort)) => self.over(op, Outcome::Nothing),
            // Somebody has to find out first: asked again later.
            (State::Settling, Response::Staged(_)) => self.stats.add("settled too early"),
            (state, response) => check(false, "answers", || {
                format!("op {op} in {state:?} hears {response:?}")
            }),
        }
        self.stats.add("single requests or settled");
    }

    fn done(&mut self, op: OpId, replies: &BTreeMap<u16, Vec<Reply>>) {
        let replies = self.ops[op].merge(replies);
        self.over(op, Outcome::Done);
        self.check_replies(op, &replies);
        self.ops[op].told = Some(replies);
    }

    fn over(&mut self, op: OpId, outcome: Outcome) {
        self.note(|| format!("op {op} is told {outcome:?}"));
        let (id, moment) = (self.number_of(op), self.moment());
        let over = &mut self.ops[op];
        check(over.happened() == (outcome == Outcome::Done), "outcomes", || {
            format!("op {op} ({id}) is told {outcome:?}")
        });
        (over.state, over.returned) = (State::Over(outcome), moment);
        let gateway = &mut self.gateways[over.gateway];
        if u128::from(gateway.session) == id.session
            && let Some(open) = gateway.open.get_mut(&over.group)
        {
            open.remove(&id.seq);
        }
        if outcome == Outcome::Nothing && self.ops[op].retries > 0 {
            self.start_anew(op);
        }
    }

    /// The client tries again, under a new number; what was read is read again.
    fn start_anew(&mut self, op: OpId) {
        let before = &self.ops[op];
        let mut again = Op::new(before.kind, before.gateway);
        again.to_read.clone_from(&before.to_read);
        again.watches = before.watches;
        again.strict = before.strict;
        again.retries = before.retries - 1;
        if again.to_read.is_empty() {
            again.commands.clone_from(&before.commands);
        }
        self.stats.add("retries");
        self.enter(again);
    }

    /// A gateway's process ends; another one takes its place.
    pub fn kill_some_gateway(&mut self) {
        let place = self.rng.index(self.gateways.len());
        for op in self
            .ops
            .iter_mut()
            .filter(|op| op.gateway == place && op.is_open())
        {
            op.state = State::Left;
        }
        let gateway = &mut self.gateways[place];
        gateway.session += 1;
        gateway.open.clear();
        self.stats.add("gateways killed");
        self.note(|| format!("gateway {place} dies"));
    }
}

fn look_of(seen: &Seen) -> Look {
    let Seen::Values { held, touched } = seen else {
        unreachable!("a read without conditions sees {seen:?}");
    };
    let [touched] = &touched[..] else {
        unreachable!("one key was touched, not {touched:?}");
    };
    let Condition::Key { version, .. } = touched.clone().for_commit() else {
        unreachable!("a key was touched, not {touched:?}");
    };
    let text = |value: &Value| match value {
        Value::Str(text) => text.to_bytes(),
        other => unreachable!("strings are all that is written here: {other:?}"),
    };
    let (value, expires): (Option<Bytes>, _) = match held.first() {
        Some(Some((value, expires))) => (Some(text(value)), *expires),
        Some(None) | None => (None, None),
    };
    Look {
        value,
        expires,
        version,
        touched: touched.clone(),
        generation: 0,
    }
}
