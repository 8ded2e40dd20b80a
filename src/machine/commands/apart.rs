//! Commands that move a little between keys, taken apart: what they have to look at first, and what is then done to each key by
//! itself. Over several shards they so cost no more than they move, however large the collections are.

use bytes::Bytes;

use super::args::Args;
use super::call::Call;
use super::lists::{counted, counted_keys};
use super::{Command, table};
use crate::base::Reply;

/// A command taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Apart {
    /// What to read, all at one moment.
    pub looks: Vec<Command>,
    kind: Kind,
    keys: Vec<Bytes>,
    args: Vec<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `from to LEFT|RIGHT LEFT|RIGHT`
    Move,
    /// `from to member`
    MoveMember,
    /// Up to `count` from the first of the keys that has any.
    Pop { from: From, reply: Shape },
}

/// Which end of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Left,
    Right,
    Lowest,
    Highest,
}

/// How the popped elements are replied, behind the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One, as it is.
    One,
    /// All, in an array; members with their scores as arrays of two.
    Many,
}

/// What a command comes to, and what is to be done for it.
pub type Moves = (Reply, Vec<Command>);

fn command(name: &str, args: &[&[u8]]) -> Option<Command> {
    let spec = table::find(name.as_bytes())?;
    let args: Vec<Bytes> = args.iter().map(|arg| Bytes::copy_from_slice(arg)).collect();
    table::parse(spec, &args).ok()
}

fn is_left(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"LEFT")
}

impl Command {
    /// `None`: it is run on all that its keys hold.
    #[must_use]
    pub fn apart(&self) -> Option<Apart> {
        let Command::Call(call) = self else { return None };
        // A timeout that cannot be read is an error of the command itself.
        if call.may_wait() && call.waits().is_none() {
            return None;
        }
        Apart::of(call)
    }
}

impl Apart {
    fn of(call: &Call) -> Option<Apart> {
        let (name, args) = call.parts();
        if let Some(pop) = Self::of_pop(name, args) {
            return Some(pop);
        }
        let [from, to, rest @ ..] = args else { return None };
        let right = Bytes::from_static(b"RIGHT");
        let left = Bytes::from_static(b"LEFT");
        let (kind, args) = match (name, rest) {
            ("lmove", [out, into]) | ("blmove", [out, into, _]) => {
                let known = |word: &Bytes| is_left(word) || word.eq_ignore_ascii_case(b"RIGHT");
                (known(out) && known(into)).then(|| (Kind::Move, vec![out.clone(), into.clone()]))?
            }
            ("rpoplpush", []) | ("brpoplpush", [_]) => (Kind::Move, vec![right, left]),
            ("smove", [member]) => (Kind::MoveMember, vec![member.clone()]),
            _ => return None,
        };
        let looks = match kind {
            Kind::Pop { .. } => return None,
            Kind::Move => {
                let end: &[u8] = if is_left(&args[0]) { b"0" } else { b"-1" };
                vec![command("lindex", &[from, end])?, command("llen", &[to])?]
            }
            Kind::MoveMember => vec![
                command("sismember", &[from, &args[0]])?,
                command("sismember", &[to, &args[0]])?,
                command("exists", &[from])?,
            ],
        };
        Some(Apart {
            looks,
            kind,
            keys: vec![from.clone(), to.clone()],
            args,
        })
    }

