//! Which keyspace events a command makes: from its name, its arguments, its reply, and the keys that it has written.
//!
//! Not here: `expired` of keys that nobody touches, `evicted`: whoever removes those says so.

use bytes::Bytes;

use super::expiry::Expiry;
use super::memcached::Memcached;
use super::strings::SetReply;
use super::{Command, Touches};
use crate::base::Reply;
use crate::base::events::Events;
use crate::machine::keyspace::Blob;
use crate::machine::notices::{Before, Notice, Touched};
use crate::machine::overlay::Overlay;
use crate::machine::values::stream;

/// Class and event of the commands that make one event of the key that they change, and `del` if nothing is left of it.
const SIMPLE: &[(&str, Events, &str)] = &[
    ("append", Events::STRING, "append"),
    ("setrange", Events::STRING, "setrange"),
    ("incrby", Events::STRING, "incrby"),
    ("incrbyfloat", Events::STRING, "incrbyfloat"),
    ("setbit", Events::STRING, "setbit"),
    ("bitfield", Events::STRING, "setbit"),
    ("pfadd", Events::STRING, "pfadd"),
    ("pfmerge", Events::STRING, "pfadd"),
    ("mset", Events::STRING, "set"),
    ("msetnx", Events::STRING, "set"),
    ("persist", Events::GENERIC, "persist"),
    ("restore", Events::GENERIC, "restore"),
    ("rpush", Events::LIST, "rpush"),
    ("rpushx", Events::LIST, "rpush"),
    ("lpush", Events::LIST, "lpush"),
    ("lpushx", Events::LIST, "lpush"),
    ("linsert", Events::LIST, "linsert"),
    ("lset", Events::LIST, "lset"),
    ("lrem", Events::LIST, "lrem"),
    ("ltrim", Events::LIST, "ltrim"),
    ("lpop", Events::LIST, "lpop"),
    ("blpop", Events::LIST, "lpop"),
    ("rpop", Events::LIST, "rpop"),
    ("brpop", Events::LIST, "rpop"),
    ("sadd", Events::SET, "sadd"),
    ("srem", Events::SET, "srem"),
    ("spop", Events::SET, "spop"),
    ("hset", Events::HASH, "hset"),
    ("hmset", Events::HASH, "hset"),
    ("hsetnx", Events::HASH, "hset"),
    ("hincrby", Events::HASH, "hincrby"),
    ("hincrbyfloat", Events::HASH, "hincrbyfloat"),
    ("hdel", Events::HASH, "hdel"),
    ("zincrby", Events::ZSET, "zincr"),
    ("geoadd", Events::ZSET, "zadd"),
    ("zrem", Events::ZSET, "zrem"),
    ("zremrangebyrank", Events::ZSET, "zremrangebyrank"),
    ("zremrangebyscore", Events::ZSET, "zremrangebyscore"),
    ("zremrangebylex", Events::ZSET, "zremrangebylex"),
    ("zpopmin", Events::ZSET, "zpopmin"),
    ("bzpopmin", Events::ZSET, "zpopmin"),
    ("zpopmax", Events::ZSET, "zpopmax"),
    ("bzpopmax", Events::ZSET, "zpopmax"),
    ("xtrim", Events::STREAM, "xtrim"),
    ("xdel", Events::STREAM, "xdel"),
    ("xsetid", Events::STREAM, "xsetid"),
];

/// Those that store what they have come to; nothing is stored: `del` alone, if there was something.
const STORING: &[(&str, Events, &str)] = &[
    ("bitop", Events::STRING, "set"),
    ("sinterstore", Events::SET, "sinterstore"),
    ("sunionstore", Events::SET, "sunionstore"),
    ("sdiffstore", Events::SET, "sdiffstore"),
    ("zunionstore", Events::ZSET, "zunionstore"),
    ("zinterstore", Events::ZSET, "zinterstore"),
    ("zdiffstore", Events::ZSET, "zdiffstore"),
    ("zrangestore", Events::ZSET, "zrangestore"),
    ("geosearchstore", Events::ZSET, "geosearchstore"),
    ("georadius", Events::ZSET, "georadiusstore"),
    ("georadiusbymember", Events::ZSET, "georadiusstore"),
    ("sort", Events::LIST, "sortstore"),
];

/// Their events are made whenever they reply no error, whether anything is other than it was or not.
const ALWAYS: &[&str] = &["hset", "hmset", "lset", "pfmerge", "ltrim", "xsetid"];

