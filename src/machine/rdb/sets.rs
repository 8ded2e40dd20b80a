//! Sets: members, numbers alone, or packed ones.

use super::listpack;
use super::reader::Reader;
use super::writer::Writer;
use super::{Refused, form, intset};
use crate::machine::commands::parse_i64;
use crate::machine::values::{Kind, Value, set};

/// Redis keeps up to so many numbers in an intset.
const NUMBERS_MAX: usize = 512;

pub fn load(r: &mut Reader<'_>, form: u8) -> Result<Value, Refused> {
    let mut value = Value::empty(Kind::Set);
    let mut insert = |member: &[u8]| {
        let new = set::insert(&mut value, member);
        new.then_some(()).ok_or(Refused::Format)
    };
    match form {
        form::SET_INTSET => {
            let blob = r.string()?;
            for number in intset::read(&blob)? {
                let member = number.to_string();
                r.room.take(member.len())?;
                insert(member.as_bytes())?;
            }
        }
        form::SET_LISTPACK => {
            let blob = r.string()?;
            r.each(listpack::items(&blob)?, &mut insert)?;
        }
        _ => {
            for _ in 0..r.number()? {
                insert(&r.element()?)?;
            }
        }
    }
    Ok(value)
}

/// The members in ascending order, if they are few and all numbers.
fn numbers(value: &Value) -> Option<Vec<i64>> {
    if value.len() > NUMBERS_MAX {
        return None;
    }
    let mut all: Vec<i64> = set::iter(value)
        .map(|member| parse_i64(&member))
        .collect::<Option<_>>()?;
    all.sort_unstable();
    Some(all)
}

/// Whether Redis keeps it as numbers alone.
pub fn is_packed(value: &Value) -> bool {
    numbers(value).is_some()
}

pub fn save(w: &mut Writer, value: &Value) -> Result<(), Refused> {
    if let Some(numbers) = numbers(value) {
        w.form(form::SET_INTSET);
        return w.string(&intset::write(&numbers));
    }
    w.form(form::SET);
    w.count(value.len());
    set::iter(value).try_for_each(|member| w.element(&member))
}
