//! Lists. A large one is a persistent vector: its ends cost nothing, its middle O(log n) to reach.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use imbl::Vector;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Blob, Item, Large, Packed, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    Left,
    Right,
}

/// A large list. Elements count from a number that moves as the left end does, so that each keeps its own and the digest
/// follows a change at either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    first: i64,
    elements: Vector<Blob>,
    bytes: usize,
    digest: u64,
}

fn mixed(at: i64, element: u64) -> u64 {
    xxh3_64_with_seed(&at.to_le_bytes(), element)
}

fn weight(element: &Blob) -> usize {
    element.len() + 8
}

impl Sequence {
    pub(super) fn new(first: i64, elements: impl IntoIterator<Item = Blob>) -> Sequence {
        let mut sequence = Sequence {
            first,
            elements: Vector::new(),
            bytes: 0,
            digest: 0,
        };
        for element in elements {
            sequence.push(End::Right, element);
        }
        sequence
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    pub(super) fn weight(&self) -> usize {
        self.bytes
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn digest_by_walk(&self) -> u64 {
        let shares = (self.first..)
            .zip(&self.elements)
            .map(|(at, element)| mixed(at, xxh3_64(element)));
        shares.fold(0, u64::wrapping_add)
    }

    fn count(&mut self, at: i64, element: &Blob) {
        self.bytes += weight(element);
        self.digest = self.digest.wrapping_add(mixed(at, element.hash()));
    }

    fn uncount(&mut self, at: i64, element: &Blob) {
        self.bytes -= weight(element);
        self.digest = self.digest.wrapping_sub(mixed(at, element.hash()));
    }

    /// The number of the element at `index`.
    fn at(&self, index: usize) -> i64 {
        self.first.wrapping_add_unsigned(index as u64)
    }

    fn push(&mut self, end: End, element: Blob) {
        if end == End::Left {
            self.first = self.first.wrapping_sub(1);
            self.count(self.first, &element);
            self.elements.push_front(element);
        } else {
            self.count(self.at(self.len()), &element);
            self.elements.push_back(element);
        }
    }

    fn pop(&mut self, end: End) -> Option<Blob> {
        let (at, element) = match end {
            End::Left => (self.first, self.elements.pop_front()?),
            End::Right => {
                let element = self.elements.pop_back()?;
                (self.at(self.len()), element)
            }
        };
        self.uncount(at, &element);
        if end == End::Left {
            self.first = self.first.wrapping_add(1);
        }
        Some(element)
    }

    fn set(&mut self, index: usize, element: Blob) {
        self.count(self.at(index), &element);
        let old = self.elements.set(index, element);
        self.uncount(self.at(index), &old);
    }

    /// What changes the middle gives most elements other numbers.
    fn renumber(&mut self, elements: Vector<Blob>) {
        *self = Sequence::new(self.first, elements);
    }

    pub(super) fn pieces(&self, bytes: usize) -> impl Iterator<Item = Sequence> {
        let mut rest = (self.first..).zip(&self.elements).peekable();
        std::iter::from_fn(move || {
            let mut piece = Sequence::new(rest.peek()?.0, []);
            while piece.bytes < bytes
                && let Some((_, element)) = rest.next()
            {
                piece.push(End::Right, element.clone());
            }
            Some(piece)
        })
    }

    pub(super) fn absorb(&mut self, piece: Sequence) -> Result<(), &'static str> {
        if piece.first != self.at(self.len()) {
            return Err("elements of a list are missing");
        }
        for element in piece.elements {
            self.push(End::Right, element);
        }
        Ok(())
    }
}

impl Serialize for Sequence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.first, &self.elements).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As a vector, for imbl's own reserves whatever length is claimed.
        let (first, elements) = <(i64, Vec<Blob>)>::deserialize(deserializer)?;
        Ok(Sequence::new(first, elements))
    }
}

/// Changes a list: packed if what comes in still fits, else as a sequence.
fn change<R>(
    list: &mut Value,
    new: &[u8],
    packed: impl for<'a> FnOnce(&mut Vec<&'a [u8]>, &'a [u8]) -> R,
    large: impl FnOnce(&mut Sequence) -> R,
) -> R {
    if let Value::Packed(kind, old) = list {
        if old.fits(new.len()) {
            let old = old.clone();
            let mut items: Vec<&[u8]> = old.items().collect();
            let result = packed(&mut items, new);
            *list = Value::Packed(*kind, Packed::of(&items));
            return result;
        }
        let elements = Sequence::new(0, old.items().map(Blob::from));
        *list = Value::Large(Arc::new(Large::List(elements)));
    }
    match list {
        Value::Large(it) => match Arc::make_mut(it) {
            Large::List(sequence) => large(sequence),
            other => unreachable!("a list was looked up, and is {other:?}"),
        },
        other => unreachable!("a list was looked up, and is {other:?}"),
    }
}