fn rule(rules: &[(&str, Events, &'static str)], name: &str) -> Option<(Events, &'static str)> {
    let found = rules.iter().find(|(known, ..)| *known == name);
    found.map(|(_, class, event)| (*class, *event))
}

/// Name and arguments.
fn parts(command: &Command) -> (&'static str, &[Bytes]) {
    let name = match command {
        Command::Call(call) => return call.parts(),
        Command::Set(_) => "set",
        Command::GetDel { .. } => "getdel",
        Command::GetEx { .. } => "getex",
        Command::MSet { .. } => "mset",
        Command::MSetNx { .. } => "msetnx",
        Command::Append { .. } => "append",
        Command::IncrBy { .. } => "incrby",
        Command::IncrByFloat { .. } => "incrbyfloat",
        Command::SetRange { .. } => "setrange",
        Command::Del { .. } => "del",
        Command::Expire(_) => "expire",
        Command::Persist { .. } => "persist",
        Command::Rename { .. } => "rename",
        Command::Copy(_) => "copy",
        _ => "",
    };
    (name, &[])
}

fn is(arg: Option<&Bytes>, word: &str) -> bool {
    arg.is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
}

/// What streams are looked at for, before and after.
#[derive(Debug, Default, PartialEq, Eq)]
struct Streams {
    len: usize,
    /// Whether the consumers that the command names are there, by key.
    consumers: Vec<(Bytes, bool)>,
}

impl Streams {
    fn look(name: &str, args: &[Bytes], command: &Command, view: &Overlay<'_>) -> Streams {
        let (group, consumer) = match name {
            "xadd" => {
                let value = args.first().and_then(|key| view.get(key));
                let len = value
                    .and_then(|(value, _)| stream::of(value))
                    .map_or(0, stream::Stream::len);
                return Streams {
                    len,
                    consumers: Vec::new(),
                };
            }
            "xreadgroup" | "xclaim" | "xautoclaim" => (args.get(1), args.get(2)),
            "xgroup" => (args.get(2), args.get(3)),
            _ => return Streams::default(),
        };
        let (Some(group), Some(consumer)) = (group, consumer) else {
            return Streams::default();
        };
        let there = |key: &Bytes| {
            let value = view.get(key);
            let group = value.and_then(|(value, _)| stream::of(value)?.group(group));
            group.is_some_and(|group| group.consumer(consumer).is_some())
        };
        let consumers = keys(command).into_iter().map(|key| (key.clone(), there(key)));
        Streams {
            len: 0,
            consumers: consumers.collect(),
        }
    }
}

fn keys(command: &Command) -> Vec<&Bytes> {
    match command.touches() {
        Touches::Keys(keys) => keys.into_iter().collect(),
        Touches::Everything | Touches::Shard(_) => Vec::new(),
    }
}

/// Keys that the command looks up to read them, of which Redis says so if they are not there.
fn read_keys<'a>(name: &str, args: &[Bytes], command: &'a Command) -> Vec<&'a Bytes> {
    let mut keys = keys(command);
    let all = match command {
        Command::Set(set) => set.reply == SetReply::Old,
        Command::GetDel { .. } | Command::GetEx { .. } => true,
        Command::Copy(_) => {
            keys.truncate(1);
            true
        }
        Command::Fetch { .. } | Command::Recall { .. } => false,
        _ => match name {
            "object" => false,
            "bitfield" => !args
                .iter()
                .any(|arg| is(Some(arg), "set") || is(Some(arg), "incrby")),
            "sort" | "georadius" | "georadiusbymember" => {
                keys.truncate(1);
                true
            }
            "pfmerge" | "xack" | "xreadgroup" => true,
            _ if rule(STORING, name).is_some() => {
                keys.remove(0);
                true
            }
            _ => !command.is_write(),
        },
    };
    if !all {
        return Vec::new();
    }
    if name == "xread" {
        // Redis looks twice.
        return keys.iter().chain(&keys).copied().collect();
    }
    keys
}

/// Events that are being put together.
struct Telling {
    notices: Vec<Notice>,
}

impl Telling {
    fn say(&mut self, class: Events, event: &'static str, key: &Bytes) {
        // Copied: a slice of a request's buffer would keep the whole buffer alive.
        let key = Bytes::copy_from_slice(key);
        self.notices.push(Notice { class, event, key });
    }

    /// That it came to be, if it did.
    fn appears(&mut self, touched: &Touched) {
        if touched.before == Before::Expired {
            self.say(Events::EXPIRED, "expired", &touched.key);
        }
        if touched.before != Before::There && touched.after {
            self.say(Events::NEW, "new", &touched.key);
        }
    }

    /// That nothing is left of it, if so.
    fn goes(&mut self, touched: &Touched) {
        if touched.before == Before::There && !touched.after {
            self.say(Events::GENERIC, "del", &touched.key);
        }
    }

