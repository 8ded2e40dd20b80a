//! Members of a large set, fields of a large hash, members of a large sorted set: a persistent tree in the order of
//! their hashes. So a page of it goes on where the last one ended whatever has come and gone in between, and one picked at
//! random is found without counting.

use std::cmp::Ordering;

use imbl::OrdMap;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::stored::Blob;

/// A member, in the order of hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    hash: u64,
    name: Blob,
}

impl Ord for Member {
    fn cmp(&self, other: &Member) -> Ordering {
        let by_hash = self.hash.cmp(&other.hash);
        by_hash.then_with(|| self.name[..].cmp(&other.name[..]))
    }
}

impl PartialOrd for Member {
    fn partial_cmp(&self, other: &Member) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Blob> for Member {
    fn from(name: Blob) -> Member {
        Member {
            hash: name.hash(),
            name,
        }
    }
}

/// What a member has.
pub trait Worth: Clone + Eq + fmt::Debug {
    /// For the digest, as of when it was stored.
    fn hash(&self) -> u64;
    /// The same, from its bytes.
    fn hash_by_bytes(&self) -> u64;
    /// Bytes, roughly.
    fn weight(&self) -> usize;
}

impl Worth for () {
    fn hash(&self) -> u64 {
        0
    }
    fn hash_by_bytes(&self) -> u64 {
        0
    }
    fn weight(&self) -> usize {
        0
    }
}

impl Worth for Blob {
    fn hash(&self) -> u64 {
        Blob::hash(self)
    }
    fn hash_by_bytes(&self) -> u64 {
        xxh3_64(self)
    }
    fn weight(&self) -> usize {
        self.len() + 8
    }
}

/// Members with what each has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members<V: Worth> {
    tree: OrdMap<Member, V>,
    bytes: usize,
    /// Sum over all.
    digest: u64,
}

/// Some members, and the cursor for the next page; 0: there is none.
pub type Page<T> = (Vec<T>, u64);

fn mixed(name: u64, worth: u64) -> u64 {
    xxh3_64_with_seed(&name.to_le_bytes(), worth)
}

impl<V: Worth> Default for Members<V> {
    fn default() -> Self {
        Members {
            tree: OrdMap::new(),
            bytes: 0,
            digest: 0,
        }
    }
}

impl<V: Worth> Members<V> {
    #[must_use]
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    #[must_use]
    pub fn weight(&self) -> usize {
        self.bytes
    }

    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    #[must_use]
    pub fn digest_by_walk(&self) -> u64 {
        let shares = self
            .iter()
            .map(|(name, worth)| mixed(xxh3_64(name), worth.hash_by_bytes()));
        shares.fold(0, u64::wrapping_add)
    }

    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&V> {
        self.tree.get(&Member::from(Blob::from(name)))
    }

