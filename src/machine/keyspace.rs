//! The keys of one shard, copy-on-write by slot: cutting a snapshot clones 16384 pointers at the most, and a write after
//! that clones one slot's map at the most.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::digest::{share, share_by_bytes};
pub use super::stored::{Blob, Key};
use crate::base::slot::{SLOTS, slot_of};
use crate::base::{Millis, Mutant, mutant};

/// What a key holds. Strings only, so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    Str(Blob),
}

impl Value {
    /// Bytes, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        let Value::Str(blob) = self;
        blob.len()
    }

    /// The type's name as `TYPE` replies it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Str(_) => "string",
        }
    }
}

/// A key's value, expiry and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub value: Value,
    /// No time is zero, so that keys without expiry pay eight bytes for it and not sixteen.
    expires: Option<NonZeroU64>,
    /// Log index of the entry that last changed the key.
    pub version: u64,
}

const _: () = assert!(size_of::<Object>() == 24);

impl Object {
    #[must_use]
    pub fn new(value: Value, expires: Option<Millis>, version: u64) -> Object {
        Object {
            value,
            expires: expires.map(|at| NonZeroU64::new(at).unwrap_or(NonZeroU64::MIN)),
            version,
        }
    }

    #[must_use]
    pub fn expires(&self) -> Option<Millis> {
        self.expires.map(NonZeroU64::get)
    }

    /// Whether the key counts as absent at replicated time `now`.
    #[must_use]
    pub fn expired(&self, now: Millis) -> bool {
        self.expires().is_some_and(|at| at <= now)
    }
}

pub type Slot = BTreeMap<Key, Object>;

/// All keys, and which expire when. Expired keys stay until a logged expiry or a write removes them.
#[derive(Debug, Clone)]
pub struct Keyspace {
    /// `None`: nothing was ever put there.
    slots: Vec<Option<Arc<Slot>>>,
    expiries: BTreeSet<(Millis, Bytes)>,
    len: usize,
    /// Sum of the shares of all keys.
    digest: u64,
}

impl Default for Keyspace {
    fn default() -> Self {
        Keyspace {
            slots: vec![None; usize::from(SLOTS)],
            expiries: BTreeSet::new(),
            len: 0,
            digest: 0,
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

    /// The same, by a walk over all keys.
    #[must_use]
    pub fn digest_by_walk(&self) -> u64 {
        let shares = self.iter().map(|(key, object)| share_by_bytes(key, object));
        shares.fold(0, u64::wrapping_add)
    }

    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Object> {
        self.slots[usize::from(slot_of(key))].as_ref()?.get(key)
    }

    /// Puts or (`None`) removes a key.
    pub fn set(&mut self, key: &[u8], object: Option<Object>) {
        let slot = &mut self.slots[usize::from(slot_of(key))];
        if object.is_none() && !slot.as_ref().is_some_and(|slot| slot.contains_key(key)) {
            return;
        }
        let slot = Arc::make_mut(slot.get_or_insert_default());
        let expires = object.as_ref().and_then(Object::expires);
        let added = object.as_ref().map_or(0, |object| share(key, object));
        let old = match object {
            Some(object) => match slot.get_mut(key) {
                Some(old) => Some(std::mem::replace(old, object)),
                None => {
                    self.len += 1;
                    slot.insert(Key::from(key), object)
                }
            },
            None => {
                self.len -= 1;
                slot.remove(key)
            }
        };
        let removed = old.as_ref().map_or(0, |object| share(key, object));
        self.digest = self.digest.wrapping_sub(removed).wrapping_add(added);
        let old_expires = old.and_then(|o| o.expires());
        if old_expires != expires {
            // Copied: a slice of a request's buffer would keep the whole buffer alive.
            let key = Bytes::copy_from_slice(key);
            if let Some(at) = old_expires {
                self.expiries.remove(&(at, key.clone()));
            }
            if let Some(at) = expires {
                self.expiries.insert((at, key));
            }
        }
    }

    pub fn clear(&mut self) {
        *self = Keyspace::default();
    }

    /// The keys that expire at or before `now`, soonest first.
    pub fn expiring(&self, now: Millis) -> impl Iterator<Item = &(Millis, Bytes)> {
        self.expiries.iter().take_while(move |(at, _)| *at <= now)
    }

    /// Keys of one slot, in order.
    pub fn slot(&self, slot: u16) -> impl Iterator<Item = (&Key, &Object)> {
        self.slots[usize::from(slot)].iter().flat_map(|slot| slot.iter())
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
                object.expires = None;
            }
            self.digest = self.digest.wrapping_add(share(key, object));
            let expiry = object.expires().map(|at| (at, Bytes::copy_from_slice(key)));
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
        assert!(keyspace.load(keys(&["{a}3"])).is_err(), "the key is there");
        assert!(
            keyspace.load(keys(&["{b}1", "{c}1"])).is_err(),
            "two slots in one piece"
        );
    }
}
