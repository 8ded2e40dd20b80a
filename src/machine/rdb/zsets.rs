//! Sorted sets: members with their scores, packed while they are few and short.

use super::listpack::{self, Builder};
use super::packing::{Element, Items, Packing};
use super::reader::Reader;
use super::writer::Writer;
use super::{PACKED_ITEM_BYTES_MAX, Refused, form, ziplist};
use crate::base::float;
use crate::machine::values::zset::{self, Score};
use crate::machine::values::{Kind, Value};

/// Redis packs one of up to so many members.
const PACKED_MEMBERS_MAX: usize = 128;

/// Lengths that say what the score is.
const NAN: u8 = 253;
const INFINITE: u8 = 254;
const NEGATIVE_INFINITE: u8 = 255;

fn insert(value: &mut Value, member: &[u8], score: f64) -> Result<(), Refused> {
    let score = Score::new(score).map_err(|_| Refused::Format)?;
    match zset::insert(value, member, score) {
        None => Ok(()),
        Some(_) => Err(Refused::Format),
    }
}

fn parse(text: &[u8]) -> Result<f64, Refused> {
    let text = std::str::from_utf8(text).map_err(|_| Refused::Format)?;
    text.parse().map_err(|_| Refused::Format)
}

/// As Redis before 4.0 wrote it.
fn score_in_words(r: &mut Reader<'_>) -> Result<f64, Refused> {
    match r.byte()? {
        NAN => Err(Refused::Format),
        INFINITE => Ok(f64::INFINITY),
        NEGATIVE_INFINITE => Ok(f64::NEG_INFINITY),
        len => parse(r.bytes(len.into())?),
    }
}

fn pairs<P: Packing>(r: &mut Reader<'_>, mut items: Items<'_, P>, value: &mut Value) -> Result<(), Refused> {
    while let Some(member) = items.next() {
        let member = member?.text();
        let score = match items.want()? {
            Element::Int(score) => score as f64,
            Element::Bytes(text) => parse(text)?,
        };
        r.room.take(member.len())?;
        insert(value, &member, score)?;
    }
    Ok(())
}

pub fn load(r: &mut Reader<'_>, form: u8) -> Result<Value, Refused> {
    let mut value = Value::empty(Kind::Zset);
    match form {
        form::ZSET | form::ZSET_2 => {
            let mut all = Vec::new();
            for _ in 0..r.number()? {
                let member = r.element()?;
                let score = if form == form::ZSET {
                    score_in_words(r)?
                } else {
                    f64::from_le_bytes(r.array()?)
                };
                all.push((score, member));
            }
            // In ascending order each comes last, which is where it costs least.
            all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
            for (score, member) in all {
                insert(&mut value, &member, score)?;
            }
        }
        form::ZSET_LISTPACK => {
            let blob = r.string()?;
            pairs(r, listpack::items(&blob)?, &mut value)?;
        }
        _ => {
            let blob = r.string()?;
            pairs(r, ziplist::items(&blob)?, &mut value)?;
        }
    }
    Ok(value)
}

/// Whether Redis packs it.
pub fn is_packed(value: &Value) -> bool {
    value.len() <= PACKED_MEMBERS_MAX
        && zset::iter(value).all(|(member, _)| member.len() <= PACKED_ITEM_BYTES_MAX)
}

pub fn save(w: &mut Writer, value: &Value) -> Result<(), Refused> {
    if is_packed(value) {
        w.form(form::ZSET_LISTPACK);
        let mut all = Builder::new();
        for (member, score) in zset::iter(value) {
            all.push(&member);
            all.push(float::general(score.into_inner()).as_bytes());
        }
        return w.string(&all.finish());
    }
    w.form(form::ZSET_2);
    w.count(value.len());
    // From the highest on, as Redis does: each of its inserts is then at the head of the skip list.
    for (member, score) in zset::iter(value).rev() {
        w.element(&member)?;
        w.bytes(&score.to_le_bytes())?;
    }
    Ok(())
}
