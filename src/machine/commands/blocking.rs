//! Commands that wait where there is nothing to pop. Here they never wait: they pop or find nothing, as inside MULTI. Who waits,
//! and is called when there may be something, is the affair of the floors above ([`Waits`] says for what).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::args::{Args, parse_f64, parse_i64};
use super::{Command, Done, lists, zsets};
use crate::base::{Millis, Reply};
use crate::machine::overlay::Overlay;
use crate::machine::values::stream::{self, Id};
use crate::machine::values::{Kind, Value};

type View<'a, 'b> = &'a mut Overlay<'b>;

/// What a key has to hold for a command to find something there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Need {
    List,
    SortedSet,
    /// A stream with entries after this id.
    After(Id),
    /// A stream with entries that this group has not delivered.
    Undelivered(Bytes),
    /// Nothing: who waits for this goes one after another.
    Turn,
}

impl Need {
    /// The least of them.
    pub const FIRST: Need = Need::List;

    /// How many commands that need this find something in `value`, one after another, at the least one element each; or an
    /// error that they are to be told.
    #[must_use]
    pub fn served_by(&self, value: Option<&Value>) -> usize {
        match self {
            Need::Turn => 1,
            Need::List | Need::SortedSet => value.filter(|value| self.suits(value)).map_or(0, Value::len),
            Need::After(_) | Need::Undelivered(_) => self.served_by_stream(value.and_then(stream::of)),
        }
    }

    /// Whether `value` is of the type.
    #[must_use]
    pub fn suits(&self, value: &Value) -> bool {
        let kind = match self {
            Need::List => Kind::List,
            Need::SortedSet => Kind::Zset,
            Need::After(_) | Need::Undelivered(_) => Kind::Stream,
            Need::Turn => return true,
        };
        value.kind() == Some(kind)
    }
}

/// What a command waits for when it has found nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    /// Any of these.
    pub keys: Vec<(Bytes, Need)>,
    /// `None`: for ever.
    pub timeout_ms: Option<Millis>,
}

/// Reads from a command's arguments what it would wait for. `None`: it never waits with these, or cannot be run at all.
pub type Waiting = fn(&[Bytes]) -> Option<Waits>;

impl Command {
    /// What the command waits for if it finds nothing; `None`: it does not wait.
    #[must_use]
    pub fn waits(&self) -> Option<Waits> {
        let Command::Call(call) = self else { return None };
        call.waits()
    }

    /// Whether this is what a command that waits replies where it has found nothing.
    #[must_use]
    pub fn found_nothing(reply: &Reply) -> bool {
        matches!(reply, Reply::Nil | Reply::NilArray)
    }

    /// What puts back the elements that a command has taken, from its reply; `None`: it has taken none out of the world. For a
    /// client that is gone before it was told.
    #[must_use]
    pub fn undone(&self, reply: &Reply) -> Option<Command> {
        let Command::Call(call) = self else { return None };
        let (name, args) = call.parts();
        let Reply::Array(parts) = reply else { return None };
        let (key, rest) = parts.split_first()?;
        let mut elements = Vec::new();
        for part in rest {
            flatten(part, &mut elements)?;
        }
        let from_left = match name {
            "blmpop" => {
                let count = usize::try_from(parse_i64(args.get(1)?)?).ok()?;
                args.get(count + 2)?.eq_ignore_ascii_case(b"LEFT")
            }
            _ => name == "blpop",
        };
        let name = match name {
            "blpop" | "brpop" | "blmpop" if from_left => "lpush",
            "blpop" | "brpop" | "blmpop" => "rpush",
            "bzpopmin" | "bzpopmax" | "bzmpop" => "zadd",
            _ => return None,
        };
        if name == "zadd" {
            elements.chunks_exact_mut(2).for_each(<[Bytes]>::reverse);
        } else {
            elements.reverse();
        }
        let Reply::Bulk(key) = key else { return None };
        elements.insert(0, key.clone());
        super::parse(super::find(name.as_bytes())?, &elements).ok()
    }
}

/// Appends what a reply holds, as arguments.
fn flatten(reply: &Reply, out: &mut Vec<Bytes>) -> Option<()> {
    match reply {
        Reply::Bulk(bytes) => out.push(bytes.clone()),
        Reply::Double(number) => out.push(crate::base::float::general(*number).into()),
        Reply::Array(items) => {
            for item in items {
                flatten(item, out)?;
            }
        }
        _ => return None,
    }
    Some(())
}

