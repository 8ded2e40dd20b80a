//! What memcached's commands come to. Each is one command on one key, whatever it depends on, so it is atomic and costs one round; only
//! `get` takes many keys, all at one moment.
//!
//! ```text
//!  get gets ─▶ Get    gat mg ─▶ Look    set add replace append prepend cas ms ─▶ Store    delete md ─▶ Delete    incr decr ma ─▶ Delta
//! ```
//!
//! A key that holds anything but a string is an error that names its type, whatever the command.
//!
//! Not here: the protocol, and what is said in which words (gateway).

mod cas;
mod delta;
mod look;
mod store;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

pub use delta::Delta;
pub use look::Look;
pub use store::{Delete, Mode, Store};

use super::{Done, View};
use crate::base::limits::BULK_BYTES_MAX;
use crate::base::{Millis, Reply};
use crate::machine::keyspace::{Blob, Value};
use crate::machine::overlay::Overlay;
use crate::machine::values::Flagged;

/// An expiry of more seconds than 30 days' is a time of Unix's.
const RELATIVE_SECONDS_MAX: i64 = 60 * 60 * 24 * 30;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Memcached {
    /// Replies an array: of each key nil, an error, or data, flags and unique number; of plain strings the data alone, unless the
    /// unique numbers are wanted (`cas`).
    Get {
        keys: Vec<Bytes>,
        cas: bool,
    },
    Look(Look),
    Store(Store),
    Delete(Delete),
    Delta(Delta),
    Touch {
        key: Bytes,
        exptime: i64,
    },
}

/// How a command ended that has no more to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Stored,
    NotStored,
    Exists,
    NotFound,
    Deleted,
    Touched,
    /// A [`Look`] that may not write would have to.
    Writes,
}

impl Word {
    const ALL: [Word; 7] = [
        Word::Stored,
        Word::NotStored,
        Word::Exists,
        Word::NotFound,
        Word::Deleted,
        Word::Touched,
        Word::Writes,
    ];

    /// As the protocol has it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Word::Stored => "STORED",
            Word::NotStored => "NOT_STORED",
            Word::Exists => "EXISTS",
            Word::NotFound => "NOT_FOUND",
            Word::Deleted => "DELETED",
            Word::Touched => "TOUCHED",
            Word::Writes => "WRITES",
        }
    }

    fn reply(self) -> Reply {
        Reply::Simple(self.text().into())
    }

    /// The word of a reply, if it is one.
    #[must_use]
    pub fn of(reply: &Reply) -> Option<Word> {
        let Reply::Simple(text) = reply else { return None };
        Word::ALL.into_iter().find(|word| word.text() == text)
    }
}

impl Memcached {
    #[must_use]
    pub fn keys(&self) -> SmallVec<[&Bytes; 2]> {
        match self {
            Memcached::Get { keys, .. } => keys.iter().collect(),
            Memcached::Look(Look { key, .. })
            | Memcached::Store(Store { key, .. })
            | Memcached::Delete(Delete { key, .. })
            | Memcached::Delta(Delta { key, .. })
            | Memcached::Touch { key, .. } => smallvec![key],
        }
    }

    #[must_use]
    pub fn is_write(&self) -> bool {
        match self {
            Memcached::Get { .. } => false,
            Memcached::Look(look) => look.writes,
            _ => true,
        }
    }

    /// Whether it may take more memory.
    #[must_use]
    pub fn grows(&self) -> bool {
        match self {
            Memcached::Get { .. } | Memcached::Delete(_) | Memcached::Touch { .. } => false,
            Memcached::Look(look) => look.writes && look.vivify.is_some(),
            Memcached::Store(_) | Memcached::Delta(_) => true,
        }
    }

    /// Bytes besides the keys, for bounds.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Memcached::Store(store) => store.value.len() + size_of::<Memcached>(),
            _ => size_of::<Memcached>(),
        }
    }

    /// The keyspace event that it makes of a key that it writes, as Redis's command to that effect does, and whether it gives the key
    /// an expiry. `None`: none of strings.
    #[must_use]
    pub fn event(&self) -> Option<(&'static str, bool)> {
        match self {
            Memcached::Store(store) => match store.mode {
                Mode::Append | Mode::Prepend => Some(("append", false)),
                Mode::Set | Mode::Add | Mode::Replace => Some(("set", store.exptime != 0)),
            },
            Memcached::Delta(delta) => Some(("incrby", delta.exptime.is_some_and(|at| at != 0))),
            Memcached::Delete(delete) if delete.invalidate => Some(("set", delete.exptime.is_some())),
            Memcached::Look(look) if look.touch.is_none() => Some(("set", false)),
            _ => None,
        }
    }

    /// Its share for the shard of the keys at these places; `None`: it has no shares.
    #[must_use]
    pub fn share(&self, places: &[usize]) -> Option<Memcached> {
        match self {
            Memcached::Get { keys, cas } => Some(Memcached::Get {
                keys: places.iter().map(|&at| keys[at].clone()).collect(),
                cas: *cas,
            }),
            _ => None,
        }
    }

    pub(super) fn run(&self, view: View<'_, '_>) -> Done {
        match self {
            Memcached::Get { keys, cas } => {
                let one = |key| look::get(view, key, *cas).unwrap_or_else(|error| error);
                Ok(Reply::Array(keys.iter().map(one).collect()))
            }
            Memcached::Look(look) => look.run(view),
            Memcached::Store(store) => store.run(view),
            Memcached::Delete(delete) => delete.run(view),
            Memcached::Delta(delta) => delta.run(view),
            Memcached::Touch { key, exptime } => match Item::of(view, key)? {
                None => Ok(Word::NotFound.reply()),
                Some(mut item) => {
                    item.expires = expiry(*exptime, view.now());
                    item.put(view, key);
                    Ok(Word::Touched.reply())
                }
            },
        }
    }
}