    /// The commands that pop from the first of several keys.
    fn of_pop(name: &str, args: &[Bytes]) -> Option<Apart> {
        let args = match name {
            "blmpop" | "bzmpop" => args.get(1..)?,
            _ => args,
        };
        let (keys, from, count, reply) = match name {
            "blpop" | "brpop" | "bzpopmin" | "bzpopmax" => {
                let (_, keys) = args.split_last()?;
                let from = match name {
                    "blpop" => From::Left,
                    "brpop" => From::Right,
                    "bzpopmin" => From::Lowest,
                    _ => From::Highest,
                };
                (keys, from, 1, Shape::One)
            }
            "lmpop" | "blmpop" | "zmpop" | "bzmpop" => {
                let mut rest = Args::new("", args);
                let keys = counted_keys(&mut rest).ok()?;
                let from = match (name, rest.word()?.as_str()) {
                    ("lmpop" | "blmpop", "LEFT") => From::Left,
                    ("lmpop" | "blmpop", "RIGHT") => From::Right,
                    ("zmpop" | "bzmpop", "MIN") => From::Lowest,
                    ("zmpop" | "bzmpop", "MAX") => From::Highest,
                    _ => return None,
                };
                let count = counted(&mut rest).ok()?;
                (args.get(1..=keys.len())?, from, count, Shape::Many)
            }
            _ => return None,
        };
        let last = (count - 1).to_string();
        let first = format!("-{count}");
        let look = |key: &Bytes| match from {
            From::Left => command("lrange", &[key, b"0", last.as_bytes()]),
            From::Right => command("lrange", &[key, first.as_bytes(), b"-1"]),
            From::Lowest => command("zrange", &[key, b"0", last.as_bytes(), b"withscores"]),
            From::Highest => command("zrevrange", &[key, b"0", last.as_bytes(), b"withscores"]),
        };
        Some(Apart {
            looks: keys.iter().map(look).collect::<Option<_>>()?,
            kind: Kind::Pop { from, reply },
            keys: keys.to_vec(),
            args: Vec::new(),
        })
    }

    /// From the first key that has any, and is not of another type.
    fn pops(&self, seen: &[Reply], from: From, shape: Shape) -> Option<Moves> {
        for (key, seen) in self.keys.iter().zip(seen) {
            let mut popped = match seen {
                Reply::Array(items) if items.is_empty() => continue,
                Reply::Pairs(pairs) if pairs.is_empty() => continue,
                Reply::Error(_) => return Some((seen.clone(), Vec::new())),
                Reply::Array(items) => items.clone(),
                Reply::Pairs(pairs) => pairs
                    .iter()
                    .map(|(member, score)| Reply::Array(vec![member.clone(), score.clone()]))
                    .collect(),
                _ => return None,
            };
            let count = popped.len().to_string();
            let pop = match from {
                From::Left => "lpop",
                From::Right => "rpop",
                From::Lowest => "zpopmin",
                From::Highest => "zpopmax",
            };
            if from == From::Right {
                popped.reverse();
            }
            let mut reply = vec![Reply::Bulk(key.clone())];
            match shape {
                Shape::Many => reply.push(Reply::Array(popped)),
                Shape::One => match popped.pop()? {
                    Reply::Array(pair) => reply.extend(pair),
                    element => reply.push(element),
                },
            }
            let pop = command(pop, &[key, count.as_bytes()])?;
            return Some((Reply::Array(reply), vec![pop]));
        }
        Some((Reply::NilArray, Vec::new()))
    }

    /// The first of its keys.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.keys[0]
    }

    /// What is to be done, from what the looks have shown. `None`: they have not shown it.
    #[must_use]
    pub fn moves(&self, seen: &[Reply]) -> Option<Moves> {
        if let Kind::Pop { from, reply } = self.kind {
            return self.pops(seen, from, reply);
        }
        let [from, to] = self.keys.as_slice() else {
            return None;
        };
        match (self.kind, seen) {
            (Kind::Move, [Reply::Nil, _]) => Some((Reply::Nil, Vec::new())),
            (Kind::Move, [error @ Reply::Error(_), _] | [_, error @ Reply::Error(_)]) => {
                Some((error.clone(), Vec::new()))
            }
            (Kind::Move, [Reply::Bulk(element), _]) => {
                let out = if is_left(&self.args[0]) { "lpop" } else { "rpop" };
                let into = if is_left(&self.args[1]) { "lpush" } else { "rpush" };
                let both = vec![command(out, &[from])?, command(into, &[to, element])?];
                Some((Reply::Bulk(element.clone()), both))
            }
            // An absent source is looked at alone, whatever the destination holds.
            (Kind::MoveMember, [_, _, Reply::Int(0)]) => Some((Reply::Int(0), Vec::new())),
            (Kind::MoveMember, [error @ Reply::Error(_), _, _] | [_, error @ Reply::Error(_), _]) => {
                Some((error.clone(), Vec::new()))
            }
            (Kind::MoveMember, [Reply::Int(there), Reply::Int(already), _]) => {
                let member = &self.args[0];
                let mut moves = Vec::new();
                if *there == 1 {
                    moves.push(command("srem", &[from, member])?);
                }
                if *there == 1 && *already == 0 {
                    moves.push(command("sadd", &[to, member])?);
                }
                Some((Reply::Int(*there), moves))
            }
            _ => None,
        }
    }
}
