//! What a configuration must keep to; every key with its bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::Config;
use super::threads::THREADS_MAX;
use crate::base::limits::BULK_BYTES_MAX;

impl Config {
    /// Whether everything is within its bounds.
    ///
    /// # Errors
    /// The first key that is not, and why.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let bad = |key: &str, reason: String| Err((key.to_string(), reason));
        let cluster = &self.cluster;
        if cluster.name.is_empty() || cluster.name.len() > 64 {
            return bad("cluster.name", "must have 1 to 64 bytes".into());
        }
        if !(1..=1024).contains(&cluster.shards) {
            return bad("cluster.shards", format!("{}: must be 1 to 1024", cluster.shards));
        }
        if !(1..=64).contains(&cluster.coordinators) {
            return bad(
                "cluster.coordinators",
                format!("{}: must be 1 to 64", cluster.coordinators),
            );
        }
        if !(1..=8192).contains(&cluster.virtual_nodes) {
            return bad(
                "cluster.virtual_nodes",
                format!("{}: must be 1 to 8192", cluster.virtual_nodes),
            );
        }
        let (replication, nodes) = (cluster.replication, self.nodes.len());
        if replication % 2 == 0 {
            return bad(
                "cluster.replication",
                format!("{replication}: must be odd, for majorities"),
            );
        }
        if replication > nodes {
            return bad(
                "cluster.replication",
                format!("{replication} replicas do not fit on {nodes} nodes"),
            );
        }
        let parent = cluster
            .data_dir
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
            return bad(
                "cluster.data_dir",
                format!("its parent directory {} does not exist", parent.display()),
            );
        }
        self.check_nodes()?;
        self.check_times()
    }

    fn check_nodes(&self) -> Result<(), (String, String)> {
        let mut ids = BTreeSet::new();
        let mut addresses: BTreeMap<SocketAddr, String> = BTreeMap::new();
        for node in &self.nodes {
            if node.id == 0 {
                return Err(("node.id".into(), "0: ids start at 1".into()));
            }
            if !ids.insert(node.id) {
                return Err(("node.id".into(), format!("{} is given twice", node.id)));
            }
            if node.threads > THREADS_MAX {
                let reason = format!("{}: 0 to {THREADS_MAX} are possible", node.threads);
                return Err((format!("node {}: threads", node.id), reason));
            }
            let addresses_of = [
                ("client", Some(node.client)),
                ("peer", Some(node.peer)),
                ("admin", Some(node.admin)),
                ("memcached", node.memcached),
            ];
            for (key, address) in addresses_of {
                let Some(address) = address else { continue };
                let key = format!("node {}: {key}", node.id);
                if address.port() == 0 {
                    return Err((key, format!("{address}: a port must be given")));
                }
                if let Some(other) = addresses.insert(address, key.clone()) {
                    return Err((key, format!("{address} is also the address of {other}")));
                }
            }
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), (String, String)> {
        let t = &self.timeouts;
        let bad = |key: &str, reason: String| Err((format!("timeouts.{key}"), reason));
        if t.heartbeat_ms < 10 {
            return bad("heartbeat_ms", format!("{}: must be at least 10", t.heartbeat_ms));
        }
        if t.election_min_ms < t.heartbeat_ms * 3 {
            return bad(
                "election_min_ms",
                format!("{}: must be at least 3 × heartbeat_ms", t.election_min_ms),
            );
        }
        if t.election_max_ms <= t.election_min_ms {
            return bad(
                "election_max_ms",
                format!("{}: must exceed election_min_ms", t.election_max_ms),
            );
        }
        if t.txn_ms < t.election_max_ms || t.request_ms < t.txn_ms {
            return bad(
                "request_ms",
                "election_max_ms ≤ txn_ms ≤ request_ms must hold".into(),
            );
        }
        if t.request_ms > 300_000 {
            return bad(
                "request_ms",
                "must not exceed 300000: reply tables forget after 10 minutes".into(),
            );
        }
        if t.recovery_ms < 100 || t.recovery_ms > t.txn_ms {
            return bad("recovery_ms", format!("{}: must be 100 to txn_ms", t.recovery_ms));
        }
        if !(100..=3_600_000).contains(&t.digest_ms) {
            return bad("digest_ms", format!("{}: must be 100 to 3600000", t.digest_ms));
        }
        if self.limits.connections == 0 {
            return Err(("limits.connections".into(), "0: nobody could connect".into()));
        }
        if self.limits.snapshot_log_bytes < 1 << 16 {
            let reason = format!("{}: must be at least 65536", self.limits.snapshot_log_bytes);
            return Err(("limits.snapshot_log_bytes".into(), reason));
        }
        let item = self.limits.memcached_item_bytes;
        if !(1024..=BULK_BYTES_MAX as u64).contains(&item) {
            let reason = format!("{item}: must be 1024 to {BULK_BYTES_MAX}");
            return Err(("limits.memcached_item_bytes".into(), reason));
        }
        Ok(())
    }
}
