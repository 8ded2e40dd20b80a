//! Commands on entries alone: XADD, XDEL, XTRIM, XRANGE, XLEN, XSETID.

use bytes::Bytes;

use super::ids::{self, New};
use super::{View, edit, entry, id_reply, read};
use crate::base::Reply;
use crate::machine::commands::Done;
use crate::machine::commands::args::{Args, parse_i64, wrong_arity};
use crate::machine::values::stream::{self, Id, Stream};
use crate::machine::values::{Kind, Packed};

/// What `~` without a LIMIT drops at a time, at the most: as many as Redis does.
const APPROXIMATE_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy)]
enum Keep {
    Newest(usize),
    From(Id),
}

/// `MAXLEN|MINID [=|~] threshold [LIMIT count]`
#[derive(Debug, Default)]
struct Trim {
    keep: Option<Keep>,
    approximate: bool,
    limit: Option<usize>,
}

impl Trim {
    /// Takes the option `word` if it is of these.
    fn take(&mut self, word: &str, a: &mut Args<'_>) -> Result<bool, Reply> {
        match word {
            "MAXLEN" | "MINID" if self.keep.is_some() => Err(Reply::err(
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            )),
            "MAXLEN" | "MINID" => {
                let mut threshold = a.value()?;
                if threshold == "~" || threshold == "=" {
                    self.approximate = threshold == "~";
                    threshold = a.value()?;
                }
                self.keep = Some(if word == "MAXLEN" {
                    let most = parse_i64(threshold).ok_or_else(Reply::not_an_integer)?;
                    let most = usize::try_from(most)
                        .map_err(|_| Reply::err("ERR The MAXLEN argument must be >= 0."))?;
                    Keep::Newest(most)
                } else {
                    Keep::From(ids::exact(threshold, 0)?)
                });
                Ok(true)
            }
            "LIMIT" => {
                let limit = parse_i64(a.value()?).ok_or_else(Reply::not_an_integer)?;
                let limit =
                    usize::try_from(limit).map_err(|_| Reply::err("ERR The LIMIT argument must be >= 0."))?;
                self.limit = Some(limit);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn check(&self) -> Result<(), Reply> {
        if self.limit.is_some() && self.keep.is_none() {
            return Err(Reply::err(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        if self.limit.is_some() && !self.approximate {
            return Err(Reply::err(
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            ));
        }
        Ok(())
    }

    fn apply(&self, stream: &mut Stream) -> usize {
        let most = match self.limit {
            Some(0) => usize::MAX,
            Some(limit) => limit,
            None if self.approximate => APPROXIMATE_MAX,
            None => usize::MAX,
        };
        match self.keep {
            None => 0,
            Some(Keep::Newest(newest)) => stream.trim(most, |len, _| len > newest),
            Some(Keep::From(from)) => stream.trim(most, |_, first| first < from),
        }
    }
}

pub fn xadd(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let mut trim = Trim::default();
    let mut make = true;
    let new = loop {
        let word = a.next()?;
        match String::from_utf8_lossy(word).to_ascii_uppercase().as_str() {
            "NOMKSTREAM" => make = false,
            option if trim.take(option, a)? => {}
            _ => break New::parse(word)?,
        }
    };
    trim.check()?;
    let fields = a.all();
    if fields.is_empty() || !fields.len().is_multiple_of(2) {
        return Err(wrong_arity(a.name()));
    }
    if new == New::Exact(Id::ZERO) {
        return Err(Reply::err(
            "ERR The ID specified in XADD must be greater than 0-0",
        ));
    }
    let (last, there) = match read(view, &key)? {
        Some(stream) => (stream.last, true),
        None => (Id::ZERO, false),
    };
    if !there && !make {
        return Ok(Reply::Nil);
    }
    let id = new.after(last, view.now())?;
    view.edit_or_new(&key, Kind::Stream, |value| {
        let stream = stream::of_mut(value);
        stream.add(id, Packed::of(&fields));
        trim.apply(stream);
        ((), true)
    })?;
    Ok(id_reply(id))
}

pub fn xlen(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    Ok(Reply::count(read(view, &a.key()?)?.map_or(0, Stream::len)))
}

pub fn xtrim(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let mut trim = Trim::default();
    while let Some(word) = a.word() {
        if !trim.take(&word, a)? {
            return Err(Reply::syntax());
        }
    }
    trim.check()?;
    if trim.keep.is_none() {
        return Err(Reply::err(
            "ERR syntax error, XTRIM must be called with the MAXLEN or MINID options",
        ));
    }
    let trimmed = edit(view, &key, |stream| {
        let gone = trim.apply(stream);
        (gone, gone > 0)
    })?;
    Ok(Reply::count(trimmed.unwrap_or(0)))
}

pub fn xdel(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    if read(view, &key)?.is_none() {
        return Ok(Reply::Int(0));
    }
    let ids: Vec<Id> = a
        .all()
        .iter()
        .map(|id| ids::exact(id, 0))
        .collect::<Result<_, _>>()?;
    let deleted = edit(view, &key, |stream| {
        let deleted = ids.iter().filter(|id| stream.delete(**id)).count();
        (deleted, deleted > 0)
    })?;
    Ok(Reply::count(deleted.unwrap_or(0)))
}

fn range(view: View<'_, '_>, a: &mut Args<'_>, reverse: bool) -> Done {
    let key = a.key()?;
    let (first, second) = (a.next()?, a.next()?);
    let (from, to) = if reverse { (second, first) } else { (first, second) };
    let (from, to) = (ids::start(from)?, ids::end(to)?);
    let mut count = None;
    while let Some(word) = a.word() {
        if word != "COUNT" {
            return Err(Reply::syntax());
        }
        let most = parse_i64(a.value()?).ok_or_else(Reply::not_an_integer)?;
        count = Some(usize::try_from(most).unwrap_or(0));
    }
    let Some(stream) = read(view, &key)? else {
        return Ok(Reply::Array(Vec::new()));
    };
    if count == Some(0) {
        return Ok(Reply::NilArray);
    }
    if from > to {
        return Ok(Reply::Array(Vec::new()));
    }
    let most = count.unwrap_or(usize::MAX);
    let within = stream.range(from..=to);
    let show = |(id, fields)| entry(id, fields);
    Ok(Reply::Array(if reverse {
        within.rev().take(most).map(show).collect()
    } else {
        within.take(most).map(show).collect()
    }))
}

pub fn xrange(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    range(view, a, false)
}

pub fn xrevrange(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    range(view, a, true)
}

fn count_of(text: &Bytes, name: &str) -> Result<u64, Reply> {
    let count = parse_i64(text).ok_or_else(Reply::not_an_integer)?;
    u64::try_from(count).map_err(|_| Reply::err(format!("ERR {name} must be positive")))
}

pub fn xsetid(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, id) = (a.key()?, ids::exact(a.next()?, 0)?);
    let (mut added, mut deleted) = (None, None);
    while let Some(word) = a.word() {
        match word.as_str() {
            "ENTRIESADDED" => added = Some(count_of(a.value()?, "entries_added")?),
            "MAXDELETEDID" => {
                let given = ids::exact(a.value()?, 0)?;
                if id < given {
                    return Err(Reply::err(
                        "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                    ));
                }
                deleted = Some(given);
            }
            _ => return Err(Reply::syntax()),
        }
    }
    let stream = read(view, &key)?.ok_or_else(|| Reply::err("ERR no such key"))?;
    if let Some((newest, _)) = stream.newest() {
        if id < newest {
            return Err(Reply::err(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if added.is_some_and(|added| added < stream.len() as u64) {
            return Err(Reply::err(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
    }
    edit(view, &key, |stream| {
        stream.last = id;
        stream.added = added.unwrap_or(stream.added);
        if let Some(deleted) = deleted.filter(|deleted| *deleted != Id::ZERO) {
            stream.max_deleted = deleted;
        }
        ((), true)
    })?;
    Ok(Reply::ok())
}