/// What a key holds, as memcached sees it.
#[derive(Debug, Clone)]
struct Item {
    data: Blob,
    flags: u32,
    stale: bool,
    won: bool,
    told: u64,
    expires: Option<Millis>,
}

impl Item {
    fn new(data: &[u8], flags: u32, expires: Option<Millis>) -> Item {
        Item {
            data: Blob::from(data),
            flags,
            stale: false,
            won: false,
            told: 0,
            expires,
        }
    }

    /// # Errors
    /// The key holds no string.
    fn of(view: &Overlay<'_>, key: &Bytes) -> Result<Option<Item>, Reply> {
        let Some((value, expires)) = view.get(key) else {
            return Ok(None);
        };
        let Some(data) = value.as_str() else {
            return Err(wrong_type(value));
        };
        let (flags, stale, won, told) = match value {
            Value::Flagged(flagged) => (flagged.flags, flagged.stale, flagged.won, flagged.told),
            _ => (0, false, false, 0),
        };
        Ok(Some(Item {
            data: data.clone(),
            flags,
            stale,
            won,
            told,
            expires,
        }))
    }

    /// Writes it. Whoever was told a number of what was there was not told this.
    fn put(self, view: View<'_, '_>, key: &Bytes) {
        Item { told: 0, ..self }.put_as_told(view, key);
    }

    /// Writes it; one that needs nothing beside it as the plain string that it is.
    fn put_as_told(self, view: View<'_, '_>, key: &Bytes) {
        let Item {
            data,
            flags,
            stale,
            won,
            told,
            expires,
        } = self;
        let value = if flags == 0 && !stale && !won && told == 0 {
            Value::Str(data)
        } else {
            Value::Flagged(Box::new(Flagged {
                data,
                flags,
                stale,
                won,
                told,
            }))
        };
        view.put(key, value, expires);
    }

    /// Data, flags, unique number, time to live in seconds before and after (-1: for ever), marks.
    fn shown(&self, cas: u64, ttl: (i64, i64), marks: u8) -> Reply {
        Reply::Array(vec![
            Reply::Bulk(self.data.to_bytes()),
            Reply::Int(i64::from(self.flags)),
            cas::reply(cas),
            Reply::Int(ttl.0),
            Reply::Int(ttl.1),
            Reply::Int(i64::from(marks)),
        ])
    }
}

/// Marks of an item that is shown.
pub const STALE: u8 = 1;
/// A client was told before to renew it.
pub const WON_BEFORE: u8 = 2;
/// This client is.
pub const WINS: u8 = 4;

fn wrong_type(value: &Value) -> Reply {
    Reply::err(format!(
        "WRONGTYPE the key holds a {}, which memcached clients cannot use",
        value.type_name()
    ))
}

fn too_large() -> Reply {
    Reply::err("SERVER_ERROR object too large for cache")
}

fn fits(bytes: usize) -> Result<(), Reply> {
    if bytes <= BULK_BYTES_MAX {
        Ok(())
    } else {
        Err(too_large())
    }
}

/// The time that an item expires at: 0 is never, a negative one has passed, up to 30 days are from now, and more are Unix's.
fn expiry(exptime: i64, now: Millis) -> Option<Millis> {
    match u64::try_from(exptime) {
        Ok(0) => None,
        Ok(seconds) if exptime <= RELATIVE_SECONDS_MAX => Some(now.saturating_add(seconds * 1000)),
        Ok(seconds) => Some(seconds.saturating_mul(1000)),
        Err(_) => Some(0),
    }
}

/// Seconds that are left, begun ones counted whole; -1: for ever.
fn ttl(expires: Option<Millis>, now: Millis) -> i64 {
    expires.map_or(-1, |at| {
        i64::try_from(at.saturating_sub(now).div_ceil(1000)).unwrap_or(i64::MAX)
    })
}
