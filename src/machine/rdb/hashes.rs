//! Hashes: fields with their values, packed while they are few and short.

use super::listpack::{self, Builder};
use super::packing::{Items, Packing};
use super::reader::Reader;
use super::writer::Writer;
use super::{PACKED_ITEM_BYTES_MAX, Refused, form, ziplist};
use crate::machine::values::{Kind, Value, hash};

/// Redis packs one of up to so many fields.
const PACKED_FIELDS_MAX: usize = 512;

fn insert(value: &mut Value, field: &[u8], worth: &[u8]) -> Result<(), Refused> {
    let new = hash::insert(value, field, worth);
    new.then_some(()).ok_or(Refused::Format)
}

fn pairs<P: Packing>(r: &mut Reader<'_>, mut items: Items<'_, P>, value: &mut Value) -> Result<(), Refused> {
    while let Some(field) = items.next() {
        let (field, worth) = (field?.text(), items.want()?.text());
        r.room.take(field.len())?;
        r.room.take(worth.len())?;
        insert(value, &field, &worth)?;
    }
    Ok(())
}

pub fn load(r: &mut Reader<'_>, form: u8) -> Result<Value, Refused> {
    let mut value = Value::empty(Kind::Hash);
    if form == form::HASH {
        for _ in 0..r.number()? {
            insert(&mut value, &r.element()?, &r.element()?)?;
        }
        return Ok(value);
    }
    let blob = r.string()?;
    if form == form::HASH_LISTPACK {
        pairs(r, listpack::items(&blob)?, &mut value)?;
    } else {
        pairs(r, ziplist::items(&blob)?, &mut value)?;
    }
    Ok(value)
}

/// Whether Redis packs it.
pub fn is_packed(value: &Value) -> bool {
    let short = |item: &[u8]| item.len() <= PACKED_ITEM_BYTES_MAX;
    value.len() <= PACKED_FIELDS_MAX && hash::iter(value).all(|(field, worth)| short(&field) && short(&worth))
}

pub fn save(w: &mut Writer, value: &Value) -> Result<(), Refused> {
    if is_packed(value) {
        w.form(form::HASH_LISTPACK);
        let mut all = Builder::new();
        for (field, worth) in hash::iter(value) {
            all.push(&field);
            all.push(&worth);
        }
        return w.string(&all.finish());
    }
    w.form(form::HASH);
    w.count(value.len());
    for (field, worth) in hash::iter(value) {
        w.element(&field)?;
        w.element(&worth)?;
    }
    Ok(())
}
