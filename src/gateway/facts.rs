//! What Redis 7.0 says of its commands: since when, flags, categories, where their keys are. `facts.txt` has a line for each,
//! recorded by `tests/golden/facts.py`, which tells the form; so a command that is added here is described already.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::LazyLock;

use bytes::Bytes;

use crate::machine::commands::parse_i64;

/// A command of Redis, or a subcommand (`name|sub`).
#[derive(Debug)]
pub struct Fact {
    pub name: &'static str,
    pub since: &'static str,
    pub group: &'static str,
    pub arity: i64,
    /// First key, last key, step.
    pub keys: (i64, i64, i64),
    pub flags: Vec<&'static str>,
    /// Of its access lists.
    pub categories: Vec<&'static str>,
    pub tips: Vec<&'static str>,
    pub specs: Vec<KeySpec>,
}

/// Where some of a command's keys are.
#[derive(Debug)]
pub struct KeySpec {
    pub flags: Vec<&'static str>,
    pub begin: Begin,
    pub find: Find,
}

#[derive(Debug)]
pub enum Begin {
    Index(i64),
    /// Behind this word, searched from the argument with this number on, or that many from the end.
    Keyword(&'static str, i64),
    Unknown,
}

#[derive(Debug)]
pub enum Find {
    /// Up to one so far behind the first, or before the end of all, or of one part in `limit` of them.
    Range {
        last: i64,
        step: i64,
        limit: i64,
    },
    /// As many as the argument `at` says, from `first` on.
    Counted {
        at: i64,
        first: i64,
        step: i64,
    },
    Unknown,
}

static FACTS: LazyLock<BTreeMap<&str, Fact>> = LazyLock::new(|| {
    let lines = include_str!("facts.txt").lines();
    lines.filter_map(fact).map(|fact| (fact.name, fact)).collect()
});

/// By name, in lower case.
#[must_use]
pub fn find(name: &str) -> Option<&'static Fact> {
    FACTS.get(name)
}

/// A command's subcommands.
pub fn subcommands(name: &str) -> impl Iterator<Item = &'static Fact> {
    let prefix = format!("{name}|");
    let from = FACTS.range::<str, _>((Bound::Included(name), Bound::Unbounded));
    // What is not longer than its prefix is the command itself, and what is behind it but no subcommand (`client2`).
    let facts = from.map(|(_, fact)| fact).skip_while({
        let prefix = prefix.clone();
        move |fact| fact.name < &*prefix
    });
    facts.take_while(move |fact| fact.name.starts_with(&prefix))
}

fn fact(line: &'static str) -> Option<Fact> {
    let parts: Vec<&str> = line.split(' ').collect();
    let &[name, since, group, arity, keys, flags, categories, tips, specs] = &parts[..] else {
        return None;
    };
    let [first, last, step] = numbers(keys)?;
    Some(Fact {
        name,
        since,
        group,
        arity: number(arity)?,
        keys: (first, last, step),
        flags: list(flags, ','),
        categories: list(categories, ','),
        tips: list(tips, ','),
        specs: list(specs, ';').into_iter().map(spec).collect::<Option<_>>()?,
    })
}

fn list(text: &'static str, mark: char) -> Vec<&'static str> {
    match text {
        "-" => Vec::new(),
        items => items.split(mark).collect(),
    }
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn numbers<const N: usize>(text: &str) -> Option<[i64; N]> {
    let all: Vec<i64> = text.split(',').map(number).collect::<Option<_>>()?;
    all.try_into().ok()
}

fn spec(text: &'static str) -> Option<KeySpec> {
    let (flags, places) = text.split_once(':')?;
    let (begin, find) = places.split_once(':')?;
    let begin = match begin.split_at_checked(1)? {
        ("i", at) => Begin::Index(number(at)?),
        ("k", word) => {
            let (word, from) = word.split_once(',')?;
            Begin::Keyword(word, number(from)?)
        }
        _ => Begin::Unknown,
    };
    let find = match find.split_at_checked(1)? {
        ("r", range) => {
            let [last, step, limit] = numbers(range)?;
            Find::Range { last, step, limit }
        }
        ("n", counted) => {
            let [at, first, step] = numbers(counted)?;
            Find::Counted { at, first, step }
        }
        _ => Find::Unknown,
    };
    Some(KeySpec {
        flags: list(flags, ','),
        begin,
        find,
    })
}

/// Why a key spec gives no places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nowhere {
    /// Its word is not there, or the places are not told: others may have some.
    NotHere,
    /// The arguments are not what the command wants.
    Invalid,
}

impl KeySpec {
    /// Whether it tells channels, which are no keys.
    #[must_use]
    pub fn is_of_channels(&self) -> bool {
        self.flags.contains(&"not_key")
    }

    /// The places of the keys among `args`, of which the first is the command's name.
    ///
    /// # Errors
    /// There are none.
    pub fn places(&self, args: &[Bytes]) -> Result<Vec<usize>, Nowhere> {
        let count = i64::try_from(args.len()).unwrap_or(i64::MAX);
        let begin = self.begin(args, count)?;
        let (first, last, step) = match self.find {
            Find::Unknown => return Err(Nowhere::NotHere),
            Find::Range { last, step, .. } if last >= 0 => (begin, begin + last, step),
            Find::Range {
                last,
                step,
                limit: ..=1,
            } => (begin, count + last, step),
            Find::Range { last, step, limit } => (begin, begin + (count - begin) / limit + last, step),
            Find::Counted { at, first, step } => {
                let given = usize::try_from(begin + at).ok().and_then(|at| args.get(at));
                let keys = given.and_then(|given| parse_i64(given)).filter(|keys| *keys >= 0);
                let keys = keys.ok_or(Nowhere::Invalid)?;
                let begin = begin + first;
                (begin, begin.saturating_add((keys - 1).saturating_mul(step)), step)
            }
        };
        if last >= count {
            return Err(Nowhere::Invalid);
        }
        let step = usize::try_from(step).unwrap_or(1).max(1);
        Ok((first..=last)
            .step_by(step)
            .filter_map(|at| usize::try_from(at).ok())
            .collect())
    }

    fn begin(&self, args: &[Bytes], count: i64) -> Result<i64, Nowhere> {
        let (word, from) = match self.begin {
            Begin::Index(at) => return Ok(at),
            Begin::Keyword(word, from) => (word, from),
            Begin::Unknown => return Err(Nowhere::NotHere),
        };
        let start = if from > 0 { from } else { count + from };
        let mut places: Vec<i64> = (1..count).collect();
        if from > 0 {
            places.retain(|at| *at >= start);
        } else {
            places.retain(|at| *at <= start);
            places.reverse();
        }
        let is_word = |at: &i64| {
            let arg = usize::try_from(*at).ok().and_then(|at| args.get(at));
            arg.is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
        };
        let found = places.into_iter().find(is_word);
        found.map(|at| at + 1).ok_or(Nowhere::NotHere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_read_and_each_subcommand_is_one_of_its_command() {
        assert_eq!(FACTS.len(), include_str!("facts.txt").lines().count());
        let containers = FACTS.keys().filter_map(|name| name.split_once('|'));
        for (name, sub) in containers {
            assert!(find(name).is_some(), "{name}");
            assert!(subcommands(name).any(|fact| fact.name.ends_with(sub)));
        }
        assert_eq!(subcommands("xinfo").count(), 4);
        assert_eq!(subcommands("get").count(), 0);
    }
}
