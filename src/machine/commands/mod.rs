//! The data commands: how each is parsed, which keys it touches, and what it does to an [`Overlay`].
//!
//! ```text
//!  args ─parse─▶ Command ─▶ log ─▶ run(command, overlay) ─▶ Reply, Writes
//! ```
//!
//! A command is parsed once, at the gateway; relative expiries become absolute when it runs, from the entry's time.
//!
//! Not here: connection commands and MULTI (gateway), and how a command over several shards is taken apart (txn).

mod again;
mod apart;
mod args;
mod bitfield;
mod bits;
mod blocking;
mod call;
mod dump;
mod events;
mod expiry;
mod float;
mod geo;
mod hashes;
mod hll;
mod keys;
mod lcs;
mod lists;
pub mod memcached;
mod memory;
mod object;
mod random;
mod scanning;
mod script;
mod sets;
mod sort;
mod streams;
mod strings;
mod table;
mod zset_aggregates;
mod zset_ranges;
mod zsets;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

pub use apart::Apart;
pub use args::{check_subcommand, fits, parse_f64, parse_i64, shown};
pub use blocking::{Need, Waits};
pub use call::Call;
pub use expiry::{ExpireWhen, Expiry};
pub use keys::{CopyCommand, ExpireCommand, ScanCommand, TtlKind};
pub use memcached::Memcached;
pub use script::Eval;
pub(in crate::machine) use streams::added_up_to;
pub use streams::says_block;
pub use strings::{SetCommand, SetCondition, SetReply};
pub use table::{COMMANDS, Flag, Movable, Spec, Subcommands, check_arity, find, parse, parse_plain, place};

use super::keyspace::{Blob, Value};
use super::overlay::Overlay;
use crate::base::{Millis, Reply};

/// One parsed data command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    Get {
        key: Bytes,
    },
    Set(SetCommand),
    GetDel {
        key: Bytes,
    },
    /// `refuse`: the error if the key is there (a time that could not be read).
    GetEx {
        key: Bytes,
        expiry: Expiry,
        refuse: Option<String>,
    },
    MGet {
        keys: Vec<Bytes>,
    },
    MSet {
        pairs: Vec<(Bytes, Bytes)>,
    },
    MSetNx {
        pairs: Vec<(Bytes, Bytes)>,
    },
    Append {
        key: Bytes,
        value: Bytes,
    },
    StrLen {
        key: Bytes,
    },
    IncrBy {
        key: Bytes,
        by: i64,
    },
    IncrByFloat {
        key: Bytes,
        by: Bytes,
    },
    GetRange {
        key: Bytes,
        start: i64,
        end: i64,
    },
    SetRange {
        key: Bytes,
        offset: u64,
        value: Bytes,
    },
    Del {
        keys: Vec<Bytes>,
    },
    Exists {
        keys: Vec<Bytes>,
    },
    Touch {
        keys: Vec<Bytes>,
    },
    Type {
        key: Bytes,
    },
    Expire(ExpireCommand),
    Ttl {
        key: Bytes,
        kind: TtlKind,
    },
    Persist {
        key: Bytes,
    },
    Rename {
        from: Bytes,
        to: Bytes,
        only_new: bool,
    },
    Copy(CopyCommand),
    Scan(ScanCommand),
    Keys {
        pattern: Bytes,
    },
    RandomKey,
    DbSize,
    Flush,
    /// A command of the families that are named in the table alone.
    Call(Call),
    /// A script: runs at the gateway, and is in no log.
    Eval(Box<Eval>),
    /// Internal: sets (or removes) a key with its absolute expiry; the writes of an optimistic transaction.
    Put {
        key: Bytes,
        value: Option<(Value, Option<Millis>)>,
    },
    /// Never made any more. It stays for the places of those behind it in the log's encoding.
    Fetch {
        keys: Vec<Bytes>,
    },
    /// Internal: answers what it was given; so a transaction that ran at the gateway leaves its replies where a retry
    /// finds them. `key` says on which shard.
    Recall {
        key: Bytes,
        replies: Vec<Reply>,
    },
    /// What memcached clients ask for; no Redis command.
    Memcached(Box<Memcached>),
}

