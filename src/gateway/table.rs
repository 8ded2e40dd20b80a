//! The commands that are about the connection or the server.

use std::sync::LazyLock;

use bytes::Bytes;

use super::client::arity;
use crate::base::{Names, Reply};
use crate::machine::commands;

/// A command that the gateway answers itself.
#[derive(Debug)]
pub struct Own {
    pub name: &'static str,
    pub arity: i64,
    pub summary: &'static str,
    /// Works inside MULTI at once, instead of being queued.
    pub immediate: bool,
}

macro_rules! own {
    ($($name:literal $arity:literal $immediate:literal $summary:literal;)*) => {
        pub const OWN: &[Own] = &[$(Own {
            name: $name, arity: $arity, summary: $summary, immediate: $immediate,
        },)*];
    };
}

own! {
    "ping" -1 false "Returns the server's liveliness response.";
    "echo" 2 false "Returns the given string.";
    "hello" -1 false "Handshakes with the server.";
    "auth" -2 false "Authenticates the connection.";
    "select" 2 false "Changes the selected database.";
    "client" -2 false "A container for client connection commands.";
    "command" -1 false "Returns detailed information about all commands.";
    "info" -1 false "Returns information and statistics about the server.";
    "script" -2 false "LOAD, EXISTS, FLUSH scripts by their SHA-1; KILL ends those that run on this node.";
    "function" -2 false "LOAD, DELETE, LIST, DUMP, RESTORE, FLUSH: libraries of functions, durable on all nodes. KILL, STATS: of those that run on this node.";
    "time" 1 false "Returns the server's time.";
    "publish" 3 false "Sends a message to a channel, at whichever node it is listened to; replies how many hear it.";
    "spublish" 3 false "Sends a message to a shard channel.";
    "pubsub" -2 false "CHANNELS, NUMSUB, NUMPAT, SHARDCHANNELS, SHARDNUMSUB: what is listened to in the cluster.";
    "subscribe" -2 true "Listens to channels.";
    "psubscribe" -2 true "Listens to channels whose names match patterns.";
    "ssubscribe" -2 true "Listens to shard channels.";
    "unsubscribe" -1 true "Stops listening to channels.";
    "punsubscribe" -1 true "Stops listening to patterns.";
    "sunsubscribe" -1 true "Stops listening to shard channels.";
    "quit" -1 true "Closes the connection.";
    "reset" 1 true "Resets the connection.";
    "multi" -1 true "Starts a transaction. Quorate: MULTI STRICT, one that any error rolls back.";
    "exec" 1 true "Executes all commands in a transaction.";
    "discard" 1 true "Discards a transaction.";
    "watch" -2 true "Monitors changes to keys to determine the execution of a transaction.";
    "unwatch" 1 false "Forgets about watched keys of a transaction.";
    "config" -2 false "GET, SET, RESETSTAT: settings, at all nodes, until they restart.";
    "slowlog" -2 false "GET, LEN, RESET: commands of this node's clients that took long.";
    "latency" -2 false "LATEST, HISTORY, RESET, GRAPH, DOCTOR, HISTOGRAM: how long this node's commands take.";
    "memory" -2 false "USAGE key; STATS, DOCTOR, PURGE, MALLOC-STATS of the process.";
    "debug" -2 false "For tests of clients, with debug_commands = true in the config file.";
    "monitor" 1 false "Shows every request that comes to this node.";
    "role" 1 false "Returns the replication role: always master.";
    "save" 1 true "Writes snapshots of this node's replicas, and waits for them.";
    "bgsave" -1 false "Begins to write snapshots of this node's replicas.";
    "lastsave" 1 false "Returns when this node has last written a snapshot.";
    "bgrewriteaof" 1 false "Refused: there is no append-only file.";
    "shutdown" -1 true "Stops this node in order.";
    "wait" 3 false "Waits until so many other replicas have what the connection has written; replies how many have.";
    "lolwut" -1 false "Shows a drawing, and the version.";
    "acl" -2 false "WHOAMI, USERS, LIST, CAT: there is one user.";
    "swapdb" 3 false "Refused but for 0 and 0: there is one database.";
    "move" 3 false "Refused: there is one database.";
    "cluster" -2 false "Refused: clients need not know where keys lie.";
    "readonly" 1 false "Refused, as CLUSTER.";
    "readwrite" 1 false "Refused, as CLUSTER.";
    "asking" 1 false "Refused, as CLUSTER.";
    "txn" -2 false "Quorate: LIST shows transactions under way; INFO id all that is known of one; STATUS id what became of one whose outcome was UNKNOWN; WAIT id ms waits until that is known; RESOLVE id has it decided now.";
    "quorate" -2 false "Quorate: STATUS; DIGEST; ONCE session seq below numbers the next write, so that it is executed once.";
}

