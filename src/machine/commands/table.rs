//! The table of data commands: names, arity, key positions, parsers.

use bytes::Bytes;

use super::args::{Args, wrong_arity};
use super::keys::{TtlKind, parse_copy, parse_expire, parse_flush, parse_scan};
use super::strings::{
    parse_decr_by, parse_get_ex, parse_get_set, parse_incr_by_float, parse_pairs, parse_set, parse_set_ex,
    parse_set_nx, parse_set_range,
};
use super::{Command, Touches};
use crate::base::Reply;
use crate::base::limits::KEY_BYTES_MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    Write,
    ReadOnly,
}

/// One command as `COMMAND INFO` shows it.
#[derive(Debug)]
pub struct Spec {
    pub name: &'static str,
    /// Arguments with the name; negative: at least that many.
    pub arity: i64,
    pub flag: Flag,
    /// First key, last key (negative: from the end), step; zeros: none.
    pub keys: (i64, i64, i64),
    pub summary: &'static str,
    parse: fn(&mut Args<'_>) -> Result<Command, Reply>,
}

/// The spec of a data command, by name in any case.
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    COMMANDS
        .iter()
        .find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

/// Checks the number of arguments after the name. Inside MULTI this alone spoils the transaction.
///
/// # Errors
/// The reply for a wrong number.
pub fn check_arity(spec: &Spec, args: usize) -> Result<(), Reply> {
    let given = i64::try_from(args + 1).unwrap_or(i64::MAX);
    let fits = if spec.arity < 0 {
        given >= -spec.arity
    } else {
        given == spec.arity
    };
    if fits { Ok(()) } else { Err(wrong_arity(spec.name)) }
}

/// Parses a data command whose arity has been checked.
///
/// # Errors
/// The reply that Redis would give: bad syntax, numbers out of range.
pub fn parse(spec: &Spec, args: &[Bytes]) -> Result<Command, Reply> {
    let mut rest = Args::new(spec.name, args);
    let command = (spec.parse)(&mut rest)?;
    rest.end()?;
    if let Touches::Keys(keys) = command.touches()
        && keys.iter().any(|key| key.len() > KEY_BYTES_MAX)
    {
        return Err(Reply::err(format!(
            "ERR key exceeds the limit of {KEY_BYTES_MAX} bytes"
        )));
    }
    Ok(command)
}

macro_rules! commands {
    ($($name:literal $arity:literal $flag:ident $keys:expr, $summary:literal, $parse:expr;)*) => {
        /// Every data command.
        pub const COMMANDS: &[Spec] = &[$(Spec {
            name: $name, arity: $arity, flag: Flag::$flag, keys: $keys, summary: $summary, parse: $parse,
        },)*];
    };
}

const ONE: (i64, i64, i64) = (1, 1, 1);
const TWO: (i64, i64, i64) = (1, 2, 1);
const ALL: (i64, i64, i64) = (1, -1, 1);
const PAIRS: (i64, i64, i64) = (1, -1, 2);
const NONE: (i64, i64, i64) = (0, 0, 0);

commands! {
    "get" 2 ReadOnly ONE, "Returns the string value of a key.", |a| Ok(Command::Get { key: a.key()? });
    "set" -3 Write ONE, "Sets the string value of a key, ignoring its type.", parse_set;
    "setnx" 3 Write ONE, "Sets the string value of a key only when it does not exist.", parse_set_nx;
    "setex" 4 Write ONE, "Sets the string value and expiration time of a key.", parse_set_ex;
    "psetex" 4 Write ONE, "Sets both string value and expiration time in milliseconds of a key.", parse_set_ex;
    "getset" 3 Write ONE, "Returns the previous string value of a key after setting it.", parse_get_set;
    "getdel" 2 Write ONE, "Returns the string value of a key after deleting it.",
        |a| Ok(Command::GetDel { key: a.key()? });
    "getex" -2 Write ONE, "Returns the string value of a key after setting its expiration time.", parse_get_ex;
    "mget" -2 ReadOnly ALL, "Atomically returns the string values of keys.", |a| Ok(Command::MGet { keys: a.all() });
    "mset" -3 Write PAIRS, "Atomically creates or modifies the string values of keys.",
        |a| Ok(Command::MSet { pairs: parse_pairs(a)? });
    "msetnx" -3 Write PAIRS, "Atomically sets the string values of keys when none of them exists.",
        |a| Ok(Command::MSetNx { pairs: parse_pairs(a)? });
    "append" 3 Write ONE, "Appends a string to the value of a key.",
        |a| Ok(Command::Append { key: a.key()?, value: a.key()? });
    "strlen" 2 ReadOnly ONE, "Returns the length of a string value.", |a| Ok(Command::StrLen { key: a.key()? });
    "incr" 2 Write ONE, "Increments the integer value of a key by one.",
        |a| Ok(Command::IncrBy { key: a.key()?, by: 1 });
    "incrby" 3 Write ONE, "Increments the integer value of a key by a number.",
        |a| Ok(Command::IncrBy { key: a.key()?, by: a.int()? });
    "incrbyfloat" 3 Write ONE, "Increments the floating point value of a key by a number.", parse_incr_by_float;
    "decr" 2 Write ONE, "Decrements the integer value of a key by one.",
        |a| Ok(Command::IncrBy { key: a.key()?, by: -1 });
    "decrby" 3 Write ONE, "Decrements a number from the integer value of a key.", parse_decr_by;
    "getrange" 4 ReadOnly ONE, "Returns a substring of the string stored at a key.",
        |a| Ok(Command::GetRange { key: a.key()?, start: a.int()?, end: a.int()? });
    "substr" 4 ReadOnly ONE, "Returns a substring from a string value.",
        |a| Ok(Command::GetRange { key: a.key()?, start: a.int()?, end: a.int()? });
    "setrange" 4 Write ONE, "Overwrites a part of a string value with another by an offset.", parse_set_range;
    "del" -2 Write ALL, "Deletes one or more keys.", |a| Ok(Command::Del { keys: a.all() });
    "unlink" -2 Write ALL, "Deletes one or more keys.", |a| Ok(Command::Del { keys: a.all() });
    "exists" -2 ReadOnly ALL, "Determines whether one or more keys exist.",
        |a| Ok(Command::Exists { keys: a.all() });
    "touch" -2 ReadOnly ALL, "Returns the number of existing keys out of those specified.",
        |a| Ok(Command::Touch { keys: a.all() });
    "type" 2 ReadOnly ONE, "Determines the type of value stored at a key.", |a| Ok(Command::Type { key: a.key()? });
    "expire" -3 Write ONE, "Sets the expiration time of a key in seconds.", |a| parse_expire(a, true, false);
    "pexpire" -3 Write ONE, "Sets the expiration time of a key in milliseconds.", |a| parse_expire(a, false, false);
    "expireat" -3 Write ONE, "Sets the expiration time of a key to a Unix timestamp.",
        |a| parse_expire(a, true, true);
    "pexpireat" -3 Write ONE, "Sets the expiration time of a key to a Unix milliseconds timestamp.",
        |a| parse_expire(a, false, true);
    "ttl" 2 ReadOnly ONE, "Returns the expiration time in seconds of a key.",
        |a| Ok(Command::Ttl { key: a.key()?, kind: TtlKind::Seconds });
    "pttl" 2 ReadOnly ONE, "Returns the expiration time in milliseconds of a key.",
        |a| Ok(Command::Ttl { key: a.key()?, kind: TtlKind::Millis });
    "expiretime" 2 ReadOnly ONE, "Returns the expiration time of a key as a Unix timestamp.",
        |a| Ok(Command::Ttl { key: a.key()?, kind: TtlKind::AtSeconds });
    "pexpiretime" 2 ReadOnly ONE, "Returns the expiration time of a key as a Unix milliseconds timestamp.",
        |a| Ok(Command::Ttl { key: a.key()?, kind: TtlKind::AtMillis });
    "persist" 2 Write ONE, "Removes the expiration time of a key.", |a| Ok(Command::Persist { key: a.key()? });
    "rename" 3 Write TWO, "Renames a key and overwrites the destination.",
        |a| Ok(Command::Rename { from: a.key()?, to: a.key()?, only_new: false });
    "renamenx" 3 Write TWO, "Renames a key only when the target key name doesn't exist.",
        |a| Ok(Command::Rename { from: a.key()?, to: a.key()?, only_new: true });
    "copy" -3 Write TWO, "Copies the value of a key to a new key.", parse_copy;
    "scan" -2 ReadOnly NONE, "Iterates over the key names in the database.", parse_scan;
    "keys" 2 ReadOnly NONE, "Returns all key names that match a pattern.",
        |a| Ok(Command::Keys { pattern: a.key()? });
    "randomkey" 1 ReadOnly NONE, "Returns a random key name from the database.", |_| Ok(Command::RandomKey);
    "dbsize" 1 ReadOnly NONE, "Returns the number of keys in the database.", |_| Ok(Command::DbSize);
    "flushall" -1 Write NONE, "Removes all keys from all databases.", parse_flush;
    "flushdb" -1 Write NONE, "Removes all keys from the current database.", parse_flush;
}
