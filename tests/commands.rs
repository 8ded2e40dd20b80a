//! `docs/commands.md` is made from the command table; `QUORATE_WRITE_DOCS=1 cargo test --test commands` writes it anew.

#![allow(clippy::disallowed_methods)] // Clocks: this is no simulation.

#[path = "commands/redis.rs"]
mod beside_redis;
#[path = "differential/redis.rs"]
#[allow(dead_code)]
mod redis;
#[path = "golden/resp.rs"]
#[allow(dead_code)]
mod resp;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use quorate::gateway::table::{OWN, own};
use quorate::gateway::unknown::MISSING;
use quorate::machine::commands::{COMMANDS, Movable, Spec, find, parse};
use quorate::machine::{Command, Touches};
use quorate::txn::Plan;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/commands.md");

/// A command of this kind on as many keys as it takes, two at the least if it can.
fn sample(spec: &'static Spec) -> Command {
    let mut args: Vec<&str> = match (spec.keys, spec.movable) {
        ((1, 1, _), Some(Movable::Counted(_))) => vec!["k1", "1", "k2"],
        (_, Some(Movable::Counted(1))) => vec!["0", "2", "k1", "k2"],
        (_, Some(Movable::Counted(_))) => vec!["2", "k1", "k2"],
        ((1, -2, 1), _) => vec!["k1", "k2", "0"],
        ((1, 2 | -1, 1), _) => vec!["k1", "k2"],
        ((1, -1, 2), _) => vec!["k1", "1", "k2", "1"],
        ((1, ..), _) => vec!["k1"],
        _ => vec![],
    };
    let least = usize::try_from(spec.arity.abs() - 1).expect("a number of arguments");
    // What stands behind the keys of those that are taken apart has to make sense.
    args.extend(match spec.name {
        "lmove" => &["LEFT", "LEFT"][..],
        "blmove" => &["LEFT", "LEFT", "0"],
        "lmpop" | "blmpop" => &["LEFT"],
        "zmpop" | "bzmpop" => &["MIN"],
        "brpoplpush" => &["0"],
        "xread" => &["STREAMS", "k1", "k2", "0", "0"],
        "xreadgroup" => &["GROUP", "g", "c", "STREAMS", "k1", "k2", ">", ">"],
        "xgroup" => &["DESTROY", "k1", "g"],
        "xinfo" => &["STREAM", "k1"],
        "object" => &["ENCODING", "k1"],
        "bitop" => &["AND", "k1", "k2"],
        "xadd" => &["*", "f", "v"],
        _ => &[],
    });
    args.resize(args.len().max(least), "1");
    let args: Vec<Bytes> = args
        .into_iter()
        .map(|arg| Bytes::copy_from_slice(arg.as_bytes()))
        .collect();
    parse(spec, &args).unwrap_or_else(|reply| unreachable!("{}: {reply:?}", spec.name))
}

/// What it does where its keys lie on several shards.
fn over_shards(command: &Command) -> &'static str {
    let keys = match command.touches() {
        Touches::Keys(keys) => keys.len(),
        Touches::Shard(_) => return "one shard after another, by the cursor",
        Touches::Everything => return "on every shard, at one moment",
    };
    if matches!(command, Command::Eval(_)) {
        return "reads all that its keys hold, runs at the gateway, commits what it has written whole if nothing has changed";
    }
    let shard_of = |key: &[u8]| u16::from(key == b"k2");
    if keys < 2 {
        "one shard"
    } else if Plan::new(std::slice::from_ref(command), &[], 2, &shard_of).is_some() {
        "a share on each, as one transaction"
    } else if command.apart().is_some() {
        "looks, then moves or takes what it does, if nothing has changed"
    } else {
        "reads all that its keys hold, runs, commits if nothing has changed"
    }
}

