//! Buffered writes over a keyspace: commands read through it and write into it; nothing happens to the keyspace until
//! the writes are applied. Running a command twice on the same view changes nothing. What can neither be rolled back nor wait
//! for a decision needs no buffer: see [`Overlay::direct`].

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::keyspace::{Blob, Keyspace, Object, Value};
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
            write_key(keyspace, &key, write, version);
        }
    }
}

fn write_key(keyspace: &mut Keyspace, key: &[u8], write: Option<(Value, Option<Millis>)>, mut version: u64) {
    if mutant::is(Mutant::WritesKeepOldVersion) {
        version = keyspace.get(key).map_or(version, |object| object.version);
    }
    let object = write.map(|(value, expires)| Object::new(value, expires, version));
    keyspace.set(key, object);
}

/// What lies below an overlay's writes.
#[derive(Debug)]
enum Base<'a> {
    Kept(&'a Keyspace),
    /// Written at once, so that the overlay itself stays empty.
    Direct {
        keyspace: &'a mut Keyspace,
        version: u64,
        done: Done,
    },
}

/// What was written at once.
#[derive(Debug, Default)]
pub struct Done {
    pub flushed: bool,
    /// Slots of removed keys.
    pub removed: Vec<u16>,
    pub changed: bool,
}

/// A keyspace at replicated time `now`, with writes on top.
#[derive(Debug)]
pub struct Overlay<'a> {
    base: Base<'a>,
    pub writes: Writes,
    now: Millis,
    /// Randomness for the commands that want it (`RANDOMKEY`); comes with the entry.
    pub seed: u64,
}

impl<'a> Overlay<'a> {
    #[must_use]
    pub fn new(base: &'a Keyspace, now: Millis, seed: u64) -> Overlay<'a> {
        Overlay {
            base: Base::Kept(base),
            writes: Writes::default(),
            now,
            seed,
        }
    }

    /// One whose writes happen to the keyspace as they are made, as the entry at `version`.
    #[must_use]
    pub fn direct(keyspace: &'a mut Keyspace, version: u64, now: Millis, seed: u64) -> Overlay<'a> {
        Overlay {
            base: Base::Direct {
                keyspace,
                version,
                done: Done::default(),
            },
            writes: Writes::default(),
            now,
            seed,
        }
    }

    /// What was written at once; nothing, if writes were buffered.
    #[must_use]
    pub fn done(self) -> Done {
        match self.base {
            Base::Kept(_) => Done::default(),
            Base::Direct { done, .. } => done,
        }
    }

    fn base(&self) -> &Keyspace {
        match &self.base {
            Base::Kept(keyspace) => keyspace,
            Base::Direct { keyspace, .. } => keyspace,
        }
    }

    fn write(&mut self, key: &Bytes, write: Option<(Value, Option<Millis>)>) {
        match &mut self.base {
            Base::Kept(_) => drop(self.writes.keys.insert(key.clone(), write)),
            Base::Direct {
                keyspace,
                version,
                done,
            } => {
                done.changed = true;
                if write.is_none() {
                    done.removed.push(slot_of(key));
                }
                write_key(keyspace, key, write, *version);
            }
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
        let object = self.base().get(key).filter(found)?;
        Some((&object.value, object.expires()))
    }

    /// The string a key holds.
    #[must_use]
    pub fn get_str(&self, key: &[u8]) -> Option<&Blob> {
        self.get(key).map(|(Value::Str(blob), _)| blob)
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
            self.write(key, Some((value, expires)));
        }
    }

    pub fn put_str(&mut self, key: &Bytes, value: &[u8], expires: Option<Millis>) {
        self.put(key, Value::Str(Blob::from(value)), expires);
    }

    /// Removes a key; says whether it was there.
    pub fn remove(&mut self, key: &Bytes) -> bool {
        let there = self.contains(key);
        // An expired key that is still in the base must go as well, or a later read of the base would see it.
        if there || (!self.writes.flush && self.base().get(key).is_some()) {
            self.write(key, None);
        }
        there
    }

    pub fn flush(&mut self) {
        match &mut self.base {
            Base::Kept(_) => {
                self.writes = Writes {
                    flush: true,
                    keys: BTreeMap::new(),
                };
            }
            Base::Direct { keyspace, done, .. } => {
                keyspace.clear();
                *done = Done {
                    flushed: true,
                    removed: Vec::new(),
                    changed: true,
                };
            }
        }
    }

    /// Keys that `DBSIZE` counts.
    #[must_use]
    pub fn len(&self) -> usize {
        let written: isize = self
            .writes
            .keys
            .iter()
            .map(|(key, write)| {
                let before = !self.writes.flush && self.base().get(key).is_some();
                isize::from(write.is_some()) - isize::from(before)
            })
            .sum();
        let base = if self.writes.flush { 0 } else { self.base().len() };
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
                .base()
                .slot(slot)
                .filter(|(_, object)| !object.expired(self.now));
            keys.extend(live.map(|(key, object)| (Bytes::copy_from_slice(key), &object.value)));
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
