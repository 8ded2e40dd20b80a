//! Streams: entries in the order of their ids, and the groups that read them. A persistent tree from the first entry on, since
//! a stream that is empty still knows its last id and its groups: it stays until its key goes.

mod group;

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Key, Large, Packed, Value};

pub use group::{Consumer, Group, Pending};

/// When an entry was added, and its number in that millisecond.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id {
    pub ms: u64,
    pub seq: u64,
}

impl Id {
    pub const ZERO: Id = Id { ms: 0, seq: 0 };
    pub const MAX: Id = Id {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    #[must_use]
    pub fn next(self) -> Option<Id> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Id { ms: self.ms, seq }),
            None => self.ms.checked_add(1).map(|ms| Id { ms, seq: 0 }),
        }
    }

    #[must_use]
    pub fn prev(self) -> Option<Id> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Id { ms: self.ms, seq }),
            None => self.ms.checked_sub(1).map(|ms| Id { ms, seq: u64::MAX }),
        }
    }

    fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_le_bytes()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// Counted for an entry, or for one that is pending, besides its fields.
const OVERHEAD_BYTES: usize = 40;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stream {
    entries: OrdMap<Id, Packed>,
    /// The last id that was given, whether its entry is still there or not.
    pub last: Id,
    /// The largest id of an entry that was deleted by name (trimming does not count).
    pub max_deleted: Id,
    /// Entries ever added.
    pub added: u64,
    groups: OrdMap<Key, Arc<Group>>,
    bytes: usize,
    /// Of entries and groups.
    digest: u64,
}

fn share(id: Id, fields: u64) -> u64 {
    xxh3_64_with_seed(&id.to_bytes(), fields)
}

fn group_share(name: &[u8], group: u64) -> u64 {
    xxh3_64_with_seed(name, group)
}

impl Stream {
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn weight(&self) -> usize {
        self.bytes
    }

    fn head(&self) -> u64 {
        let all = (self.last, self.max_deleted, self.added);
        let mut bytes = [0; 40];
        bytes[..16].copy_from_slice(&all.0.to_bytes());
        bytes[16..32].copy_from_slice(&all.1.to_bytes());
        bytes[32..].copy_from_slice(&all.2.to_le_bytes());
        xxh3_64(&bytes)
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest.wrapping_add(self.head())
    }

    pub(super) fn digest_by_walk(&self) -> u64 {
        let entries = self
            .entries
            .iter()
            .map(|(id, fields)| share(*id, fields.hash_by_bytes()));
        let groups = self
            .groups
            .iter()
            .map(|(name, group)| group_share(name, group.digest_by_walk()));
        entries.chain(groups).fold(self.head(), u64::wrapping_add)
    }

    #[must_use]
    pub fn get(&self, id: Id) -> Option<&Packed> {
        self.entries.get(&id)
    }

    #[must_use]
    pub fn first(&self) -> Option<(Id, &Packed)> {
        self.entries.get_min().map(|(id, fields)| (*id, fields))
    }

    #[must_use]
    pub fn newest(&self) -> Option<(Id, &Packed)> {
        self.entries.get_max().map(|(id, fields)| (*id, fields))
    }

    /// Entries within a range of ids, from either end.
    pub fn range(&self, range: impl RangeBounds<Id>) -> impl DoubleEndedIterator<Item = (Id, &Packed)> {
        self.entries.range(range).map(|(id, fields)| (*id, fields))
    }

