//! The table of data commands: names, arity, key positions, parsers.

use std::sync::LazyLock;

use bytes::Bytes;

use super::args::{Args, check_subcommand, fits, wrong_arity};
use super::blocking::{self, Waiting};
use super::call::{Call, Run};
use super::keys::{TtlKind, parse_copy, parse_expire, parse_flush, parse_scan};
use super::script::{parse_eval, parse_fcall};
use super::strings::{
    parse_decr_by, parse_get_ex, parse_get_set, parse_incr_by_float, parse_pairs, parse_set, parse_set_ex,
    parse_set_nx, parse_set_range,
};
use super::{
    Command, Touches, bitfield, bits, dump, geo, hashes, hll, lcs, lists, object, sets, sort, streams,
    zset_aggregates, zset_ranges, zsets,
};
use crate::base::limits::KEY_BYTES_MAX;
use crate::base::{Names, Reply};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    Write,
    ReadOnly,
}

/// How keys are found that have no fixed positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movable {
    /// The argument after the name (from 0) that says how many keys follow it.
    Counted(usize),
    /// Half of what comes behind `STREAMS`.
    Streams,
    /// The first, and the one behind `STORE`, as `SORT` has it.
    Stored,
    /// Likewise, as `GEORADIUS` has it.
    StoredNear,
}

/// One command as `COMMAND INFO` shows it.
#[derive(Debug)]
pub struct Spec {
    /// As Redis groups its documentation.
    pub group: &'static str,
    pub name: &'static str,
    /// Arguments with the name; negative: at least that many.
    pub arity: i64,
    pub flag: Flag,
    /// First key, last key (negative: from the end), step; zeros: none.
    pub keys: (i64, i64, i64),
    /// Keys that their positions alone do not tell.
    pub movable: Option<Movable>,
    pub summary: &'static str,
    form: Form,
}

/// Makes a script of a command by its name and arguments; `None`: it is a plain one with these.
type Scripting = fn(&'static str, &[Bytes]) -> Option<Command>;

/// How a command is held.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// In a form of its own.
    Own(fn(&mut Args<'_>) -> Result<Command, Reply>),
    /// By name and arguments.
    Called(Run),
    /// Likewise; it may wait outside of MULTI and scripts.
    Waits((Run, Waiting)),
    /// Likewise; with some arguments it is a script.
    Scripted((Run, Scripting)),
    /// Likewise; its first argument is one of these subcommands.
    Container((Run, Subcommands)),
}

/// Names, and their arities as Redis counts them: with both names.
pub type Subcommands = &'static [(&'static str, i64)];

impl Spec {
    pub(super) fn run(&self) -> Option<Run> {
        match self.form {
            Form::Own(_) => None,
            Form::Called(run)
            | Form::Waits((run, _))
            | Form::Scripted((run, _))
            | Form::Container((run, _)) => Some(run),
        }
    }

    /// How to tell what the command waits for; `None`: it never does.
    #[must_use]
    pub fn waiting(&self) -> Option<Waiting> {
        match self.form {
            Form::Waits((_, waiting)) => Some(waiting),
            Form::Own(_) | Form::Called(_) | Form::Scripted(_) | Form::Container(_) => None,
        }
    }
}

/// The spec of a data command, by name in any case.
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    static BY_NAME: LazyLock<Names<Spec>> = LazyLock::new(|| Names::of(COMMANDS, |spec| spec.name));
    BY_NAME.find(name)
}

/// Checks the number of arguments after the name, and the subcommand. Inside MULTI this alone spoils the transaction.
///
/// # Errors
/// The reply for a wrong number, or for a subcommand that there is not.
pub fn check_arity(spec: &Spec, args: &[Bytes]) -> Result<(), Reply> {
    if !fits(spec.arity, args.len() + 1) {
        return Err(wrong_arity(spec.name));
    }
    match spec.form {
        Form::Container((_, known)) => check_subcommand(spec.name, args, known),
        _ => Ok(()),
    }
}

