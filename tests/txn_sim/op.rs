//! What a gateway is asked to do: moves of money, pairs that are set together, counts and audits, snapshot reads.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate::base::{GroupId, Millis, RequestId};
use quorate::machine::{Command, Condition, scope_of};
use quorate::txn::Part;

use crate::rng::Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reads accounts, then writes new balances under the condition that nothing changed.
    Move,
    /// Adds and subtracts, without a condition.
    Shift,
    /// Sets two keys to the same value.
    Pair,
    /// DBSIZE of every shard, under locks.
    Count,
    /// All balances of every shard, under locks.
    Audit,
    /// All balances and pairs, without locks: read, then checked again.
    Snapshot,
}

#[derive(Debug, Clone, Copy)]
pub enum Write {
    Set(i64),
    Add(i64),
}

#[derive(Debug, Clone)]
pub struct Effect {
    pub shard: u16,
    pub key: Bytes,
    pub write: Write,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Reading,
    /// Snapshot only: what was read is looked at again.
    Checking,
    /// `Begin` is out.
    Asking,
    /// `Decide(Abort)` is out.
    Settling,
    /// A single shard's `Run` is out.
    Running,
    Over(Outcome),
    /// The gateway has died or given up: nobody will hear the outcome.
    Left,
}

#[derive(Debug)]
pub struct Op {
    pub kind: Kind,
    pub gateway: usize,
    pub state: State,
    pub id: Option<RequestId>,
    pub below: u64,
    pub group: GroupId,
    pub deadline: Millis,
    pub started: Millis,
    /// Tries so far; only the answer to the last one counts.
    pub asks: u32,
    pub to_read: Vec<(u16, Bytes)>,
    pub seen: BTreeMap<(u16, Bytes), (i64, u64)>,
    pub money: Vec<i64>,
    pub effects: Vec<Effect>,
    /// The log has executed it.
    pub happened: bool,
}

pub fn account(shard: u16, n: u64) -> Bytes {
    Bytes::from(format!("a{n}@{shard}"))
}

pub fn pair(n: u16, shard: u16) -> Bytes {
    Bytes::from(format!("p{n}@{shard}"))
}

/// Accounts of one shard.
pub const ACCOUNTS: u64 = 2;

impl Op {
    pub fn new(kind: Kind, gateway: usize, number: usize, shards: u16, rng: &mut Rng) -> Op {
        let mut op = Op {
            kind,
            gateway,
            state: State::Reading,
            id: None,
            below: 0,
            group: GroupId::Shard(0),
            deadline: 0,
            started: 0,
            asks: 0,
            to_read: Vec::new(),
            seen: BTreeMap::new(),
            money: Vec::new(),
            effects: Vec::new(),
            happened: false,
        };
        let some_shard = |rng: &mut Rng| u16::try_from(rng.below(u64::from(shards))).expect("a shard");
        match kind {
            Kind::Move | Kind::Shift => {
                let mut keys: Vec<(u16, Bytes)> = Vec::new();
                while keys.len() < 2 || (keys.len() < 3 && rng.per_mille(400)) {
                    let shard = some_shard(rng);
                    let key = (shard, account(shard, rng.below(ACCOUNTS)));
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                }
                let amount = 1 + i64::try_from(rng.below(20)).expect("small");
                let last = i64::try_from(keys.len() - 1).expect("small");
                op.money = keys.iter().map(|_| amount).collect();
                op.money[0] = -amount * last;
                op.to_read = keys;
            }
            Kind::Pair => {
                let n = some_shard(rng);
                let value = i64::try_from(number).expect("small");
                for shard in [n, (n + 1) % shards] {
                    op.set(shard, pair(n, shard), Write::Set(value));
                }
            }
            Kind::Count | Kind::Audit | Kind::Snapshot => {
                for shard in 0..shards {
                    op.to_read
                        .extend((0..ACCOUNTS).map(|n| (shard, account(shard, n))));
                    op.to_read.push((shard, pair(shard, shard)));
                    op.to_read
                        .push((shard, pair((shard + shards - 1) % shards, shard)));
                }
            }
        }
        match kind {
            Kind::Shift => {
                for (key, by) in std::mem::take(&mut op.to_read).into_iter().zip(op.money.clone()) {
                    op.set(key.0, key.1, Write::Add(by));
                }
            }
            Kind::Count | Kind::Audit => op.to_read.clear(),
            Kind::Move | Kind::Pair | Kind::Snapshot => {}
        }
        op
    }

    fn set(&mut self, shard: u16, key: Bytes, write: Write) {
        self.effects.push(Effect { shard, key, write });
    }

    /// All has been read: says what is to be written, and leaves a mark on every shard that must be there once.
    pub fn conclude(&mut self, number: usize) {
        if self.kind == Kind::Move {
            let keys: Vec<(u16, Bytes)> = self.to_read.clone();
            for (key, by) in keys.into_iter().zip(self.money.clone()) {
                let (value, _) = self.seen[&key];
                self.set(key.0, key.1, Write::Set(value + by));
            }
        }
        let mut shards: Vec<u16> = self.effects.iter().map(|effect| effect.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        for shard in shards {
            self.set(shard, Bytes::from(format!("m{number}@{shard}")), Write::Add(1));
        }
    }

    /// Each participant's share.
    pub fn parts(&self, shards: u16) -> Vec<Part> {
        let part = |shard: u16| {
            let commands: Vec<Command> = match self.kind {
                Kind::Count => vec![Command::DbSize],
                Kind::Audit => vec![Command::MGet {
                    keys: (0..ACCOUNTS).map(|n| account(shard, n)).collect(),
                }],
                _ => self
                    .effects
                    .iter()
                    .filter(|e| e.shard == shard)
                    .map(Effect::command)
                    .collect(),
            };
            let read = self
                .seen
                .iter()
                .filter(|((s, _), _)| *s == shard && self.kind == Kind::Move);
            let conditions: Vec<Condition> = read
                .map(|((_, key), (_, version))| Condition::Key {
                    key: key.clone(),
                    version: *version,
                })
                .collect();
            Part {
                shard: GroupId::Shard(shard),
                scope: scope_of(&commands, &conditions),
                conditions,
                commands,
            }
        };
        (0..shards)
            .map(part)
            .filter(|part| !part.commands.is_empty())
            .collect()
    }
}

impl Effect {
    fn command(&self) -> Command {
        let key = self.key.clone();
        match self.write {
            Write::Set(value) => Command::MSet {
                pairs: vec![(key, Bytes::from(value.to_string()))],
            },
            Write::Add(by) => Command::IncrBy { key, by },
        }
    }
}