    /// Entries after `id`.
    pub fn after(&self, id: Id) -> impl Iterator<Item = (Id, &Packed)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.range((Excluded(id), Unbounded))
    }

    /// Adds an entry with an id beyond the last one.
    pub fn add(&mut self, id: Id, fields: Packed) {
        self.last = id;
        self.added += 1;
        self.take_in(id, fields);
    }

    fn take_in(&mut self, id: Id, fields: Packed) -> bool {
        self.bytes += fields.bytes() + OVERHEAD_BYTES;
        self.digest = self.digest.wrapping_add(share(id, fields.hash()));
        self.entries.insert(id, fields).is_none()
    }

    fn remove(&mut self, id: Id) -> bool {
        let Some(fields) = self.entries.remove(&id) else {
            return false;
        };
        self.bytes -= fields.bytes() + OVERHEAD_BYTES;
        self.digest = self.digest.wrapping_sub(share(id, fields.hash()));
        true
    }

    /// Deletes an entry by name; says whether it was there.
    pub fn delete(&mut self, id: Id) -> bool {
        let there = self.remove(id);
        if there {
            self.max_deleted = self.max_deleted.max(id);
        }
        there
    }

    /// Drops the oldest entries while `goes` says so of the first, with how many there are; at the most `most`.
    pub fn trim(&mut self, most: usize, goes: impl Fn(usize, Id) -> bool) -> usize {
        let mut gone = 0;
        while gone < most
            && let Some((first, _)) = self.first()
            && goes(self.len(), first)
        {
            self.remove(first);
            gone += 1;
        }
        gone
    }

    #[must_use]
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name).map(|group| &**group)
    }

    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&Key, &Group)> {
        self.groups.iter().map(|(name, group)| (name, &**group))
    }

    /// Makes a group; `false`: there is one of this name.
    pub fn add_group(&mut self, name: &[u8], group: Group) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        self.bytes += group.weight();
        self.digest = self.digest.wrapping_add(group_share(name, group.digest()));
        self.groups.insert(Key::from(name), Arc::new(group));
        true
    }

    pub fn remove_group(&mut self, name: &[u8]) -> bool {
        let Some(group) = self.groups.remove(name) else {
            return false;
        };
        self.bytes -= group.weight();
        self.digest = self.digest.wrapping_sub(group_share(name, group.digest()));
        true
    }

    /// Changes a group, seeing the rest of the stream; `None`: there is none of this name.
    pub fn edit_group<R>(&mut self, name: &[u8], edit: impl FnOnce(&Stream, &mut Group) -> R) -> Option<R> {
        let mut shared = self.groups.get(name)?.clone();
        // Out of the tree while it is changed, so that it is not copied for its own tree's sake.
        let (key, _) = self.groups.remove_with_key(name)?;
        self.bytes -= shared.weight();
        self.digest = self.digest.wrapping_sub(group_share(name, shared.digest()));
        let group = Arc::make_mut(&mut shared);
        let result = edit(self, group);
        self.bytes += group.weight();
        self.digest = self.digest.wrapping_add(group_share(name, group.digest()));
        self.groups.insert(key, shared);
        Some(result)
    }

    /// The same stream without entries and groups.
    fn bare(&self) -> Stream {
        Stream {
            last: self.last,
            max_deleted: self.max_deleted,
            added: self.added,
            ..Stream::default()
        }
    }

    pub(super) fn pieces(&self, bytes: usize) -> Box<dyn Iterator<Item = Stream> + '_> {
        let mut rest = self.entries.iter().peekable();
        let entries = std::iter::from_fn(move || {
            rest.peek()?;
            let mut piece = self.bare();
            while piece.bytes < bytes
                && let Some((id, fields)) = rest.next()
            {
                piece.take_in(*id, fields.clone());
            }
            Some(piece)
        });
        let groups = self.groups.iter().flat_map(move |(name, group)| {
            group.pieces(bytes).map(move |group| {
                let mut piece = self.bare();
                piece.add_group(name, group);
                piece
            })
        });
        Box::new(entries.chain(groups))
    }

    pub(super) fn absorb(&mut self, piece: Stream) -> Result<(), &'static str> {
        for (id, fields) in piece.entries {
            if !self.take_in(id, fields) {
                return Err("an entry that is twice in its stream");
            }
        }
        for (name, group) in piece.groups {
            let more = Arc::unwrap_or_clone(group);
            match self.edit_group(&name, |_, group| group.absorb(more.clone())) {
                Some(taken) => taken?,
                None => drop(self.add_group(&name, more)),
            }
        }
        Ok(())
    }
}

impl Serialize for Stream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let groups: Vec<(&Key, &Group)> = self.groups().collect();
        let head = (self.last, self.max_deleted, self.added);
        (head, &self.entries, groups).serialize(serializer)
    }
}

/// Whether what was read has each id once, in order, as it was written.
///
/// # Errors
/// It has not.
fn ascending<T, E: serde::de::Error>(by_id: &[(Id, T)]) -> Result<(), E> {
    if by_id.is_sorted_by(|a, b| a.0 < b.0) {
        return Ok(());
    }
    Err(E::custom("ids are not in order"))
}

