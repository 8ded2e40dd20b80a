//! Small collections: byte strings one after another in one allocation. Each change writes all of it anew, which costs less
//! than a tree's nodes would as long as it is small.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::stored::Blob;

/// What is larger becomes a tree.
pub const PACKED_BYTES_MAX: usize = 1 << 10;

/// An item's length is one byte, or, from this mark on, the mark and four bytes.
const LONG: u8 = u8::MAX;

/// Byte strings, each after its length.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed(Blob);

impl Default for Packed {
    fn default() -> Packed {
        Packed(Blob::from(&[][..]))
    }
}

impl Packed {
    /// The items, one after another.
    #[must_use]
    pub fn of<T: AsRef<[u8]>>(items: &[T]) -> Packed {
        let mut bytes = Vec::with_capacity(items.iter().map(|item| item.as_ref().len() + 1).sum());
        for item in items {
            let item = item.as_ref();
            match u8::try_from(item.len()) {
                Ok(len) if len != LONG => bytes.push(len),
                _ => {
                    bytes.push(LONG);
                    bytes.extend_from_slice(&u32::try_from(item.len()).unwrap_or(u32::MAX).to_le_bytes());
                }
            }
            bytes.extend_from_slice(item);
        }
        Packed(Blob::from(&bytes[..]))
    }

    #[must_use]
    pub fn items(&self) -> Items<'_> {
        Items { rest: &self.0 }
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Whether `more` bytes in another item still fit.
    #[must_use]
    pub fn fits(&self, more: usize) -> bool {
        self.bytes() + more + 5 <= PACKED_BYTES_MAX
    }

    #[must_use]
    pub fn hash(&self) -> u64 {
        self.0.hash()
    }

    #[must_use]
    pub fn hash_by_bytes(&self) -> u64 {
        xxh3_64(&self.0)
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.items().map(|item| item.escape_ascii().to_string());
        f.debug_list().entries(items).finish()
    }
}

/// Goes over the items. Bytes that are no items (from a damaged message) end it.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&len, rest) = self.rest.split_first()?;
        let (len, rest) = match len {
            LONG => {
                let (len, rest) = rest.split_first_chunk::<4>()?;
                (usize::try_from(u32::from_le_bytes(*len)).ok()?, rest)
            }
            short => (usize::from(short), rest),
        };
        let (item, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(item)
    }
}

/// A byte string inside a value.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    Slice(&'a [u8]),
    Blob(&'a Blob),
}

impl Item<'_> {
    /// As a reply holds it.
    #[must_use]
    pub fn to_bytes(self) -> Bytes {
        match self {
            Item::Slice(slice) => Bytes::copy_from_slice(slice),
            Item::Blob(blob) => blob.to_bytes(),
        }
    }
}

impl Deref for Item<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Item::Slice(slice) => slice,
            Item::Blob(blob) => blob,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_every_length_come_back_and_damaged_ones_end_it() {
        let items: Vec<Vec<u8>> = [0, 1, 254, 255, 256, 70_000].map(|len| vec![7; len]).to_vec();
        let packed = Packed::of(&items);
        assert!(packed.items().eq(items.iter().map(|item| &item[..])));
        let cut = Packed(Blob::from(&[3, 1, 2][..]));
        assert_eq!(cut.items().count(), 0);
    }
}
