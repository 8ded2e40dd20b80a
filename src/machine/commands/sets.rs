//! Set commands.

use bytes::Bytes;

use super::Done;
use super::args::{Args, parse_i64};
use super::lists::positive;
use super::random::{Draw, Numbers};
use super::scanning::{Scanned, scan};
use crate::base::Reply;
use crate::machine::overlay::Overlay;
use crate::machine::values::{Item, Kind, Value, set};

type View<'a, 'b> = &'a mut Overlay<'b>;

fn read<'a>(view: &'a Overlay<'_>, key: &Bytes) -> Result<Option<&'a Value>, Reply> {
    view.collection(key, Kind::Set)
}

fn bulk(item: Item<'_>) -> Reply {
    Reply::Bulk(item.to_bytes())
}

pub fn sadd(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, members) = (a.key()?, a.all());
    let added = view.edit_or_new(&key, Kind::Set, |value| {
        let added = members.iter().filter(|member| set::insert(value, member)).count();
        (added, added > 0)
    })?;
    Ok(Reply::count(added))
}

pub fn srem(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, members) = (a.key()?, a.all());
    let removed = view.edit(&key, Kind::Set, |value| {
        let removed = members.iter().filter(|member| set::remove(value, member)).count();
        (removed, removed > 0)
    })?;
    Ok(Reply::count(removed.unwrap_or(0)))
}

pub fn smove(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (from, to, member) = (a.key()?, a.key()?, a.key()?);
    let Some(source) = read(view, &from)? else {
        return Ok(Reply::Int(0));
    };
    let there = set::contains(source, &member);
    read(view, &to)?;
    if from == to || !there {
        return Ok(Reply::Int(i64::from(there)));
    }
    view.edit(&from, Kind::Set, |value| (set::remove(value, &member), true))?;
    view.edit_or_new(&to, Kind::Set, |value| {
        let added = set::insert(value, &member);
        ((), added)
    })?;
    Ok(Reply::Int(1))
}

pub fn sismember(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, member) = (a.key()?, a.key()?);
    let there = read(view, &key)?.is_some_and(|value| set::contains(value, &member));
    Ok(Reply::Int(i64::from(there)))
}

pub fn smismember(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let value = read(view, &key)?;
    let one = |member: Bytes| {
        Reply::Int(i64::from(
            value.is_some_and(|value| set::contains(value, &member)),
        ))
    };
    Ok(Reply::Array(a.all().into_iter().map(one).collect()))
}

pub fn scard(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    Ok(Reply::count(read(view, &a.key()?)?.map_or(0, Value::len)))
}

pub fn smembers(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let all = read(view, &a.key()?)?.into_iter().flat_map(set::iter);
    Ok(Reply::Set(all.map(bulk).collect()))
}

/// Takes up to `count` members at random.
fn take(value: &mut Value, count: usize, numbers: &mut Numbers) -> Vec<Bytes> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let drawn = match set::large(value) {
            Some(members) => members
                .random(&mut || numbers.next())
                .map(|(name, ())| name.to_bytes()),
            None => {
                let len = value.len();
                let drawn = (len > 0)
                    .then(|| set::iter(value).nth(numbers.below(len)))
                    .flatten();
                drawn.map(Item::to_bytes)
            }
        };
        let Some(member) = drawn else { break };
        set::remove(value, &member);
        taken.push(member);
    }
    taken
}

pub fn spop(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let alone = a.remaining() == 0;
    if a.remaining() > 1 {
        return Err(Reply::syntax());
    }
    let count = if alone { 1 } else { positive(a.next()?)? };
    let mut numbers = Numbers::of(view);
    let taken = view.edit(&key, Kind::Set, |value| {
        (take(value, count, &mut numbers), count > 0)
    })?;
    let mut taken = taken.unwrap_or_default().into_iter().map(Reply::Bulk);
    Ok(if alone {
        taken.next().unwrap_or(Reply::Nil)
    } else {
        Reply::Set(taken.collect())
    })
}

pub fn srandmember(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    if a.remaining() > 1 {
        return Err(Reply::syntax());
    }
    let draw = Draw::parse(a, "")?;
    let mut numbers = Numbers::of(view);
    let Some(value) = read(view, &key)? else {
        return Ok(draw.nothing());
    };
    let all = || set::iter(value).map(|item| (bulk(item), Reply::Nil));
    match set::large(value) {
        None => draw.of_few(all().collect(), &mut numbers),
        Some(members) => {
            let one = |numbers: &mut Numbers| {
                let (name, ()) = members.random(&mut || numbers.next())?;
                Some((bulk(Item::Blob(name)), Reply::Nil))
            };
            draw.of_many(members.len(), all, one, &mut numbers)
        }
    }
}

