//! `CONFIG`: one table of names, each with what it is now and how it is changed. Changes reach all nodes that are linked, and are gone
//! at a restart: the config file says what a node begins with.
//!
//! Not here: names of Redis's that mean nothing to Quorate (replication, its AOF, encodings); they are absent.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::client::text;
use super::help;
use super::server::Shared;
use crate::base::limits::{
    BULK_BYTES_MAX, COMMAND_BYTES_MAX, PUSHES_BYTES_MAX, SCRIPT_MS_MAX, TXN_BYTES_MAX,
};
use crate::base::memory::parse_bytes;
use crate::base::{Events, Policy, Reply};
use crate::cluster::{Node, Setting};
use crate::machine::commands::parse_i64;
use crate::machine::glob::matches;

/// How the text of a setting is read and shown.
#[derive(Debug, Clone, Copy)]
enum Form {
    Int(i64, i64),
    Bytes,
    Policy,
    Events,
    Switch,
}

enum Value {
    /// Says the truth, which cannot be changed.
    Fixed(&'static str),
    Told(fn(&Node) -> String),
    Set(Setting, Form),
}

const POSITIVE: Form = Form::Int(0, i64::MAX);
const SMALL: Form = Form::Int(0, 2_147_483_647);

/// In the order of their names.
const TABLE: &[(&str, Value)] = &[
    ("appendonly", Value::Fixed("no")),
    ("bind", Value::Told(|node| address(node).0)),
    ("busy-reply-threshold", Value::Told(|_| SCRIPT_MS_MAX.to_string())),
    (
        "client-output-buffer-limit",
        Value::Told(|_| format!("normal 0 0 0 slave 0 0 0 pubsub {PUSHES_BYTES_MAX} 0 0")),
    ),
    (
        "client-query-buffer-limit",
        Value::Told(|_| COMMAND_BYTES_MAX.max(TXN_BYTES_MAX).to_string()),
    ),
    ("cluster-enabled", Value::Fixed("no")),
    ("daemonize", Value::Fixed("no")),
    ("databases", Value::Fixed("1")),
    ("dir", Value::Told(dir)),
    (
        "enable-debug-command",
        Value::Told(|node| yes_no(node.config().cluster.debug_commands).into()),
    ),
    ("hz", Value::Fixed("10")),
    ("io-threads", Value::Told(|node| node.threads().to_string())),
    (
        "latency-monitor-threshold",
        Value::Set(Setting::LatencyMonitorThreshold, POSITIVE),
    ),
    (
        "latency-tracking",
        Value::Set(Setting::LatencyTracking, Form::Switch),
    ),
    ("latency-tracking-info-percentiles", Value::Fixed("50 99 99.9")),
    ("lfu-decay-time", Value::Set(Setting::LfuDecayTime, SMALL)),
    ("lfu-log-factor", Value::Set(Setting::LfuLogFactor, SMALL)),
    ("lua-time-limit", Value::Told(|_| SCRIPT_MS_MAX.to_string())),
    (
        "maxclients",
        Value::Told(|node| node.config().limits.connections.to_string()),
    ),
    ("maxmemory", Value::Set(Setting::MaxMemory, Form::Bytes)),
    ("maxmemory-clients", Value::Fixed("0")),
    (
        "maxmemory-policy",
        Value::Set(Setting::MaxMemoryPolicy, Form::Policy),
    ),
    (
        "maxmemory-samples",
        Value::Set(Setting::MaxMemorySamples, Form::Int(1, 2_147_483_647)),
    ),
    (
        "notify-keyspace-events",
        Value::Set(Setting::NotifyKeyspaceEvents, Form::Events),
    ),
    ("port", Value::Told(|node| address(node).1)),
    ("protected-mode", Value::Fixed("no")),
    ("proto-max-bulk-len", Value::Told(|_| BULK_BYTES_MAX.to_string())),
    ("requirepass", Value::Fixed("")),
    ("save", Value::Fixed("")),
    (
        "slowlog-log-slower-than",
        Value::Set(Setting::SlowlogLogSlowerThan, Form::Int(-1, i64::MAX)),
    ),
    ("slowlog-max-len", Value::Set(Setting::SlowlogMaxLen, POSITIVE)),
    ("tcp-keepalive", Value::Fixed("0")),
    ("timeout", Value::Set(Setting::Timeout, SMALL)),
    ("tls-port", Value::Fixed("0")),
    (
        "tracking-table-max-keys",
        Value::Set(Setting::TrackingTableMaxKeys, POSITIVE),
    ),
    ("unixsocket", Value::Fixed("")),
];

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn address(node: &Node) -> (String, String) {
    let section = node.config().node(node.id());
    section.map_or_else(
        |_| (String::new(), "0".into()),
        |section| (section.client.ip().to_string(), section.client.port().to_string()),
    )
}

fn dir(node: &Node) -> String {
    let dir = &node.config().cluster.data_dir;
    let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
    whole.join(format!("node-{}", node.id())).display().to_string()
}

impl Form {
    fn show(self, kept: u64) -> String {
        match self {
            Form::Int(..) => kept.cast_signed().to_string(),
            Form::Bytes => kept.to_string(),
            Form::Policy => Policy::from_code(kept).to_string(),
            Form::Events => Events::from_code(kept).to_string(),
            Form::Switch => yes_no(kept != 0).into(),
        }
    }

