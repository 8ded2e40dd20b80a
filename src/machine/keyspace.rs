//! The keys of one shard, copy-on-write by slot: cutting a snapshot clones 16384 pointers at the most, and a write after
//! that clones one slot's map at the most.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::access::Access;
use super::digest::{share, share_by_bytes};
use super::interest::Interest;
pub use super::object::{Object, cost};
use super::tally::Tally;
pub use super::values::{Blob, Key, Value};
use crate::base::slot::{SLOTS, slot_of};
use crate::base::{Millis, Mutant, mutant};

pub type Slot = BTreeMap<Key, Object>;

/// What has become of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edited {
    Nothing,
    Changed,
    Removed,
}

/// All keys, and which expire when. Expired keys stay until a logged expiry or a write removes them.
#[derive(Debug, Clone)]
pub struct Keyspace {
    /// `None`: nothing was ever put there.
    slots: Vec<Option<Arc<Slot>>>,
    expiries: BTreeSet<(Millis, Key)>,
    len: usize,
    /// Sum of the shares of all keys.
    digest: u64,
    /// Sum of what all keys cost.
    bytes: u64,
    garbage: Garbage,
    pub interest: Interest,
    pub access: Access,
    pub tally: Arc<Tally>,
    /// Sum of all times at which keys expire.
    expiry_sum: u128,
    /// The entry that was last given a stamp, and how many it has.
    stamps: (u64, u32),
}

/// Large values that no key holds any more. To free one takes milliseconds, which is not to happen between two entries.
#[derive(Debug, Clone, Default)]
pub struct Garbage(Vec<Value>, Vec<Arc<Slot>>);

impl Garbage {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty() && self.1.is_empty()
    }
}

/// What weighs less is freed at once.
const GARBAGE_BYTES_MIN: usize = 64 << 10;

impl Default for Keyspace {
    fn default() -> Self {
        Keyspace {
            slots: vec![None; usize::from(SLOTS)],
            expiries: BTreeSet::new(),
            len: 0,
            digest: 0,
            bytes: 0,
            garbage: Garbage::default(),
            interest: Interest::default(),
            access: Access::default(),
            tally: Arc::default(),
            expiry_sum: 0,
            stamps: (0, 0),
        }
    }
}

impl Keyspace {
    /// Keys held, expired ones that were not removed yet included (as Redis counts them).
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A sum over all keys with their values, versions and expiries, however they came here.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Bytes that all keys take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same, by a walk over all keys.
    #[must_use]
    pub fn bytes_by_walk(&self) -> u64 {
        self.iter().map(|(key, object)| cost(key, object)).sum()
    }

    /// The same, by a walk over all keys.
    #[must_use]
    pub fn digest_by_walk(&self) -> u64 {
        let shares = self.iter().map(|(key, object)| share_by_bytes(key, object));
        shares.fold(0, u64::wrapping_add)
    }

    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Object> {
        self.get_in(slot_of(key), key)
    }

    /// As [`Keyspace::get`], of the slot that is the key's.
    #[must_use]
    pub fn get_in(&self, slot: u16, key: &[u8]) -> Option<&Object> {
        self.slots[usize::from(slot)].as_ref()?.get(key)
    }

    /// Puts or (`None`) removes a key.
    pub fn set(&mut self, key: &[u8], object: Option<Object>) {
        let Some(object) = object else {
            return self.remove(key);
        };
        self.put_with(key, |old| {
            // What a transaction has prepared is fresh, and freed at little cost; what it replaces is not.
            let overwritten = match (object.value(), old) {
                (Value::Str(new), Some(old)) => old.overwrite(new, object.expires(), object.version),
                _ => false,
            };
            (!overwritten).then_some(object)
        });
    }

    /// Puts a string, in the old one's place if it fits there: no memory is asked for, or given back.
    pub fn put_str(&mut self, key: &[u8], value: &[u8], expires: Option<Millis>, version: u64) {
        self.put_with(key, |old| {
            let overwritten = old.is_some_and(|old| old.overwrite(value, expires, version));
            (!overwritten).then(|| Object::new(Value::Str(Blob::from(value)), expires, version))
        });
    }

    /// Puts the object that `make` gives, or (`None`) what it has made of the one that is there.
    fn put_with(&mut self, key: &[u8], make: impl FnOnce(Option<&mut Object>) -> Option<Object>) {
        self.interest.note(key);
        let number = slot_of(key);
        let slot = Arc::make_mut(self.slots[usize::from(number)].get_or_insert_default());
        let (expired, expires) = if let Some(object) = slot.get_mut(key) {
            let (share_before, cost_before) = (share(key, object), cost(key, object));
            let expired = object.expires();
            let old = make(Some(object)).map(|new| std::mem::replace(object, new));
            self.digest = self
                .digest
                .wrapping_sub(share_before)
                .wrapping_add(share(key, object));
            self.bytes = self.bytes + cost(key, object) - cost_before;
            let expires = object.expires();
            self.discard(old);
            (expired, expires)
        } else {
            let Some(object) = make(None) else { return };
            self.digest = self.digest.wrapping_add(share(key, &object));
            self.bytes += cost(key, &object);
            self.len += 1;
            let expires = object.expires();
            slot.insert(Key::from(key), object);
            let all = slot.keys().map(|key| &key[..]);
            self.access.fit(number, slot.len(), all);
            (None, expires)
        };
        self.expires(key, expired, expires);
    }

