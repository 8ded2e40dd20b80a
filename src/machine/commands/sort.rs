//! SORT. Its patterns name keys that only the elements tell: where it has any it runs as a script does, at the gateway, which finds
//! the keys as it comes upon them.

use std::cmp::Ordering;

use bytes::Bytes;
use smallvec::SmallVec;

use super::args::Args;
use super::float::double;
use super::script::Eval;
use super::{Command, Done, View};
use crate::base::Reply;
use crate::machine::keyspace::Blob;
use crate::machine::overlay::Overlay;
use crate::machine::values::{Item, Kind, hash, list, set, zset};

/// `prefix*suffix` or `prefix*suffix->field`: a key, or a field of a hash, for each element.
#[derive(Debug, PartialEq)]
enum Pattern {
    /// `#`
    Element,
    /// Without `*`: nothing is found.
    Nothing,
    Key {
        prefix: Bytes,
        suffix: Bytes,
        field: Option<Bytes>,
    },
}

impl Pattern {
    fn parse(text: &Bytes) -> Pattern {
        if text == "#" {
            return Pattern::Element;
        }
        let Some(star) = text.iter().position(|byte| *byte == b'*') else {
            return Pattern::Nothing;
        };
        let rest = text.slice(star + 1..);
        let arrow = rest.windows(2).position(|two| two == b"->");
        let arrow = arrow.filter(|at| at + 2 < rest.len());
        Pattern::Key {
            prefix: text.slice(..star),
            suffix: arrow.map_or_else(|| rest.clone(), |at| rest.slice(..at)),
            field: arrow.map(|at| rest.slice(at + 2..)),
        }
    }

    fn key(&self, element: &[u8]) -> Option<Bytes> {
        match self {
            Pattern::Key { prefix, suffix, .. } => Some([prefix, element, suffix].concat().into()),
            Pattern::Element | Pattern::Nothing => None,
        }
    }

