//! What keys hold: strings, and collections that are packed while small and persistent trees when large.
//!
//! ```text
//!  Value ─┬─ Str(Blob)              a string, one allocation
//!         ├─ Packed(Kind, Packed)   a small collection, one allocation, written anew at each change
//!         ├─ Large(Arc<Large>)      trees that share what a copy did not change: copies cost nothing, a change O(log n)
//!         └─ Flagged(Box<Flagged>)  a string with what memcached clients keep beside it
//! ```
//!
//! A collection that has grown large stays so until its key goes, as in Redis. An empty collection is no value: whoever
//! empties one removes the key. A stream is never packed, and stays when it is empty.
//!
//! Not here: what a command does with them (commands), and which key holds what (keyspace).

mod flagged;
pub mod hash;
pub mod list;
pub mod members;
pub mod packed;
mod ranked;
pub mod set;
mod stored;
pub mod stream;
pub mod zset;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

pub use flagged::Flagged;
pub use members::{Members, Page};
pub use packed::{Item, Packed};
pub use stored::{Blob, Key};

use list::Sequence;
use stream::Stream;
use zset::Scored;

/// The type of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    List,
    Set,
    Zset,
    Hash,
    Stream,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    Str(Blob),
    /// Items one after another: elements; members; members with scores, in order of score; fields with values.
    Packed(Kind, Packed),
    Large(Arc<Large>),
    /// A string to all but memcached clients.
    Flagged(Box<Flagged>),
}

const _: () = assert!(size_of::<Value>() == 16);

/// A collection too large to be packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Large {
    List(Sequence),
    Set(Members<()>),
    Zset(Scored),
    Hash(Members<Blob>),
    Stream(Stream),
}

impl Value {
    /// A collection without elements, to be filled.
    #[must_use]
    pub fn empty(kind: Kind) -> Value {
        match kind {
            Kind::Stream => Value::Large(Arc::new(Large::Stream(Stream::default()))),
            _ => Value::Packed(kind, Packed::default()),
        }
    }

    /// `None`: a string.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Value::Str(_) | Value::Flagged(_) => None,
            Value::Packed(kind, _) => Some(*kind),
            Value::Large(large) => Some(large.kind()),
        }
    }

    /// The string that it is, whoever has written it.
    #[must_use]
    pub fn as_str(&self) -> Option<&Blob> {
        match self {
            Value::Str(blob) => Some(blob),
            Value::Flagged(flagged) => Some(&flagged.data),
            Value::Packed(..) | Value::Large(_) => None,
        }
    }

    /// Bytes, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Value::Str(blob) => blob.len(),
            Value::Packed(_, packed) => packed.bytes(),
            Value::Large(large) => large.weight(),
            Value::Flagged(flagged) => flagged.weight(),
        }
    }

    /// The type's name as `TYPE` replies it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self.kind() {
            None => "string",
            Some(Kind::List) => "list",
            Some(Kind::Set) => "set",
            Some(Kind::Zset) => "zset",
            Some(Kind::Hash) => "hash",
            Some(Kind::Stream) => "stream",
        }
    }

    /// Elements of a collection.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Value::Str(_) | Value::Flagged(_) => 1,
            Value::Packed(kind, packed) => packed.items().count() / kind.stride(),
            Value::Large(large) => large.len(),
        }
    }

    /// Whether it is a collection without elements, whose key is to go.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Value::Str(_) | Value::Flagged(_) => false,
            Value::Packed(_, packed) => packed.bytes() == 0,
            Value::Large(large) => large.len() == 0 && large.kind() != Kind::Stream,
        }
    }

    /// A hash of all of it, kept up to date as it changes.
    #[must_use]
    pub fn hash(&self) -> u64 {
        match self {
            Value::Str(blob) => blob.hash(),
            Value::Packed(kind, packed) => kind.seed() ^ packed.hash(),
            Value::Large(large) => large.kind().seed().wrapping_add(large.digest()),
            Value::Flagged(flagged) => flagged.mix(flagged.data.hash()),
        }
    }

    /// The same, from the bytes of all elements.
    #[must_use]
    pub fn hash_by_bytes(&self) -> u64 {
        match self {
            Value::Str(blob) => xxh3_64(blob),
            Value::Packed(kind, packed) => kind.seed() ^ packed.hash_by_bytes(),
            Value::Large(large) => large.kind().seed().wrapping_add(large.digest_by_walk()),
            Value::Flagged(flagged) => flagged.mix(xxh3_64(&flagged.data)),
        }
    }

    /// Shares of at most about `bytes` bytes, in order: [`Value::absorb`] puts them together again.
    pub fn pieces(&self, bytes: usize) -> Box<dyn Iterator<Item = Value> + '_> {
        match self {
            Value::Large(large) if large.weight() > bytes => {
                Box::new(large.pieces(bytes).map(|piece| Value::Large(Arc::new(piece))))
            }
            whole => Box::new(std::iter::once(whole.clone())),
        }
    }

    /// Takes in the piece after those that it is made of.
    ///
    /// # Errors
    /// A piece of something else, or one that is there already.
    pub fn absorb(&mut self, piece: Value) -> Result<(), &'static str> {
        match (self, piece) {
            (Value::Large(large), Value::Large(piece)) => {
                Arc::make_mut(large).absorb(Arc::unwrap_or_clone(piece))
            }
            _ => Err("a piece of a value that is not in pieces"),
        }
    }
}