    fn remove(&mut self, key: &[u8]) {
        let slot = &mut self.slots[usize::from(slot_of(key))];
        let Some(slot) = slot.as_mut().filter(|slot| slot.contains_key(key)) else {
            return;
        };
        self.interest.note(key);
        if let Some(object) = Arc::make_mut(slot).remove(key) {
            self.len -= 1;
            self.digest = self.digest.wrapping_sub(share(key, &object));
            self.bytes -= cost(key, &object);
            let expired = object.expires();
            self.discard(Some(object));
            self.expires(key, expired, None);
        }
    }

    fn discard(&mut self, old: Option<Object>) {
        if let Some(old) = old
            && old.value().kind().is_some()
            && old.value().weight() >= GARBAGE_BYTES_MIN
        {
            self.garbage.0.push(old.into_value());
        }
    }

    /// Notes when a key expires now, and did before.
    fn expires(&mut self, key: &[u8], before: Option<Millis>, now: Option<Millis>) {
        if before == now {
            return;
        }
        let key = Key::from(key);
        self.expiry_sum += u128::from(now.unwrap_or(0));
        self.expiry_sum -= u128::from(before.unwrap_or(0));
        if let Some(at) = before {
            self.expiries.remove(&(at, key.clone()));
        }
        if let Some(at) = now {
            self.expiries.insert((at, key));
        }
    }

    /// Changes the value of a key that is there as the entry at `version`, if `edit` says that it has; a collection that it
    /// has emptied goes, which is said as well.
    pub fn edit<R>(
        &mut self,
        key: &[u8],
        version: u64,
        edit: impl FnOnce(&mut Value) -> (R, bool),
    ) -> Option<(R, Edited)> {
        let slot = self.slots[usize::from(slot_of(key))].as_mut()?;
        let object = Arc::make_mut(slot).get_mut(key)?;
        let (before, cost_before) = (share(key, object), cost(key, object));
        let (result, changed) = edit(object.value_mut());
        if !changed {
            return Some((result, Edited::Nothing));
        }
        if !mutant::is(Mutant::WritesKeepOldVersion) {
            object.version = version;
        }
        self.interest.note(key);
        let after = share(key, object);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        self.bytes = self.bytes + cost(key, object) - cost_before;
        if object.value().is_empty() {
            self.set(key, None);
            return Some((result, Edited::Removed));
        }
        Some((result, Edited::Changed))
    }

    pub fn clear(&mut self) {
        let before = std::mem::take(self);
        self.garbage = before.garbage;
        self.interest = before.interest;
        self.access = before.access;
        self.tally = before.tally;
        // The entry goes on, and may not give a number twice.
        self.stamps = before.stamps;
        self.interest.note_all();
        self.garbage.1.extend(before.slots.into_iter().flatten());
    }

    /// A number, from 1, that the entry at `version` gives once: entries are applied from their beginning, so all replicas give the
    /// same, and need not remember it.
    pub fn stamp(&mut self, version: u64) -> u32 {
        if self.stamps.0 != version {
            self.stamps = (version, 0);
        }
        self.stamps.1 = self.stamps.1.saturating_add(1);
        self.stamps.1
    }

    /// What is to be freed elsewhere.
    #[must_use]
    pub fn take_garbage(&mut self) -> Garbage {
        std::mem::take(&mut self.garbage)
    }

    /// The keys that expire at or before `now`, soonest first.
    pub fn expiring(&self, now: Millis) -> impl Iterator<Item = &(Millis, Key)> {
        self.expiries.iter().take_while(move |(at, _)| *at <= now)
    }

    /// How many keys expire, and the sum of the times at which they do.
    #[must_use]
    pub fn expiries(&self) -> (usize, u128) {
        (self.expiries.len(), self.expiry_sum)
    }

    /// Keys of one slot, in order.
    pub fn slot(&self, slot: u16) -> impl Iterator<Item = (&Key, &Object)> {
        self.slots[usize::from(slot)].iter().flat_map(|slot| slot.iter())
    }

