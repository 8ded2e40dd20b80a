//! `COMMAND` beside that of Redis 7.0. `KNOWN` says what differs on purpose.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use quorate::gateway::command;
use quorate::gateway::facts;
use quorate::gateway::table::OWN;
use quorate::machine::commands::{COMMANDS, Flag};
use quorate::resp::{Protocol, encode};
use quorate::testing::Cluster;

use crate::redis::{Connection, Server};
use crate::resp::{Reply, read_reply, render};

/// Commands whose arity is another here: what can be said besides.
const KNOWN: &[(&str, &str)] = &[("multi", "MULTI STRICT")];

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn ours(args: &[Vec<u8>]) -> Reply {
    let args: Vec<Bytes> = args[1..].iter().cloned().map(Bytes::from).collect();
    let mut out = BytesMut::new();
    encode(&command::command(&args), Protocol::Resp3, &mut out).expect("a reply encodes");
    read_reply(&mut &out[..]).expect("what is encoded can be read")
}

/// Sets in order; of key specs without the notes, which are not taken over.
fn comparable(reply: Reply) -> Reply {
    match reply {
        Reply::List("~", items) => {
            let mut items: Vec<Reply> = items.into_iter().map(comparable).collect();
            items.sort_by_cached_key(render);
            Reply::List("~", items)
        }
        Reply::List(mark, items) => Reply::List(mark, items.into_iter().map(comparable).collect()),
        Reply::Map(pairs) => {
            let is_note = |key: &Reply| matches!(key, Reply::Bulk(name) if name == b"notes");
            let pairs = pairs.into_iter().filter(|(key, _)| !is_note(key));
            Reply::Map(pairs.map(|(key, value)| (key, comparable(value))).collect())
        }
        other => other,
    }
}

/// A command's row, and apart from it those of its subcommands.
fn rows(reply: Reply, all: &mut BTreeMap<String, Vec<String>>) {
    let Reply::List(_, list) = reply else { return };
    for row in list {
        let Reply::List(_, mut fields) = row else { continue };
        rows(fields.pop().expect("ten fields"), all);
        let name = render(&fields[0]).trim_matches('"').to_owned();
        all.insert(
            name,
            fields
                .into_iter()
                .map(|field| render(&comparable(field)))
                .collect(),
        );
    }
}

fn redis() -> Option<(Server, Connection)> {
    let Some(server) = Server::start() else {
        eprintln!("not run: there is no redis-server 7.0 here");
        return None;
    };
    let connection = Connection::open(server.addr, Protocol::Resp3);
    Some((server, connection))
}