/// A command's subcommand, with its arity: both names count.
#[derive(Debug)]
pub struct Sub {
    pub of: &'static str,
    pub name: &'static str,
    pub arity: i64,
}

macro_rules! subcommands {
    ($($of:literal { $($name:literal $arity:literal)* })*) => {
        /// Where a wrong subcommand is noticed before anything runs.
        pub const SUBCOMMANDS: &[Sub] = &[$($(Sub { of: $of, name: $name, arity: $arity },)*)*];
    };
}

subcommands! {
    "command" { "count" 2 "docs" -2 "getkeys" -4 "getkeysandflags" -4 "help" 2 "info" -2 "list" -2 }
    "pubsub" { "channels" -2 "help" 2 "numpat" 2 "numsub" -2 "shardchannels" -2 "shardnumsub" -2 }
    "script" { "debug" 3 "exists" -3 "flush" -2 "help" 2 "kill" 2 "load" 3 }
    "config" { "get" -3 "set" -4 "resetstat" 2 "rewrite" 2 "help" 2 }
    "slowlog" { "get" -2 "len" 2 "reset" 2 "help" 2 }
    "latency" { "doctor" 2 "graph" 3 "history" 3 "latest" 2 "reset" -2 "histogram" -2 "help" 2 }
    "memory" { "doctor" 2 "malloc-stats" 2 "purge" 2 "stats" 2 "help" 2 }
    "acl" { "whoami" 2 "users" 2 "list" 2 "cat" -2 }
    "cluster" {
        "info" 2 "myid" 2 "slots" 2 "shards" 2 "nodes" 2 "links" 2 "keyslot" 3 "countkeysinslot" 3 "getkeysinslot" 4 "help" 2
        "addslots" -3 "addslotsrange" -4 "bumpepoch" 2 "count-failure-reports" 3 "delslots" -3 "delslotsrange" -4 "failover" -2
        "flushslots" 2 "forget" 3 "meet" -4 "replicas" 3 "replicate" 3 "reset" -2 "saveconfig" 2 "set-config-epoch" 3
        "setslot" -4 "slaves" 3
    }
    "client" {
        "id" 2 "getname" 2 "info" 2 "getredir" 2 "trackinginfo" 2 "setname" 3 "setinfo" 4 "no-evict" 3 "reply" 3
        "unblock" -3 "list" -2 "kill" -3 "pause" -3 "unpause" 2 "tracking" -3 "caching" 3
        "help" 2
    }
}

/// Where in [`SUBCOMMANDS`] a command's subcommand stands.
#[must_use]
pub fn subcommand(of: &str, name: Option<&Bytes>) -> Option<usize> {
    let is =
        |sub: &Sub| sub.of == of && name.is_some_and(|name| name.eq_ignore_ascii_case(sub.name.as_bytes()));
    SUBCOMMANDS.iter().position(is)
}

/// Whether a command with subcommands has one of these, with as many arguments as that wants.
///
/// # Errors
/// What Redis says otherwise.
fn check_sub(of: &'static str, args: &[Bytes]) -> Result<(), Reply> {
    if !SUBCOMMANDS.iter().any(|sub| sub.of == of) {
        return Ok(());
    }
    let given = args.first().map(|sub| commands::shown(sub).into_owned());
    let Some(sub) = subcommand(of, args.first()).map(|at| &SUBCOMMANDS[at]) else {
        return Err(super::help::unknown(
            &of.to_uppercase(),
            &given.unwrap_or_default(),
        ));
    };
    if fits(sub.arity, args.len()) {
        Ok(())
    } else {
        let name = sub.name;
        Err(Reply::err(format!(
            "ERR wrong number of arguments for '{of}|{name}' command"
        )))
    }
}

/// The gateway's own command of this name.
#[must_use]
pub fn own(name: &[u8]) -> Option<&'static Own> {
    static BY_NAME: LazyLock<Names<Own>> = LazyLock::new(|| Names::of(OWN, |own| own.name));
    BY_NAME.find(name)
}

/// Checks the number of arguments after the name, and the subcommand. Inside MULTI this alone spoils the transaction.
///
/// # Errors
/// The reply for a wrong number, or for a subcommand that there is not.
pub fn check(own: &'static Own, args: &[Bytes]) -> Result<(), Reply> {
    if !fits(own.arity, args.len()) {
        return Err(arity(own.name));
    }
    if args.is_empty() {
        return Ok(());
    }
    check_sub(own.name, args)
}

/// Whether `args` (without the name) are as many as `arity` wants.
#[must_use]
pub fn fits(arity: i64, args: usize) -> bool {
    commands::fits(arity, args + 1)
}
