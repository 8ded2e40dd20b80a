//! List commands.

use bytes::Bytes;

use super::Done;
use super::args::{Args, parse_i64};
use crate::base::Reply;
use crate::machine::overlay::Overlay;
pub use crate::machine::values::list::End;
use crate::machine::values::{Item, Kind, Value, list};

type View<'a, 'b> = &'a mut Overlay<'b>;

fn read<'a>(view: &'a Overlay<'_>, key: &Bytes) -> Result<Option<&'a Value>, Reply> {
    view.collection(key, Kind::List)
}

fn push(view: View<'_, '_>, a: &mut Args<'_>, end: End, only_existing: bool) -> Done {
    let (key, elements) = (a.key()?, a.all());
    if only_existing && read(view, &key)?.is_none() {
        return Ok(Reply::Int(0));
    }
    let len = view.edit_or_new(&key, Kind::List, |value| {
        for element in &elements {
            list::push(value, end, element);
        }
        (value.len(), true)
    })?;
    Ok(Reply::count(len))
}

pub fn lpush(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    push(view, a, End::Left, false)
}

pub fn rpush(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    push(view, a, End::Right, false)
}

pub fn lpushx(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    push(view, a, End::Left, true)
}

pub fn rpushx(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    push(view, a, End::Right, true)
}

/// A count that may be zero.
pub fn positive(text: &[u8]) -> Result<usize, Reply> {
    let count = parse_i64(text).and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(|| Reply::err("ERR value is out of range, must be positive"))
}

fn bulks(elements: Vec<Bytes>) -> Reply {
    Reply::Array(elements.into_iter().map(Reply::Bulk).collect())
}

pub fn take(view: View<'_, '_>, key: &Bytes, end: End, count: usize) -> Result<Option<Vec<Bytes>>, Reply> {
    view.edit(key, Kind::List, |value| (list::pop(value, end, count), count > 0))
}

fn pop(view: View<'_, '_>, a: &mut Args<'_>, end: End) -> Done {
    let key = a.key()?;
    if a.remaining() == 0 {
        let popped = take(view, &key, end, 1)?.and_then(|popped| popped.into_iter().next());
        return Ok(popped.map_or(Reply::Nil, Reply::Bulk));
    }
    if a.remaining() > 1 {
        return Err(super::args::wrong_arity(a.name()));
    }
    let count = positive(a.next()?)?;
    Ok(take(view, &key, end, count)?.map_or(Reply::NilArray, bulks))
}

pub fn lpop(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    pop(view, a, End::Left)
}

pub fn rpop(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    pop(view, a, End::Right)
}

pub fn llen(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    Ok(Reply::count(read(view, &a.key()?)?.map_or(0, Value::len)))
}

pub fn lindex(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, at) = (a.key()?, a.next()?);
    let Some(value) = read(view, &key)? else {
        return Ok(Reply::Nil);
    };
    let at = parse_i64(at).ok_or_else(Reply::not_an_integer)?;
    let found = list::index(value.len(), at).and_then(|at| list::get(value, at));
    Ok(found.map_or(Reply::Nil, |item| Reply::Bulk(item.to_bytes())))
}

pub fn lrange(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, start, stop) = (a.key()?, a.int()?, a.int()?);
    let Some(value) = read(view, &key)? else {
        return Ok(Reply::Array(Vec::new()));
    };
    let found = list::range(value, list::span(value.len(), start, stop));
    Ok(bulks(found.into_iter().map(Item::to_bytes).collect()))
}

pub fn ltrim(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, start, stop) = (a.key()?, a.int()?, a.int()?);
    view.edit(&key, Kind::List, |value| {
        let kept = list::span(value.len(), start, stop);
        list::trim(value, kept);
        // As in Redis, a watched list counts as changed.
        ((), true)
    })?;
    Ok(Reply::ok())
}

pub fn lset(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, at, element) = (a.key()?, a.next()?, a.key()?);
    let Some(len) = read(view, &key)?.map(Value::len) else {
        return Err(Reply::err("ERR no such key"));
    };
    let at = parse_i64(at).ok_or_else(Reply::not_an_integer)?;
    let at = list::index(len, at).filter(|at| *at < len);
    let at = at.ok_or_else(|| Reply::err("ERR index out of range"))?;
    view.edit(&key, Kind::List, |value| (list::set(value, at, &element), true))?;
    Ok(Reply::ok())
}

pub fn linsert(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, word) = (a.key()?, a.word());
    let after = match word.as_deref() {
        Some("AFTER") => 1,
        Some("BEFORE") => 0,
        _ => return Err(Reply::syntax()),
    };
    let (pivot, element) = (a.key()?, a.key()?);
    let len = view.edit(&key, Kind::List, |value| {
        let place = list::iter(value, End::Left).position(|item| *item == *pivot);
        match place {
            None => (Reply::Int(-1), false),
            Some(at) => {
                list::insert(value, at + after, &element);
                (Reply::count(value.len()), true)
            }
        }
    })?;
    Ok(len.unwrap_or(Reply::Int(0)))
}

