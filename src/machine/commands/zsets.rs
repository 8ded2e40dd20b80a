//! Sorted set commands about members.

use bytes::Bytes;

use super::Done;
use super::args::Args;
use super::float;
use super::lists::{counted, counted_keys, positive};
use super::random::{Draw, Numbers};
use super::scanning::{Scanned, scan};
use crate::base::Reply;
use crate::machine::overlay::Overlay;
use crate::machine::values::zset::{self, Score};
use crate::machine::values::{Item, Kind, Value};

type View<'a, 'b> = &'a mut Overlay<'b>;

pub fn read<'a>(view: &'a Overlay<'_>, key: &Bytes) -> Result<Option<&'a Value>, Reply> {
    view.collection(key, Kind::Zset)
}

pub fn double(score: Score) -> Reply {
    Reply::Double(score.into_inner())
}

pub fn pair((item, score): (Item<'_>, Score)) -> (Reply, Reply) {
    (Reply::Bulk(item.to_bytes()), double(score))
}

/// `NX`, `XX`, `GT`, `LT`, `CH`, `INCR`.
#[allow(clippy::struct_excessive_bools)] // Each is a word of the command.
#[derive(Debug, Clone, Copy, Default)]
struct Options {
    only_new: bool,
    only_old: bool,
    greater: bool,
    less: bool,
    changed: bool,
    increment: bool,
}

impl Options {
    /// Reads options up to the first score, which is returned.
    fn parse<'a>(&mut self, a: &mut Args<'a>) -> Result<&'a Bytes, Reply> {
        loop {
            let word = a.next().map_err(|_| Reply::syntax())?;
            match word.to_ascii_uppercase().as_slice() {
                b"NX" => self.only_new = true,
                b"XX" => self.only_old = true,
                b"GT" => self.greater = true,
                b"LT" => self.less = true,
                b"CH" => self.changed = true,
                b"INCR" => self.increment = true,
                _ => return Ok(word),
            }
        }
    }

    fn check(self, pairs: usize) -> Result<(), Reply> {
        if self.only_new && self.only_old {
            return Err(Reply::err(
                "ERR XX and NX options at the same time are not compatible",
            ));
        }
        if [self.only_new, self.greater, self.less]
            .iter()
            .filter(|set| **set)
            .count()
            > 1
        {
            return Err(Reply::err(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if self.increment && pairs > 1 {
            return Err(Reply::err(
                "ERR INCR option supports a single increment-element pair",
            ));
        }
        Ok(())
    }

    /// The score that a member is to have; `None`: it is left as it is.
    fn new_score(self, old: Option<Score>, given: Score) -> Result<Option<Score>, Reply> {
        let Some(old) = old else {
            return Ok((!self.only_old).then_some(given));
        };
        if self.only_new {
            return Ok(None);
        }
        let new = if self.increment { sum(old, given)? } else { given };
        let refused = (self.greater && new <= old) || (self.less && new >= old);
        Ok((!refused).then_some(new))
    }
}

fn sum(a: Score, b: Score) -> Result<Score, Reply> {
    Score::new(a.into_inner() + b.into_inner())
        .map_err(|_| Reply::err("ERR resulting score is not a number (NaN)"))
}

/// What came of one member.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Put {
    Left,
    Added(Score),
    Changed(Score),
    Same(Score),
}

fn put(value: &mut Value, options: Options, member: &[u8], given: Score) -> Result<Put, Reply> {
    let old = zset::score(value, member);
    let Some(new) = options.new_score(old, given)? else {
        return Ok(Put::Left);
    };
    if old == Some(new) {
        return Ok(Put::Same(new));
    }
    zset::insert(value, member, new);
    Ok(if old.is_some() {
        Put::Changed(new)
    } else {
        Put::Added(new)
    })
}

fn add(view: View<'_, '_>, key: &Bytes, options: Options, pairs: &[(Score, Bytes)]) -> Done {
    let put_all = |value: &mut Value| {
        let all: Result<Vec<Put>, Reply> = pairs
            .iter()
            .map(|(score, member)| put(value, options, member, *score))
            .collect();
        let moved = |put: &Put| matches!(put, Put::Added(_) | Put::Changed(_));
        // Only an increment fails, and that is alone.
        let changed = all.as_ref().is_ok_and(|all| all.iter().any(moved));
        (all, changed)
    };
    let all = if options.only_old {
        view.edit(key, Kind::Zset, put_all)?
            .unwrap_or_else(|| Ok(vec![Put::Left]))?
    } else {
        view.edit_or_new(key, Kind::Zset, put_all)??
    };
    if options.increment {
        return Ok(match all.first() {
            Some(Put::Added(score) | Put::Changed(score) | Put::Same(score)) => double(*score),
            Some(Put::Left) | None => Reply::Nil,
        });
    }
    let counts = |put: &&Put| match put {
        Put::Added(_) => true,
        Put::Changed(_) => options.changed,
        _ => false,
    };
    Ok(Reply::count(all.iter().filter(counts).count()))
}

pub fn zadd(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let mut options = Options::default();
    let first = options.parse(a)?;
    if a.remaining().is_multiple_of(2) {
        return Err(Reply::syntax());
    }
    let rest = a.all();
    options.check(rest.len().div_ceil(2))?;
    let words: Vec<&Bytes> = std::iter::once(first).chain(&rest).collect();
    let pairs = words
        .chunks_exact(2)
        .map(|pair| Ok((float::score(pair[0])?, pair[1].clone())));
    let pairs = pairs.collect::<Result<Vec<_>, Reply>>()?;
    add(view, &key, options, &pairs)
}

pub fn zincrby(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, by, member) = (a.key()?, a.next()?, a.key()?);
    let options = Options {
        increment: true,
        ..Options::default()
    };
    add(view, &key, options, &[(float::score(by)?, member)])
}