fn page() -> String {
    let mut page = String::from(
        "# Commands\n\n\
         Made from the command table by `QUORATE_WRITE_DOCS=1 cargo test --test commands`. Semantics are those of Redis 7.0, with \
         any keys on any shards; `tests/differential.rs` compares them.\n\n\
         Arity counts the name; a negative one is the least. A write on one shard costs one round of its Raft group, a read none \
         of the log; a write over several shards one round of all that take part; what reads first costs that before.\n",
    );
    let groups: BTreeSet<&str> = COMMANDS.iter().map(|spec| spec.group).collect();
    for group in groups {
        let _ = write!(
            page,
            "\n## {group}\n\n| command | arity | | over several shards | |\n|---|---|---|---|---|\n"
        );
        for spec in COMMANDS.iter().filter(|spec| spec.group == group) {
            let command = sample(spec);
            let kind = if command.is_write() { "write" } else { "read" };
            let (name, over) = (spec.name.to_uppercase(), over_shards(&command));
            let _ = writeln!(
                page,
                "| `{name}` | {} | {kind} | {over} | {} |",
                spec.arity, spec.summary
            );
        }
    }
    page.push_str("\n## Connection, transactions, server\n\n| command | arity | |\n|---|---|---|\n");
    for own in OWN {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} |",
            own.name.to_uppercase(),
            own.arity,
            own.summary
        );
    }
    // A subcommand that works on data stands in the table beside its container.
    let whole = COMMANDS.iter().filter(|spec| !spec.name.contains('|'));
    let here = whole.count() + OWN.len();
    let missing: usize = MISSING.iter().map(|(_, _, names)| names.len()).sum();
    let _ = write!(
        page,
        "\n## Not supported\n\n{here} commands are here, {missing} of Redis 7.0 are not; they answer an error that says so.\n\n\
         | what | | commands |\n|---|---|---|\n"
    );
    for (what, why, names) in MISSING {
        let names: Vec<String> = names
            .iter()
            .map(|name| format!("`{}`", name.to_uppercase()))
            .collect();
        let _ = writeln!(page, "| {what} | {why} | {} |", names.join(" "));
    }
    page.push_str(
        "\n## Differences from Redis 7.0\n\n\
         - `INCRBYFLOAT`, `HINCRBYFLOAT` add in decimal, exactly; Redis rounds to 64 bits of mantissa. What a double cannot hold is \
         refused; Redis goes to 1e4932.\n\
         - A key is gone in the millisecond of its expiry; in Redis only after it.\n\
         - A timeout of more milliseconds than 63 bits say is `out of range`; Redis 7.0 calls it negative, or waits.\n\
         - A script that only reads may call `PFCOUNT`; in Redis it may not, since that may cache what it has counted.\n\
         - A pattern of Lua's `find`, `match`, `gmatch`, `gsub` may have 1,000 items that repeat or can be left out (`*`, `+`, `-`, `?`): \
         100,000 end a Redis server. One that goes back and forth for ever does so here, too, in a thread of its own: its script cannot be \
         ended and keeps one of its node's eight places; Redis would serve nobody.\n\
         - A script's number of 2^63 or more, which 2^63 - 1 becomes in Lua, is replied as the greatest integer; in Redis it is \
         undefined, mostly the least.\n\
         - A score of zero has no sign. In Redis it keeps one in large sorted sets and loses it in small ones.\n\
         - The order of members and fields, where it is not defined, is not Redis's.\n\
         - `XADD … ~` and `XTRIM … ~` trim exactly, up to the LIMIT (10,000 entries unless it says otherwise); Redis drops whole nodes \
         of 100 entries.
\
         - A consumer that waits in `XREADGROUP` when the stream or the group goes is told `NOGROUP`, as by Redis 7.2.
\
         - `WATCH` notices also what changes a stream's groups (`XREADGROUP`, `XACK`, `XCLAIM`, `XAUTOCLAIM`, `XGROUP`, `XSETID`); in \
         Redis it does not.\n\
         - `GEOSEARCH` and its like find what lies beyond the meridian of 180 degrees; Redis does not where the square of the place itself \
         is at the edge of the map.
\
         - In a sorted set, what has a score that is no place lies for `GEOPOS` and its like at the edge of the map; in Redis that \
         is undefined.\n\
         - `SORT … ALPHA` compares all bytes; Redis, unless it stores, by the locale of its process and up to a zero byte.
\
         - `RESTORE` looks at all of a payload (as Redis with `sanitize-dump-payload yes`) and refuses bytes behind the value; \
         `IDLETIME` and `FREQ` are read and not kept. `DUMP` and `RESTORE` have limits: `DUMPED_BYTES_MAX`, `BULK_BYTES_MAX`. What \
         Redis compresses is compressed, but not to the same bytes.\n\
         - `OBJECT ENCODING` is told from what is there: a collection that has shrunk counts as small again.\n\
         - `SETBIT`, `BITFIELD`, `PFADD` write the whole string anew: dear for bitmaps of megabytes.
\
         - There is one database: `SELECT`, `SWAPDB`, `MOVE` answer as a Redis with `databases 1`.\n\
         - `CONFIG SET` reaches all nodes that are linked, or are within a second; one that is down misses it, and a restart begins with the config file. Names \
         that mean nothing here are absent, what cannot change is as in Redis (`can't set immutable config`), `CONFIG REWRITE` is refused.\n\
         - `INFO`, `SLOWLOG`, `LATENCY`, `MONITOR`, `CLIENT LIST`, `CLIENT PAUSE` are about the node that is asked; `# Keyspace` and `DBSIZE` about \
         the cluster. Memory and processor time are the process's. `expired_keys` and the like count in all replicas on the node, \
         `keyspace_hits` and `keyspace_misses` where a read was answered, which is mostly the shard's leader. \
         `rdb_changes_since_last_save` is in bytes of log.\n\
         - Commands that come in one burst run together: each has taken as long as all (`LATENCY HISTOGRAM`, `SLOWLOG`, where one entry stands \
         for all), and `usec` in `# Commandstats` is its share.\n\
         - `MONITOR` shows requests as they come, in MULTI too, and not what scripts call. `CLIENT PAUSE` holds up no `CLIENT`, and \
         is answered when no request of this node's clients is under way any more that had begun before it, or when the pause is over. Who waits \
         in `BLPOP` and the like is served by what other nodes' clients push meanwhile.\n\
         - `SAVE` and `BGSAVE` write snapshots of the node's replicas; what was acknowledged is on disk without them. \
         `WAIT` counts other replicas of the shards that the connection has written to, the least of all, for 60 s at the most \
         (`WAIT_MS_MAX`); 1 of 2 others has every acknowledged write anyway.\n\
         - `MEMORY USAGE` tells Quorate's bytes, sampling nothing. `DEBUG` needs `debug_commands = true` in the config file and has \
         few subcommands; its digests are not Redis's.\n\
         - A reply is refused that would be larger than `REPLIES_BYTES_MAX` (`src/base/limits.rs`): `SRANDMEMBER key -1000000000`.\n\
         - Where keys lie on several shards, a command that reads all that they hold first is refused when that is more than fits \
         into a reply.\n",
    );
    page
}

#[test]
fn the_page_shows_the_table_as_it_is() {
    let page = page();
    if std::env::var_os("QUORATE_WRITE_DOCS").is_some() {
        std::fs::write(Path::new(PAGE), &page).expect("the page is written");
    }
    let written = std::fs::read_to_string(Path::new(PAGE)).expect("the page is there");
    assert!(
        written == page,
        "docs/commands.md is out of date: see this test's first line"
    );
}

#[test]
fn each_command_has_one_place_and_names_are_lower_case() {
    let missing = MISSING.iter().flat_map(|(_, _, names)| names.iter().copied());
    let here = COMMANDS
        .iter()
        .map(|spec| spec.name)
        .chain(OWN.iter().map(|own| own.name));
    let mut seen = BTreeSet::new();
    for name in here.chain(missing.clone()) {
        assert!(seen.insert(name), "{name} is there twice");
        assert_eq!(name, name.to_lowercase());
    }
    for name in missing {
        assert!(find(name.as_bytes()).is_none() && own(name.as_bytes()).is_none());
    }
    for spec in COMMANDS {
        assert!(
            find(spec.name.to_uppercase().as_bytes()).is_some(),
            "{}",
            spec.name
        );
    }
}