pub fn lrem(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, count, element) = (a.key()?, a.int()?, a.key()?);
    let end = if count < 0 { End::Right } else { End::Left };
    let most = match count {
        0 => usize::MAX,
        some => usize::try_from(some.unsigned_abs()).unwrap_or(usize::MAX),
    };
    let removed = view.edit(&key, Kind::List, |value| {
        let removed = list::remove(value, end, most, &element);
        (removed, removed > 0)
    })?;
    Ok(Reply::count(removed.unwrap_or(0)))
}

fn not_negative(text: &[u8], name: &str) -> Result<usize, Reply> {
    let number = parse_i64(text).and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| Reply::err(format!("ERR {name} can't be negative")))
}

pub fn lpos(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, element) = (a.key()?, a.key()?);
    let (mut rank, mut count, mut most) = (1, None, 0);
    while let Some(word) = a.word() {
        let value = a.value()?;
        match word.as_str() {
            "RANK" => {
                rank = parse_i64(value).ok_or_else(Reply::not_an_integer)?;
                if rank == 0 {
                    return Err(Reply::err(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                         negative to start from the end of the list",
                    ));
                }
            }
            "COUNT" => count = Some(not_negative(value, "COUNT")?),
            "MAXLEN" => most = not_negative(value, "MAXLEN")?,
            _ => return Err(Reply::syntax()),
        }
    }
    let none = || count.map_or(Reply::Nil, |_| Reply::Array(Vec::new()));
    let Some(value) = read(view, &key)? else {
        return Ok(none());
    };
    let (len, end) = (value.len(), if rank < 0 { End::Right } else { End::Left });
    let skipped = usize::try_from(rank.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let unlimited = |n: usize| if n == 0 { usize::MAX } else { n };
    let places = list::iter(value, end).enumerate().take(unlimited(most));
    let places = places.filter(|(_, item)| **item == *element).skip(skipped);
    let places = places.map(|(at, _)| Reply::count(if rank < 0 { len - 1 - at } else { at }));
    let mut places = places.take(count.map_or(1, unlimited));
    Ok(match count {
        None => places.next().unwrap_or(Reply::Nil),
        Some(_) => Reply::Array(places.collect()),
    })
}

pub fn end(a: &mut Args<'_>) -> Result<End, Reply> {
    match a.word().as_deref() {
        Some("LEFT") => Ok(End::Left),
        Some("RIGHT") => Ok(End::Right),
        _ => Err(Reply::syntax()),
    }
}

pub fn shift(view: View<'_, '_>, from: &Bytes, to: &Bytes, out: End, into: End) -> Done {
    if read(view, from)?.is_none() {
        return Ok(Reply::Nil);
    }
    read(view, to)?;
    if from == to {
        // In one change: a list that were empty in between would lose its expiry.
        let turn = |value: &mut Value| {
            let element = list::pop(value, out, 1).into_iter().next();
            if let Some(element) = &element {
                list::push(value, into, element);
            }
            (element, true)
        };
        let turned = view.edit(to, Kind::List, turn)?;
        return Ok(turned.flatten().map_or(Reply::Nil, Reply::Bulk));
    }
    let Some(element) = take(view, from, out, 1)?.and_then(|popped| popped.into_iter().next()) else {
        return Ok(Reply::Nil);
    };
    view.edit_or_new(to, Kind::List, |value| (list::push(value, into, &element), true))?;
    Ok(Reply::Bulk(element))
}

pub fn lmove(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (from, to, out, into) = (a.key()?, a.key()?, end(a)?, end(a)?);
    shift(view, &from, &to, out, into)
}

pub fn rpoplpush(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (from, to) = (a.key()?, a.key()?);
    shift(view, &from, &to, End::Right, End::Left)
}

/// Reads a number of keys, which must fit, and the keys.
pub fn counted_keys(a: &mut Args<'_>) -> Result<Vec<Bytes>, Reply> {
    let few = || Reply::err("ERR numkeys should be greater than 0");
    let count = parse_i64(a.next()?).filter(|count| *count > 0).ok_or_else(few)?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > a.remaining() {
        return Err(Reply::syntax());
    }
    (0..count).map(|_| a.key()).collect()
}

/// Reads `[COUNT count]`, and that nothing comes behind.
pub fn counted(a: &mut Args<'_>) -> Result<usize, Reply> {
    let count = match a.word().as_deref() {
        None => 1,
        Some("COUNT") => {
            let count = parse_i64(a.value()?).filter(|count| *count > 0);
            let count = count.ok_or_else(|| Reply::err("ERR count should be greater than 0"))?;
            usize::try_from(count).unwrap_or(usize::MAX)
        }
        Some(_) => return Err(Reply::syntax()),
    };
    a.end().map(|()| count)
}

/// Which keys to pop from, from which end, and how many.
type Pop = (Vec<Bytes>, End, usize);

/// Reads `numkeys key [key …] LEFT|RIGHT [COUNT count]`.
pub fn popping(a: &mut Args<'_>) -> Result<Pop, Reply> {
    Ok((counted_keys(a)?, end(a)?, counted(a)?))
}

pub fn lmpop(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let wanted = popping(a)?;
    pop_first(view, wanted)
}

/// Pops from the first list that has any.
pub fn pop_first(view: View<'_, '_>, (keys, end, count): Pop) -> Done {
    for key in keys {
        if let Some(popped) = take(view, &key, end, count)? {
            return Ok(Reply::Array(vec![Reply::Bulk(key), bulks(popped)]));
        }
    }
    Ok(Reply::NilArray)
}