/// Parses a data command whose arity has been checked.
///
/// # Errors
/// The reply that Redis would give: bad syntax, numbers out of range.
pub fn parse(spec: &'static Spec, args: &[Bytes]) -> Result<Command, Reply> {
    let scripted = match spec.form {
        Form::Scripted((_, script)) => script(spec.name, args),
        _ => None,
    };
    match scripted {
        Some(script) => checked(script),
        None => parse_plain(spec, args),
    }
}

/// As [`parse`], for who runs scripts already.
///
/// # Errors
/// Likewise.
pub fn parse_plain(spec: &'static Spec, args: &[Bytes]) -> Result<Command, Reply> {
    let mut rest = Args::new(spec.name, args);
    let command = match spec.form {
        Form::Own(parse) => parse(&mut rest)?,
        Form::Called(run) | Form::Waits((run, _)) | Form::Scripted((run, _)) | Form::Container((run, _)) => {
            Command::Call(Call::new(spec, run, rest.all())?)
        }
    };
    rest.end()?;
    checked(command)
}

fn checked(command: Command) -> Result<Command, Reply> {
    if let Touches::Keys(keys) = command.touches()
        && keys.iter().any(|key| key.len() > KEY_BYTES_MAX)
    {
        return Err(Reply::err(format!(
            "ERR key exceeds the limit of {KEY_BYTES_MAX} bytes"
        )));
    }
    Ok(command)
}

/// Where in [`COMMANDS`] it stands.
#[must_use]
pub fn place(spec: &'static Spec) -> usize {
    (std::ptr::from_ref(spec).addr() - COMMANDS.as_ptr().addr()) / size_of::<Spec>()
}

const fn spec(
    group: &'static str,
    name: &'static str,
    arity: i64,
    flag: Flag,
    (keys, movable): Keys,
    summary: &'static str,
    form: Form,
) -> Spec {
    Spec {
        group,
        name,
        arity,
        flag,
        keys,
        movable,
        summary,
        form,
    }
}

type Keys = ((i64, i64, i64), Option<Movable>);

macro_rules! commands {
    ($($form:ident $group:literal {
        $($name:literal $arity:literal $flag:ident $keys:expr, $summary:literal, $run:expr;)*
    })*) => {
        /// Every data command.
        pub static COMMANDS: &[Spec] = &[$($(
            spec($group, $name, $arity, Flag::$flag, $keys, $summary, Form::$form($run)),
        )*)*];
    };
}

const ONE: Keys = ((1, 1, 1), None);
const TWO: Keys = ((1, 2, 1), None);
const ALL: Keys = ((1, -1, 1), None);
const PAIRS: Keys = ((1, -1, 2), None);
const NONE: Keys = ((0, 0, 0), None);

/// A count and so many keys.
const COUNTED: Keys = ((0, 0, 0), Some(Movable::Counted(0)));
/// A timeout or a script, a count and so many keys.
const SECOND_COUNTED: Keys = ((0, 0, 0), Some(Movable::Counted(1)));
/// Keys, and a timeout.
const ALL_BUT_LAST: Keys = ((1, -2, 1), None);
/// A key to store in, a count and so many keys.
const STORED: Keys = ((1, 1, 1), Some(Movable::Counted(1)));
/// The one behind the subcommand.
const SECOND: Keys = ((2, 2, 1), None);
/// As many keys as there are ids behind them.
const STREAMS: Keys = ((0, 0, 0), Some(Movable::Streams));

