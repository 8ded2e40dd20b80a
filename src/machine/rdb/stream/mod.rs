//! Streams: nodes of entries, what the stream remembers of those that are gone, and its groups.

mod entries;
mod groups;

use std::sync::Arc;

use super::reader::Reader;
use super::writer::Writer;
use super::{Refused, form};
use crate::machine::values::stream::{Id, Stream};
use crate::machine::values::{Large, Value};

/// No count of a stream is larger, so that the next one still is a number.
fn counted(number: u64) -> Result<u64, Refused> {
    i64::try_from(number).map(|_| number).map_err(|_| Refused::Format)
}

fn load_id(r: &mut Reader<'_>) -> Result<Id, Refused> {
    Ok(Id {
        ms: r.number()?,
        seq: r.number()?,
    })
}

fn save_id(w: &mut Writer, id: Id) {
    w.number(id.ms);
    w.number(id.seq);
}

/// An id that is a key of one of Redis's trees.
fn load_raw_id(r: &mut Reader<'_>) -> Result<Id, Refused> {
    Ok(raw_id(r.array()?))
}

fn raw_id(bytes: [u8; 16]) -> Id {
    let both = u128::from_be_bytes(bytes);
    Id {
        ms: (both >> 64) as u64,
        seq: both as u64,
    }
}

fn raw_bytes(id: Id) -> [u8; 16] {
    (u128::from(id.ms) << 64 | u128::from(id.seq)).to_be_bytes()
}

pub fn load(r: &mut Reader<'_>, form: u8) -> Result<Value, Refused> {
    let mut stream = Stream::default();
    for _ in 0..r.number()? {
        entries::load(r, &mut stream)?;
    }
    let newest = stream.last;
    if r.number()? != stream.len() as u64 {
        return Err(Refused::Format);
    }
    stream.last = load_id(r)?;
    stream.added = stream.len() as u64;
    if form != form::STREAM_LISTPACKS {
        // The first entry's, which is known already.
        load_id(r)?;
        stream.max_deleted = load_id(r)?;
        stream.added = counted(r.number()?)?;
    }
    if newest > stream.last {
        return Err(Refused::Format);
    }
    for _ in 0..r.number()? {
        let (name, group) = groups::load(r, form, &stream)?;
        if !stream.add_group(&name, group) {
            return Err(Refused::Format);
        }
    }
    Ok(Value::Large(Arc::new(Large::Stream(stream))))
}

pub fn save(w: &mut Writer, stream: &Stream) -> Result<(), Refused> {
    w.form(form::STREAM_LISTPACKS_2);
    entries::save(w, stream)?;
    w.count(stream.len());
    save_id(w, stream.last);
    save_id(w, stream.first().map_or(Id::ZERO, |(id, _)| id));
    save_id(w, stream.max_deleted);
    w.number(stream.added);
    w.count(stream.groups().len());
    for (name, group) in stream.groups() {
        groups::save(w, name, group)?;
    }
    Ok(())
}