    fn look_up(&self, view: &Overlay<'_>, element: &Bytes) -> Option<Bytes> {
        if *self == Pattern::Element {
            return Some(element.clone());
        }
        let (value, _) = view.get(&self.key(element)?)?;
        match (self, value) {
            (Pattern::Key { field: None, .. }, value) => value.as_str().map(Blob::to_bytes),
            (
                Pattern::Key {
                    field: Some(field), ..
                },
                value,
            ) if value.kind() == Some(Kind::Hash) => hash::get(value, field).map(Item::to_bytes),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct Sort {
    key: Bytes,
    by: Option<Pattern>,
    get: Vec<Pattern>,
    limit: Option<(i64, i64)>,
    descending: bool,
    alphabetical: bool,
    store: Option<Bytes>,
}

impl Sort {
    fn parse(a: &mut Args<'_>) -> Result<Sort, Reply> {
        let read_only = a.name() == "sort_ro";
        let mut sort = Sort {
            key: a.key()?,
            ..Sort::default()
        };
        while let Some(word) = a.word() {
            match word.as_str() {
                "ASC" => sort.descending = false,
                "DESC" => sort.descending = true,
                "ALPHA" => sort.alphabetical = true,
                "LIMIT" if a.remaining() >= 2 => sort.limit = Some((a.int()?, a.int()?)),
                "STORE" if !read_only => sort.store = Some(a.value()?.clone()),
                "BY" => sort.by = Some(Pattern::parse(a.value()?)),
                "GET" => sort.get.push(Pattern::parse(a.value()?)),
                _ => return Err(Reply::syntax()),
            }
        }
        Ok(sort)
    }

    fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.by.iter().chain(&self.get)
    }

    /// What is to be sorted, in the order in which it lies.
    fn elements(&self, view: &Overlay<'_>) -> Result<Vec<Bytes>, Reply> {
        let Some((value, _)) = view.get(&self.key) else {
            return Ok(Vec::new());
        };
        match value.kind() {
            Some(Kind::List) => Ok(list::iter(value, list::End::Left).map(Item::to_bytes).collect()),
            Some(Kind::Set) => Ok(set::iter(value).map(Item::to_bytes).collect()),
            Some(Kind::Zset) => Ok(zset::iter(value).map(|(member, _)| member.to_bytes()).collect()),
            _ => Err(Reply::wrong_type()),
        }
    }

    fn in_order(&self, view: &Overlay<'_>) -> Result<Vec<Bytes>, Reply> {
        let mut elements = self.elements(view)?;
        let kind = view.get(&self.key).and_then(|(value, _)| value.kind());
        if self.by == Some(Pattern::Nothing) {
            // A set has no order, and what is stored has one.
            let is_set = kind == Some(Kind::Set);
            if is_set && self.store.is_some() {
                elements.sort();
            }
            if self.descending && (!is_set || self.store.is_some()) {
                elements.reverse();
            }
            return Ok(elements);
        }
        let weight = |element: Bytes| {
            let weight = match &self.by {
                Some(by) => by.look_up(view, &element),
                None => Some(element.clone()),
            };
            (weight, element)
        };
        let weighed: Vec<(Option<Bytes>, Bytes)> = elements.into_iter().map(weight).collect();
        let mut sorted = if self.alphabetical {
            weighed
                .into_iter()
                .map(|(weight, element)| (0.0, weight, element))
                .collect()
        } else {
            numbers(weighed)?
        };
        sorted.sort_by(|a, b| {
            let by_number = a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal);
            let order = by_number.then_with(|| a.1.cmp(&b.1)).then_with(|| a.2.cmp(&b.2));
            if self.descending { order.reverse() } else { order }
        });
        Ok(sorted.into_iter().map(|(_, _, element)| element).collect())
    }

    fn limited(&self, elements: Vec<Bytes>) -> Vec<Bytes> {
        let Some((start, count)) = self.limit else {
            return elements;
        };
        let start = usize::try_from(start).unwrap_or(0);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        elements.into_iter().skip(start).take(count).collect()
    }

    fn run(self, view: View<'_, '_>) -> Done {
        let elements = self.limited(self.in_order(view)?);
        let found: Vec<Option<Bytes>> = if self.get.is_empty() {
            elements.into_iter().map(Some).collect()
        } else {
            let looks = |element| self.get.iter().map(move |get| (get, element));
            let looks = elements.iter().flat_map(looks);
            looks.map(|(get, element)| get.look_up(view, element)).collect()
        };
        let Some(to) = &self.store else {
            let found = found
                .into_iter()
                .map(|found| found.map_or(Reply::Nil, Reply::Bulk));
            return Ok(Reply::Array(found.collect()));
        };
        view.remove(to);
        if !found.is_empty() {
            view.edit_or_new(to, Kind::List, |value| {
                for element in &found {
                    list::push(value, list::End::Right, element.as_deref().unwrap_or_default());
                }
                ((), true)
            })?;
        }
        Ok(Reply::count(found.len()))
    }
}

type Weighed = (f64, Option<Bytes>, Bytes);

fn numbers(weighed: Vec<(Option<Bytes>, Bytes)>) -> Result<Vec<Weighed>, Reply> {
    let number = |(weight, element): (Option<Bytes>, Bytes)| {
        let number = match weight {
            None => Some(0.0),
            Some(text) if text.is_empty() => Some(0.0),
            Some(text) => double(&text),
        };
        number.map(|number| (number, None, element))
    };
    let all: Option<Vec<Weighed>> = weighed.into_iter().map(number).collect();
    all.ok_or_else(|| Reply::err("ERR One or more scores can't be converted into double"))
}

pub fn sort(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    Sort::parse(a)?.run(view)
}

/// The key to store in, if it does.
fn stored(args: &[Bytes]) -> Option<&Bytes> {
    let mut at = 1;
    let mut to = None;
    while let Some(word) = args.get(at) {
        at += match word.to_ascii_uppercase().as_slice() {
            b"LIMIT" => 3,
            b"GET" | b"BY" => 2,
            b"STORE" => {
                to = args.get(at + 1);
                2
            }
            _ => 1,
        };
    }
    to
}

/// What is sorted, and where to it is stored.
pub fn keys(args: &[Bytes]) -> SmallVec<[&Bytes; 2]> {
    args.first().into_iter().chain(stored(args)).collect()
}

pub fn writes(args: &[Bytes]) -> bool {
    stored(args).is_some()
}

/// A script that does the same, if there are patterns.
pub fn as_script(name: &'static str, args: &[Bytes]) -> Option<Command> {
    let sort = Sort::parse(&mut Args::new(name, args)).ok()?;
    sort.patterns()
        .find(|pattern| matches!(pattern, Pattern::Key { .. }))?;
    // A script that only reads may not call what may store.
    let name = if writes(args) { name } else { "sort_ro" };
    let body = format!("return redis.pcall('{name}', KEYS[1], unpack(ARGV))");
    Some(Command::Eval(Box::new(Eval {
        body: Some(body.into()),
        sha: String::new(),
        keys: keys(args).into_iter().cloned().collect(),
        args: args.get(1..)?.to_vec(),
        read_only: !writes(args),
        function: None,
        refuse: None,
    })))
}

impl Command {
    /// Keys that the command reads besides those that it names, as the view shows.
    #[must_use]
    pub fn found_keys(&self, view: &Overlay<'_>) -> Vec<Bytes> {
        let Command::Call(call) = self else {
            return Vec::new();
        };
        let (name @ ("sort" | "sort_ro"), args) = call.parts() else {
            return Vec::new();
        };
        let Ok(sort) = Sort::parse(&mut Args::new(name, args)) else {
            return Vec::new();
        };
        let elements = sort.elements(view).unwrap_or_default();
        let keys = sort.patterns();
        keys.flat_map(|pattern| elements.iter().filter_map(|element| pattern.key(element)))
            .collect()
    }
}