#[test]
fn every_command_is_described_as_redis_describes_it() {
    let Some((_server, mut redis)) = redis() else {
        return;
    };
    let (mut here, mut there) = (BTreeMap::new(), BTreeMap::new());
    rows(ours(&words("COMMAND")), &mut here);
    rows(redis.call(&words("COMMAND")), &mut there);
    let mut differences = Vec::new();
    for (name, mut fields) in here {
        let Some(theirs) = there.get(&name) else {
            assert!(
                ["txn", "quorate"].contains(&&*name),
                "{name} is no command of Redis"
            );
            continue;
        };
        if KNOWN.iter().any(|(known, _)| *known == name) {
            assert_ne!(fields[1], theirs[1], "{name} is no difference any more");
            fields[1].clone_from(&theirs[1]);
        }
        for (ours, theirs) in fields.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs) {
            differences.push(format!("{name}\n  redis:   {theirs}\n  quorate: {ours}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// name → since, group.
fn docs(reply: Reply, all: &mut BTreeMap<String, [String; 2]>) {
    let Reply::Map(pairs) = reply else { return };
    for (name, about) in pairs {
        let name = render(&name);
        let Reply::Map(about) = about else { continue };
        let mut found = [String::new(), String::new()];
        for (key, value) in about {
            match render(&key).trim_matches('"') {
                "since" => found[0] = render(&value),
                "group" => found[1] = render(&value),
                "subcommands" => docs(value, all),
                _ => {}
            }
        }
        all.insert(name, found);
    }
}

#[test]
fn every_command_is_as_old_as_in_redis_and_of_the_same_group() {
    let Some((_server, mut redis)) = redis() else {
        return;
    };
    let (mut here, mut there) = (BTreeMap::new(), BTreeMap::new());
    docs(ours(&words("COMMAND DOCS")), &mut here);
    docs(redis.call(&words("COMMAND DOCS")), &mut there);
    let differ =
        |(name, about): &(String, [String; 2])| there.get(name).is_some_and(|theirs| theirs != about);
    let differ: Vec<_> = here.into_iter().filter(differ).collect();
    assert!(differ.is_empty(), "{differ:?}");
}

#[test]
fn the_table_says_of_each_command_what_redis_does() {
    for spec in COMMANDS {
        let fact = facts::find(spec.name).expect("a command of Redis");
        // A subcommand is called here with its whole name.
        let more = i64::from(spec.name.contains('|'));
        assert_eq!(
            spec.arity + more * spec.arity.signum(),
            fact.arity,
            "{}",
            spec.name
        );
        assert_eq!(spec.group, fact.group, "{}", spec.name);
        // Containers and scripts are no writes by their flags alone.
        let write = fact.flags.contains(&"write");
        let read = fact.flags.contains(&"readonly");
        if write || read {
            assert_eq!(spec.flag == Flag::Write, write, "{}", spec.name);
        }
        assert_eq!(
            spec.waiting().is_some(),
            fact.flags.contains(&"blocking"),
            "{}",
            spec.name
        );
        if spec.movable.is_none() && fact.keys != (0, 0, 0) {
            let (first, last, step) = spec.keys;
            assert_eq!(
                (first + more, last + more * last.signum(), step),
                fact.keys,
                "{}",
                spec.name
            );
        }
    }
    for own in OWN {
        let known = ["txn", "quorate", "multi"].contains(&own.name);
        let arity = facts::find(own.name).map(|fact| fact.arity);
        assert!(known || arity == Some(own.arity), "{}: {arity:?}", own.name);
    }
}

#[test]
fn keys_and_what_becomes_of_them_are_told_as_redis_tells() {
    let Some((_server, mut redis)) = redis() else {
        return;
    };
    let calls = "
        GET k|MSET a 1 b 2|SET k v|SET k v EX 10 GET|SET k v NX|BITFIELD k GET u8 0|BITFIELD k SET u8 0 1 GET u8 0
        BITFIELD k INCRBY u8 0 1|BITFIELD_RO k GET u8 0|SORT k BY w_* GET # LIMIT 0 10 STORE d|SORT k|SORT_RO k BY w_*
        SORT k BY store GET x|SORT k BY store GET x STORE a STORE b|ZUNIONSTORE d 2 a b WEIGHTS 1 2|ZUNION 2 a b|ZUNION 3 a b|ZUNION x a b
        EVAL script 2 a b c|EVAL script 0|EVALSHA_RO x 1 k|XREAD COUNT 1 STREAMS a b 0 0|XREAD COUNT 1 2 3
        XREADGROUP GROUP g c STREAMS a b c > > >|XGROUP CREATE k g $|XINFO STREAM k|MEMORY USAGE k|MEMORY STATS|FCALL f 2 a b|OBJECT ENCODING k|OBJECT k
        GEORADIUS k 1 1 1 km STORE d|GEORADIUS k 1 1 1 km STOREDIST d|GEORADIUS k 1 1 1 km|GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 km
        BLPOP a b c 0|BLMPOP 0 2 a b LEFT|LMPOP 1 a LEFT|BLMOVE a b LEFT RIGHT 0|SMOVE a b m|RENAME a b|COPY a b
        BITOP AND d a b|PFMERGE d a b|PFCOUNT a b|SINTERCARD 2 a b|SINTERSTORE d a b|LCS a b|GETDEL k|GETEX k
        RESTORE k 0 x|DUMP k|WATCH a b|UNWATCH|PING|PUBLISH c m|SPUBLISH c m|SUBSCRIBE a b|NOPE x|GET|GET a b|MSET a
        DEL a b|EXISTS a a|HSET k f v|ZADD k 1 m|XADD k * f v|SCRIPT LOAD x|CLIENT ID x|COMMAND COUNT x";
    for call in calls
        .split(['|', '\n'])
        .map(str::trim)
        .filter(|call| !call.is_empty())
    {
        for sub in ["GETKEYS", "GETKEYSANDFLAGS"] {
            let args = words(&format!("COMMAND {sub} {call}"));
            let (ours, theirs) = (render(&ours(&args)), render(&redis.call(&args)));
            assert_eq!(ours, theirs, "COMMAND {sub} {call}");
        }
    }
}

#[test]
fn errors_and_filters_are_those_of_redis() {
    let Some((_server, mut redis)) = redis() else {
        return;
    };
    let calls = [
        "COMMAND NOPE",
        "COMMAND COUNT x",
        "COMMAND GETKEYS",
        "COMMAND GETKEYS GET",
        "COMMAND HELP x",
        "COMMAND LIST x",
        "COMMAND LIST FILTERBY x y",
        "COMMAND LIST FILTERBY MODULE x",
        "COMMAND LIST FILTERBY ACLCAT nope",
        "COMMAND LIST FILTERBY ACLCAT HyperLogLog x",
        "COMMAND INFO nope",
        "COMMAND INFO xinfo|nope nope|x",
        "COMMAND DOCS nope",
    ];
    for call in calls {
        let args = words(call);
        assert_eq!(render(&ours(&args)), render(&redis.call(&args)), "{call}");
    }
    let sorted = |reply: Reply| -> BTreeSet<String> {
        match reply {
            Reply::List(_, names) => names.iter().map(render).collect(),
            other => BTreeSet::from([render(&other)]),
        }
    };
    for call in ["ACLCAT Stream", "ACLCAT geo", "PATTERN XINF*", "PATTERN z?nter*"] {
        let args = words(&format!("COMMAND LIST FILTERBY {call}"));
        assert_eq!(sorted(ours(&args)), sorted(redis.call(&args)), "{call}");
    }
}

#[test]
fn each_subcommand_that_is_described_is_there() {
    let cluster = Cluster::start(1, 1).expect("a cluster");
    let mut node = Connection::open(cluster.addrs()[0], Protocol::Resp3);
    let mut all = BTreeMap::new();
    rows(ours(&words("COMMAND")), &mut all);
    let mut unknown = Vec::new();
    // Called with too little, so that most do nothing.
    for name in all.keys().filter(|name| name.contains('|')) {
        let mut args = words(&name.replace('|', " "));
        let few = usize::try_from(facts::find(name).expect("described").arity.abs() - 1).expect("a number");
        args.truncate(few.max(2));
        let reply = render(&node.call(&args));
        if reply.starts_with("(error)") && (reply.contains("unknown") || reply.contains("not supported")) {
            unknown.push(format!("{name}: {reply}"));
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}
