//! A group of consumers: how far it has read, and what was delivered and is not acknowledged.

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Id, Key, OVERHEAD_BYTES, ascending};
use crate::base::Millis;

/// An entry that was delivered to a consumer, and that it has not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub consumer: Key,
    /// When it was delivered last.
    pub at: Millis,
    pub times: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consumer {
    /// When it was heard of last.
    pub seen: Millis,
    pending: OrdSet<Id>,
}

impl Consumer {
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// What it has pending from `id` on.
    pub fn pending(&self, from: Id) -> impl Iterator<Item = Id> {
        self.pending.range(from..).copied()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The last entry that was delivered.
    pub delivered: Id,
    /// How many entries were ever read, of those ever added; `None`: it cannot be told.
    pub read: Option<u64>,
    pending: OrdMap<Id, Pending>,
    consumers: OrdMap<Key, Consumer>,
    bytes: usize,
    /// Of what is pending, and of consumers.
    digest: u64,
}

fn pending_share(id: Id, pending: &Pending) -> u64 {
    let seed = pending.at ^ pending.times.rotate_left(48);
    let mut bytes = id.to_bytes().to_vec();
    bytes.extend_from_slice(&pending.consumer);
    xxh3_64_with_seed(&bytes, seed)
}

fn consumer_share(name: &[u8], seen: Millis) -> u64 {
    // Not to be taken for something pending.
    const CONSUMER: u64 = 0x9e37_79b9_7f4a_7c15;
    xxh3_64_with_seed(name, seen ^ CONSUMER)
}

impl Group {
    #[must_use]
    pub fn new(delivered: Id, read: Option<u64>) -> Group {
        Group {
            delivered,
            read,
            pending: OrdMap::new(),
            consumers: OrdMap::new(),
            bytes: 0,
            digest: 0,
        }
    }

    pub(super) fn weight(&self) -> usize {
        self.bytes + OVERHEAD_BYTES
    }

    fn head(&self) -> u64 {
        xxh3_64_with_seed(
            &self.delivered.to_bytes(),
            self.read.map_or(0, |read| read.wrapping_add(1)),
        )
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest.wrapping_add(self.head())
    }

    pub(super) fn digest_by_walk(&self) -> u64 {
        let pending = self
            .pending
            .iter()
            .map(|(id, pending)| pending_share(*id, pending));
        let consumers = self
            .consumers
            .iter()
            .map(|(name, consumer)| consumer_share(name, consumer.seen));
        pending.chain(consumers).fold(self.head(), u64::wrapping_add)
    }

    /// Everything pending from `id` on.
    pub fn pending(&self, from: Id) -> impl Iterator<Item = (Id, &Pending)> {
        self.pending.range(from..).map(|(id, pending)| (*id, pending))
    }

    /// The first and the last that are pending.
    #[must_use]
    pub fn pending_ends(&self) -> Option<(Id, Id)> {
        Some((self.pending.get_min()?.0, self.pending.get_max()?.0))
    }

    #[must_use]
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    #[must_use]
    pub fn pending_of(&self, id: Id) -> Option<&Pending> {
        self.pending.get(&id)
    }

    #[must_use]
    pub fn consumer(&self, name: &[u8]) -> Option<&Consumer> {
        self.consumers.get(name)
    }

    pub fn consumers(&self) -> impl ExactSizeIterator<Item = (&Key, &Consumer)> {
        self.consumers.iter()
    }

    /// A consumer was heard of; says whether it is new.
    pub fn see(&mut self, name: &[u8], now: Millis) -> bool {
        let added = consumer_share(name, now);
        if let Some(consumer) = self.consumers.get_mut(name) {
            let removed = consumer_share(name, consumer.seen);
            consumer.seen = now;
            self.digest = self.digest.wrapping_sub(removed).wrapping_add(added);
            return false;
        }
        let pending = OrdSet::new();
        self.consumers
            .insert(Key::from(name), Consumer { seen: now, pending });
        self.bytes += name.len() + OVERHEAD_BYTES;
        self.digest = self.digest.wrapping_add(added);
        true
    }

