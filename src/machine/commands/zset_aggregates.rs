//! Sorted sets (and sets, whose members score 1) combined: unions, intersections, differences.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Done;
use super::args::{Args, parse_i64};
use super::sets::{limit, replace};
use super::zsets::double;
use crate::base::Reply;
use crate::machine::overlay::Overlay;
use crate::machine::values::zset::{self, Score};
use crate::machine::values::{Item, Kind, Value, set};

type View<'a, 'b> = &'a mut Overlay<'b>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algebra {
    Union,
    Inter,
    Diff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            // Infinities of both signs cancel out, as in Redis.
            Aggregate::Sum if (a + b).is_nan() => 0.0,
            Aggregate::Sum => a + b,
            Aggregate::Min if b < a => b,
            Aggregate::Max if b > a => b,
            Aggregate::Min | Aggregate::Max => a,
        }
    }
}

/// What a command of this kind asks for.
#[derive(Debug)]
struct Wanted {
    keys: Vec<Bytes>,
    weights: Vec<f64>,
    aggregate: Aggregate,
    scores: bool,
    /// Members that are counted.
    most: usize,
}

/// What becomes of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Out {
    Reply,
    Store,
    Count,
}

impl Wanted {
    /// The types of the keys are looked at before the options, as Redis does.
    fn parse(view: &Overlay<'_>, a: &mut Args<'_>, algebra: Algebra, out: Out) -> Result<Wanted, Reply> {
        let count = parse_i64(a.next()?).ok_or_else(Reply::not_an_integer)?;
        let count = usize::try_from(count).unwrap_or(0);
        if count == 0 {
            let name = a.name();
            return Err(Reply::err(format!(
                "ERR at least 1 input key is needed for '{name}' command"
            )));
        }
        if count > a.remaining() {
            return Err(Reply::syntax());
        }
        let keys = (0..count).map(|_| a.key()).collect::<Result<Vec<_>, _>>()?;
        let mut wanted = Wanted {
            weights: vec![1.0; keys.len()],
            keys,
            aggregate: Aggregate::Sum,
            scores: false,
            most: usize::MAX,
        };
        for key in &wanted.keys {
            source(view, key)?;
        }
        let combines = algebra != Algebra::Diff && out != Out::Count;
        while let Some(word) = a.word() {
            match word.as_str() {
                "WEIGHTS" if combines && a.remaining() >= count => {
                    for weight in &mut wanted.weights {
                        let number = super::float::double(a.value()?);
                        *weight = number.ok_or_else(|| Reply::err("ERR weight value is not a float"))?;
                    }
                }
                "AGGREGATE" if combines && a.remaining() >= 1 => {
                    wanted.aggregate = match a.word().as_deref() {
                        Some("SUM") => Aggregate::Sum,
                        Some("MIN") => Aggregate::Min,
                        Some("MAX") => Aggregate::Max,
                        _ => return Err(Reply::syntax()),
                    };
                }
                "WITHSCORES" if out == Out::Reply => wanted.scores = true,
                "LIMIT" if out == Out::Count && a.remaining() >= 1 => wanted.most = limit(a.next()?)?,
                _ => return Err(Reply::syntax()),
            }
        }
        Ok(wanted)
    }
}

/// A sorted set, or a set.
fn source<'a>(view: &'a Overlay<'_>, key: &[u8]) -> Result<Option<&'a Value>, Reply> {
    match view.get(key) {
        None => Ok(None),
        Some((value, _)) if matches!(value.kind(), Some(Kind::Zset | Kind::Set)) => Ok(Some(value)),
        Some(_) => Err(Reply::wrong_type()),
    }
}

fn score(value: &Value, member: &[u8]) -> Option<f64> {
    match value.kind() {
        Some(Kind::Set) => set::contains(value, member).then_some(1.0),
        _ => zset::score(value, member).map(Score::into_inner),
    }
}