    /// Keys of one slot behind this one, in order; `None`: all of it.
    pub fn slot_behind<'a>(
        &'a self,
        slot: u16,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a Key, &'a Object)> + use<'a> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.slots[usize::from(slot)].as_ref();
        keys.map(|keys| keys.range::<[u8], _>((from, Bound::Unbounded)))
            .into_iter()
            .flatten()
    }

    /// How many keys a slot holds.
    #[must_use]
    pub fn slot_len(&self, slot: u16) -> usize {
        self.slots[usize::from(slot)]
            .as_ref()
            .map_or(0, |slot| slot.len())
    }

    /// All keys, by slot and then by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Object)> {
        self.slots.iter().flatten().flat_map(|slot| slot.iter())
    }

    /// The slots as they are now, for a snapshot; later writes do not show in them.
    #[must_use]
    pub fn freeze(&self) -> Vec<Arc<Slot>> {
        self.slots.iter().flatten().cloned().collect()
    }

    /// Takes in keys of one slot, in order, from a snapshot.
    ///
    /// # Errors
    /// Keys of several slots, or one that is there already: not what [`Keyspace::freeze`] gives.
    pub fn load(&mut self, mut keys: Vec<(Key, Object)>) -> Result<(), String> {
        let Some(number) = keys.first().map(|(key, _)| slot_of(key)) else {
            return Ok(());
        };
        for (key, object) in &mut keys {
            if slot_of(key) != number {
                return Err(format!("slot {number} of the snapshot holds keys of other slots"));
            }
            if mutant::is(Mutant::ExpiriesLostInSnapshot) {
                *object = Object::new(object.value().clone(), None, object.version);
            }
            self.digest = self.digest.wrapping_add(share(key, object));
            self.bytes += cost(key, object);
            let expiry = object.expires().map(|at| (at, key.clone()));
            self.expiry_sum += expiry.as_ref().map_or(0, |(at, _)| u128::from(*at));
            self.expiries.extend(expiry);
        }
        let slot = Arc::make_mut(self.slots[usize::from(number)].get_or_insert_default());
        let len = slot.len() + keys.len();
        self.len += keys.len();
        if slot.is_empty() {
            // Built at once, a tree's nodes are full.
            *slot = keys.into_iter().collect();
        } else {
            slot.extend(keys);
        }
        if slot.len() != len {
            return Err(format!("a key of slot {number} is twice in the snapshot"));
        }
        Ok(())
    }

    /// Takes in a further piece of a large value from a snapshot.
    ///
    /// # Errors
    /// The key is not there, or the piece does not belong to it.
    pub fn load_more(&mut self, key: &[u8], piece: Value) -> Result<(), String> {
        let version = self.get(key).map_or(0, |object| object.version);
        let taken = self.edit(key, version, |value| (value.absorb(piece), true));
        match taken {
            Some((taken, _)) => taken.map_err(|why| format!("the snapshot holds {why}")),
            None => Err("the snapshot holds a piece of a value without its beginning".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> Vec<(Key, Object)> {
        let object = |key: &&str| {
            let value = Value::Str(Blob::from(key.as_bytes()));
            let object = Object::new(value, Some(7), 1);
            (Key::from(key.as_bytes()), object)
        };
        keys.iter().map(object).collect()
    }

    #[test]
    fn a_slot_is_taken_in_piece_by_piece_each_key_once_and_no_others() {
        let mut keyspace = Keyspace::default();
        assert_eq!(keyspace.load(keys(&["{a}1", "{a}2"])), Ok(()));
        assert_eq!(keyspace.load(keys(&["{a}3"])), Ok(()));
        assert_eq!((keyspace.len(), keyspace.expiring(7).count()), (3, 3));
        assert_eq!(keyspace.digest(), keyspace.digest_by_walk());
        assert_eq!(keyspace.bytes(), keyspace.bytes_by_walk());
        assert!(keyspace.load(keys(&["{a}3"])).is_err(), "the key is there");
        assert!(
            keyspace.load(keys(&["{b}1", "{c}1"])).is_err(),
            "two slots in one piece"
        );
    }

    /// In the old one's memory or in its own: a snapshot that holds the old one must not see it.
    #[test]
    fn an_object_that_is_put_replaces_all_of_the_old_one_but_not_in_a_copy() {
        let steps = [
            ("one", None),
            ("two", None),
            ("six", Some(9)),
            ("sixty", Some(9)),
            ("seven", Some(8)),
            ("eight", None),
            ("ten", None),
            ("eleven", None),
            ("twelve", None),
        ];
        // Each time anew: a string that the test shares is not overwritten.
        let object = |at: usize| {
            let (text, expires) = steps[at];
            Object::new(Value::Str(Blob::from(text.as_bytes())), expires, at as u64)
        };
        for hold in [false, true] {
            let mut keyspace = Keyspace::default();
            let mut copy = None;
            for (at, (_, expires)) in steps.iter().enumerate() {
                keyspace.set(b"key", Some(object(at)));
                assert_eq!(keyspace.get(b"key"), Some(&object(at)));
                assert_eq!(keyspace.digest(), keyspace.digest_by_walk());
                assert_eq!(keyspace.bytes(), keyspace.bytes_by_walk());
                let expiring: Vec<Millis> = keyspace.expiring(10).map(|(at, _)| *at).collect();
                assert_eq!(expiring, Vec::from_iter(*expires));
                if let Some(copy) = copy.as_ref().map(|copy: &Keyspace| copy.get(b"key")) {
                    assert_eq!(copy, Some(&object(at - 1)));
                }
                copy = hold.then(|| keyspace.clone());
            }
        }
    }
}
