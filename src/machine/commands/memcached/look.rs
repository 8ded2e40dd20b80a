//! Reading an item; and what reading may change: its expiry, who is to renew it, and whether it is there.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::{Done, View};
use super::{Item, STALE, WINS, WON_BEFORE, Word, cas, expiry, ttl};
use crate::base::Reply;

/// `gat`, `gats`, `mg`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    pub key: Bytes,
    /// A new expiry.
    pub touch: Option<i64>,
    /// Where there is nothing: an empty item with this expiry, for the client to fill.
    pub vivify: Option<i64>,
    /// Where it expires before this: the client is to renew it.
    pub recache: Option<i64>,
    /// Whether clients are told to renew it at all.
    pub wins: bool,
    /// The unique number is wanted.
    pub cas: bool,
    /// Whether it may write. One that may not says [`Word::Writes`] where it would have to: so it can be a read, and mostly is.
    pub writes: bool,
}

pub(super) fn get(view: View<'_, '_>, key: &Bytes, wants_cas: bool) -> Done {
    let Some(item) = Item::of(view, key)? else {
        return Ok(Reply::Nil);
    };
    let data = Reply::Bulk(item.data.to_bytes());
    if item.flags == 0 && !wants_cas {
        return Ok(data);
    }
    let cas = if wants_cas {
        cas::tell(view, key, &item)?
    } else {
        0
    };
    Ok(Reply::Array(vec![
        data,
        Reply::Int(i64::from(item.flags)),
        cas::reply(cas),
    ]))
}

fn marks(item: &Item, wins: bool) -> u8 {
    let mark = |on: bool, mark: u8| if on { mark } else { 0 };
    mark(item.stale, STALE) | mark(item.won, WON_BEFORE) | mark(wins, WINS)
}

impl Look {
    pub(super) fn run(&self, view: View<'_, '_>) -> Done {
        let now = view.now();
        let Some(mut item) = Item::of(view, &self.key)? else {
            let Some(exptime) = self.vivify else {
                return Ok(Reply::Nil);
            };
            if !self.writes {
                return Ok(Word::Writes.reply());
            }
            let mut item = Item::new(b"", 0, expiry(exptime, now));
            item.won = true;
            let shown = item.clone();
            let cas = self.put(view, item)?;
            return Ok(shown.shown(cas, (-1, ttl(shown.expires, now)), WINS));
        };
        let wins = self.wins && !item.won && (item.stale || self.is_due(&item, now));
        if !wins && self.touch.is_none() {
            let cas = if self.cas {
                cas::tell(view, &self.key, &item)?
            } else {
                0
            };
            let left = ttl(item.expires, now);
            return Ok(item.shown(cas, (left, left), marks(&item, false)));
        }
        if !self.writes {
            return Ok(Word::Writes.reply());
        }
        let (before, marks) = (ttl(item.expires, now), marks(&item, wins));
        item.won |= wins;
        if let Some(exptime) = self.touch {
            item.expires = expiry(exptime, now);
        }
        let shown = item.clone();
        let cas = self.put(view, item)?;
        Ok(shown.shown(cas, (before, ttl(shown.expires, now)), marks))
    }

    fn is_due(&self, item: &Item, now: u64) -> bool {
        let due = self.recache.and_then(|exptime| expiry(exptime, now));
        matches!((due, item.expires), (Some(due), Some(at)) if at < due)
    }

    fn put(&self, view: View<'_, '_>, item: Item) -> Result<u64, Reply> {
        if self.cas {
            return cas::put_and_tell(view, &self.key, item);
        }
        item.put(view, &self.key);
        Ok(0)
    }
}