fn iter(value: &Value) -> Box<dyn Iterator<Item = (Item<'_>, f64)> + '_> {
    match value.kind() {
        Some(Kind::Set) => Box::new(set::iter(value).map(|item| (item, 1.0))),
        _ => Box::new(zset::iter(value).map(|(item, score)| (item, score.into_inner()))),
    }
}

fn weighed(score: f64, weight: f64) -> f64 {
    let product = score * weight;
    if product.is_nan() { 0.0 } else { product }
}

/// Members and scores of the result, in no order that counts.
fn combined(view: &Overlay<'_>, wanted: &Wanted, algebra: Algebra) -> Result<Vec<(Bytes, f64)>, Reply> {
    let sources = wanted.keys.iter().map(|key| source(view, key));
    let sources = sources.collect::<Result<Vec<Option<&Value>>, Reply>>()?;
    // From the smallest on, as Redis does: sums of fractions depend on the order.
    let mut weighted: Vec<(Option<&Value>, f64)> =
        sources.iter().copied().zip(wanted.weights.clone()).collect();
    weighted.sort_by_key(|(value, _)| value.map_or(0, Value::len));
    match algebra {
        Algebra::Union => {
            // Looked up only; what comes out stands in the order of arrival.
            let (mut all, mut places) = (Vec::new(), BTreeMap::new());
            for (value, weight) in weighted
                .into_iter()
                .filter_map(|(value, weight)| Some((value?, weight)))
            {
                for (item, score) in iter(value) {
                    let (name, score) = (item.to_bytes(), weighed(score, weight));
                    let at = *places.entry(name.clone()).or_insert(all.len());
                    match all.get_mut(at) {
                        None => all.push((name, score)),
                        Some((_, before)) => *before = wanted.aggregate.of(*before, score),
                    }
                }
            }
            Ok(all)
        }
        Algebra::Inter => {
            let values = weighted.into_iter().map(|(value, weight)| Some((value?, weight)));
            let Some(values) = values.collect::<Option<Vec<(&Value, f64)>>>() else {
                return Ok(Vec::new());
            };
            let Some((smallest, _)) = values.first() else {
                return Ok(Vec::new());
            };
            let common = iter(smallest).filter_map(|(item, _)| {
                let scores = values.iter();
                let mut scores = scores.map(|(value, weight)| Some(score(value, &item)? * weight));
                // Of the first alone, what is no number counts as zero; of others it makes the sum none.
                let first = scores.next()??;
                let first = if first.is_nan() { 0.0 } else { first };
                let total = scores.try_fold(first, |sum, score| Some(wanted.aggregate.of(sum, score?)))?;
                Some((item.to_bytes(), total))
            });
            Ok(common.collect())
        }
        Algebra::Diff => {
            let Some((Some(first), others)) = sources.split_first() else {
                return Ok(Vec::new());
            };
            let left = iter(first)
                .filter(|(item, _)| !others.iter().flatten().any(|value| score(value, item).is_some()));
            Ok(left.map(|(item, score)| (item.to_bytes(), score)).collect())
        }
    }
}

fn sorted(mut all: Vec<(Bytes, f64)>) -> Vec<(Bytes, Score)> {
    let mut scored: Vec<(Score, Bytes)> = all
        .drain(..)
        .map(|(name, score)| (Score::new(score).unwrap_or_default(), name))
        .collect();
    scored.sort();
    scored.into_iter().map(|(score, name)| (name, score)).collect()
}

fn reply(view: View<'_, '_>, a: &mut Args<'_>, algebra: Algebra) -> Done {
    let wanted = Wanted::parse(view, a, algebra, Out::Reply)?;
    let found = sorted(combined(view, &wanted, algebra)?);
    let mut pairs = found
        .into_iter()
        .map(|(name, score)| (Reply::Bulk(name), double(score)));
    Ok(if wanted.scores {
        Reply::Pairs(pairs.collect())
    } else {
        Reply::Array(pairs.by_ref().map(|(name, _)| name).collect())
    })
}

fn store(view: View<'_, '_>, a: &mut Args<'_>, algebra: Algebra) -> Done {
    let to = a.key()?;
    let wanted = Wanted::parse(view, a, algebra, Out::Store)?;
    let found = sorted(combined(view, &wanted, algebra)?);
    let result = zset::of(found.iter().map(|(name, score)| (&**name, *score)));
    Ok(replace(view, &to, result))
}

pub fn zunion(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    reply(view, a, Algebra::Union)
}

pub fn zinter(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    reply(view, a, Algebra::Inter)
}

pub fn zdiff(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    reply(view, a, Algebra::Diff)
}

pub fn zunionstore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    store(view, a, Algebra::Union)
}

pub fn zinterstore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    store(view, a, Algebra::Inter)
}

pub fn zdiffstore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    store(view, a, Algebra::Diff)
}

pub fn zintercard(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let wanted = Wanted::parse(view, a, Algebra::Inter, Out::Count)?;
    let common = combined(view, &wanted, Algebra::Inter)?;
    Ok(Reply::count(common.len().min(wanted.most)))
}