impl<'de> Deserialize<'de> for Stream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As for a group's pending entries.
        type Parts = ((Id, Id, u64), Vec<(Id, Packed)>, Vec<(Key, Group)>);
        let ((last, max_deleted, added), entries, groups) = Parts::deserialize(deserializer)?;
        ascending(&entries)?;
        let mut stream = Stream {
            last,
            max_deleted,
            added,
            ..Stream::default()
        };
        for (id, fields) in entries {
            stream.take_in(id, fields);
        }
        for (name, group) in groups {
            stream.add_group(&name, group);
        }
        Ok(stream)
    }
}

/// The stream that a value is.
#[must_use]
pub fn of(value: &Value) -> Option<&Stream> {
    match value {
        Value::Large(large) => match &**large {
            Large::Stream(stream) => Some(stream),
            _ => None,
        },
        _ => None,
    }
}

/// The same, to be changed.
pub fn of_mut(value: &mut Value) -> &mut Stream {
    match value {
        Value::Large(large) => match Arc::make_mut(large) {
            Large::Stream(stream) => stream,
            other => unreachable!("a stream was looked up, and is {other:?}"),
        },
        other => unreachable!("a stream was looked up, and is {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codec;

    fn id(ms: u64) -> Id {
        Id { ms, seq: 0 }
    }

    fn stream(entries: u64) -> Stream {
        let mut stream = Stream::default();
        for ms in 1..=entries {
            stream.add(
                id(ms),
                Packed::of(&[b"field".to_vec(), ms.to_string().into_bytes()]),
            );
        }
        for name in [b"g1", b"g2"] {
            assert!(stream.add_group(name, Group::new(id(3), Some(3))));
            stream.edit_group(name, |_, group| {
                for ms in 1..=entries / 2 {
                    let consumer: &[u8] = if ms % 3 == 0 { b"c1" } else { b"c2" };
                    group.see(consumer, ms);
                    group.deliver(id(ms), consumer, ms);
                }
                group.see(b"idle", 9);
            });
        }
        stream
    }

    #[test]
    fn ids_are_in_order_and_know_their_neighbours() {
        let end = Id { ms: 5, seq: u64::MAX };
        assert_eq!(end.next(), Some(id(6)));
        assert_eq!(id(6).prev(), Some(end));
        assert_eq!((Id::MAX.next(), Id::ZERO.prev()), (None, None));
    }

    #[test]
    fn sums_follow_each_change_and_are_the_same_however_a_stream_came_to_be() {
        let mut grown = stream(100);
        assert_eq!(grown.digest(), grown.digest_by_walk());
        let whole = grown.clone();
        grown.edit_group(b"g1", |_, group| {
            assert!(group.acknowledge(id(7)) && !group.acknowledge(id(7)));
            group.deliver(id(6), b"c2", 77);
            assert!(group.remove_consumer(b"c1").is_some());
        });
        assert!(grown.delete(id(50)) && !grown.delete(id(50)));
        assert_eq!(grown.trim(10, |len, _| len > 95), 4);
        assert!(grown.remove_group(b"g2"));
        assert_eq!(grown.digest(), grown.digest_by_walk());
        assert_ne!(grown.digest(), whole.digest());
        for stream in [grown, whole] {
            let bytes = codec::encode(&stream).expect("it encodes");
            let read: Stream = codec::decode(&bytes).expect("it decodes");
            assert_eq!((&read, read.weight()), (&stream, stream.weight()));
            let mut pieces = stream.pieces(500);
            let mut together = pieces.next().expect("a piece");
            for piece in pieces {
                together.absorb(piece).expect("it belongs to it");
            }
            assert_eq!((&together, together.weight()), (&stream, stream.weight()));
        }
    }

    #[test]
    fn an_empty_stream_is_in_one_piece_with_what_it_remembers() {
        let mut stream = stream(1);
        stream.delete(id(1));
        stream.remove_group(b"g1");
        stream.remove_group(b"g2");
        let value = Value::Large(Arc::new(Large::Stream(stream)));
        assert!(!value.is_empty(), "its key stays");
        let pieces: Vec<Value> = value.pieces(0).collect();
        assert_eq!(pieces, [value]);
    }
}
