//! Buffered writes over a keyspace: commands read through it and write into it; nothing happens to the keyspace until
//! the writes are applied. Running a command twice on the same view changes nothing. What can neither be rolled back nor wait
//! for a decision needs no buffer: see [`Overlay::direct`].

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::keyspace::{Blob, Edited, Keyspace, Object, Value};
use super::notices::{Before, Notice, Recorder, Touched};
use super::values::Kind;
use crate::base::slot::{SLOTS, slot_of};
use crate::base::{Millis, Mutant, Reply, mutant};

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
    /// Keys that were looked up and found, and not found.
    looked: Cell<(u64, u64)>,
    /// `None`: nobody wants to hear of events.
    recorder: Option<Box<Recorder>>,
}

impl<'a> Overlay<'a> {
    #[must_use]
    pub fn new(base: &'a Keyspace, now: Millis, seed: u64) -> Overlay<'a> {
        Overlay {
            base: Base::Kept(base),
            writes: Writes::default(),
            now,
            seed,
            looked: Cell::default(),
            recorder: None,
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
            looked: Cell::default(),
            recorder: None,
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

    /// Notes the events that commands make from now on, if they are wanted.
    pub fn record(&mut self, wanted: bool) {
        self.recorder = wanted.then(Box::default);
    }

    #[must_use]
    pub fn records(&self) -> bool {
        self.recorder.is_some()
    }

    /// What has been written since the last time; nothing, if nothing is noted.
    pub(super) fn take_touched(&mut self) -> Vec<Touched> {
        let recorder = self.recorder.as_mut();
        recorder.map_or_else(Vec::new, |recorder| std::mem::take(&mut recorder.touched))
    }

    pub(super) fn say(&mut self, notices: Vec<Notice>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.notices.extend(notices);
        }
    }

    /// The events so far.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        let recorder = self.recorder.as_mut();
        recorder.map_or_else(Vec::new, |recorder| std::mem::take(&mut recorder.notices))
    }

    fn touch(&mut self, key: &Bytes, before: Before, after: bool) {
        if let Some(recorder) = &mut self.recorder {
            let key = Bytes::copy_from_slice(key);
            recorder.touched.push(Touched { key, before, after });
        }
    }

    /// What a key is now.
    pub(super) fn before(&self, key: &[u8]) -> Before {
        if let Some(write) = self.writes.keys.get(key) {
            return if write.is_some() {
                Before::There
            } else {
                Before::Absent
            };
        }
        match self.base().get(key).filter(|_| !self.writes.flush) {
            None => Before::Absent,
            Some(object) if object.expired(self.now) => Before::Expired,
            Some(_) => Before::There,
        }
    }

    fn base(&self) -> &Keyspace {
        match &self.base {
            Base::Kept(keyspace) => keyspace,
            Base::Direct { keyspace, .. } => keyspace,
        }
    }

    fn write(&mut self, key: &Bytes, write: Option<(Value, Option<Millis>)>) {
        if self.records() {
            self.touch(key, self.before(key), write.is_some());
        }
        match &mut self.base {
            // Copied: a slice of a request's bytes would keep all of them, for as long as an intent stays.
            Base::Kept(_) => drop(self.writes.keys.insert(Bytes::copy_from_slice(key), write)),
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
        let object = self.base().get(key).filter(found);
        let (hits, misses) = self.looked.get();
        self.looked.set(if object.is_some() {
            (hits + 1, misses)
        } else {
            (hits, misses + 1)
        });
        object.map(|object| (object.value(), object.expires()))
    }

    /// How many keys were looked up below the writes and found, and how many were not found.
    #[must_use]
    pub fn looked(&self) -> (u64, u64) {
        self.looked.get()
    }

    /// Log index of the entry that last changed a key, as of what lies below the writes; 0: it is not there.
    #[must_use]
    pub fn version(&self, key: &[u8]) -> u64 {
        self.base().get(key).map_or(0, |object| object.version)
    }

    /// Log index of the entry that is being applied; `None`: nothing is written at once.
    #[must_use]
    pub fn entry(&self) -> Option<u64> {
        match self.base {
            Base::Kept(_) => None,
            Base::Direct { version, .. } => Some(version),
        }
    }

    /// See [`Keyspace::stamp`]; `None` where nothing is written at once.
    pub fn stamp(&mut self) -> Option<u32> {
        match &mut self.base {
            Base::Kept(_) => None,
            Base::Direct {
                keyspace, version, ..
            } => Some(keyspace.stamp(*version)),
        }
    }

    /// The string a key holds.
    ///
    /// # Errors
    /// `WRONGTYPE`: it holds something else.
    pub fn get_str(&self, key: &[u8]) -> Result<Option<&Blob>, Reply> {
        match self.get(key) {
            None => Ok(None),
            Some((value, _)) => value.as_str().map(Some).ok_or_else(Reply::wrong_type),
        }
    }

    /// The collection of this kind that a key holds.
    ///
    /// # Errors
    /// `WRONGTYPE`: it holds something else.
    pub fn collection(&self, key: &[u8], kind: Kind) -> Result<Option<&Value>, Reply> {
        match self.get(key) {
            None => Ok(None),
            Some((value, _)) if value.kind() == Some(kind) => Ok(Some(value)),
            Some(_) => Err(Reply::wrong_type()),
        }
    }

    /// Changes the collection of this kind that a key holds; `edit` says whether it has. One that is left empty goes. `None`:
    /// there is none.
    ///
    /// # Errors
    /// `WRONGTYPE`: it holds something else.
    pub fn edit<R>(
        &mut self,
        key: &Bytes,
        kind: Kind,
        edit: impl FnOnce(&mut Value) -> (R, bool),
    ) -> Result<Option<R>, Reply> {
        let Some(value) = self.collection(key, kind)? else {
            return Ok(None);
        };
        if let Base::Kept(_) = self.base {
            let mut value = value.clone();
            let expires = self.get(key).and_then(|(_, expires)| expires);
            let (result, changed) = edit(&mut value);
            if changed {
                let write = (!value.is_empty()).then_some((value, expires));
                self.write(key, write);
            }
            return Ok(Some(result));
        }
        let Base::Direct {
            keyspace,
            version,
            done,
        } = &mut self.base
        else {
            return Ok(None);
        };
        let edited = keyspace.edit(key, *version, edit);
        let Some((result, edited)) = edited else {
            return Ok(None);
        };
        done.changed |= edited != Edited::Nothing;
        if edited == Edited::Removed {
            done.removed.push(slot_of(key));
        }
        if edited != Edited::Nothing {
            self.touch(key, Before::There, edited == Edited::Changed);
        }
        Ok(Some(result))
    }

    /// As [`Overlay::edit`]; where there is none, of a new one.
    ///
    /// # Errors
    /// `WRONGTYPE`: it holds something else.
    pub fn edit_or_new<R>(
        &mut self,
        key: &Bytes,
        kind: Kind,
        edit: impl FnOnce(&mut Value) -> (R, bool),
    ) -> Result<R, Reply> {
        if self.collection(key, kind)?.is_none() {
            let mut value = Value::empty(kind);
            let (result, _) = edit(&mut value);
            if !value.is_empty() {
                self.put(key, value, None);
            }
            return Ok(result);
        }
        let edited = self.edit(key, kind, edit)?;
        edited.ok_or_else(|| Reply::err("ERR the key that was looked up is gone"))
    }

    /// A random number, other than the one before.
    pub fn random(&mut self) -> u64 {
        // SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
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
        let records = self.records();
        if let Base::Direct {
            keyspace,
            version,
            done,
        } = &mut self.base
            && expires.is_none_or(|at| at > self.now)
            && !records
            && !mutant::is(Mutant::WritesKeepOldVersion)
        {
            done.changed = true;
            return keyspace.put_str(key, value, expires, *version);
        }
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
            keys.extend(live.map(|(key, object)| (Bytes::copy_from_slice(key), object.value())));
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