    fn simple(&mut self, class: Events, event: &'static str, touched: &Touched) {
        self.appears(touched);
        if touched.before == Before::There || touched.after {
            self.say(class, event, &touched.key);
        }
        self.goes(touched);
    }

    fn stored(&mut self, class: Events, event: &'static str, touched: &Touched) {
        self.appears(touched);
        if touched.after {
            self.say(class, event, &touched.key);
        }
        self.goes(touched);
    }

    fn expires(&mut self, touched: &Touched) {
        self.appears(touched);
        if touched.after {
            self.say(Events::GENERIC, "expire", &touched.key);
        }
        self.goes(touched);
    }

    fn of_memcached(&mut self, command: &Memcached, touched: &Touched) {
        match (command, command.event()) {
            (_, Some((event, expires))) => {
                self.stored(Events::STRING, event, touched);
                if expires && touched.after {
                    self.say(Events::GENERIC, "expire", &touched.key);
                }
            }
            (Memcached::Touch { .. } | Memcached::Look(_), None) => self.expires(touched),
            (Memcached::Delete(_), None) => {
                self.appears(touched);
                self.goes(touched);
            }
            // To note what a client was told is no change.
            _ => {}
        }
    }

    fn variants(&mut self, command: &Command, reply: &Reply, touched: &[Touched]) {
        match command {
            Command::Memcached(command) => {
                for touched in touched {
                    self.of_memcached(command, touched);
                }
            }
            Command::Set(set) => {
                for touched in touched {
                    self.appears(touched);
                    self.say(Events::STRING, "set", &touched.key);
                    if matches!(set.expiry, Expiry::When(_)) {
                        self.say(Events::GENERIC, "expire", &touched.key);
                    }
                    if !touched.after {
                        self.say(Events::EXPIRED, "expired", &touched.key);
                    }
                }
            }
            Command::GetEx { expiry, .. } if *expiry == Expiry::Never => {
                for touched in touched {
                    self.simple(Events::GENERIC, "persist", touched);
                }
            }
            Command::GetEx { .. } | Command::Expire(_) => {
                for touched in touched {
                    self.expires(touched);
                }
            }
            Command::GetDel { .. } | Command::Del { .. } => {
                for touched in touched {
                    self.appears(touched);
                    self.goes(touched);
                }
            }
            Command::Rename { from, to, .. } if from != to && !touched.is_empty() => {
                if touched
                    .iter()
                    .any(|touched| touched.key == to && touched.before == Before::Expired)
                {
                    self.say(Events::EXPIRED, "expired", to);
                }
                self.say(Events::NEW, "new", to);
                self.say(Events::GENERIC, "rename_from", from);
                self.say(Events::GENERIC, "rename_to", to);
            }
            Command::Copy(copy) if *reply == Reply::Int(1) => {
                if touched.iter().any(|touched| touched.before == Before::Expired) {
                    self.say(Events::EXPIRED, "expired", &copy.to);
                }
                self.say(Events::NEW, "new", &copy.to);
                self.say(Events::GENERIC, "copy_to", &copy.to);
            }
            _ => {}
        }
    }

    /// Commands that take from one place and put into another, or from either end.
    fn moves(&mut self, name: &str, args: &[Bytes], touched: &[Touched]) -> bool {
        let of = |key: Option<&Bytes>| touched.iter().find(|touched| Some(&touched.key) == key);
        match name {
            "lmove" | "blmove" | "rpoplpush" | "brpoplpush" => {
                let (pops, pushes) = match name {
                    "lmove" | "blmove" => (is(args.get(2), "left"), is(args.get(3), "left")),
                    _ => (false, true),
                };
                if let (Some(from), Some(to)) = (of(args.first()), of(args.get(1))) {
                    self.appears(to);
                    self.say(Events::LIST, if pushes { "lpush" } else { "rpush" }, &to.key);
                    self.say(Events::LIST, if pops { "lpop" } else { "rpop" }, &from.key);
                    self.goes(from);
                }
            }
            "smove" if args.first() != args.get(1) => {
                if let Some(from) = of(args.first()) {
                    self.simple(Events::SET, "srem", from);
                }
                if let Some(to) = of(args.get(1)) {
                    self.simple(Events::SET, "sadd", to);
                }
            }
            "lmpop" | "blmpop" | "zmpop" | "bzmpop" => {
                let at = usize::from(name.starts_with('b'));
                let count = args
                    .get(at)
                    .and_then(|count| std::str::from_utf8(count).ok()?.parse::<usize>().ok());
                let side = args.get(at + 1 + count.unwrap_or(0));
                let (class, event) = match name {
                    "lmpop" | "blmpop" => (Events::LIST, if is(side, "left") { "lpop" } else { "rpop" }),
                    _ => (Events::ZSET, if is(side, "min") { "zpopmin" } else { "zpopmax" }),
                };
                for touched in touched {
                    self.simple(class, event, touched);
                }
            }
            _ => return false,
        }
        true
    }