/// How a command's keys spread over shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touches<'a> {
    Keys(SmallVec<[&'a Bytes; 2]>),
    /// Every key of every shard.
    Everything,
    /// Every key of the shard with this number (a cursor says which).
    Shard(u16),
}

impl Command {
    /// What the command reads or writes.
    #[must_use]
    pub fn touches(&self) -> Touches<'_> {
        use Command as C;
        match self {
            C::Get { key }
            | C::GetDel { key }
            | C::GetEx { key, .. }
            | C::Append { key, .. }
            | C::StrLen { key }
            | C::IncrBy { key, .. }
            | C::IncrByFloat { key, .. }
            | C::GetRange { key, .. }
            | C::SetRange { key, .. }
            | C::Type { key }
            | C::Ttl { key, .. }
            | C::Persist { key }
            | C::Put { key, .. }
            | C::Recall { key, .. }
            | C::Set(SetCommand { key, .. })
            | C::Expire(ExpireCommand { key, .. }) => Touches::Keys(smallvec![key]),
            C::MGet { keys }
            | C::Del { keys }
            | C::Exists { keys }
            | C::Touch { keys }
            | C::Fetch { keys } => Touches::Keys(keys.iter().collect()),
            C::MSet { pairs } | C::MSetNx { pairs } => Touches::Keys(pairs.iter().map(|(k, _)| k).collect()),
            C::Rename { from, to, .. } | C::Copy(CopyCommand { from, to, .. }) => {
                Touches::Keys(smallvec![from, to])
            }
            C::Call(call) => Touches::Keys(call.keys()),
            C::Memcached(memcached) => Touches::Keys(memcached.keys()),
            C::Eval(eval) => Touches::Keys(eval.keys.iter().collect()),
            C::Scan(scan) => Touches::Shard(scan.shard()),
            C::Keys { .. } | C::RandomKey | C::DbSize | C::Flush => Touches::Everything,
        }
    }

    /// Whether the command can change anything. `TOUCH` cannot: when keys were used is no part of the state.
    #[must_use]
    pub fn is_write(&self) -> bool {
        use Command as C;
        if let C::Call(call) = self {
            return call.is_write();
        }
        if let C::Eval(eval) = self {
            return !eval.read_only;
        }
        if let C::Memcached(memcached) = self {
            return memcached.is_write();
        }
        !matches!(
            self,
            C::Get { .. }
                | C::MGet { .. }
                | C::StrLen { .. }
                | C::GetRange { .. }
                | C::Exists { .. }
                | C::Touch { .. }
                | C::Type { .. }
                | C::Ttl { .. }
                | C::Scan(_)
                | C::Keys { .. }
                | C::RandomKey
                | C::DbSize
                | C::Fetch { .. }
                | C::Recall { .. }
        ) && !matches!(
            self,
            C::GetEx {
                expiry: Expiry::Keep,
                refuse: None,
                ..
            }
        )
    }

    /// Whether an error in one shard's share of it leaves the others' undone.
    #[must_use]
    pub fn is_all_or_nothing(&self) -> bool {
        matches!(self, Command::Call(call) if call.parts().0 == "xreadgroup")
    }

    /// Bytes of keys and values, for bounds.
    #[must_use]
    pub fn weight(&self) -> usize {
        use Command as C;
        let own = match self {
            C::Set(set) => set.value.len(),
            C::Append { value, .. } | C::SetRange { value, .. } => value.len(),
            C::Put {
                value: Some((value, _)),
                ..
            } => value.weight(),
            C::Call(call) => call.weight(),
            C::Eval(eval) => eval.weight(),
            C::Memcached(memcached) => memcached.weight(),
            C::Recall { replies, .. } => replies.iter().map(Reply::weight).sum(),
            C::MSet { pairs } | C::MSetNx { pairs } => pairs.iter().map(|(_, v)| v.len() + 16).sum(),
            _ => 0,
        };
        let keys = match self.touches() {
            Touches::Keys(keys) => keys.iter().map(|key| key.len() + 8).sum(),
            Touches::Everything | Touches::Shard(_) => 8,
        };
        own + keys + 32
    }

    /// See [`crate::machine::Request::detach`].
    pub fn detach(&mut self) {
        if let Command::Set(set) = self {
            set.key = Bytes::copy_from_slice(&set.key);
            set.value = Bytes::copy_from_slice(&set.value);
        }
    }

    /// Runs the command. A deterministic function of the overlay: an error is a reply like any other.
    pub fn run(&self, view: &mut Overlay<'_>) -> Reply {
        if view.records() {
            return events::run_recorded(self, view);
        }
        self.perform(view)
    }

    fn perform(&self, view: &mut Overlay<'_>) -> Reply {
        use Command as C;
        match self {
            C::Get { key } => flat(strings::get(view, key)),
            C::Set(set) => flat(strings::set(view, set)),
            C::GetDel { key } => flat(strings::get_del(view, key)),
            C::GetEx { key, expiry, refuse } => flat(strings::get_ex(view, key, *expiry, refuse.as_ref())),
            C::MGet { keys } => strings::mget(view, keys),
            C::MSet { pairs } => strings::mset(view, pairs),
            C::MSetNx { pairs } => strings::mset_nx(view, pairs),
            C::Append { key, value } => flat(strings::append(view, key, value)),
            C::StrLen { key } => flat(strings::str_len(view, key)),
            C::IncrBy { key, by } => flat(strings::incr_by(view, key, *by)),
            C::IncrByFloat { key, by } => flat(strings::incr_by_float(view, key, by)),
            C::GetRange { key, start, end } => flat(strings::get_range(view, key, *start, *end)),
            C::SetRange { key, offset, value } => flat(strings::set_range(view, key, *offset, value)),
            C::Del { keys } => Reply::count(keys.iter().filter(|key| view.remove(key)).count()),
            C::Exists { keys } | C::Touch { keys } => {
                Reply::count(keys.iter().filter(|key| view.contains(key)).count())
            }
            C::Type { key } => Reply::Simple(view.get(key).map_or("none", |(v, _)| v.type_name()).into()),
            C::Expire(expire) => keys::expire(view, expire),
            C::Ttl { key, kind } => keys::ttl(view, key, *kind),
            C::Persist { key } => keys::persist(view, key),
            C::Rename { from, to, only_new } => keys::rename(view, from, to, *only_new),
            C::Copy(copy) => keys::copy(view, copy),
            C::Scan(scan) => keys::scan(view, scan),
            C::Keys { pattern } => keys::keys(view, pattern),
            C::RandomKey => keys::random_key(view),
            C::DbSize => Reply::count(view.len()),
            C::Flush => {
                view.flush();
                Reply::ok()
            }
            C::Put { key, value } => {
                match value {
                    Some((value, expires)) => view.put(key, value.clone(), *expires),
                    None => drop(view.remove(key)),
                }
                Reply::ok()
            }
            C::Fetch { .. } => Reply::err("ERR a command of an earlier version"),
            C::Recall { replies, .. } => Reply::Array(replies.clone()),
            C::Call(call) => flat(call.run(view)),
            C::Memcached(memcached) => flat(memcached.run(view)),
            C::Eval(_) => Reply::err("ERR a script came to where only commands run"),
        }
    }
}

/// What a command comes to: its reply, or the error that kept it from doing anything.
pub type Done = Result<Reply, Reply>;

type View<'a, 'b> = &'a mut Overlay<'b>;

fn flat(done: Done) -> Reply {
    done.unwrap_or_else(|error| error)
}
