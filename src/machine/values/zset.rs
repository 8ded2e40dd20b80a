//! Sorted sets: members with scores, in order of score and then of name.

use std::ops::Range;
use std::sync::Arc;

use ordered_float::NotNan;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::members::Worth;
use super::ranked::Ranked;
use super::{Blob, Item, Kind, Large, Members, Packed, Value};

/// A score: any number, infinite ones included.
pub type Score = NotNan<f64>;

impl Worth for Score {
    fn hash(&self) -> u64 {
        self.to_bits()
    }
    fn hash_by_bytes(&self) -> u64 {
        self.to_bits()
    }
    fn weight(&self) -> usize {
        24
    }
}

/// A large sorted set: by name and by rank.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scored {
    scores: Members<Score>,
    ranked: Ranked,
}

impl Scored {
    #[must_use]
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    pub(super) fn weight(&self) -> usize {
        self.scores.weight()
    }

    pub(super) fn digest(&self) -> u64 {
        self.scores.digest()
    }

    /// The members that the ranks are made of: a set whose halves differ has another one.
    pub(super) fn digest_by_walk(&self) -> u64 {
        let ranked = self.ranked.range(0..self.len());
        let by_rank: Members<Score> = ranked.map(|(score, name)| (name.clone(), *score)).collect();
        by_rank.digest_by_walk()
    }

    fn insert(&mut self, name: &[u8], score: Score) -> Option<Score> {
        let name = self
            .scores
            .name(name)
            .cloned()
            .unwrap_or_else(|| Blob::from(name));
        let old = self.scores.insert(name.clone(), score);
        if let Some(old) = old {
            self.ranked.remove(&(old, name.clone()));
        }
        self.ranked.insert((score, name));
        old
    }

    fn remove(&mut self, name: &[u8]) -> Option<Score> {
        let name = self.scores.name(name)?.clone();
        let old = self.scores.remove(&name)?;
        self.ranked.remove(&(old, name));
        Some(old)
    }

    fn of(all: impl IntoIterator<Item = (Score, Blob)>) -> Scored {
        let mut scored = Scored::default();
        for (score, name) in all {
            scored.scores.insert(name.clone(), score);
            scored.ranked.insert((score, name));
        }
        scored
    }

    pub(super) fn pieces(&self, bytes: usize) -> impl Iterator<Item = Scored> {
        let mut rest = self.ranked.range(0..self.len()).cloned().peekable();
        std::iter::from_fn(move || {
            rest.peek()?;
            let mut piece = Scored::default();
            while piece.weight() < bytes
                && let Some(entry) = rest.next()
            {
                piece.scores.insert(entry.1.clone(), entry.0);
                piece.ranked.insert(entry);
            }
            Some(piece)
        })
    }

    pub(super) fn absorb(&mut self, piece: &Scored) -> Result<(), &'static str> {
        for (score, name) in piece.ranked.range(0..piece.len()) {
            if self.scores.insert(name.clone(), *score).is_some() {
                return Err("a member is twice in its sorted set");
            }
            self.ranked.insert((*score, name.clone()));
        }
        Ok(())
    }
}

impl Serialize for Scored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A length is wanted first, which the iterator does not tell.
        let mut all = serializer.serialize_seq(Some(self.len()))?;
        for entry in self.ranked.range(0..self.len()) {
            all.serialize_element(entry)?;
        }
        all.end()
    }
}

impl<'de> Deserialize<'de> for Scored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<(Score, Blob)>::deserialize(deserializer)?;
        let len = all.len();
        let scored = Scored::of(all);
        if scored.len() != len {
            return Err(serde::de::Error::custom("a member is twice in its sorted set"));
        }
        Ok(scored)
    }
}

/// Score and member of a packed set.
fn packed_entries(packed: &Packed) -> Vec<(Score, &[u8])> {
    let mut items = packed.items();
    let mut entries = Vec::new();
    while let (Some(score), Some(name)) = (items.next(), items.next()) {
        let score = score.try_into().map_or(0.0, f64::from_le_bytes);
        entries.push((Score::new(score).unwrap_or_default(), name));
    }
    entries
}

fn pack(entries: &[(Score, &[u8])]) -> Value {
    let scores: Vec<[u8; 8]> = entries.iter().map(|(score, _)| score.to_le_bytes()).collect();
    let pairs = scores.iter().zip(entries);
    let items: Vec<&[u8]> = pairs.flat_map(|(score, (_, name))| [&score[..], *name]).collect();
    Value::Packed(Kind::Zset, Packed::of(&items))
}