    fn streams(
        &mut self,
        name: &str,
        args: &[Bytes],
        streams: (&Streams, &Streams),
        touched: &[Touched],
    ) -> bool {
        let (before, after) = streams;
        match (name, touched.first()) {
            ("xadd", Some(touched)) => {
                self.simple(Events::STREAM, "xadd", touched);
                if after.len <= before.len {
                    self.say(Events::STREAM, "xtrim", &touched.key);
                }
            }
            ("xgroup", Some(touched)) if is(args.first(), "create") => {
                self.simple(Events::STREAM, "xgroup-create", touched);
            }
            ("xgroup", Some(touched)) if is(args.first(), "setid") => {
                self.simple(Events::STREAM, "xgroup-setid", touched);
            }
            ("xgroup", Some(touched)) if is(args.first(), "destroy") => {
                self.simple(Events::STREAM, "xgroup-destroy", touched);
            }
            ("xgroup" | "xreadgroup" | "xclaim" | "xautoclaim", _) => {
                for ((key, before), (_, after)) in before.consumers.iter().zip(&after.consumers) {
                    match (before, after) {
                        (false, true) => self.say(Events::STREAM, "xgroup-createconsumer", key),
                        (true, false) => self.say(Events::STREAM, "xgroup-delconsumer", key),
                        _ => {}
                    }
                }
            }
            _ => return false,
        }
        true
    }
}

/// What the commands on bits have before them: to set what is set is no event.
fn bits(name: &str, args: &[Bytes], view: &Overlay<'_>) -> Option<Blob> {
    let key = args.first().filter(|_| matches!(name, "setbit" | "bitfield"))?;
    view.get_str(key).ok().flatten().cloned()
}

fn zadd_increments(args: &[Bytes]) -> bool {
    let options = args
        .iter()
        .skip(1)
        .take_while(|arg| arg.iter().all(u8::is_ascii_alphabetic));
    options.into_iter().any(|arg| is(Some(arg), "incr"))
}

/// Runs a command on a view that records, and notes its events.
pub(super) fn run_recorded(command: &Command, view: &mut Overlay<'_>) -> Reply {
    let (name, args) = parts(command);
    let mut telling = Telling { notices: Vec::new() };
    for key in read_keys(name, args, command) {
        if view.before(key) != Before::There {
            telling.say(Events::MISS, "keymiss", key);
        }
    }
    let before = Streams::look(name, args, command, view);
    let bits = bits(name, args, view);
    let reply = command.perform(view);
    let mut touched = view.take_touched();
    if bits.is_some() && bits == self::bits(name, args, view) {
        touched.clear();
    }
    let after = Streams::look(name, args, command, view);
    if name == "mset" || name == "msetnx" || name.is_empty() || matches!(command, Command::Del { .. }) {
        // Each key by itself, also one that is named twice.
        if name.starts_with("mset") {
            for touched in &touched {
                telling.simple(Events::STRING, "set", touched);
            }
        } else {
            telling.variants(command, &reply, &touched);
        }
        view.say(telling.notices);
        return reply;
    }
    let touched = merged(touched);
    if !telling.moves(name, args, &touched) && !telling.streams(name, args, (&before, &after), &touched) {
        let always = ALWAYS.contains(&name) && !reply.is_error() && touched.is_empty();
        let unchanged: Vec<Touched> = keys(command)
            .into_iter()
            .take(usize::from(always))
            .filter(|key| view.before(key) == Before::There)
            .map(|key| Touched {
                key: key.clone(),
                before: Before::There,
                after: true,
            })
            .collect();
        for touched in touched.iter().chain(&unchanged) {
            if name == "zadd" {
                let event = if zadd_increments(args) { "zincr" } else { "zadd" };
                telling.simple(Events::ZSET, event, touched);
            } else if let Some((class, event)) = rule(SIMPLE, name) {
                telling.simple(class, event, touched);
            } else if let Some((class, event)) = rule(STORING, name) {
                telling.stored(class, event, touched);
            }
        }
        telling.variants(command, &reply, &touched);
    }
    view.say(telling.notices);
    reply
}

/// One a key, in the order of the first writes.
fn merged(touched: Vec<Touched>) -> Vec<Touched> {
    let mut merged: Vec<Touched> = Vec::with_capacity(touched.len());
    for one in touched {
        match merged.iter_mut().find(|other| other.key == one.key) {
            Some(other) => other.after = one.after,
            None => merged.push(one),
        }
    }
    merged
}