    /// Makes an entry pending for a consumer, whoever had it before.
    pub fn deliver(&mut self, id: Id, consumer: &[u8], now: Millis) {
        let consumer = Key::from(consumer);
        self.set(
            id,
            Pending {
                consumer,
                at: now,
                times: 1,
            },
        );
    }

    /// As [`Group::deliver`], with its time and how often it was delivered.
    pub fn set(&mut self, id: Id, pending: Pending) {
        self.acknowledge(id);
        if self.consumers.get(&pending.consumer).is_none() {
            self.see(&pending.consumer, pending.at);
        }
        if let Some(consumer) = self.consumers.get_mut(&pending.consumer) {
            consumer.pending.insert(id);
        }
        self.bytes += pending.consumer.len() + 2 * OVERHEAD_BYTES;
        self.digest = self.digest.wrapping_add(pending_share(id, &pending));
        self.pending.insert(id, pending);
    }

    /// It is pending no more; says whether it was.
    pub fn acknowledge(&mut self, id: Id) -> bool {
        let Some(pending) = self.pending.remove(&id) else {
            return false;
        };
        if let Some(consumer) = self.consumers.get_mut(&pending.consumer) {
            consumer.pending.remove(&id);
        }
        self.bytes -= pending.consumer.len() + 2 * OVERHEAD_BYTES;
        self.digest = self.digest.wrapping_sub(pending_share(id, &pending));
        true
    }

    /// Forgets a consumer with all that it has pending; says how much that was. `None`: it is not known.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let pending = self.consumers.get(name)?.pending.clone();
        for id in &pending {
            self.acknowledge(*id);
        }
        let consumer = self.consumers.remove(name)?;
        self.bytes -= name.len() + OVERHEAD_BYTES;
        self.digest = self.digest.wrapping_sub(consumer_share(name, consumer.seen));
        Some(pending.len())
    }

    /// Shares of at most about `bytes` bytes, each with all consumers.
    pub(super) fn pieces(&self, bytes: usize) -> impl Iterator<Item = Group> {
        let mut bare = Group::new(self.delivered, self.read);
        for (name, consumer) in &self.consumers {
            bare.see(name, consumer.seen);
        }
        let mut rest = self.pending.iter().peekable();
        let mut begun = false;
        std::iter::from_fn(move || {
            if rest.peek().is_none() && std::mem::replace(&mut begun, true) {
                return None;
            }
            begun = true;
            let mut piece = bare.clone();
            while piece.bytes - bare.bytes < bytes.max(1)
                && let Some((id, pending)) = rest.next()
            {
                piece.set(*id, pending.clone());
            }
            Some(piece)
        })
    }

    pub(super) fn absorb(&mut self, piece: Group) -> Result<(), &'static str> {
        for (id, pending) in piece.pending {
            if self.pending.contains_key(&id) {
                return Err("an entry that is twice pending in its group");
            }
            self.set(id, pending);
        }
        Ok(())
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let consumers: Vec<(&Key, Millis)> = self
            .consumers
            .iter()
            .map(|(name, consumer)| (name, consumer.seen))
            .collect();
        (self.delivered, self.read, consumers, &self.pending).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The last as a vector, for imbl's own reserves whatever length is claimed; the bytes are the same.
        type Parts = (Id, Option<u64>, Vec<(Key, Millis)>, Vec<(Id, Pending)>);
        let (delivered, read, consumers, pending) = Parts::deserialize(deserializer)?;
        ascending(&pending)?;
        let mut group = Group::new(delivered, read);
        for (name, seen) in consumers {
            group.see(&name, seen);
        }
        for (id, pending) in pending {
            group.set(id, pending);
        }
        Ok(group)
    }
}