/// Elements at `range`, which lies within the list.
#[must_use]
pub fn range(list: &Value, range: Range<usize>) -> Vec<Item<'_>> {
    match list {
        Value::Packed(_, packed) => {
            let wanted = packed.items().skip(range.start).take(range.len());
            wanted.map(Item::Slice).collect()
        }
        Value::Large(large) => match &**large {
            Large::List(it) => it
                .elements
                .focus()
                .narrow(range)
                .into_iter()
                .map(Item::Blob)
                .collect(),
            _ => Vec::new(),
        },
        Value::Str(_) | Value::Flagged(_) => Vec::new(),
    }
}

#[must_use]
pub fn get(list: &Value, index: usize) -> Option<Item<'_>> {
    match list {
        Value::Packed(_, packed) => packed.items().nth(index).map(Item::Slice),
        Value::Large(large) => match &**large {
            Large::List(it) => it.elements.get(index).map(Item::Blob),
            _ => None,
        },
        Value::Str(_) | Value::Flagged(_) => None,
    }
}

/// All elements, from an end on.
#[must_use]
pub fn iter(list: &Value, from: End) -> Box<dyn Iterator<Item = Item<'_>> + '_> {
    match list {
        Value::Large(large) => match (&**large, from) {
            (Large::List(it), End::Left) => Box::new(it.elements.iter().map(Item::Blob)),
            (Large::List(it), End::Right) => Box::new(it.elements.iter().rev().map(Item::Blob)),
            _ => Box::new(std::iter::empty()),
        },
        small => {
            let mut all = range(small, 0..small.len());
            if from == End::Right {
                all.reverse();
            }
            Box::new(all.into_iter())
        }
    }
}

pub fn push(list: &mut Value, end: End, element: &[u8]) {
    change(
        list,
        element,
        |items, new| match end {
            End::Left => items.insert(0, new),
            End::Right => items.push(new),
        },
        |sequence| sequence.push(end, Blob::from(element)),
    );
}

/// Takes up to `count` elements from an end.
pub fn pop(list: &mut Value, end: End, count: usize) -> Vec<bytes::Bytes> {
    let len = list.len();
    let count = count.min(len);
    change(
        list,
        &[],
        |items, _| {
            let copy = |item: &[u8]| bytes::Bytes::copy_from_slice(item);
            match end {
                End::Left => items.drain(..count).map(copy).collect(),
                End::Right => items.drain(len - count..).rev().map(copy).collect(),
            }
        },
        |sequence| {
            let popped = (0..count).filter_map(|_| sequence.pop(end));
            popped.map(|element| element.to_bytes()).collect()
        },
    )
}

/// Replaces the element at `index`, which is there.
pub fn set(list: &mut Value, index: usize, element: &[u8]) {
    change(
        list,
        element,
        |items, new| items[index] = new,
        |sequence| sequence.set(index, Blob::from(element)),
    );
}

/// Puts an element before the one at `index`, or at the end.
pub fn insert(list: &mut Value, index: usize, element: &[u8]) {
    change(
        list,
        element,
        |items, new| items.insert(index, new),
        |sequence| {
            let mut elements = sequence.elements.clone();
            elements.insert(index, Blob::from(element));
            sequence.renumber(elements);
        },
    );
}

/// Keeps the elements at `kept` alone.
pub fn trim(list: &mut Value, kept: Range<usize>) {
    let right = list.len() - kept.end;
    pop(list, End::Left, kept.start);
    pop(list, End::Right, right);
}

/// Removes up to `most` elements equal to `element`, counted from an end; says how many.
pub fn remove(list: &mut Value, end: End, most: usize, element: &[u8]) -> usize {
    let len = list.len();
    let found: Vec<usize> = iter(list, end)
        .enumerate()
        .filter(|(_, item)| **item == *element)
        .take(most)
        .map(|(at, _)| if end == End::Left { at } else { len - 1 - at })
        .collect();
    if found.is_empty() {
        return 0;
    }
    let gone = |at: usize| match end {
        End::Left => found.binary_search(&at).is_ok(),
        End::Right => found.binary_search_by(|it| at.cmp(it)).is_ok(),
    };
    change(
        list,
        &[],
        |items, _| {
            let mut at = 0..;
            items.retain(|_| !at.next().is_some_and(gone));
        },
        |sequence| {
            let kept = sequence.elements.iter().enumerate().filter(|&(at, _)| !gone(at));
            let kept = kept.map(|(_, element)| element.clone()).collect();
            sequence.renumber(kept);
        },
    );
    found.len()
}

/// What Redis calls a list's index: negative ones count from the end. `None`: before the first.
#[must_use]
pub fn index(len: usize, index: i64) -> Option<usize> {
    match index.cmp(&0) {
        Ordering::Less => len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
        _ => usize::try_from(index).ok(),
    }
}

/// The elements from `start` to `stop`, both included, as `LRANGE` understands them.
#[must_use]
pub fn span(len: usize, start: i64, stop: i64) -> Range<usize> {
    let start = index(len, start).unwrap_or(0);
    let end = index(len, stop).map_or(0, |stop| stop.saturating_add(1)).min(len);
    if start >= end { 0..0 } else { start..end }
}
