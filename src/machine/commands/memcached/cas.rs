//! The unique number of what a key holds: two different values of a key never have the same one that anybody was told of.
//!
//! ```text
//!  log index of the last change ── 43 bits ──┬── which change inside that entry ── 20 bits, 0: not told inside it
//! ```
//!
//! The index alone would do for whoever reads between entries. Inside an entry, which holds commands of many clients, a key may change
//! again after its number was told: so what tells it there writes it down with the value, under a number of its own.

use bytes::Bytes;

use super::super::View;
use super::Item;
use crate::base::Reply;
use crate::machine::overlay::Overlay;

const STAMP_BITS: u32 = 20;
const STAMP_MAX: u32 = (1 << STAMP_BITS) - 1;

/// The number as of what the key holds.
pub fn current(view: &Overlay<'_>, key: &[u8], item: &Item) -> u64 {
    let version = view.version(key);
    if item.told >> STAMP_BITS == version {
        item.told
    } else {
        version << STAMP_BITS
    }
}

/// Writes the item, and returns the number to be told of it.
///
/// # Errors
/// The entry has told too many. Nothing is written.
pub fn put_and_tell(view: View<'_, '_>, key: &Bytes, mut item: Item) -> Result<u64, Reply> {
    item.told = 0;
    if let (Some(entry), Some(stamp)) = (view.entry(), view.stamp()) {
        if stamp > STAMP_MAX {
            return Err(Reply::err(
                "TRYAGAIN too many unique numbers are asked for at once",
            ));
        }
        item.told = entry << STAMP_BITS | u64::from(stamp);
    }
    let told = item.told;
    item.put_as_told(view, key);
    Ok(told)
}

/// The number to be told of an item that the command does not change.
///
/// # Errors
/// As for [`put_and_tell`].
pub fn tell(view: View<'_, '_>, key: &Bytes, item: &Item) -> Result<u64, Reply> {
    let known = current(view, key, item);
    let here = view.entry().is_some_and(|entry| entry == view.version(key));
    if here && known & u64::from(STAMP_MAX) == 0 {
        return put_and_tell(view, key, item.clone());
    }
    Ok(known)
}

pub fn reply(cas: u64) -> Reply {
    Reply::Int(i64::try_from(cas).unwrap_or(i64::MAX))
}