enum View<'a> {
    Packed(Vec<(Score, &'a [u8])>),
    Large(&'a Scored),
}

fn view(zset: &Value) -> View<'_> {
    match zset {
        Value::Packed(_, packed) => View::Packed(packed_entries(packed)),
        Value::Large(large) => match &**large {
            Large::Zset(scored) => View::Large(scored),
            _ => View::Packed(Vec::new()),
        },
        Value::Str(_) | Value::Flagged(_) => View::Packed(Vec::new()),
    }
}

fn scored(large: &mut Arc<Large>) -> &mut Scored {
    match Arc::make_mut(large) {
        Large::Zset(scored) => scored,
        other => unreachable!("a sorted set was looked up, and is {other:?}"),
    }
}

#[must_use]
pub fn score(zset: &Value, name: &[u8]) -> Option<Score> {
    match view(zset) {
        View::Packed(entries) => entries
            .iter()
            .find(|(_, other)| *other == name)
            .map(|(score, _)| *score),
        View::Large(scored) => scored.scores.get(name).copied(),
    }
}

/// Puts a member; returns the score that it had. Zero loses its sign, as in a small sorted set of Redis.
pub fn insert(zset: &mut Value, name: &[u8], score: Score) -> Option<Score> {
    let score = Score::new(score.into_inner() + 0.0).unwrap_or(score);
    if let Value::Packed(_, old) = zset {
        let old = old.clone();
        let mut entries = packed_entries(&old);
        if old.fits(name.len() + 9) {
            let before = entries.iter().position(|(_, other)| *other == name);
            let before = before.map(|at| entries.remove(at).0);
            let at = entries.partition_point(|entry| *entry < (score, name));
            entries.insert(at, (score, name));
            *zset = pack(&entries);
            return before;
        }
        let all = entries.into_iter().map(|(score, name)| (score, Blob::from(name)));
        *zset = Value::Large(Arc::new(Large::Zset(Scored::of(all))));
    }
    match zset {
        Value::Large(large) => scored(large).insert(name, score),
        _ => None,
    }
}

/// Removes a member; returns the score that it had.
pub fn remove(zset: &mut Value, name: &[u8]) -> Option<Score> {
    match zset {
        Value::Packed(_, old) => {
            let old = old.clone();
            let mut entries = packed_entries(&old);
            let at = entries.iter().position(|(_, other)| *other == name)?;
            let (before, _) = entries.remove(at);
            *zset = pack(&entries);
            Some(before)
        }
        Value::Large(large) => scored(large).remove(name),
        Value::Str(_) | Value::Flagged(_) => None,
    }
}

/// How many members come before the first of which `before` is false.
pub fn partition_point(zset: &Value, before: impl Fn(Score, &[u8]) -> bool) -> usize {
    match view(zset) {
        View::Packed(entries) => entries.partition_point(|(score, name)| before(*score, name)),
        View::Large(scored) => scored
            .ranked
            .partition_point(|(score, name)| before(*score, name)),
    }
}

/// A member's rank, from the lowest score on.
#[must_use]
pub fn rank(zset: &Value, name: &[u8]) -> Option<(usize, Score)> {
    let score = score(zset, name)?;
    let rank = partition_point(zset, |other, there| (other, there) < (score, name));
    Some((rank, score))
}

/// Members by rank, within the set.
#[must_use]
pub fn range(
    zset: &Value,
    ranks: Range<usize>,
) -> Box<dyn DoubleEndedIterator<Item = (Item<'_>, Score)> + '_> {
    match view(zset) {
        View::Packed(mut entries) => {
            entries.truncate(ranks.end);
            let wanted = entries.into_iter().skip(ranks.start);
            Box::new(wanted.map(|(score, name)| (Item::Slice(name), score)))
        }
        View::Large(scored) => {
            let wanted = scored.ranked.range(ranks);
            Box::new(wanted.map(|(score, name)| (Item::Blob(name), *score)))
        }
    }
}

/// All, from the lowest score on.
#[must_use]
pub fn iter(zset: &Value) -> Box<dyn DoubleEndedIterator<Item = (Item<'_>, Score)> + '_> {
    range(zset, 0..zset.len())
}

/// A set of these, small or large as its size demands.
#[must_use]
pub fn of<'a>(all: impl IntoIterator<Item = (&'a [u8], Score)>) -> Value {
    let mut zset = Value::empty(Kind::Zset);
    for (name, score) in all {
        insert(&mut zset, name, score);
    }
    zset
}

/// The members of a large one.
#[must_use]
pub fn large(zset: &Value) -> Option<&Members<Score>> {
    match view(zset) {
        View::Large(scored) => Some(&scored.scores),
        View::Packed(_) => None,
    }
}