pub fn zrem(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, members) = (a.key()?, a.all());
    let removed = view.edit(&key, Kind::Zset, |value| {
        let removed = members
            .iter()
            .filter(|member| zset::remove(value, member).is_some())
            .count();
        (removed, removed > 0)
    })?;
    Ok(Reply::count(removed.unwrap_or(0)))
}

pub fn zcard(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    Ok(Reply::count(read(view, &a.key()?)?.map_or(0, Value::len)))
}

fn score_of(value: Option<&Value>, member: &Bytes) -> Reply {
    let score = value.and_then(|value| zset::score(value, member));
    score.map_or(Reply::Nil, double)
}

pub fn zscore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, member) = (a.key()?, a.key()?);
    Ok(score_of(read(view, &key)?, &member))
}

pub fn zmscore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let value = read(view, &key)?;
    Ok(Reply::Array(
        a.all().iter().map(|member| score_of(value, member)).collect(),
    ))
}

fn rank(view: View<'_, '_>, a: &mut Args<'_>, from_top: bool) -> Done {
    let (key, member) = (a.key()?, a.key()?);
    let Some(value) = read(view, &key)? else {
        return Ok(Reply::Nil);
    };
    let rank = zset::rank(value, &member).map(|(rank, _)| rank);
    let rank = rank.map(|rank| if from_top { value.len() - 1 - rank } else { rank });
    Ok(rank.map_or(Reply::Nil, Reply::count))
}

pub fn zrank(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    rank(view, a, false)
}

pub fn zrevrank(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    rank(view, a, true)
}

/// Takes up to `count` members from an end.
pub fn take(
    view: View<'_, '_>,
    key: &Bytes,
    from_top: bool,
    count: usize,
) -> Result<Option<Vec<(Reply, Reply)>>, Reply> {
    view.edit(key, Kind::Zset, |value| {
        let all = zset::iter(value);
        let wanted: Vec<(Bytes, Score)> = if from_top {
            all.rev()
                .take(count)
                .map(|(item, score)| (item.to_bytes(), score))
                .collect()
        } else {
            all.take(count)
                .map(|(item, score)| (item.to_bytes(), score))
                .collect()
        };
        for (member, _) in &wanted {
            zset::remove(value, member);
        }
        let changed = !wanted.is_empty();
        let pairs = wanted
            .into_iter()
            .map(|(member, score)| (Reply::Bulk(member), double(score)));
        (pairs.collect(), changed)
    })
}

fn pop(view: View<'_, '_>, a: &mut Args<'_>, from_top: bool) -> Done {
    let key = a.key()?;
    let alone = a.remaining() == 0;
    if a.remaining() > 1 {
        return Err(Reply::syntax());
    }
    let count = if alone { 1 } else { positive(a.next()?)? };
    let taken = take(view, &key, from_top, count)?.unwrap_or_default();
    Ok(if alone {
        Reply::Array(
            taken
                .into_iter()
                .flat_map(|(member, score)| [member, score])
                .collect(),
        )
    } else {
        Reply::Pairs(taken)
    })
}

pub fn zpopmin(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    pop(view, a, false)
}

pub fn zpopmax(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    pop(view, a, true)
}

/// Which keys to pop from, whether from the top, and how many.
type Pop = (Vec<Bytes>, bool, usize);

/// Reads `numkeys key [key …] MIN|MAX [COUNT count]`.
pub fn popping(a: &mut Args<'_>) -> Result<Pop, Reply> {
    let keys = counted_keys(a)?;
    let from_top = match a.word().as_deref() {
        Some("MIN") => false,
        Some("MAX") => true,
        _ => return Err(Reply::syntax()),
    };
    Ok((keys, from_top, counted(a)?))
}

pub fn zmpop(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let wanted = popping(a)?;
    pop_first(view, wanted)
}

/// Pops from the first sorted set that has any.
pub fn pop_first(view: View<'_, '_>, (keys, from_top, count): Pop) -> Done {
    for key in keys {
        if let Some(taken) = take(view, &key, from_top, count)? {
            let pairs = taken
                .into_iter()
                .map(|(member, score)| Reply::Array(vec![member, score]));
            return Ok(Reply::Array(vec![
                Reply::Bulk(key),
                Reply::Array(pairs.collect()),
            ]));
        }
    }
    Ok(Reply::NilArray)
}

pub fn zrandmember(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let draw = Draw::parse(a, "WITHSCORES")?;
    let mut numbers = Numbers::of(view);
    let Some(value) = read(view, &key)? else {
        return Ok(draw.nothing());
    };
    let all = || zset::iter(value).map(pair);
    match zset::large(value) {
        None => draw.of_few(all().collect(), &mut numbers),
        Some(members) => {
            let one = |numbers: &mut Numbers| {
                let (name, score) = members.random(&mut || numbers.next())?;
                Some(pair((Item::Blob(name), *score)))
            };
            draw.of_many(members.len(), all, one, &mut numbers)
        }
    }
}

pub fn zscan(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    // A score here is text in RESP3, too.
    let text = |score: Score| Some(Reply::bulk(crate::base::float::general(score.into_inner())));
    scan(a, read(view, &key), |value, cursor, count| {
        match zset::large(value) {
            None => Scanned::all(zset::iter(value).map(|(item, score)| (item.to_bytes(), text(score)))),
            Some(members) => {
                let (page, next) = members.page(cursor, count);
                let page = page.into_iter();
                Scanned {
                    found: page
                        .map(|(name, score)| (name.to_bytes(), text(*score)))
                        .collect(),
                    next,
                }
            }
        }
    })
}
