//! Stream commands.

mod claims;
mod entries;
mod groups;
mod ids;
mod info;
mod reading;

use bytes::Bytes;

use crate::base::Reply;
use crate::machine::commands::args::shown;
use crate::machine::overlay::Overlay;
use crate::machine::values::stream::{self, Group, Id, Stream};
use crate::machine::values::{Kind, Packed};

pub use claims::{xautoclaim, xclaim};
pub use entries::{xadd, xdel, xlen, xrange, xrevrange, xsetid, xtrim};
pub use groups::{XGROUP, xack, xgroup, xpending};
pub use info::{XINFO, xinfo};
pub use reading::{keys, says_block, share, waits, xread, xreadgroup};

type View<'a, 'b> = &'a mut Overlay<'b>;

fn read<'a>(view: &'a Overlay<'_>, key: &Bytes) -> Result<Option<&'a Stream>, Reply> {
    Ok(view.collection(key, Kind::Stream)?.and_then(stream::of))
}

/// Changes the stream at a key; `edit` says whether it has. `None`: there is none.
fn edit<R>(
    view: View<'_, '_>,
    key: &Bytes,
    edit: impl FnOnce(&mut Stream) -> (R, bool),
) -> Result<Option<R>, Reply> {
    view.edit(key, Kind::Stream, |value| edit(stream::of_mut(value)))
}

/// The same of a group of it.
fn edit_group<R>(
    view: View<'_, '_>,
    key: &Bytes,
    group: &[u8],
    change: impl FnOnce(&Stream, &mut Group) -> R,
) -> Result<Option<R>, Reply> {
    let known = read(view, key)?.is_some_and(|stream| stream.group(group).is_some());
    if !known {
        return Ok(None);
    }
    let changed = edit(view, key, |stream| (stream.edit_group(group, change), true))?;
    Ok(changed.flatten())
}

fn id_reply(id: Id) -> Reply {
    Reply::bulk(id.to_string())
}

/// An entry as all commands reply it: its id, and its fields with their values.
fn entry(id: Id, fields: &Packed) -> Reply {
    let fields = fields
        .items()
        .map(|item| Reply::Bulk(Bytes::copy_from_slice(item)))
        .collect();
    Reply::Array(vec![id_reply(id), Reply::Array(fields)])
}

fn no_group(key: &[u8], group: &[u8]) -> Reply {
    let (key, group) = (shown(key), shown(group));
    Reply::err(format!("NOGROUP No such key '{key}' or consumer group '{group}'"))
}

/// How many entries were ever added up to `id`; `None`: deleted ones make that unknown.
///
/// As Redis's `streamEstimateDistanceFromFirstEverEntry`.
pub(in crate::machine) fn added_up_to(stream: &Stream, id: Id) -> Option<u64> {
    if stream.added == 0 {
        return Some(0);
    }
    let Some((first, _)) = stream.first() else {
        return (id <= stream.last).then_some(stream.added);
    };
    match id.cmp(&stream.last) {
        std::cmp::Ordering::Equal => return Some(stream.added),
        std::cmp::Ordering::Greater => return None,
        std::cmp::Ordering::Less => {}
    }
    if stream.max_deleted == Id::ZERO || stream.max_deleted < first {
        let before = stream.added.saturating_sub(stream.len() as u64);
        match id.cmp(&first) {
            std::cmp::Ordering::Less => return Some(before),
            std::cmp::Ordering::Equal => return Some(before + 1),
            std::cmp::Ordering::Greater => {}
        }
    }
    None
}

/// Whether entries at or after `from` were deleted by name.
fn has_gaps(stream: &Stream, from: Id) -> bool {
    let Some((first, _)) = stream.first() else {
        return false;
    };
    stream.max_deleted != Id::ZERO && first <= stream.max_deleted && from <= stream.max_deleted
}
