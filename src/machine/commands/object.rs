//! OBJECT: how a key's value is held.

use super::args::{Args, parse_i64, subcommand};
use super::table::Subcommands;
use super::{Done, View};
use crate::base::Reply;
use crate::machine::keyspace::Value;
use crate::machine::object::cost_of;
use crate::machine::rdb;
use crate::machine::values::Kind;

/// Redis holds a string of so many bytes beside its header.
const EMBEDDED_BYTES_MAX: usize = 44;

pub const OBJECT: Subcommands = &[
    ("encoding", 3),
    ("refcount", 3),
    ("idletime", 3),
    ("freq", 3),
    ("help", 2),
];

fn help() -> Reply {
    let lines = [
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    How Redis would hold what is there.",
        "FREQ <key>",
        "    How often it was used of late.",
        "IDLETIME <key>",
        "    Seconds since it was used.",
        "REFCOUNT <key>",
        "    Always 1.",
        "HELP",
        "    This.",
    ];
    Reply::Array(lines.map(|line| Reply::Simple(line.into())).into())
}

/// Redis's name for how it would hold this. What it was before does not count, though a collection of Redis that has grown stays
/// as it is when it shrinks.
fn encoding(value: &Value) -> &'static str {
    let packed = rdb::is_packed(value);
    match value.kind() {
        None => match value.as_str() {
            Some(blob) if parse_i64(blob).is_some() => "int",
            Some(blob) if blob.len() <= EMBEDDED_BYTES_MAX => "embstr",
            _ => "raw",
        },
        Some(Kind::List) => "quicklist",
        Some(Kind::Set) if packed => "intset",
        Some(Kind::Hash | Kind::Zset) if packed => "listpack",
        Some(Kind::Set | Kind::Hash) => "hashtable",
        Some(Kind::Zset) => "skiplist",
        Some(Kind::Stream) => "stream",
    }
}

pub fn object(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (word, _) = subcommand(a, OBJECT)?;
    if word == "help" {
        return Ok(help());
    }
    let key = a.key()?;
    let Some((value, _)) = view.get(&key) else {
        return Ok(Reply::Nil);
    };
    match word.as_str() {
        "encoding" => Ok(Reply::bulk(encoding(value))),
        "refcount" => Ok(Reply::Int(1)),
        "freq" => Err(Reply::err(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        )),
        _ => Err(Reply::err(
            "ERR the time of the last access is known to nodes, not to transactions and scripts: ask outside of them",
        )),
    }
}

/// `MEMORY USAGE key [SAMPLES count]`: nothing is sampled, since what a collection weighs is known.
pub fn memory_usage(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    for pair in a.all().chunks(2) {
        match pair {
            [word, count] if word.eq_ignore_ascii_case(b"samples") => match parse_i64(count) {
                None => return Err(Reply::not_an_integer()),
                Some(count) if count < 0 => return Err(Reply::syntax()),
                Some(_) => {}
            },
            _ => return Err(Reply::syntax()),
        }
    }
    let Some((value, expires)) = view.get(&key) else {
        return Ok(Reply::Nil);
    };
    let bytes = cost_of(&key, value, expires);
    Ok(Reply::Int(i64::try_from(bytes).unwrap_or(i64::MAX)))
}
