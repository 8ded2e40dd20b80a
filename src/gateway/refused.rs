//! What tools ask of any Redis, answered as by one that has a single database, no cluster mode and no access lists.

use bytes::Bytes;

use super::client::text;
use super::help;
use crate::base::{REDIS_VERSION, Reply};
use crate::machine::commands::parse_i64;

const CATEGORIES: &[&str] = &[
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// `ACL WHOAMI | USERS | LIST | CAT`: there is one user, who may do everything.
pub fn acl(args: &[Bytes]) -> Reply {
    match args[0].to_ascii_lowercase().as_slice() {
        b"whoami" => Reply::bulk("default"),
        b"users" => Reply::Array(vec![Reply::bulk("default")]),
        b"list" => Reply::Array(vec![Reply::bulk("user default on nopass ~* &* +@all")]),
        b"cat" => Reply::Array(CATEGORIES.iter().map(|name| Reply::bulk(*name)).collect()),
        _ => help::unknown("ACL", &text(&args[0])),
    }
}

/// `CLUSTER`, `READONLY`, `READWRITE`, `ASKING`.
pub fn cluster() -> Reply {
    Reply::err("ERR This instance has cluster support disabled")
}

/// `SWAPDB`: there is one database.
pub fn swapdb(args: &[Bytes]) -> Reply {
    let index = |arg: &Bytes| parse_i64(arg).and_then(|index| i32::try_from(index).ok());
    match (index(&args[0]), index(&args[1])) {
        (None, _) => Reply::err("ERR invalid first DB index"),
        (_, None) => Reply::err("ERR invalid second DB index"),
        (Some(0), Some(0)) => Reply::ok(),
        _ => Reply::err("ERR DB index is out of range"),
    }
}

/// `MOVE`: there is nowhere else.
pub fn move_key(args: &[Bytes]) -> Reply {
    match parse_i64(&args[1]) {
        None => Reply::not_an_integer(),
        Some(0) => Reply::err("ERR source and destination objects are the same"),
        Some(index) if i32::try_from(index).is_err() => {
            Reply::err("ERR value is out of range, value must between -2147483648 and 2147483647")
        }
        Some(_) => Reply::err("ERR DB index is out of range"),
    }
}

/// `BGREWRITEAOF`.
pub fn bgrewriteaof() -> Reply {
    Reply::err(
        "ERR BGREWRITEAOF is not supported: there is no append-only file; what was acknowledged is in the journals of a majority, and \
         snapshots are cut by themselves (BGSAVE cuts them now)",
    )
}

const ART: &str = "
        o───────o
       ╱ ╲     ╱ ╲
      ╱   ╲   ╱   ╲
     o─────╲─╱─────o
      ╲     ╳     ╱
       ╲   ╱ ╲   ╱
        ╲ ╱   ╲ ╱
         o─────o
";

/// `LOLWUT [VERSION version] …`.
pub fn lolwut(args: &[Bytes]) -> Reply {
    let version = match args {
        [word, version, ..] if word.eq_ignore_ascii_case(b"version") => match parse_i64(version) {
            Some(version) => Some(version),
            None => return Reply::not_an_integer(),
        },
        _ => None,
    };
    let art = if matches!(version, None | Some(5 | 6)) {
        ART
    } else {
        ""
    };
    Reply::Verbatim(format!("{art}Redis ver. {REDIS_VERSION}\n").into())
}
