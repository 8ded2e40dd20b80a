//! Hash commands.

use bytes::Bytes;

use super::args::{Args, parse_i64, wrong_arity};
use super::float::{add, not_finite};
use super::random::{self, Draw};
use super::scanning::{Scanned, scan};
use super::{Done, parse_f64};
use crate::base::Reply;
use crate::machine::overlay::Overlay;
use crate::machine::values::{Item, Kind, Value, hash};

type View<'a, 'b> = &'a mut Overlay<'b>;

fn read<'a>(view: &'a Overlay<'_>, key: &Bytes) -> Result<Option<&'a Value>, Reply> {
    view.collection(key, Kind::Hash)
}

fn bulk(item: Option<Item<'_>>) -> Reply {
    item.map_or(Reply::Nil, |item| Reply::Bulk(item.to_bytes()))
}

fn set_all(view: View<'_, '_>, a: &mut Args<'_>) -> Result<usize, Reply> {
    let key = a.key()?;
    if !a.remaining().is_multiple_of(2) {
        return Err(wrong_arity(a.name()));
    }
    let pairs = a.all();
    view.edit_or_new(&key, Kind::Hash, |value| {
        let pairs = pairs.chunks_exact(2);
        let added = pairs
            .filter(|pair| hash::insert(value, &pair[0], &pair[1]))
            .count();
        (added, true)
    })
}

pub fn hset(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    set_all(view, a).map(Reply::count)
}

pub fn hmset(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    set_all(view, a).map(|_| Reply::ok())
}

pub fn hsetnx(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, field, new) = (a.key()?, a.key()?, a.key()?);
    let added = view.edit_or_new(&key, Kind::Hash, |value| {
        let absent = hash::get(value, &field).is_none();
        let added = absent && hash::insert(value, &field, &new);
        (added, added)
    })?;
    Ok(Reply::Int(i64::from(added)))
}

pub fn hget(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, field) = (a.key()?, a.key()?);
    Ok(bulk(read(view, &key)?.and_then(|value| hash::get(value, &field))))
}

pub fn hmget(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let value = read(view, &key)?;
    let one = |field: Bytes| bulk(value.and_then(|value| hash::get(value, &field)));
    Ok(Reply::Array(a.all().into_iter().map(one).collect()))
}

pub fn hdel(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, fields) = (a.key()?, a.all());
    let removed = view.edit(&key, Kind::Hash, |value| {
        let removed = fields.iter().filter(|field| hash::remove(value, field)).count();
        (removed, removed > 0)
    })?;
    Ok(Reply::count(removed.unwrap_or(0)))
}

pub fn hlen(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    Ok(Reply::count(read(view, &a.key()?)?.map_or(0, Value::len)))
}

pub fn hstrlen(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, field) = (a.key()?, a.key()?);
    let value = read(view, &key)?.and_then(|value| hash::get(value, &field));
    Ok(Reply::count(value.map_or(0, |value| value.len())))
}

pub fn hexists(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, field) = (a.key()?, a.key()?);
    let there = read(view, &key)?.is_some_and(|value| hash::get(value, &field).is_some());
    Ok(Reply::Int(i64::from(there)))
}

fn pairs(view: &Overlay<'_>, key: &Bytes) -> Result<Vec<(Reply, Reply)>, Reply> {
    let all = read(view, key)?.into_iter().flat_map(hash::iter);
    Ok(all
        .map(|(field, value)| (bulk(Some(field)), bulk(Some(value))))
        .collect())
}

pub fn hgetall(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    pairs(view, &a.key()?).map(Reply::Map)
}

pub fn hkeys(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let pairs = pairs(view, &a.key()?)?;
    Ok(Reply::Array(pairs.into_iter().map(|(field, _)| field).collect()))
}

pub fn hvals(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let pairs = pairs(view, &a.key()?)?;
    Ok(Reply::Array(pairs.into_iter().map(|(_, value)| value).collect()))
}

pub fn hincrby(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, field, by) = (a.key()?, a.key()?, a.int()?);
    let old = match read(view, &key)?.and_then(|value| hash::get(value, &field)) {
        None => 0,
        Some(old) => parse_i64(&old).ok_or_else(|| Reply::err("ERR hash value is not an integer"))?,
    };
    let new = old.checked_add(by);
    let new = new.ok_or_else(|| Reply::err("ERR increment or decrement would overflow"))?;
    view.edit_or_new(&key, Kind::Hash, |value| {
        (hash::insert(value, &field, new.to_string().as_bytes()), true)
    })?;
    Ok(Reply::Int(new))
}

pub fn hincrbyfloat(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, field, by) = (a.key()?, a.key()?, a.next()?);
    match parse_f64(by) {
        None => return Err(super::float::not_a_float()),
        Some(number) if !number.is_finite() => return Err(Reply::err("ERR value is NaN or Infinity")),
        Some(_) => {}
    }
    let old = read(view, &key)?.and_then(|value| hash::get(value, &field));
    let old = old.map_or_else(|| Bytes::from_static(b"0"), Item::to_bytes);
    let sum = add(&old, by).ok_or_else(|| Reply::err("ERR hash value is not a float"))?;
    if sum.is_empty() {
        return Err(not_finite());
    }
    view.edit_or_new(&key, Kind::Hash, |value| {
        (hash::insert(value, &field, sum.as_bytes()), true)
    })?;
    Ok(Reply::bulk(sum))
}

pub fn hrandfield(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let draw = Draw::parse(a, "WITHVALUES")?;
    let mut numbers = random::Numbers::of(view);
    let Some(value) = read(view, &key)? else {
        return Ok(draw.nothing());
    };
    let all = || hash::iter(value).map(|(field, value)| (bulk(Some(field)), bulk(Some(value))));
    match hash::large(value) {
        None => draw.of_few(all().collect(), &mut numbers),
        Some(members) => {
            let one = |numbers: &mut random::Numbers| {
                let (field, value) = members.random(&mut || numbers.next())?;
                Some((bulk(Some(Item::Blob(field))), bulk(Some(Item::Blob(value)))))
            };
            draw.of_many(members.len(), all, one, &mut numbers)
        }
    }
}

pub fn hscan(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    scan(a, read(view, &key), |value, cursor, count| {
        let pair = |field: Item<'_>, value: Item<'_>| (field.to_bytes(), Some(Reply::Bulk(value.to_bytes())));
        match hash::large(value) {
            None => Scanned::all(hash::iter(value).map(|(field, value)| pair(field, value))),
            Some(members) => {
                let (page, next) = members.page(cursor, count);
                let page = page.into_iter();
                Scanned {
                    found: page.map(|(f, v)| pair(Item::Blob(f), Item::Blob(v))).collect(),
                    next,
                }
            }
        }
    })
}
