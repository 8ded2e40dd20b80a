//! Sorted set commands about ranges: by rank, by score, by name.

use std::ops::{Bound, Range};

use bytes::Bytes;

use super::Done;
use super::args::{Args, parse_f64, parse_i64};
use super::sets::replace;
use super::zsets::{pair, read};
use crate::base::Reply;
use crate::machine::overlay::Overlay;
use crate::machine::values::zset::{self, Score};
use crate::machine::values::{Kind, Value, list};

type View<'a, 'b> = &'a mut Overlay<'b>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Name,
}

/// A range of a sorted set, from the lowest on.
#[derive(Debug, Clone)]
enum Span {
    /// First and last rank, as `LRANGE` understands them.
    Ranks(i64, i64),
    Scores(Bound<Score>, Bound<Score>),
    Names(Limit, Limit),
}

/// An end of a range of names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Limit {
    Lowest,
    At(Bytes),
    Beside(Bytes),
    Highest,
}

fn score_limit(text: &[u8]) -> Result<Bound<Score>, Reply> {
    let (digits, open) = match text.strip_prefix(b"(") {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    // As C's strtod reads it: blanks may lead, nothing is zero, too large is infinite.
    let number = match digits {
        [] => Some(0.0),
        digits => parse_f64(digits.trim_ascii_start()),
    };
    let number = number.and_then(|number| Score::new(number).ok());
    let number = number.ok_or_else(|| Reply::err("ERR min or max is not a float"))?;
    Ok(if open {
        Bound::Excluded(number)
    } else {
        Bound::Included(number)
    })
}

fn name_limit(text: &Bytes) -> Result<Limit, Reply> {
    match text.split_first() {
        Some((b'-', [])) => Ok(Limit::Lowest),
        Some((b'+', [])) => Ok(Limit::Highest),
        Some((b'[', _)) => Ok(Limit::At(text.slice(1..))),
        Some((b'(', _)) => Ok(Limit::Beside(text.slice(1..))),
        _ => Err(Reply::err("ERR min or max not valid string range item")),
    }
}

impl Span {
    fn parse(by: By, low: &Bytes, high: &Bytes) -> Result<Span, Reply> {
        let rank = |text: &Bytes| parse_i64(text).ok_or_else(Reply::not_an_integer);
        Ok(match by {
            By::Rank => Span::Ranks(rank(low)?, rank(high)?),
            By::Score => Span::Scores(score_limit(low)?, score_limit(high)?),
            By::Name => Span::Names(name_limit(low)?, name_limit(high)?),
        })
    }

    /// The ranks that it comes to.
    fn ranks(&self, value: &Value, reverse: bool) -> Range<usize> {
        let (start, end) = match self {
            Span::Ranks(start, stop) => {
                let len = value.len();
                let span = list::span(len, *start, *stop);
                return if reverse {
                    len - span.end..len - span.start
                } else {
                    span
                };
            }
            Span::Scores(low, high) => (
                zset::partition_point(value, |score, _| match low {
                    Bound::Included(low) => score < *low,
                    Bound::Excluded(low) => score <= *low,
                    Bound::Unbounded => false,
                }),
                zset::partition_point(value, |score, _| match high {
                    Bound::Included(high) => score <= *high,
                    Bound::Excluded(high) => score < *high,
                    Bound::Unbounded => true,
                }),
            ),
            Span::Names(low, high) => (
                zset::partition_point(value, |_, name| match low {
                    Limit::Lowest => false,
                    Limit::At(low) => *name < **low,
                    Limit::Beside(low) => *name <= **low,
                    Limit::Highest => true,
                }),
                zset::partition_point(value, |_, name| match high {
                    Limit::Lowest => false,
                    Limit::At(high) => *name <= **high,
                    Limit::Beside(high) => *name < **high,
                    Limit::Highest => true,
                }),
            ),
        };
        if start >= end { 0..0 } else { start..end }
    }
}

/// What a command of the `ZRANGE` kind asks for.
#[derive(Debug)]
struct Wanted {
    span: Span,
    reverse: bool,
    /// Skip so many (negative: there is nothing), then take so many (negative: all).
    limit: Option<(i64, i64)>,
    scores: bool,
}

impl Wanted {
    /// Reads `start stop` and what comes behind it. `by` and `reverse` are given by the name of the older commands.
    fn parse(a: &mut Args<'_>, older: Option<(By, bool)>, storing: bool) -> Result<Wanted, Reply> {
        let (low, high) = (a.next()?, a.next()?);
        let (mut by, mut reverse) = older.unwrap_or((By::Rank, false));
        let (mut limit, mut scores) = (None, false);
        while let Some(word) = a.word() {
            match word.as_str() {
                "WITHSCORES" if !storing => scores = true,
                "LIMIT" if a.remaining() >= 2 => {
                    let number = |text: &Bytes| parse_i64(text).ok_or_else(Reply::not_an_integer);
                    limit = Some((number(a.value()?)?, number(a.value()?)?));
                }
                "REV" if older.is_none() && !reverse => reverse = true,
                "BYSCORE" if older.is_none() && by == By::Rank => by = By::Score,
                "BYLEX" if older.is_none() && by == By::Rank => by = By::Name,
                _ => return Err(Reply::syntax()),
            }
        }
        if by == By::Rank && limit.is_some_and(|(_, take)| take == -1) {
            // All that there are: as if it were not said, in Redis as well.
            limit = None;
        }
        if limit.is_some() && by == By::Rank {
            return Err(Reply::err(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if scores && by == By::Name {
            return Err(Reply::err(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (low, high) = if reverse && by != By::Rank {
            (high, low)
        } else {
            (low, high)
        };
        Ok(Wanted {
            span: Span::parse(by, low, high)?,
            reverse,
            limit,
            scores,
        })
    }

    /// The ranks to give, from the lowest on.
    fn ranks(&self, value: &Value) -> Range<usize> {
        let ranks = self.span.ranks(value, self.reverse);
        let Some((skip, take)) = self.limit else {
            return ranks;
        };
        let Ok(skip) = usize::try_from(skip) else {
            return 0..0;
        };
        let take = usize::try_from(take).unwrap_or(usize::MAX);
        if self.reverse {
            let end = ranks.end - skip.min(ranks.len());
            end.saturating_sub(take).max(ranks.start)..end
        } else {
            let start = ranks.start + skip.min(ranks.len());
            start..start.saturating_add(take).min(ranks.end)
        }
    }

    fn reply(&self, value: Option<&Value>) -> Reply {
        let mut found = Vec::new();
        if let Some(value) = value {
            let range = zset::range(value, self.ranks(value));
            if self.reverse {
                found.extend(range.rev().map(pair));
            } else {
                found.extend(range.map(pair));
            }
        }
        if self.scores {
            return Reply::Pairs(found);
        }
        Reply::Array(found.into_iter().map(|(member, _)| member).collect())
    }
}

fn range(view: View<'_, '_>, a: &mut Args<'_>, older: Option<(By, bool)>) -> Done {
    let key = a.key()?;
    let wanted = Wanted::parse(a, older, false)?;
    Ok(wanted.reply(read(view, &key)?))
}

pub fn zrange(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    range(view, a, None)
}

pub fn zrevrange(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    range(view, a, Some((By::Rank, true)))
}

pub fn zrangebyscore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    range(view, a, Some((By::Score, false)))
}

pub fn zrevrangebyscore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    range(view, a, Some((By::Score, true)))
}

pub fn zrangebylex(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    range(view, a, Some((By::Name, false)))
}

pub fn zrevrangebylex(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    range(view, a, Some((By::Name, true)))
}

pub fn zrangestore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (to, from) = (a.key()?, a.key()?);
    let wanted = Wanted::parse(a, None, true)?;
    let result = match read(view, &from)? {
        None => Value::empty(Kind::Zset),
        Some(value) => {
            let found: Vec<_> = zset::range(value, wanted.ranks(value)).collect();
            zset::of(found.iter().map(|(item, score)| (&**item, *score)))
        }
    };
    Ok(replace(view, &to, result))
}

fn count(view: View<'_, '_>, a: &mut Args<'_>, by: By) -> Done {
    let key = a.key()?;
    let span = Span::parse(by, a.next()?, a.next()?)?;
    let value = read(view, &key)?;
    Ok(Reply::count(
        value.map_or(0, |value| span.ranks(value, false).len()),
    ))
}

pub fn zcount(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    count(view, a, By::Score)
}

pub fn zlexcount(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    count(view, a, By::Name)
}

fn remove(view: View<'_, '_>, a: &mut Args<'_>, by: By) -> Done {
    let key = a.key()?;
    let span = Span::parse(by, a.next()?, a.next()?)?;
    let removed = view.edit(&key, Kind::Zset, |value| {
        let ranks = span.ranks(value, false);
        let gone: Vec<Bytes> = zset::range(value, ranks)
            .map(|(item, _)| item.to_bytes())
            .collect();
        for member in &gone {
            zset::remove(value, member);
        }
        (gone.len(), !gone.is_empty())
    })?;
    Ok(Reply::count(removed.unwrap_or(0)))
}

pub fn zremrangebyrank(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    remove(view, a, By::Rank)
}

pub fn zremrangebyscore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    remove(view, a, By::Score)
}

pub fn zremrangebylex(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    remove(view, a, By::Name)
}
