//! What the keys must hold: a small Redis of its own, which executes each operation once, at the moment its record or
//! entry came to be. It shares no code with `src/machine`.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate::base::{Millis, Reply};
use quorate::machine::Command;
use quorate::machine::commands::{ExpireWhen, Expiry, SetCommand, SetCondition, SetReply};

use super::keys::Keys;

/// What a key holds. One that has expired stays until something is written over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    pub value: Bytes,
    pub expires: Option<Millis>,
    /// Differs from that of every other write.
    pub generation: u64,
}

impl Cell {
    pub fn expired(&self, now: Millis) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// What a reply must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    Exactly(Reply),
    /// A count that expired keys, removed or not, leave open.
    Between(i64, i64),
}

impl Expect {
    pub fn is_error(&self) -> bool {
        matches!(self, Expect::Exactly(Reply::Error(_)))
    }

    pub fn fits(&self, reply: &Reply) -> bool {
        match (self, reply) {
            (Expect::Exactly(expected), reply) => expected == reply,
            (Expect::Between(least, most), Reply::Int(n)) => (least..=most).contains(&n),
            (Expect::Between(..), _) => false,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Model {
    pub keys: &'static Keys,
    /// By shard.
    cells: Vec<BTreeMap<Bytes, Cell>>,
    /// By shard: the largest time that was stamped on an entry.
    pub times: Vec<Millis>,
    generations: u64,
}

impl Model {
    pub fn new(keys: &'static Keys) -> Model {
        let shards = usize::from(keys.shards());
        Model {
            keys,
            cells: vec![BTreeMap::new(); shards],
            times: vec![0; shards],
            generations: 0,
        }
    }

    pub fn cells(&self, shard: usize) -> &BTreeMap<Bytes, Cell> {
        &self.cells[shard]
    }

    pub fn shard_of(&self, key: &[u8]) -> usize {
        usize::from(self.keys.shard_of(key))
    }

    /// What a key holds at `times`, by shard.
    pub fn at(&self, key: &Bytes, times: &[Millis]) -> Option<&Cell> {
        let shard = self.shard_of(key);
        self.cells[shard]
            .get(key)
            .filter(|cell| !cell.expired(times[shard]))
    }

    /// What a key holds now, in replicated time.
    pub fn now(&self, key: &Bytes) -> Option<&Cell> {
        self.at(key, &self.times)
    }

    fn text(&self, key: &Bytes, times: &[Millis]) -> Reply {
        self.at(key, times)
            .map_or(Reply::Nil, |cell| Reply::Bulk(cell.value.clone()))
    }

    /// Executes a command at `times`, by shard, and says what it must have replied.
    pub fn run(&mut self, command: &Command, times: &[Millis]) -> Expect {
        let count = |n: usize| Reply::Int(i64::try_from(n).expect("few"));
        Expect::Exactly(match command {
            Command::Get { key } => self.text(key, times),
            Command::MGet { keys } => Reply::Array(keys.iter().map(|key| self.text(key, times)).collect()),
            Command::Exists { keys } => {
                count(keys.iter().filter(|key| self.at(key, times).is_some()).count())
            }
            Command::Set(set) => self.set(set, times),
            Command::MSet { pairs } => {
                for (key, value) in pairs {
                    self.put(key, value.clone(), None);
                }
                Reply::Simple("OK".into())
            }
            Command::IncrBy { key, by } => {
                let old = self.at(key, times).cloned();
                let expires = old.as_ref().and_then(|cell| cell.expires);
                match old.map_or(Some(0), |cell| parse(&cell.value)) {
                    None => Reply::Error("ERR value is not an integer or out of range".into()),
                    Some(old) => {
                        self.put(key, Bytes::from((old + by).to_string()), expires);
                        Reply::Int(old + by)
                    }
                }
            }
            Command::Append { key, value } => {
                let old = self.at(key, times).cloned();
                let expires = old.as_ref().and_then(|cell| cell.expires);
                let mut text = old.map(|cell| cell.value.to_vec()).unwrap_or_default();
                text.extend_from_slice(value);
                let length = count(text.len());
                self.put(key, Bytes::from(text), expires);
                length
            }
            Command::Del { keys } => {
                let there = keys.iter().filter(|key| self.at(key, times).is_some()).count();
                for key in keys {
                    self.remove(key);
                }
                count(there)
            }
            Command::Rename { from, to, .. } => match self.at(from, times).cloned() {
                None => Reply::Error("ERR no such key".into()),
                Some(cell) => {
                    self.remove(from);
                    self.put(to, cell.value, cell.expires);
                    Reply::Simple("OK".into())
                }
            },
            Command::DbSize => return self.size(times),
            other => unreachable!("no operation here asks for {other:?}"),
        })
    }

    fn set(&mut self, set: &SetCommand, times: &[Millis]) -> Reply {
        let now = times[self.shard_of(&set.key)];
        let there = self.at(&set.key, times).is_some();
        let goes = match set.condition {
            SetCondition::Always => true,
            SetCondition::IfAbsent => !there,
            SetCondition::IfPresent => there,
        };
        let expires = match set.expiry {
            Expiry::Never => None,
            Expiry::When(ExpireWhen::In(ms)) => Some(now + ms.unsigned_abs()),
            Expiry::When(ExpireWhen::At(at)) => Some(at.unsigned_abs()),
            Expiry::Keep => unreachable!("no operation here keeps an expiry"),
        };
        if goes && expires.is_some_and(|at| at <= now) {
            self.remove(&set.key);
        } else if goes {
            self.put(&set.key, set.value.clone(), expires);
        }
        match (set.reply, goes) {
            (SetReply::Flag, goes) => Reply::Int(i64::from(goes)),
            (_, true) => Reply::Simple("OK".into()),
            (_, false) => Reply::Nil,
        }
    }

    fn put(&mut self, key: &Bytes, value: Bytes, expires: Option<Millis>) {
        let shard = self.shard_of(key);
        self.generations += 1;
        let cell = Cell {
            value,
            expires,
            generation: self.generations,
        };
        self.cells[shard].insert(key.clone(), cell);
    }

    fn remove(&mut self, key: &Bytes) {
        let shard = self.shard_of(key);
        self.cells[shard].remove(key);
    }

    fn size(&self, times: &[Millis]) -> Expect {
        let all = self.cells.iter().map(BTreeMap::len).sum::<usize>();
        let dead = |(cells, &now): (&BTreeMap<Bytes, Cell>, &Millis)| {
            cells.values().filter(|cell| cell.expired(now)).count()
        };
        let dead: usize = self.cells.iter().zip(times).map(dead).sum();
        let int = |n: usize| i64::try_from(n).expect("few keys");
        Expect::Between(int(all - dead), int(all))
    }
}

/// A stored number.
pub fn number(text: &[u8]) -> i64 {
    parse(text).expect("a number is stored here")
}

fn parse(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
