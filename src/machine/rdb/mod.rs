//! Values as Redis writes them into its files and replies them to `DUMP`: what moves between Redis and Quorate, both ways.
//!
//! ```text
//!  type (1 byte)  the value in that type's form                       version (2)  checksum (8)
//!                 └ lengths, strings (numbers, LZF), and blobs within       └─ trailer.rs
//!                   strings: listpack, ziplist, intset
//! ```
//!
//! Read is every form that Redis 2.6 to 7.2 writes; written are those of 7.0. What is read may come from anybody: no length is
//! believed before the bytes are there, nothing is unpacked beyond [`DUMPED_BYTES_MAX`], and bytes left over are an error.
//!
//! Not here: zipmaps (Redis before 2.6), modules' types, the other sections of a file.

mod hashes;
mod intset;
mod listpack;
mod lists;
mod packing;
mod reader;
mod sets;
mod stream;
pub mod trailer;
mod writer;
mod ziplist;
mod zsets;

use super::values::{Blob, Kind, Value, stream as streams};
use crate::base::limits::{DUMPED_BYTES_MAX, DUMPED_ELEMENT_BYTES};
use reader::Reader;
use writer::Writer;

/// Why bytes are not read, or a value is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("no trailer, one of a later version, or another checksum")]
    Trailer,
    #[error("not a value of a known type, whole")]
    Format,
    #[error("larger than {0} bytes")]
    TooLarge(usize),
}

/// The first byte of a payload.
mod form {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET_2: u8 = 5;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM_LISTPACKS: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_QUICKLIST_2: u8 = 18;
    pub const STREAM_LISTPACKS_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_LISTPACKS_3: u8 = 21;
}

/// Redis packs hashes and sorted sets of which no item has more bytes.
const PACKED_ITEM_BYTES_MAX: usize = 64;

/// What may still be packed or unpacked.
#[derive(Debug)]
struct Room(usize);

impl Room {
    fn new() -> Room {
        Room(DUMPED_BYTES_MAX)
    }

    /// Takes room for an element of so many bytes.
    fn take(&mut self, bytes: usize) -> Result<(), Refused> {
        let left = self.0.checked_sub(bytes.saturating_add(DUMPED_ELEMENT_BYTES));
        self.0 = left.ok_or(Refused::TooLarge(DUMPED_BYTES_MAX))?;
        Ok(())
    }
}

/// Whether Redis holds a collection like this in one packed blob: few elements, and short ones, or numbers.
#[must_use]
pub fn is_packed(value: &Value) -> bool {
    match value.kind() {
        Some(Kind::Set) => sets::is_packed(value),
        Some(Kind::Hash) => hashes::is_packed(value),
        Some(Kind::Zset) => zsets::is_packed(value),
        Some(Kind::List | Kind::Stream) | None => false,
    }
}

/// What `DUMP` replies for a value.
///
/// # Errors
/// It is too large for one payload.
pub fn dump(value: &Value) -> Result<Vec<u8>, Refused> {
    let mut w = Writer::new();
    match (value.as_str(), value.kind()) {
        (Some(string), _) => {
            w.form(form::STRING);
            w.string(string)?;
        }
        (_, Some(Kind::List)) => lists::save(&mut w, value)?,
        (_, Some(Kind::Set)) => sets::save(&mut w, value)?,
        (_, Some(Kind::Zset)) => zsets::save(&mut w, value)?,
        (_, Some(Kind::Hash)) => hashes::save(&mut w, value)?,
        (_, Some(Kind::Stream) | None) => stream::save(&mut w, streams::of(value).ok_or(Refused::Format)?)?,
    }
    w.finish()
}

/// The value that a payload of `DUMP` is, from here or from Redis.
///
/// # Errors
/// It is none, or a larger one than is taken.
pub fn load(payload: &[u8]) -> Result<Value, Refused> {
    let body = trailer::open(payload).ok_or(Refused::Trailer)?;
    let mut r = Reader::new(body);
    let value = match r.byte()? {
        form::STRING => {
            let string = r.string()?;
            r.room.take(string.len())?;
            Value::Str(Blob::from(&string[..]))
        }
        form @ (form::LIST | form::LIST_ZIPLIST | form::LIST_QUICKLIST | form::LIST_QUICKLIST_2) => {
            lists::load(&mut r, form)?
        }
        form @ (form::SET | form::SET_INTSET | form::SET_LISTPACK) => sets::load(&mut r, form)?,
        form @ (form::ZSET | form::ZSET_2 | form::ZSET_ZIPLIST | form::ZSET_LISTPACK) => {
            zsets::load(&mut r, form)?
        }
        form @ (form::HASH | form::HASH_ZIPLIST | form::HASH_LISTPACK) => hashes::load(&mut r, form)?,
        form @ (form::STREAM_LISTPACKS | form::STREAM_LISTPACKS_2 | form::STREAM_LISTPACKS_3) => {
            stream::load(&mut r, form)?
        }
        _ => return Err(Refused::Format),
    };
    if r.is_at_end() && !value.is_empty() {
        Ok(value)
    } else {
        Err(Refused::Format)
    }
}
