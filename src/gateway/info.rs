//! `INFO`: sections as Redis names them, as far as they have a meaning here, and `# Quorate`.

use std::fmt::Write;

use bytes::Bytes;

use crate::base::Reply;
use crate::cluster::Node;

/// The Redis version whose behaviour is kept to; clients look at it to know what they may send.
pub const REDIS_VERSION: &str = "7.0.15";

/// What the server counts.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    pub connections: usize,
    pub accepted: u64,
    pub commands: u64,
    pub uptime_s: u64,
}

/// `INFO [section …]`.
pub fn info(node: &Node, counts: Counts, keys: Option<i64>, sections: &[Bytes]) -> Reply {
    let wanted = |name: &str| {
        sections.is_empty()
            || sections.iter().any(|section| {
                let section = section.to_ascii_lowercase();
                section == name.as_bytes()
                    || matches!(section.as_slice(), b"all" | b"default" | b"everything")
            })
    };
    let mut text = String::new();
    let mut section = |name: &str, lines: &[(&str, String)]| {
        if wanted(&name.to_ascii_lowercase()) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            // Writing to a string does not fail.
            let _ = write!(text, "# {name}\r\n");
            for (key, value) in lines {
                let _ = write!(text, "{key}:{value}\r\n");
            }
        }
    };
    let status = node.status();
    section(
        "Server",
        &[
            ("redis_version", REDIS_VERSION.into()),
            ("redis_mode", "standalone".into()),
            ("quorate_version", status.version.into()),
            ("process_id", std::process::id().to_string()),
            (
                "tcp_port",
                node.config()
                    .node(node.id())
                    .map_or(0, |n| n.client.port())
                    .to_string(),
            ),
            ("uptime_in_seconds", counts.uptime_s.to_string()),
        ],
    );
    section(
        "Clients",
        &[("connected_clients", counts.connections.to_string())],
    );
    section(
        "Stats",
        &[
            ("total_connections_received", counts.accepted.to_string()),
            ("total_commands_processed", counts.commands.to_string()),
        ],
    );
    section(
        "Replication",
        &[("role", "master".into()), ("connected_slaves", "0".into())],
    );
    section("Cluster", &[("cluster_enabled", "0".into())]);
    let keyspace = keys
        .filter(|&keys| keys > 0)
        .map(|keys| ("db0", format!("keys={keys},expires=0,avg_ttl=0")));
    section("Keyspace", &keyspace.into_iter().collect::<Vec<_>>());
    let leads = status
        .groups
        .iter()
        .filter(|group| group.leader == Some(status.node))
        .count();
    section(
        "Quorate",
        &[
            ("node", status.node.to_string()),
            ("cluster_id", status.cluster_id.clone()),
            ("connected_nodes", status.connected.len().to_string()),
            ("replicas", status.groups.len().to_string()),
            ("leads", leads.to_string()),
            ("refilling", u8::from(status.refilling).to_string()),
        ],
    );
    Reply::Verbatim(text.into())
}