commands! {
    Own "string" {
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
    }
    Own "generic" {
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
    }
    Own "server" {
    "dbsize" 1 ReadOnly NONE, "Returns the number of keys in the database.", |_| Ok(Command::DbSize);
    "flushall" -1 Write NONE, "Removes all keys from all databases.", parse_flush;
    "flushdb" -1 Write NONE, "Removes all keys from the current database.", parse_flush;
    }
    Own "scripting" {
    "eval" -3 Write SECOND_COUNTED, "Runs a script in Lua over any keys, as one transaction.", parse_eval;
    "evalsha" -3 Write SECOND_COUNTED, "Runs a script that is known by its SHA-1.", parse_eval;
    "eval_ro" -3 ReadOnly SECOND_COUNTED, "Runs a script that only reads.", parse_eval;
    "evalsha_ro" -3 ReadOnly SECOND_COUNTED, "Runs a script that only reads and is known by its SHA-1.", parse_eval;
    "fcall" -3 Write SECOND_COUNTED, "Calls a function of a library that was loaded, over any keys, as one transaction.", parse_fcall;
    "fcall_ro" -3 ReadOnly SECOND_COUNTED, "Calls a function that only reads.", parse_fcall;
    }
    Called "string" {
    "lcs" -3 ReadOnly TWO, "Returns the longest common subsequence of two strings.", lcs::lcs;
    }
    Called "generic" {
    "dump" 2 ReadOnly ONE, "Returns what a key holds as bytes, in Redis's form.", dump::dump;
    "restore" -4 Write ONE, "Makes a key of what DUMP has returned, here or in Redis.", dump::restore;
    }
    Called "server" {
    "restore-asking" -4 Write ONE, "As RESTORE, for Redis Cluster's own use.", dump::restore;
    "memory|usage" -2 ReadOnly ONE, "Bytes that a key and its value take; `MEMORY USAGE key`.", object::memory_usage;
    }
    Container "generic" {
    "object" -2 ReadOnly SECOND, "ENCODING, REFCOUNT of what a key holds.", (object::object, object::OBJECT);
    }
    Scripted "generic" {
    "sort" -2 Write ((1, 1, 1), Some(Movable::Stored)),
        "Sorts a list, a set or a sorted set, also by what other keys hold; may store the result.",
        (sort::sort, sort::as_script);
    "sort_ro" -2 ReadOnly ((1, 1, 1), Some(Movable::Stored)),
        "Sorts a list, a set or a sorted set, also by what other keys hold.", (sort::sort, sort::as_script);
    }
    Called "hyperloglog" {
    "pfadd" -2 Write ONE, "Adds elements to those whose number is estimated.", hll::pfadd;
    "pfcount" -2 ReadOnly ALL, "Estimates how many different elements were added to any of the keys.", hll::pfcount;
    "pfmerge" -2 Write ALL, "Adds to the first key what was added to the others.", hll::pfmerge;
    }
    Called "geo" {
    "geoadd" -5 Write ONE, "Adds members with their places.", geo::geoadd;
    "geodist" -4 ReadOnly ONE, "Returns the distance between two members.", geo::geodist;
    "geohash" -2 ReadOnly ONE, "Returns the geohashes of members.", geo::geohash;
    "geopos" -2 ReadOnly ONE, "Returns longitude and latitude of members.", geo::geopos;
    "geosearch" -7 ReadOnly ONE, "Returns members within a circle or a box.", geo::geosearch;
    "geosearchstore" -8 Write TWO, "Stores members within a circle or a box.", geo::geosearchstore;
    "georadius" -6 Write ((1, 1, 1), Some(Movable::StoredNear)), "Returns members around a place; may store them.",
        geo::georadius;
    "georadius_ro" -6 ReadOnly ONE, "Returns members around a place.", geo::georadius_ro;
    "georadiusbymember" -5 Write ((1, 1, 1), Some(Movable::StoredNear)),
        "Returns members around another; may store them.", geo::georadiusbymember;
    "georadiusbymember_ro" -5 ReadOnly ONE, "Returns members around another.", geo::georadiusbymember_ro;
    }
    Called "bitmap" {
    "setbit" 4 Write ONE, "Sets or clears the bit at an offset of a string.", bits::setbit;
    "getbit" 3 ReadOnly ONE, "Returns the bit at an offset of a string.", bits::getbit;
    "bitcount" -2 ReadOnly ONE, "Counts the bits that are set in a string.", bits::bitcount;
    "bitpos" -3 ReadOnly ONE, "Finds the first bit that is set, or clear, in a string.", bits::bitpos;
    "bitop" -4 Write ((2, -1, 1), None), "Joins strings bit by bit, and stores the result.", bits::bitop;
    "bitfield" -2 Write ONE, "Reads, sets and adds to numbers of any width in a string.", bitfield::bitfield;
    "bitfield_ro" -2 ReadOnly ONE, "Reads numbers of any width in a string.", bitfield::bitfield_ro;
    }
    Called "hash" {
    "hset" -4 Write ONE, "Sets fields of a hash.", hashes::hset;
    "hmset" -4 Write ONE, "Sets fields of a hash.", hashes::hmset;
    "hsetnx" 4 Write ONE, "Sets a field of a hash only when it does not exist.", hashes::hsetnx;
    "hget" 3 ReadOnly ONE, "Returns the value of a field of a hash.", hashes::hget;
    "hmget" -3 ReadOnly ONE, "Returns the values of fields of a hash.", hashes::hmget;
    "hdel" -3 Write ONE, "Deletes fields of a hash; the hash goes with its last.", hashes::hdel;
    "hlen" 2 ReadOnly ONE, "Returns the number of fields of a hash.", hashes::hlen;
    "hstrlen" 3 ReadOnly ONE, "Returns the length of the value of a field.", hashes::hstrlen;
    "hexists" 3 ReadOnly ONE, "Determines whether a field exists in a hash.", hashes::hexists;
    "hgetall" 2 ReadOnly ONE, "Returns all fields and values of a hash.", hashes::hgetall;
    "hkeys" 2 ReadOnly ONE, "Returns all fields of a hash.", hashes::hkeys;
    "hvals" 2 ReadOnly ONE, "Returns all values of a hash.", hashes::hvals;
    "hincrby" 4 Write ONE, "Increments the integer value of a field by a number.", hashes::hincrby;
    "hincrbyfloat" 4 Write ONE, "Increments the floating point value of a field by a number.", hashes::hincrbyfloat;
    "hrandfield" -2 ReadOnly ONE, "Returns one or more random fields of a hash.", hashes::hrandfield;
    "hscan" -3 ReadOnly ONE, "Iterates over fields and values of a hash.", hashes::hscan;
    }
    Called "list" {
    "lpush" -3 Write ONE, "Prepends elements to a list.", lists::lpush;
    "rpush" -3 Write ONE, "Appends elements to a list.", lists::rpush;
    "lpushx" -3 Write ONE, "Prepends elements to a list only when it exists.", lists::lpushx;
    "rpushx" -3 Write ONE, "Appends elements to a list only when it exists.", lists::rpushx;
    "lpop" -2 Write ONE, "Returns and removes the first elements of a list.", lists::lpop;
    "rpop" -2 Write ONE, "Returns and removes the last elements of a list.", lists::rpop;
    "llen" 2 ReadOnly ONE, "Returns the length of a list.", lists::llen;
    "lindex" 3 ReadOnly ONE, "Returns an element of a list by its index.", lists::lindex;
    "lrange" 4 ReadOnly ONE, "Returns a range of elements of a list.", lists::lrange;
    "ltrim" 4 Write ONE, "Removes elements from both ends of a list.", lists::ltrim;
    "lset" 4 Write ONE, "Sets the value of an element of a list by its index.", lists::lset;
    "linsert" 5 Write ONE, "Inserts an element before or after another of a list.", lists::linsert;
    "lrem" 4 Write ONE, "Removes elements equal to a value from a list.", lists::lrem;
    "lpos" -3 ReadOnly ONE, "Returns the index of matching elements of a list.", lists::lpos;
    "lmove" 5 Write TWO, "Moves an element from one list to another and returns it.", lists::lmove;
    "rpoplpush" 3 Write TWO, "Moves the last element of a list to the front of another.", lists::rpoplpush;
    "lmpop" -4 Write COUNTED, "Returns and removes elements of the first list that is not empty.", lists::lmpop;
    }
    Waits "list" {
    "blpop" -3 Write ALL_BUT_LAST, "Returns and removes the first element of a list, waiting for one.",
        (blocking::blpop, blocking::lists_then_timeout);
    "brpop" -3 Write ALL_BUT_LAST, "Returns and removes the last element of a list, waiting for one.",
        (blocking::brpop, blocking::lists_then_timeout);
    "blmove" 6 Write TWO, "Moves an element from one list to another and returns it, waiting for one.",
        (blocking::blmove, blocking::source_then_timeout);
    "brpoplpush" 4 Write TWO, "Moves the last element of a list to the front of another, waiting for one.",
        (blocking::brpoplpush, blocking::source_then_timeout);
    "blmpop" -5 Write SECOND_COUNTED, "Returns and removes elements of the first list that is not empty, waiting for one.",
        (blocking::blmpop, blocking::timeout_then_lists);
    }
    Waits "sorted-set" {
    "bzpopmin" -3 Write ALL_BUT_LAST, "Returns and removes the member with the lowest score, waiting for one.",
        (blocking::bzpopmin, blocking::sorted_sets_then_timeout);
    "bzpopmax" -3 Write ALL_BUT_LAST, "Returns and removes the member with the highest score, waiting for one.",
        (blocking::bzpopmax, blocking::sorted_sets_then_timeout);
    "bzmpop" -5 Write SECOND_COUNTED,
        "Returns and removes members of the first sorted set that is not empty, waiting for one.",
        (blocking::bzmpop, blocking::timeout_then_sorted_sets);
    }
    Called "stream" {
    "xadd" -5 Write ONE, "Appends an entry to a stream.", streams::xadd;
    "xlen" 2 ReadOnly ONE, "Returns the number of entries of a stream.", streams::xlen;
    "xrange" -4 ReadOnly ONE, "Returns entries within a range of ids.", streams::xrange;
    "xrevrange" -4 ReadOnly ONE, "Returns entries within a range of ids, from the last on.", streams::xrevrange;
    "xdel" -3 Write ONE, "Deletes entries of a stream.", streams::xdel;
    "xtrim" -4 Write ONE, "Drops the oldest entries of a stream.", streams::xtrim;
    "xsetid" -3 Write ONE, "Sets the last id of a stream.", streams::xsetid;
    "xack" -4 Write ONE, "Acknowledges entries that were delivered to a group.", streams::xack;
    "xclaim" -6 Write ONE, "Gives a consumer what is pending for another.", streams::xclaim;
    "xautoclaim" -6 Write ONE, "Gives a consumer what has been pending for others for too long.", streams::xautoclaim;
    "xpending" -3 ReadOnly ONE, "Returns what was delivered to a group and is not acknowledged.", streams::xpending;
    }
    Container "stream" {
    "xgroup" -2 Write SECOND, "CREATE, SETID, DESTROY a group; CREATECONSUMER, DELCONSUMER in it.",
        (streams::xgroup, streams::XGROUP);
    "xinfo" -2 ReadOnly SECOND, "STREAM, GROUPS, CONSUMERS: returns all that is known of a stream.",
        (streams::xinfo, streams::XINFO);
    }
    Waits "stream" {
    "xread" -4 ReadOnly STREAMS, "Returns entries of streams beyond ids, waiting for some.",
        (streams::xread, |args| streams::waits("xread", args));
    "xreadgroup" -7 Write STREAMS, "Delivers entries of streams to a consumer of a group, waiting for some.",
        (streams::xreadgroup, |args| streams::waits("xreadgroup", args));
    }
    Called "set" {
    "sadd" -3 Write ONE, "Adds members to a set.", sets::sadd;
    "srem" -3 Write ONE, "Removes members from a set.", sets::srem;
    "smove" 4 Write TWO, "Moves a member from one set to another.", sets::smove;
    "sismember" 3 ReadOnly ONE, "Determines whether a member belongs to a set.", sets::sismember;
    "smismember" -3 ReadOnly ONE, "Determines whether members belong to a set.", sets::smismember;
    "scard" 2 ReadOnly ONE, "Returns the number of members of a set.", sets::scard;
    "smembers" 2 ReadOnly ONE, "Returns all members of a set.", sets::smembers;
    "spop" -2 Write ONE, "Returns and removes random members of a set.", sets::spop;
    "srandmember" -2 ReadOnly ONE, "Returns random members of a set.", sets::srandmember;
    "sinter" -2 ReadOnly ALL, "Returns the intersection of sets.", sets::sinter;
    "sintercard" -3 ReadOnly COUNTED, "Returns the number of members of the intersection of sets.", sets::sintercard;
    "sunion" -2 ReadOnly ALL, "Returns the union of sets.", sets::sunion;
    "sdiff" -2 ReadOnly ALL, "Returns the difference of sets.", sets::sdiff;
    "sinterstore" -3 Write ALL, "Stores the intersection of sets in a key.", sets::sinterstore;
    "sunionstore" -3 Write ALL, "Stores the union of sets in a key.", sets::sunionstore;
    "sdiffstore" -3 Write ALL, "Stores the difference of sets in a key.", sets::sdiffstore;
    "sscan" -3 ReadOnly ONE, "Iterates over members of a set.", sets::sscan;
    }
    Called "sorted-set" {
    "zadd" -4 Write ONE, "Adds members to a sorted set, or updates their scores.", zsets::zadd;
    "zincrby" 4 Write ONE, "Increments the score of a member of a sorted set.", zsets::zincrby;
    "zrem" -3 Write ONE, "Removes members from a sorted set.", zsets::zrem;
    "zcard" 2 ReadOnly ONE, "Returns the number of members of a sorted set.", zsets::zcard;
    "zscore" 3 ReadOnly ONE, "Returns the score of a member of a sorted set.", zsets::zscore;
    "zmscore" -3 ReadOnly ONE, "Returns the scores of members of a sorted set.", zsets::zmscore;
    "zrank" 3 ReadOnly ONE, "Returns the rank of a member, from the lowest score on.", zsets::zrank;
    "zrevrank" 3 ReadOnly ONE, "Returns the rank of a member, from the highest score on.", zsets::zrevrank;
    "zpopmin" -2 Write ONE, "Returns and removes the members with the lowest scores.", zsets::zpopmin;
    "zpopmax" -2 Write ONE, "Returns and removes the members with the highest scores.", zsets::zpopmax;
    "zmpop" -4 Write COUNTED, "Returns and removes members of the first sorted set that is not empty.", zsets::zmpop;
    "zrandmember" -2 ReadOnly ONE, "Returns random members of a sorted set.", zsets::zrandmember;
    "zscan" -3 ReadOnly ONE, "Iterates over members and scores of a sorted set.", zsets::zscan;
    "zrange" -4 ReadOnly ONE, "Returns members of a sorted set within a range.", zset_ranges::zrange;
    "zrangestore" -5 Write TWO, "Stores members of a sorted set within a range in a key.", zset_ranges::zrangestore;
    "zrevrange" -4 ReadOnly ONE, "Returns members within a range of ranks, from the highest score on.",
        zset_ranges::zrevrange;
    "zrangebyscore" -4 ReadOnly ONE, "Returns members within a range of scores.", zset_ranges::zrangebyscore;
    "zrevrangebyscore" -4 ReadOnly ONE, "Returns members within a range of scores, from the highest on.",
        zset_ranges::zrevrangebyscore;
    "zrangebylex" -4 ReadOnly ONE, "Returns members within a range of names.", zset_ranges::zrangebylex;
    "zrevrangebylex" -4 ReadOnly ONE, "Returns members within a range of names, from the last on.",
        zset_ranges::zrevrangebylex;
    "zcount" 4 ReadOnly ONE, "Returns the number of members within a range of scores.", zset_ranges::zcount;
    "zlexcount" 4 ReadOnly ONE, "Returns the number of members within a range of names.", zset_ranges::zlexcount;
    "zremrangebyrank" 4 Write ONE, "Removes members within a range of ranks.", zset_ranges::zremrangebyrank;
    "zremrangebyscore" 4 Write ONE, "Removes members within a range of scores.", zset_ranges::zremrangebyscore;
    "zremrangebylex" 4 Write ONE, "Removes members within a range of names.", zset_ranges::zremrangebylex;
    "zunion" -3 ReadOnly COUNTED, "Returns the union of sorted sets.", zset_aggregates::zunion;
    "zinter" -3 ReadOnly COUNTED, "Returns the intersection of sorted sets.", zset_aggregates::zinter;
    "zdiff" -3 ReadOnly COUNTED, "Returns the difference of sorted sets.", zset_aggregates::zdiff;
    "zunionstore" -4 Write STORED, "Stores the union of sorted sets in a key.", zset_aggregates::zunionstore;
    "zinterstore" -4 Write STORED, "Stores the intersection of sorted sets in a key.", zset_aggregates::zinterstore;
    "zdiffstore" -4 Write STORED, "Stores the difference of sorted sets in a key.", zset_aggregates::zdiffstore;
    "zintercard" -3 ReadOnly COUNTED, "Returns the number of members of the intersection of sorted sets.",
        zset_aggregates::zintercard;
    }
}