/// A number of seconds to wait, in milliseconds; zero stands for ever.
fn timeout(text: &[u8]) -> Result<Option<Millis>, Reply> {
    let seconds = parse_f64(text).ok_or_else(|| Reply::err("ERR timeout is not a float or out of range"))?;
    let millis = (seconds * 1000.0).ceil();
    if millis < 0.0 {
        return Err(Reply::err("ERR timeout is negative"));
    }
    // As far as a signed number of 64 bits goes.
    if millis >= 9_223_372_036_854_775_808.0 {
        return Err(Reply::err("ERR timeout is out of range"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked above"
    )]
    let millis = millis as Millis;
    Ok((millis > 0).then_some(millis))
}

fn waits_for(keys: &[Bytes], need: &Need, timeout_text: &[u8]) -> Option<Waits> {
    Some(Waits {
        keys: keys.iter().map(|key| (key.clone(), need.clone())).collect(),
        timeout_ms: timeout(timeout_text).ok()?,
    })
}

/// `key [key …] timeout`
pub fn lists_then_timeout(args: &[Bytes]) -> Option<Waits> {
    let (timeout, keys) = args.split_last()?;
    waits_for(keys, &Need::List, timeout)
}

/// `key [key …] timeout`
pub fn sorted_sets_then_timeout(args: &[Bytes]) -> Option<Waits> {
    let (timeout, keys) = args.split_last()?;
    waits_for(keys, &Need::SortedSet, timeout)
}

/// `source destination … timeout`: it waits for the source alone.
pub fn source_then_timeout(args: &[Bytes]) -> Option<Waits> {
    waits_for(args.get(..1)?, &Need::List, args.last()?)
}

fn counted_keys(args: &[Bytes], need: &Need) -> Option<Waits> {
    let (timeout, rest) = args.split_first()?;
    let (count, rest) = rest.split_first()?;
    let count = usize::try_from(parse_i64(count)?).ok()?;
    waits_for(rest.get(..count)?, need, timeout)
}

/// `timeout numkeys key [key …] …`
pub fn timeout_then_lists(args: &[Bytes]) -> Option<Waits> {
    counted_keys(args, &Need::List)
}

/// `timeout numkeys key [key …] …`
pub fn timeout_then_sorted_sets(args: &[Bytes]) -> Option<Waits> {
    counted_keys(args, &Need::SortedSet)
}

/// The keys before the timeout, which is checked first.
fn keys(a: &mut Args<'_>) -> Result<Vec<Bytes>, Reply> {
    let mut keys = a.all();
    let last = keys.pop().ok_or_else(Reply::syntax)?;
    timeout(&last)?;
    Ok(keys)
}

fn pop_first(view: View<'_, '_>, a: &mut Args<'_>, end: lists::End) -> Done {
    for key in keys(a)? {
        let popped = lists::take(view, &key, end, 1)?;
        if let Some(element) = popped.and_then(|popped| popped.into_iter().next()) {
            return Ok(Reply::Array(vec![Reply::Bulk(key), Reply::Bulk(element)]));
        }
    }
    Ok(Reply::NilArray)
}

pub fn blpop(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    pop_first(view, a, lists::End::Left)
}

pub fn brpop(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    pop_first(view, a, lists::End::Right)
}

pub fn blmpop(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (until, wanted) = (a.next()?, lists::popping(a)?);
    timeout(until)?;
    lists::pop_first(view, wanted)
}

pub fn blmove(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (from, to, out, into) = (a.key()?, a.key()?, lists::end(a)?, lists::end(a)?);
    timeout(a.next()?)?;
    lists::shift(view, &from, &to, out, into)
}

pub fn brpoplpush(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (from, to) = (a.key()?, a.key()?);
    timeout(a.next()?)?;
    lists::shift(view, &from, &to, lists::End::Right, lists::End::Left)
}

fn pop_score(view: View<'_, '_>, a: &mut Args<'_>, from_top: bool) -> Done {
    for key in keys(a)? {
        let taken = zsets::take(view, &key, from_top, 1)?;
        if let Some((member, score)) = taken.and_then(|taken| taken.into_iter().next()) {
            return Ok(Reply::Array(vec![Reply::Bulk(key), member, score]));
        }
    }
    Ok(Reply::NilArray)
}

pub fn bzpopmin(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    pop_score(view, a, false)
}

pub fn bzpopmax(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    pop_score(view, a, true)
}

pub fn bzmpop(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (until, wanted) = (a.next()?, zsets::popping(a)?);
    timeout(until)?;
    zsets::pop_first(view, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::commands::{find, parse};
    use crate::machine::keyspace::Keyspace;

    fn command(words: &[&str]) -> Command {
        let words: Vec<Bytes> = words
            .iter()
            .map(|word| Bytes::copy_from_slice(word.as_bytes()))
            .collect();
        let spec = find(&words[0]).expect("a command");
        parse(spec, &words[1..]).expect("arguments that fit")
    }

    #[test]
    fn what_was_taken_is_put_back_where_it_was() {
        let setup: [&[&str]; 2] = [
            &["rpush", "left", "a", "b", "c", "d"],
            &["zadd", "z", "1.5", "m", "2", "n", "3", "o"],
        ];
        let looks: [&[&str]; 2] = [
            &["lrange", "left", "0", "-1"],
            &["zrange", "z", "0", "-1", "withscores"],
        ];
        let pops: [&[&str]; 8] = [
            &["blpop", "none", "left", "0"],
            &["brpop", "left", "0"],
            &["blmpop", "0", "2", "none", "left", "RIGHT", "COUNT", "3"],
            &["blmpop", "0", "1", "left", "left", "COUNT", "3"],
            &["bzpopmin", "z", "0"],
            &["bzpopmax", "z", "0"],
            &["bzmpop", "0", "1", "z", "MAX", "COUNT", "2"],
            &["bzmpop", "0", "1", "z", "MIN"],
        ];
        let nothing = Keyspace::default();
        for pop in pops {
            let mut view = Overlay::new(&nothing, 1, 1);
            for words in setup {
                command(words).run(&mut view);
            }
            let state = |view: &mut Overlay<'_>| looks.map(|words| command(words).run(view));
            let before = state(&mut view);
            let pop = command(pop);
            let reply = pop.run(&mut view);
            assert!(!Command::found_nothing(&reply) && state(&mut view) != before);
            let undo = pop.undone(&reply).expect("something was taken");
            assert!(!undo.run(&mut view).is_error());
            assert_eq!(state(&mut view), before, "{pop:?}");
        }
        let moved = command(&["blmove", "left", "other", "LEFT", "LEFT", "0"]);
        assert_eq!(moved.undone(&Reply::bulk("a")), None, "it is in the other list");
    }
}