impl Kind {
    /// Items of one element when packed.
    #[must_use]
    pub fn stride(self) -> usize {
        match self {
            Kind::List | Kind::Set | Kind::Stream => 1,
            Kind::Zset | Kind::Hash => 2,
        }
    }

    /// Keeps equal bytes of different types apart.
    fn seed(self) -> u64 {
        (self as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Performs the same on whichever it is.
macro_rules! each {
    ($self:expr, $it:ident => $do:expr) => {
        match $self {
            Large::List($it) => $do,
            Large::Set($it) => $do,
            Large::Zset($it) => $do,
            Large::Hash($it) => $do,
            Large::Stream($it) => $do,
        }
    };
}

impl Large {
    fn kind(&self) -> Kind {
        match self {
            Large::List(_) => Kind::List,
            Large::Set(_) => Kind::Set,
            Large::Zset(_) => Kind::Zset,
            Large::Hash(_) => Kind::Hash,
            Large::Stream(_) => Kind::Stream,
        }
    }

    /// Elements.
    #[must_use]
    pub fn len(&self) -> usize {
        each!(self, it => it.len())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn weight(&self) -> usize {
        each!(self, it => it.weight())
    }

    fn digest(&self) -> u64 {
        each!(self, it => it.digest())
    }

    fn digest_by_walk(&self) -> u64 {
        each!(self, it => it.digest_by_walk())
    }

    fn pieces(&self, bytes: usize) -> Box<dyn Iterator<Item = Large> + '_> {
        match self {
            Large::List(it) => Box::new(it.pieces(bytes).map(Large::List)),
            Large::Set(it) => Box::new(it.pieces(bytes).map(Large::Set)),
            Large::Zset(it) => Box::new(it.pieces(bytes).map(Large::Zset)),
            Large::Hash(it) => Box::new(it.pieces(bytes).map(Large::Hash)),
            Large::Stream(it) => Box::new(it.pieces(bytes).map(Large::Stream)),
        }
    }

    fn absorb(&mut self, piece: Large) -> Result<(), &'static str> {
        match (self, piece) {
            (Large::List(it), Large::List(piece)) => it.absorb(piece),
            (Large::Set(it), Large::Set(piece)) => it.absorb(piece),
            (Large::Zset(it), Large::Zset(piece)) => it.absorb(&piece),
            (Large::Hash(it), Large::Hash(piece)) => it.absorb(piece),
            (Large::Stream(it), Large::Stream(piece)) => it.absorb(piece),
            _ => Err("a piece of a value of another type"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codec;

    #[test]
    fn a_length_that_is_claimed_is_not_reserved() {
        // What bincode makes of `u64::MAX`.
        let huge = [&[253][..], &u64::MAX.to_le_bytes()].concat();
        let claims = |mut bytes: Vec<u8>, behind: usize| {
            let at = bytes.len() - behind;
            assert_eq!(bytes[at - 1], 0, "an empty length");
            bytes.splice(at - 1..at, huge.iter().copied());
            bytes
        };
        let large = |large: Large| codec::encode(&Value::Large(Arc::new(large))).expect("it is encoded");
        let list = claims(large(Large::List(Sequence::new(0, std::iter::empty()))), 0);
        assert!(codec::decode_whole::<Value>(&list).is_err());
        // Its groups stand behind its entries.
        let stream = claims(large(Large::Stream(Stream::default())), 1);
        assert!(codec::decode_whole::<Value>(&stream).is_err());
        let group = stream::Group::new(stream::Id::ZERO, None);
        let group = claims(codec::encode(&group).expect("it is encoded"), 0);
        assert!(codec::decode_whole::<stream::Group>(&group).is_err());
    }
}
