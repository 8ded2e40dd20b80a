//! Groups of a stream: what is pending in each, and for which consumer.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::super::reader::Reader;
use super::super::writer::Writer;
use super::super::{Refused, form};
use super::{Id, Stream, counted, load_id, load_raw_id, raw_bytes, save_id};
use crate::base::Millis;
use crate::machine::commands::added_up_to;
use crate::machine::values::stream::{Group, Pending};

/// Entries that are pending, not yet for anybody.
type Open = BTreeMap<Id, (Millis, u64)>;

/// How many entries were read, where that is not known.
const UNKNOWN: u64 = u64::MAX;

/// A time as Redis writes it; one before the epoch is the epoch.
fn time(r: &mut Reader<'_>) -> Result<Millis, Refused> {
    let ms = i64::from_le_bytes(r.array()?);
    Ok(u64::try_from(ms).unwrap_or(0))
}

fn save_time(w: &mut Writer, ms: Millis) -> Result<(), Refused> {
    w.bytes(&i64::try_from(ms).unwrap_or(i64::MAX).to_le_bytes())
}

pub fn load<'a>(r: &mut Reader<'a>, form: u8, stream: &Stream) -> Result<(Cow<'a, [u8]>, Group), Refused> {
    let name = r.element()?;
    let delivered = load_id(r)?;
    let read = if form == form::STREAM_LISTPACKS {
        added_up_to(stream, delivered)
    } else {
        match r.number()? {
            UNKNOWN => None,
            read => Some(counted(read)?),
        }
    };
    let mut open = Open::new();
    for _ in 0..r.number()? {
        let pending = (load_raw_id(r)?, (time(r)?, counted(r.number()?)?));
        r.room.take(size_of_val(&pending))?;
        if open.insert(pending.0, pending.1).is_some() {
            return Err(Refused::Format);
        }
    }
    let mut group = Group::new(delivered, read);
    for _ in 0..r.number()? {
        consumer(r, form, &mut group, &mut open)?;
    }
    // What is pending is pending for somebody.
    if open.is_empty() {
        Ok((name, group))
    } else {
        Err(Refused::Format)
    }
}

fn consumer(r: &mut Reader<'_>, form: u8, group: &mut Group, open: &mut Open) -> Result<(), Refused> {
    let name = r.element()?;
    let seen = time(r)?;
    if form == form::STREAM_LISTPACKS_3 {
        // When it was last given an entry.
        time(r)?;
    }
    if !group.see(&name, seen) {
        return Err(Refused::Format);
    }
    for _ in 0..r.number()? {
        let id = load_raw_id(r)?;
        let (at, times) = open.remove(&id).ok_or(Refused::Format)?;
        r.room.take(name.len())?;
        let consumer = name[..].into();
        group.set(id, Pending { consumer, at, times });
    }
    Ok(())
}

pub fn save(w: &mut Writer, name: &[u8], group: &Group) -> Result<(), Refused> {
    w.element(name)?;
    save_id(w, group.delivered);
    w.number(group.read.unwrap_or(UNKNOWN));
    w.count(group.pending_len());
    for (id, pending) in group.pending(Id::ZERO) {
        w.bytes(&raw_bytes(id))?;
        save_time(w, pending.at)?;
        w.number(pending.times);
    }
    w.count(group.consumers().len());
    for (name, consumer) in group.consumers() {
        w.element(name)?;
        save_time(w, consumer.seen)?;
        w.count(consumer.len());
        for id in consumer.pending(Id::ZERO) {
            w.bytes(&raw_bytes(id))?;
        }
    }
    Ok(())
}
