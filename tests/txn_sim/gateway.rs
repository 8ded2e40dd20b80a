//! Gateways as `src/cluster/execute.rs` works: numbers and watermarks, `Begin` asked again at the next leader, an
//! unanswered transaction settled by an abort that is logged, a single shard's request sent again under its id.

use std::collections::{BTreeMap, BTreeSet};

use quorate::base::{GroupId, Reply, RequestId, TxnId};
use quorate::machine::{
    Body, Command, Condition, Decide, Decision, Read, ReadOutcome, Refusal, Request, Response, Seen,
};
use quorate::txn::{Answer, Txn};

use crate::message::{Decider, Message, OpId};
use crate::op::{Kind, Op, Outcome, State};
use crate::world::World;

#[derive(Debug)]
pub struct Gateway {
    session: u64,
    next: u64,
    open: BTreeMap<GroupId, BTreeSet<u64>>,
}

/// Sessions of one place over its lives.
const LIVES: u64 = 1 << 20;

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

impl World {
    /// The coordinator group of a transaction: by its session.
    pub fn coordinator_of(&self, txn: TxnId) -> GroupId {
        let place = usize::try_from(txn.session / u128::from(LIVES)).expect("a gateway's place");
        self.coordinators[place % self.coordinators.len()].group
    }

    pub fn start_op(&mut self) {
        let open = |op: &&Op| !matches!(op.state, State::Over(_) | State::Left);
        if self.ops.len() >= self.profile.ops || self.ops.iter().filter(open).count() >= 6 {
            return;
        }
        let kind = match self.rng.below(100) {
            0..35 => Kind::Move,
            35..55 => Kind::Shift,
            55..75 => Kind::Pair,
            75..82 => Kind::Count,
            82..90 => Kind::Audit,
            _ => Kind::Snapshot,
        };
        let gateway = self.rng.index(self.gateways.len());
        let shards = u16::try_from(self.shards.len()).expect("few shards");
        let mut op = Op::new(kind, gateway, self.ops.len(), shards, &mut self.rng);
        op.started = self.now;
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

    fn read_key(&mut self, op: OpId, at: usize, conditions: Vec<Condition>) -> Option<Seen> {
        let (shard, key) = self.ops[op].to_read[at].clone();
        let read = Read::Run {
            commands: vec![Command::Get { key }],
            conditions,
            seed: 0,
        };
        match self.shards[usize::from(shard)].machine.read(&read, self.now) {
            ReadOutcome::Ready(seen) => Some(seen),
            ReadOutcome::Locked => None,
            ReadOutcome::Expired => panic!("nothing expires here"),
        }
    }

    fn read_next(&mut self, op: OpId) {
        let at = self.ops[op].seen.len();
        if at < self.ops[op].to_read.len() {
            let Some(seen) = self.read_key(op, at, Vec::new()) else {
                return;
            };
            let (shard, key) = self.ops[op].to_read[at].clone();
            let (value, version) = value_and_version(&seen);
            assert_eq!(
                value,
                self.model.value(shard, &key),
                "op {op} read {key:?} otherwise than it was committed"
            );
            self.ops[op].seen.insert((shard, key), (value, version));
            return;
        }
        if self.ops[op].kind == Kind::Snapshot {
            self.ops[op].state = State::Checking;
            return;
        }
        self.launch(op);
    }

    /// Snapshot read, second round: has anything changed since the first?
    fn check_next(&mut self, op: OpId) {
        let at = self.ops[op].asks as usize;
        if let Some((shard, key)) = self.ops[op].to_read.get(at).cloned() {
            let (_, version) = self.ops[op].seen[&(shard, key.clone())];
            match self.read_key(op, at, vec![Condition::Key { key, version }]) {
                None => {}
                Some(Seen::Conflict) => {
                    self.ops[op].seen.clear();
                    self.ops[op].asks = 0;
                    self.ops[op].state = State::Reading;
                }
                Some(_) => self.ops[op].asks += 1,
            }
            return;
        }
        self.model.check_snapshot(&self.ops[op].seen);
        self.stats.add("snapshots read");
        self.ops[op].state = State::Over(Outcome::Done);
    }

    /// Takes a number and sends it off.
    fn launch(&mut self, op: OpId) {
        let shards = u16::try_from(self.shards.len()).expect("few shards");
        self.ops[op].conclude(op);
        let parts = self.ops[op].parts(shards);
        let gateway = self.ops[op].gateway;
        let session = u128::from(self.gateways[gateway].session);
        let (group, state) = match &parts[..] {
            [only] => (only.shard, State::Running),
            _ => (self.coordinator_of(TxnId { session, seq: 0 }), State::Asking),
        };
        let (id, below) = self.gateways[gateway].number(group);
        let timeout = self.profile.timeout;
        let now = self.clock();
        self.model.start(id, op);
        let launched = &mut self.ops[op];
        launched.id = Some(id);
        (launched.below, launched.group, launched.state) = (below, group, state);
        (launched.started, launched.deadline, launched.asks) = (now, now + timeout, 1);
        match state {
            State::Running => self.run_again(op),
            _ => self.ask(op),
        }
    }

    fn number_of(&self, op: OpId) -> RequestId {
        self.ops[op].id.expect("it has been launched")
    }

    fn ask(&mut self, op: OpId) {
        let shards = u16::try_from(self.shards.len()).expect("few shards");
        let (id, asked) = (self.number_of(op), &self.ops[op]);
        let txn = Box::new(Txn {
            id,
            below: asked.below,
            started: asked.started,
            deadline: asked.deadline,
            parts: asked.parts(shards),
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
            }),
        });
    }

    fn run_again(&mut self, op: OpId) {
        let shards = u16::try_from(self.shards.len()).expect("few shards");
        let id = Some(self.number_of(op));
        for part in self.ops[op].parts(shards) {
            let request = Box::new(Request {
                id,
                below: self.ops[op].below,
                deadline: self.ops[op].deadline,
                body: Body::Run {
                    commands: part.commands,
                    conditions: part.conditions,
                },
            });
            let shard = part.shard;
            self.send(Message::Run { op, shard, request });
        }
    }

    pub fn hear_answer(&mut self, op: OpId, ask: u32, answer: &Answer) {
        if self.ops[op].state != State::Asking || self.ops[op].asks != ask {
            return;
        }
        match answer {
            Answer::Committed(_) => self.over(op, Outcome::Done),
            // Another copy of the question may still be on its way to somebody: only a record rules that out.
            Answer::Conflict | Answer::Aborted(_) if ask > 1 && !self.profile.believe => self.settle(op),
            Answer::Conflict => {
                self.stats.add("conflicts");
                self.over(op, Outcome::Nothing);
            }
            Answer::Aborted(_) => {
                self.stats.add("aborts");
                self.over(op, Outcome::Nothing);
            }
        }
    }

    pub fn hear_response(&mut self, op: OpId, response: &Response) {
        let outcome = match (self.ops[op].state, response) {
            (State::Running, Response::Replies(_))
            | (State::Settling, Response::Decision(Decision::Commit { .. })) => Outcome::Done,
            (State::Running, Response::Conflict | Response::Refused(Refusal::Deadline))
            | (State::Settling, Response::Decision(Decision::Abort)) => Outcome::Nothing,
            (State::Over(_) | State::Left, _) => return,
            (state, response) => panic!("op {op} in {state:?} hears {response:?}"),
        };
        self.stats.add("single requests or settled");
        self.over(op, outcome);
    }

    fn over(&mut self, op: OpId, outcome: Outcome) {
        self.note(|| format!("op {op} is told {outcome:?}"));
        let id = self.number_of(op);
        let over = &mut self.ops[op];
        assert_eq!(
            over.happened,
            outcome == Outcome::Done,
            "op {op} ({id}) is told {outcome:?}"
        );
        over.state = State::Over(outcome);
        let gateway = &mut self.gateways[over.gateway];
        if u128::from(gateway.session) == id.session
            && let Some(open) = gateway.open.get_mut(&over.group)
        {
            open.remove(&id.seq);
        }
    }

    /// A gateway's process ends; another one takes its place.
    pub fn kill_some_gateway(&mut self) {
        let place = self.rng.index(self.gateways.len());
        for op in self.ops.iter_mut().filter(|op| op.gateway == place) {
            if !matches!(op.state, State::Over(_)) {
                op.state = State::Left;
            }
        }
        let gateway = &mut self.gateways[place];
        gateway.session += 1;
        gateway.open.clear();
        self.stats.add("gateways killed");
        self.note(|| format!("gateway {place} dies"));
    }
}

fn value_and_version(seen: &Seen) -> (i64, u64) {
    let Seen::Run { replies, touched } = seen else {
        panic!("a read without conditions sees {seen:?}");
    };
    let [Condition::Key { version, .. }] = touched[..] else {
        panic!("one key was touched, not {touched:?}");
    };
    (replies.first().map_or(0, number), version)
}

/// A stored number; 0 for an absent one.
pub fn number(reply: &Reply) -> i64 {
    match reply {
        Reply::Bulk(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok())
            .expect("only numbers are stored"),
        Reply::Int(n) => *n,
        Reply::Nil => 0,
        other => panic!("{other:?} is not a number"),
    }
}