    /// A member as it is stored, so that others can share it.
    #[must_use]
    pub fn name(&self, name: &[u8]) -> Option<&Blob> {
        let (member, _) = self.tree.get_key_value(&Member::from(Blob::from(name)))?;
        Some(&member.name)
    }

    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// Puts a member; returns what it had.
    pub fn insert(&mut self, name: Blob, worth: V) -> Option<V> {
        let (hash, bytes) = (name.hash(), name.len() + 16);
        self.digest = self.digest.wrapping_add(mixed(hash, worth.hash()));
        self.bytes += worth.weight();
        let old = self.tree.insert(Member::from(name), worth);
        match &old {
            Some(old) => self.uncount(hash, old),
            None => self.bytes += bytes,
        }
        old
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<V> {
        let member = Member::from(Blob::from(name));
        let old = self.tree.remove(&member)?;
        self.uncount(member.hash, &old);
        self.bytes -= name.len() + 16;
        Some(old)
    }

    fn uncount(&mut self, hash: u64, old: &V) {
        self.digest = self.digest.wrapping_sub(mixed(hash, old.hash()));
        self.bytes -= old.weight();
    }

    /// All, in the order of hashes.
    pub fn iter(&self) -> impl Iterator<Item = (&Blob, &V)> {
        self.tree.iter().map(|(member, worth)| (&member.name, worth))
    }

    /// At least `count` members from `cursor` on, as far as there are. A cursor stands for half a hash, so that it fits into
    /// a signed number; what shares that comes on one page.
    pub fn page(&self, cursor: u64, count: usize) -> Page<(&Blob, &V)> {
        let from = Member {
            hash: cursor << 1,
            name: Blob::from(&[][..]),
        };
        let mut page = Vec::new();
        let mut last = 0;
        for (member, worth) in self.tree.range(from..) {
            let at = member.hash >> 1;
            if page.len() >= count && at != last {
                return (page, at);
            }
            last = at;
            page.push((&member.name, worth));
        }
        (page, 0)
    }

    /// One of them, each as likely as any other; `random` gives numbers.
    ///
    /// The space of hashes is cut into buckets of about eight members. A bucket is drawn, then one of 64 places in it; an
    /// empty place draws again.
    pub fn random(&self, random: &mut dyn FnMut() -> u64) -> Option<(&Blob, &V)> {
        const PLACES: u64 = 64;
        const TRIES: usize = 1000;
        let bits = (self.len() as u64 / 8).max(1).ilog2();
        let at_hash = |hash| Member {
            hash,
            name: Blob::from(&[][..]),
        };
        let width = u64::MAX.checked_shr(bits).unwrap_or(0);
        for _ in 0..TRIES {
            let start = random() & !width;
            let place = usize::try_from(random() % PLACES).unwrap_or(0);
            let range = self.tree.range(at_hash(start)..);
            let mut bucket = range.take_while(|(member, _)| member.hash - start <= width);
            if let Some((member, worth)) = bucket.nth(place) {
                return Some((&member.name, worth));
            }
        }
        // Hashes that somebody has chosen all alike.
        let first = self.tree.range(at_hash(random())..).next();
        let (member, worth) = first.or_else(|| self.tree.get_min().map(|(m, w)| (m, w)))?;
        Some((&member.name, worth))
    }

    /// As [`super::Value::pieces`].
    pub fn pieces(&self, bytes: usize) -> impl Iterator<Item = Members<V>> {
        let mut rest = self.iter().peekable();
        std::iter::from_fn(move || {
            rest.peek()?;
            let mut piece = Members::default();
            while piece.bytes < bytes
                && let Some((name, worth)) = rest.next()
            {
                piece.insert(name.clone(), worth.clone());
            }
            Some(piece)
        })
    }

    /// As [`super::Value::absorb`].
    ///
    /// # Errors
    /// A member that is there already.
    pub fn absorb(&mut self, piece: Members<V>) -> Result<(), &'static str> {
        for (member, worth) in piece.tree {
            if self.insert(member.name, worth).is_some() {
                return Err("a member is twice in its collection");
            }
        }
        Ok(())
    }
}

impl<V: Worth> FromIterator<(Blob, V)> for Members<V> {
    fn from_iter<T: IntoIterator<Item = (Blob, V)>>(all: T) -> Self {
        let mut members = Members::default();
        for (name, worth) in all {
            members.insert(name, worth);
        }
        members
    }
}

impl<V: Worth + Serialize> Serialize for Members<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.tree.iter().map(|(member, worth)| (&member.name, worth)))
    }
}

impl<'de, V: Worth + Deserialize<'de>> Deserialize<'de> for Members<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All<V>(PhantomData<V>);
        impl<'de, V: Worth + Deserialize<'de>> Visitor<'de> for All<V> {
            type Value = Members<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("members")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Members<V>, A::Error> {
                let mut members = Members::default();
                while let Some((name, worth)) = all.next_element()? {
                    if members.insert(name, worth).is_some() {
                        return Err(A::Error::custom("a member is twice in its collection"));
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_seq(All(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(n: u64) -> Members<()> {
        (0..n)
            .map(|i| (Blob::from(&i.to_string().into_bytes()[..]), ()))
            .collect()
    }

    #[test]
    fn pages_hold_everything_once_and_digests_and_bytes_follow_each_change() {
        let mut members = numbered(1000);
        let (mut cursor, mut seen) = (0, Vec::new());
        loop {
            let (page, next) = members.page(cursor, 7);
            assert!(page.len() >= 7 || next == 0);
            seen.extend(page.into_iter().map(|(name, ())| name.clone()));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        seen.sort_by(|a, b| a[..].cmp(&b[..]));
        seen.dedup();
        assert_eq!(seen.len(), 1000);
        for i in 0..990 {
            assert_eq!(members.remove(i.to_string().as_bytes()), Some(()));
            assert_eq!(members.remove(i.to_string().as_bytes()), None);
        }
        assert_eq!(members.digest(), members.digest_by_walk());
        let few: Members<()> = (990..1000)
            .map(|i| (Blob::from(i.to_string().as_bytes()), ()))
            .collect();
        assert_eq!(members, few);
    }

    #[test]
    fn each_is_drawn_as_often_as_any_other() {
        let members = numbered(300);
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            xxh3_64(&state.to_le_bytes())
        };
        let mut drawn = std::collections::BTreeMap::new();
        for _ in 0..300_000 {
            let (name, ()) = members.random(&mut random).expect("there are some");
            *drawn.entry(name.to_vec()).or_insert(0) += 1;
        }
        assert_eq!(drawn.len(), 300);
        // 1000 each, with a standard deviation of 32.
        assert!(drawn.values().all(|n| (800..1200).contains(n)), "{drawn:?}");
    }
}
