//! What `stats` shows. Counted on this node alone, since it was started or `stats reset` was asked for.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::VERSION;
use crate::base::Policy;
use crate::cluster::Node;
use crate::gateway::server::Shared;

/// Names as `stats` has them, in its order.
macro_rules! counters {
    ($($name:ident $text:literal)*) => {
        /// Something that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Counter { $($name),* }

        const NAMES: &[(Counter, &str)] = &[$((Counter::$name, $text)),*];
    };
}

counters! {
    CmdGet "cmd_get"
    CmdSet "cmd_set"
    CmdFlush "cmd_flush"
    CmdTouch "cmd_touch"
    CmdMeta "cmd_meta"
    GetHits "get_hits"
    GetMisses "get_misses"
    DeleteMisses "delete_misses"
    DeleteHits "delete_hits"
    IncrMisses "incr_misses"
    IncrHits "incr_hits"
    DecrMisses "decr_misses"
    DecrHits "decr_hits"
    CasMisses "cas_misses"
    CasHits "cas_hits"
    CasBadval "cas_badval"
    TouchHits "touch_hits"
    TouchMisses "touch_misses"
    StoreTooLarge "store_too_large"
    BytesRead "bytes_read"
    BytesWritten "bytes_written"
}

/// A node's counters.
#[derive(Debug, Default)]
pub struct Stats {
    counts: [AtomicU64; NAMES.len()],
    connections: AtomicU64,
    total: AtomicU64,
}

impl Stats {
    pub(super) fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    pub(super) fn add(&self, counter: Counter, count: usize) {
        self.counts[counter as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    /// A hit or a miss.
    pub(super) fn found(&self, found: bool, hits: Counter, misses: Counter) {
        self.count(if found { hits } else { misses });
    }

    pub(super) fn entered(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn left(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn reset(&self) {
        for count in self.counts.iter().chain([&self.total]) {
            count.store(0, Ordering::Relaxed);
        }
    }
}

fn listed(stats: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in stats {
        // Writing to a string does not fail.
        let _ = write!(text, "STAT {name} {value}\r\n");
    }
    text + "END"
}

/// `stats`, with the number of all keys of the cluster.
pub(super) fn general(node: &Node, shared: &Shared, keys: i64) -> String {
    let stats = &shared.memcached;
    let uptime = shared.counts().uptime_s;
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed).to_string();
    let mut all = vec![
        ("pid", std::process::id().to_string()),
        ("uptime", uptime.to_string()),
        ("time", (node.now() / 1000).to_string()),
        ("version", VERSION.to_string()),
        ("quorate_version", env!("CARGO_PKG_VERSION").to_string()),
        ("pointer_size", usize::BITS.to_string()),
        ("max_connections", node.config().limits.connections.to_string()),
        ("curr_connections", load(&stats.connections)),
        ("total_connections", load(&stats.total)),
    ];
    all.extend(
        NAMES
            .iter()
            .map(|(counter, name)| (*name, load(&stats.counts[*counter as usize]))),
    );
    all.extend([
        ("limit_maxbytes", node.settings().maxmemory().to_string()),
        ("bytes", node.memory_used().to_string()),
        ("accepting_conns", "1".to_string()),
        ("threads", node.threads().to_string()),
        ("curr_items", keys.to_string()),
        ("evictions", node.gone().0.to_string()),
    ]);
    listed(&all)
}

/// `stats settings`.
pub(super) fn settings(node: &Node) -> String {
    let section = node.config().node(node.id()).ok();
    let address = section.and_then(|section| section.memcached);
    let evicts = if node.settings().maxmemory_policy() == Policy::NoEviction {
        "off"
    } else {
        "on"
    };
    let (ip, port) = address.map_or((String::new(), 0), |at| (at.ip().to_string(), at.port()));
    listed(&[
        ("maxbytes", node.settings().maxmemory().to_string()),
        ("maxconns", node.config().limits.connections.to_string()),
        ("tcpport", port.to_string()),
        ("udpport", "0".to_string()),
        ("inter", ip),
        ("evictions", evicts.to_string()),
        ("cas_enabled", "yes".to_string()),
        ("binding_protocol", "ascii".to_string()),
        ("auth_enabled_sasl", "no".to_string()),
        ("auth_enabled_ascii", "no".to_string()),
        (
            "item_size_max",
            node.config().limits.memcached_item_bytes.to_string(),
        ),
        ("flush_enabled", "yes".to_string()),
    ])
}
