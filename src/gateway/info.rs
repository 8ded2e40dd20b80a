//! `INFO`: sections as Redis names them, as far as they have a meaning here, and `# Quorate`.

use std::fmt::Write;

use bytes::Bytes;

use crate::base::{REDIS_VERSION, Reply};
use crate::cluster::Node;

/// What the server counts.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    pub connections: usize,
    pub accepted: u64,
    /// Connections that wait in a command.
    pub waiting: usize,
    pub commands: u64,
    pub uptime_s: u64,
}

type Section = (&'static str, Vec<(&'static str, String)>);

/// `INFO [section …]`.
pub fn info(node: &Node, counts: Counts, keys: Option<i64>, wanted: &[Bytes]) -> Reply {
    let wants = |name: &str| {
        let fits = |section: &Bytes| {
            section.eq_ignore_ascii_case(name.as_bytes())
                || [&b"all"[..], b"default", b"everything"]
                    .iter()
                    .any(|all| section.eq_ignore_ascii_case(all))
        };
        wanted.is_empty() || wanted.iter().any(fits)
    };
    let mut text = String::new();
    for (name, lines) in sections(node, counts, keys) {
        if wants(name) {
            let gap = if text.is_empty() { "" } else { "\r\n" };
            // Writing to a string does not fail.
            let _ = write!(text, "{gap}# {name}\r\n");
            for (key, value) in lines {
                let _ = write!(text, "{key}:{value}\r\n");
            }
        }
    }
    Reply::Verbatim(text.into())
}

fn sections(node: &Node, counts: Counts, keys: Option<i64>) -> Vec<Section> {
    let status = node.status();
    let port = node
        .config()
        .node(node.id())
        .map_or(0, |section| section.client.port());
    let keyspace = keys
        .filter(|&keys| keys > 0)
        .map(|keys| ("db0", format!("keys={keys},expires=0,avg_ttl=0")));
    let leads = status
        .groups
        .iter()
        .filter(|group| group.leader == Some(status.node))
        .count();
    vec![
        (
            "Server",
            vec![
                ("redis_version", REDIS_VERSION.into()),
                ("redis_mode", "standalone".into()),
                ("quorate_version", status.version.into()),
                ("process_id", std::process::id().to_string()),
                ("tcp_port", port.to_string()),
                ("uptime_in_seconds", counts.uptime_s.to_string()),
            ],
        ),
        (
            "Clients",
            vec![
                ("connected_clients", counts.connections.to_string()),
                ("blocked_clients", counts.waiting.to_string()),
            ],
        ),
        (
            "Stats",
            vec![
                ("total_connections_received", counts.accepted.to_string()),
                ("total_commands_processed", counts.commands.to_string()),
            ],
        ),
        (
            "Replication",
            vec![("role", "master".into()), ("connected_slaves", "0".into())],
        ),
        ("Cluster", vec![("cluster_enabled", "0".into())]),
        ("Keyspace", keyspace.into_iter().collect()),
        (
            "Quorate",
            vec![
                ("node", status.node.to_string()),
                ("cluster_id", status.cluster_id.clone()),
                ("connected_nodes", status.connected.len().to_string()),
                ("replicas", status.groups.len().to_string()),
                ("leads", leads.to_string()),
                ("in_line", node.in_line().to_string()),
                ("refilling", u8::from(status.refilling).to_string()),
            ],
        ),
    ]
}
