//! What `HELP` subcommands reply, and how a wrong subcommand is told: Redis's words.

use crate::base::Reply;

const CONFIG: &str = "\
GET <pattern>
    Return parameters matching the glob-like <pattern> and their values.
SET <directive> <value>
    Set the configuration <directive> to <value>.
RESETSTAT
    Reset statistics reported by the INFO command.
REWRITE
    Rewrite the configuration file.";

const SLOWLOG: &str = "\
GET [<count>]
    Return top <count> entries from the slowlog (default: 10, -1 mean all).
    Entries are made of:
    id, timestamp, time in microseconds, arguments array, client IP and port,
    client name
LEN
    Return the length of the slowlog.
RESET
    Reset the slowlog.";

const LATENCY: &str = "\
DOCTOR
    Return a human readable latency analysis report.
GRAPH <event>
    Return an ASCII latency graph for the <event> class.
HISTORY <event>
    Return time-latency samples for the <event> class.
LATEST
    Return the latest latency samples for all events.
RESET [<event> ...]
    Reset latency data of one or more <event> classes.
    (default: reset all data for all event classes)
HISTOGRAM [COMMAND ...]
    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.
    If no commands are specified then all histograms are replied.";

const MEMORY: &str = "\
DOCTOR
    Return memory problems reports.
MALLOC-STATS
    Return internal statistics report from the memory allocator.
PURGE
    Attempt to purge dirty pages for reclamation by the allocator.
STATS
    Return information about the memory usage of the server.
USAGE <key> [SAMPLES <count>]
    Return memory in bytes used by <key> and its value. Nested values are
    sampled up to <count> times (default: 5, 0 means sample all).";

const DEBUG: &str = "\
DIGEST
    Output a hex signature representing the current DB content.
DIGEST-VALUE <key> [<key> ...]
    Output a hex signature of the values of all the specified keys.
ERROR <string>
    Return a Redis protocol error with <string> as message. Useful for clients
    unit tests to simulate Redis errors.
LOG <message>
    Write <message> to the server log.
OBJECT <key>
    Show low level info about `key` and associated value.
PROTOCOL <type>
    Reply with a test value of the specified type. <type> can be: string,
    integer, double, bignum, null, array, set, map, attrib, push, verbatim,
    true, false.
RELOAD
    Write snapshots of this node's groups.
SET-ACTIVE-EXPIRE <0|1>
    Setting it to 0 disables expiring keys in background when they are not
    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the
    default.
SLEEP <seconds>
    Stop the server for <seconds>. Decimals allowed.
STRINGMATCH-LEN <length> <pattern>
    Match <pattern> against a string of <length> bytes.";

/// A container's help.
#[must_use]
pub fn reply(name: &str) -> Reply {
    let lines = match name {
        "config" => CONFIG,
        "slowlog" => SLOWLOG,
        "latency" => LATENCY,
        "memory" => MEMORY,
        _ => DEBUG,
    };
    let title = format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        name.to_uppercase()
    );
    let own = ["HELP", "    Prints this help."];
    let lines = std::iter::once(title.as_str()).chain(lines.lines()).chain(own);
    Reply::Array(lines.map(|line| Reply::Simple(line.to_owned().into())).collect())
}

#[must_use]
pub fn unknown(name: &str, sub: &str) -> Reply {
    Reply::err(format!("ERR unknown subcommand '{sub}'. Try {name} HELP."))
}

#[must_use]
pub fn unknown_or_arity(name: &str, sub: &str) -> Reply {
    Reply::err(format!(
        "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try {name} HELP."
    ))
}