    /// What is kept of a text; else why it cannot be, in Redis's words.
    fn read(self, given: &Bytes) -> Result<u64, String> {
        let text = || std::str::from_utf8(given).unwrap_or_default();
        match self {
            Form::Int(least, most) => {
                let number = parse_i64(given);
                let number = number.ok_or("argument couldn't be parsed into an integer")?;
                if (least..=most).contains(&number) {
                    Ok(number.cast_unsigned())
                } else {
                    Err(format!("argument must be between {least} and {most} inclusive"))
                }
            }
            Form::Bytes => parse_bytes(text()).ok_or_else(|| "argument must be a memory value".into()),
            Form::Policy => text().parse::<Policy>().map(|policy| policy as u64),
            Form::Events => text().parse::<Events>().map(Events::code),
            Form::Switch => match given.to_ascii_lowercase().as_slice() {
                b"yes" => Ok(1),
                b"no" => Ok(0),
                _ => Err("argument must be 'yes' or 'no'".into()),
            },
        }
    }
}

impl Value {
    fn show(&self, node: &Node) -> String {
        match self {
            Value::Fixed(value) => (*value).into(),
            Value::Told(tell) => tell(node),
            Value::Set(setting, form) => form.show(node.settings().get(*setting)),
        }
    }
}

fn find(name: &[u8]) -> Option<&'static (&'static str, Value)> {
    TABLE
        .iter()
        .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
}

fn failed(name: &Bytes, why: &str) -> Reply {
    Reply::err(format!(
        "ERR CONFIG SET failed (possibly related to argument '{}') - {why}",
        text(name)
    ))
}

/// A name that is no pattern comes back as it was written.
fn get(node: &Node, patterns: &[Bytes]) -> Reply {
    let mut shown: BTreeMap<Bytes, String> = BTreeMap::new();
    for pattern in patterns {
        if !pattern.iter().any(|byte| b"*?[".contains(byte)) {
            if let Some((_, value)) = find(pattern) {
                shown.insert(pattern.clone(), value.show(node));
            }
            continue;
        }
        let lower = pattern.to_ascii_lowercase();
        for (name, value) in TABLE.iter().filter(|(name, _)| matches(&lower, name.as_bytes())) {
            shown.insert(Bytes::from_static(name.as_bytes()), value.show(node));
        }
    }
    let pairs = shown
        .into_iter()
        .map(|(name, value)| (Reply::Bulk(name), Reply::bulk(value)));
    Reply::Map(pairs.collect())
}

/// All of it or nothing.
async fn set(node: &Node, pairs: &[Bytes]) -> Reply {
    match changes(node, pairs) {
        Ok(changes) => {
            node.change_settings(changes).await;
            Reply::ok()
        }
        Err(reply) => reply,
    }
}

fn changes(node: &Node, pairs: &[Bytes]) -> Result<Vec<(Setting, u64)>, Reply> {
    let mut named: Vec<(&str, &Value, &Bytes, &Bytes)> = Vec::new();
    for pair in pairs.chunks(2) {
        let [name, given] = pair else {
            return Err(Reply::syntax());
        };
        let Some((known, value)) = find(name) else {
            return Err(Reply::err(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                text(name)
            )));
        };
        match value {
            Value::Set(..) => {}
            // Tools say again what is so already.
            fixed if fixed.show(node).as_bytes() == given.as_ref() => {}
            _ => return Err(failed(name, "can't set immutable config")),
        }
        if named.iter().any(|(other, ..)| *other == *known) {
            return Err(failed(name, "duplicate parameter"));
        }
        named.push((known, value, name, given));
    }
    let mut changes = Vec::new();
    for (_, value, name, given) in named {
        if let Value::Set(setting, form) = value {
            let kept = form.read(given).map_err(|why| failed(name, &why))?;
            changes.push((*setting, kept));
        }
    }
    Ok(changes)
}

/// `CONFIG GET pattern … | SET name value … | RESETSTAT | REWRITE | HELP`.
pub async fn config(node: &Node, shared: &Shared, args: &[Bytes]) -> Reply {
    let (sub, rest) = (args[0].to_ascii_lowercase(), &args[1..]);
    match sub.as_slice() {
        b"help" => help::reply("config"),
        b"get" => get(node, rest),
        b"set" => set(node, rest).await,
        b"resetstat" => {
            shared.stats.reset();
            node.tallies().iter().for_each(|tally| tally.reset());
            Reply::ok()
        }
        _ => Reply::err(
            "ERR CONFIG REWRITE is not supported: the cluster's config file belongs to its operator, who writes there what is to \
             outlive a restart",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_once() {
        assert!(TABLE.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    #[test]
    fn texts_are_read_as_they_are_shown() {
        let cases = [
            (Form::Int(-1, 9), "-1"),
            (Form::Bytes, "1024"),
            (Form::Policy, "volatile-ttl"),
            (Form::Events, "AKE"),
            (Form::Switch, "yes"),
        ];
        for (form, text) in cases {
            let kept = form.read(&Bytes::from(text)).expect(text);
            assert_eq!(form.show(kept), text);
        }
        assert_eq!(Form::Bytes.read(&"2kb".into()), Ok(2048));
        for (form, bad) in [
            (Form::Int(0, 9), "10"),
            (Form::Int(0, 9), "x"),
            (Form::Bytes, "-1"),
            (Form::Policy, "lru"),
            (Form::Events, "?"),
            (Form::Switch, "maybe"),
        ] {
            assert!(form.read(&Bytes::from(bad)).is_err(), "{bad}");
        }
    }
}
