//! Buffered writes over a keyspace: commands read through it and write into it; nothing happens to the keyspace until
//! the writes are applied. Running a command twice on the same view changes nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::keyspace::{Keyspace, Object, Value};
use crate::base::slot::{SLOTS, slot_of};
use crate::base::{Millis, Mutant, mutant};

/// What a transaction would change: the body of an intent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writes {
    /// Every key that is not in `keys` is gone.
    pub flush: bool,
    /// New value and expiry, or `None` for a removed key.
    pub keys: BTreeMap<Bytes, Option<(Value, Option<Millis>)>>,
}

impl Writes {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.flush && self.keys.is_empty()
    }

    /// Performs the writes as the entry at `version`.
    pub fn apply(self, keyspace: &mut Keyspace, version: u64) {
        if self.flush {
            keyspace.clear();
        }
        for (key, write) in self.keys {
            let old = || keyspace.get(&key).map_or(version, |object| object.version);
            let version = if mutant::is(Mutant::WritesKeepOldVersion) {
                old()
            } else {
                version
            };
            let object = write.map(|(value, expires)| Object {
                value,
                expires,
                version,
            });
            keyspace.set(&key, object);
        }
    }
}

/// A keyspace at replicated time `now`, with writes on top.
#[derive(Debug)]
pub struct Overlay<'a> {
    base: &'a Keyspace,
    pub writes: Writes,
    now: Millis,
    /// Randomness for the commands that want it (`RANDOMKEY`); comes with the entry.
    pub seed: u64,
}

impl<'a> Overlay<'a> {
    #[must_use]
    pub fn new(base: &'a Keyspace, now: Millis, seed: u64) -> Overlay<'a> {
        Overlay {
            base,
            writes: Writes::default(),
            now,
            seed,
        }
    }

    #[must_use]
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Value and expiry of a key that is there and not expired.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<(&Value, Option<Millis>)> {
        if let Some(write) = self.writes.keys.get(key) {
            return write.as_ref().map(|(value, expires)| (value, *expires));
        }
        if self.writes.flush {
            return None;
        }
        let found = |object: &&Object| !object.expired(self.now) || mutant::is(Mutant::ExpiredKeysAreFound);
        let object = self.base.get(key).filter(found)?;
        Some((&object.value, object.expires))
    }

    /// The string a key holds.
    #[must_use]
    pub fn get_str(&self, key: &[u8]) -> Option<&Bytes> {
        self.get(key).map(|(Value::Str(bytes), _)| bytes)
    }

    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    /// Sets a key; an expiry that has passed removes it instead.
    pub fn put(&mut self, key: &Bytes, value: Value, expires: Option<Millis>) {
        if expires.is_some_and(|at| at <= self.now) {
            self.remove(key);
        } else {
            self.writes.keys.insert(key.clone(), Some((value, expires)));
        }
    }

    pub fn put_str(&mut self, key: &Bytes, value: &[u8], expires: Option<Millis>) {
        self.put(key, Value::Str(Bytes::copy_from_slice(value)), expires);
    }

    /// Removes a key; says whether it was there.
    pub fn remove(&mut self, key: &Bytes) -> bool {
        let there = self.contains(key);
        // An expired key that is still in the base must go as well, or a later read of the base would see it.
        if there || (!self.writes.flush && self.base.get(key).is_some()) {
            self.writes.keys.insert(key.clone(), None);
        }
        there
    }

    pub fn flush(&mut self) {
        self.writes = Writes {
            flush: true,
            keys: BTreeMap::new(),
        };
    }

    /// Keys that `DBSIZE` counts.
    #[must_use]
    pub fn len(&self) -> usize {
        let written: isize = self
            .writes
            .keys
            .iter()
            .map(|(key, write)| {
                let before = !self.writes.flush && self.base.get(key).is_some();
                isize::from(write.is_some()) - isize::from(before)
            })
            .sum();
        let base = if self.writes.flush { 0 } else { self.base.len() };
        base.saturating_add_signed(written)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Live keys of one slot with their values, in order of key.
    #[must_use]
    pub fn slot_keys(&self, slot: u16) -> Vec<(Bytes, &Value)> {
        let mut keys: BTreeMap<Bytes, &Value> = BTreeMap::new();
        if !self.writes.flush {
            let live = self
                .base
                .slot(slot)
                .filter(|(_, object)| !object.expired(self.now));
            keys.extend(live.map(|(key, object)| (key.clone(), &object.value)));
        }
        for (key, write) in self.writes.keys.iter().filter(|(key, _)| slot_of(key) == slot) {
            match write {
                Some((value, _)) => drop(keys.insert(key.clone(), value)),
                None => drop(keys.remove(key)),
            }
        }
        keys.into_iter().collect()
    }

    /// All live keys, by slot and then by name.
    pub fn all_keys(&self) -> impl Iterator<Item = (Bytes, &Value)> {
        (0..SLOTS).flat_map(|slot| self.slot_keys(slot))
    }
}
