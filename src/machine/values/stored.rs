//! Keys and strings as the keyspace stores them: compact, and cheap to share with a snapshot that is being written.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use bytes::Bytes;
use compact_bytes::CompactBytes;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use triomphe::ThinArc;
use xxhash_rust::xxh3::xxh3_64;

/// A string up to this long is copied into a reply; a longer one is shared.
const COPIED_BYTES_MAX: usize = 1 << 10;

/// A key. Those of up to 23 bytes lie in the tree's nodes, so that a search does not follow a pointer for each that it
/// compares with.
#[derive(Clone)]
pub struct Key(CompactBytes);

const _: () = assert!(size_of::<Key>() == 24);

/// A string, in one allocation for its life, however often it is shared, and with its hash: to replace it, nothing of it has to be
/// read but the line that holds the count of its owners.
#[derive(Clone)]
pub struct Blob(ThinArc<u64, u8>);

impl Blob {
    /// XXH3 of the bytes, as of when they were stored.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.0.header.header
    }

    /// Takes these bytes on in its place, if they are as many and nobody shares it.
    #[must_use]
    pub fn overwrite(&mut self, bytes: &[u8]) -> bool {
        self.0
            .with_arc_mut(|shared| match triomphe::Arc::get_mut(shared) {
                Some(own) if own.slice().len() == bytes.len() => {
                    own.slice_mut().copy_from_slice(bytes);
                    *own.header_mut() = xxh3_64(bytes);
                    true
                }
                _ => false,
            })
    }

    /// As a reply holds it.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        if self.len() <= COPIED_BYTES_MAX {
            Bytes::copy_from_slice(self)
        } else {
            Bytes::from_owner(self.clone())
        }
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Key {
        Key(CompactBytes::new(bytes))
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Blob {
        Blob(ThinArc::from_header_and_slice(xxh3_64(bytes), bytes))
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.slice
    }
}

/// Sound: keys are compared and ordered as their bytes are.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self[..].cmp(&other[..])
    }
}

/// As a `Bytes` would be shown and encoded.
macro_rules! like_bytes {
    ($($name:ident)*) => {$(
        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                self
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &$name) -> bool {
                self[..] == other[..]
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "b\"{}\"", self.escape_ascii())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_bytes(Taken(PhantomData))
            }
        }
    )*};
}

like_bytes!(Key Blob);

struct Taken<T>(PhantomData<T>);

impl<T: for<'a> From<&'a [u8]>> Visitor<'_> for Taken<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<T, E> {
        Ok(T::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codec;

    #[test]
    fn keys_and_strings_are_ordered_shown_and_encoded_as_bytes_are() {
        let all: Vec<Vec<u8>> = [0, 1, 16, 24, 25, 1024, 1025]
            .map(|n| (0..=255_u8).cycle().take(n).collect())
            .to_vec();
        for a in &all {
            let (key, blob, bytes) = (Key::from(&a[..]), Blob::from(&a[..]), Bytes::copy_from_slice(a));
            for b in &all {
                assert_eq!(key.cmp(&Key::from(&b[..])), a.cmp(b));
            }
            assert_eq!(blob.to_bytes(), bytes);
            let encoded = codec::encode(&bytes).expect("it encodes");
            assert_eq!(codec::encode(&key).expect("it encodes"), encoded);
            assert_eq!(codec::encode(&blob).expect("it encodes"), encoded);
            assert_eq!(codec::decode::<Key>(&encoded).expect("it decodes"), key);
            assert_eq!(codec::decode::<Blob>(&encoded).expect("it decodes"), blob);
        }
    }

    #[test]
    fn only_a_string_that_nobody_shares_is_overwritten_and_only_by_as_many_bytes() {
        let mut blob = Blob::from(&b"before"[..]);
        assert!(!blob.overwrite(b"longer than before"));
        let shared = blob.clone();
        assert!(!blob.overwrite(b"behind"));
        assert_eq!((&shared[..], &blob[..]), (&b"before"[..], &b"before"[..]));
        drop(shared);
        assert!(blob.overwrite(b"behind"));
        assert_eq!(blob, Blob::from(&b"behind"[..]));
        assert_eq!(blob.hash(), xxh3_64(b"behind"));
    }

    #[test]
    fn a_long_string_is_shared_with_its_reply() {
        let blob = Blob::from(&vec![b'x'; COPIED_BYTES_MAX + 1][..]);
        assert_eq!(blob.to_bytes().as_ptr(), blob.as_ptr());
    }
}
