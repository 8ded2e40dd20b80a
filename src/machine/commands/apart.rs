//! Commands that move a little between keys, taken apart: what they have to look at first, and what is then done to each key by
//! itself. Over several shards they so cost no more than they move, however large the collections are.

use bytes::Bytes;

use super::call::Call;
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
        Apart::of(call)
    }
}

impl Apart {
    fn of(call: &Call) -> Option<Apart> {
        let (name, args) = call.parts();
        let [from, to, rest @ ..] = args else { return None };
        let right = Bytes::from_static(b"RIGHT");
        let left = Bytes::from_static(b"LEFT");
        let (kind, args) = match (name, rest) {
            ("lmove", [out, into]) => {
                let known = |word: &Bytes| is_left(word) || word.eq_ignore_ascii_case(b"RIGHT");
                (known(out) && known(into)).then(|| (Kind::Move, vec![out.clone(), into.clone()]))?
            }
            ("rpoplpush", []) => (Kind::Move, vec![right, left]),
            ("smove", [member]) => (Kind::MoveMember, vec![member.clone()]),
            _ => return None,
        };
        let looks = match kind {
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

    /// The first of its keys.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.keys[0]
    }

    /// What is to be done, from what the looks have shown. `None`: they have not shown it.
    #[must_use]
    pub fn moves(&self, seen: &[Reply]) -> Option<Moves> {
        let (from, to) = (&self.keys[0], &self.keys[1]);
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