/// What becomes of several sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algebra {
    Inter,
    Union,
    Diff,
}

fn combined<'a>(
    view: &'a Overlay<'_>,
    keys: &[Bytes],
    algebra: Algebra,
    most: usize,
) -> Result<Vec<Item<'a>>, Reply> {
    let sets: Vec<Option<&Value>> = keys.iter().map(|key| read(view, key)).collect::<Result<_, _>>()?;
    let is_in = |set: Option<&Value>, item: &Item<'_>| set.is_some_and(|set| set::contains(set, item));
    match algebra {
        Algebra::Inter => {
            let Some(mut sets) = sets.into_iter().collect::<Option<Vec<&Value>>>() else {
                return Ok(Vec::new());
            };
            sets.sort_by_key(|set| set.len());
            let Some((smallest, others)) = sets.split_first() else {
                return Ok(Vec::new());
            };
            let common = set::iter(smallest).filter(|item| others.iter().all(|set| set::contains(set, item)));
            Ok(common.take(most).collect())
        }
        Algebra::Union => {
            let mut all = Vec::new();
            for (at, set) in sets.iter().enumerate() {
                let items = set.iter().flat_map(|set| set::iter(set));
                all.extend(items.filter(|item| !sets[..at].iter().any(|before| is_in(*before, item))));
            }
            Ok(all)
        }
        Algebra::Diff => {
            let Some((first, others)) = sets.split_first() else {
                return Ok(Vec::new());
            };
            let items = first.iter().flat_map(|set| set::iter(set));
            Ok(items
                .filter(|item| !others.iter().any(|set| is_in(*set, item)))
                .collect())
        }
    }
}

fn reply(view: View<'_, '_>, a: &mut Args<'_>, algebra: Algebra) -> Done {
    let items = combined(view, &a.all(), algebra, usize::MAX)?;
    Ok(Reply::Set(items.into_iter().map(bulk).collect()))
}

fn store(view: View<'_, '_>, a: &mut Args<'_>, algebra: Algebra) -> Done {
    let (to, keys) = (a.key()?, a.all());
    let items = combined(view, &keys, algebra, usize::MAX)?;
    let result = set::of(items.iter().map(|item| &**item));
    Ok(replace(view, &to, result))
}

/// Puts what a command has computed in the place of whatever a key holds; says how many elements it has.
pub fn replace(view: View<'_, '_>, to: &Bytes, result: Value) -> Reply {
    let len = result.len();
    if len == 0 {
        view.remove(to);
    } else {
        view.put(to, result, None);
    }
    Reply::count(len)
}

pub fn sinter(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    reply(view, a, Algebra::Inter)
}

pub fn sunion(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    reply(view, a, Algebra::Union)
}

pub fn sdiff(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    reply(view, a, Algebra::Diff)
}

pub fn sinterstore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    store(view, a, Algebra::Inter)
}

pub fn sunionstore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    store(view, a, Algebra::Union)
}

pub fn sdiffstore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    store(view, a, Algebra::Diff)
}

/// Reads what `SINTERCARD` is given: the keys and the limit.
fn cardinality_args(a: &mut Args<'_>) -> Result<(Vec<Bytes>, usize), Reply> {
    let few = || Reply::err("ERR numkeys should be greater than 0");
    let count = parse_i64(a.next()?).filter(|count| *count > 0).ok_or_else(few)?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > a.remaining() {
        return Err(Reply::err(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    let keys = (0..count).map(|_| a.key()).collect::<Result<Vec<_>, _>>()?;
    let mut most = usize::MAX;
    while let Some(word) = a.word() {
        if word != "LIMIT" {
            return Err(Reply::syntax());
        }
        most = limit(a.value()?)?;
    }
    Ok((keys, most))
}

/// The limit of `SINTERCARD` and `ZINTERCARD`; 0 is none.
pub fn limit(text: &[u8]) -> Result<usize, Reply> {
    let given = parse_i64(text).and_then(|limit| usize::try_from(limit).ok());
    let given = given.ok_or_else(|| Reply::err("ERR LIMIT can't be negative"))?;
    Ok(if given == 0 { usize::MAX } else { given })
}

pub fn sintercard(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (keys, most) = cardinality_args(a)?;
    Ok(Reply::count(combined(view, &keys, Algebra::Inter, most)?.len()))
}

pub fn sscan(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    scan(a, read(view, &key), |value, cursor, count| {
        match set::large(value) {
            None => Scanned::all(set::iter(value).map(|item| (item.to_bytes(), None))),
            Some(members) => {
                let (page, next) = members.page(cursor, count);
                Scanned {
                    found: page
                        .into_iter()
                        .map(|(name, ())| (name.to_bytes(), None))
                        .collect(),
                    next,
                }
            }
        }
    })
}
