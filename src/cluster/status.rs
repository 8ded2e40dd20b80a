//! A node at a glance, for `quorate status` and the admin port.

use serde::Serialize;

use super::node::Node;
use crate::base::{GroupId, NodeId};
use crate::raft::GroupStatus;

#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    pub node: NodeId,
    pub version: &'static str,
    pub cluster_id: String,
    pub connected: Vec<NodeId>,
    pub refilling: bool,
    pub groups: Vec<GroupStatus>,
    pub ring: Vec<ShardShare>,
    pub memory: MemoryStatus,
}

/// What keys and values take on a node.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryStatus {
    /// Bytes.
    pub used: u64,
    /// Bytes; 0: no limit.
    pub limit: u64,
    pub policy: &'static str,
    /// Keys that were evicted here since the node runs, and keys that have expired.
    pub evicted: u64,
    pub expired: u64,
}

/// How much of the ring a shard owns, and what it holds here.
#[derive(Debug, Clone, Serialize)]
pub struct ShardShare {
    pub shard: u16,
    pub slots: usize,
    /// Of the 16384 slots, in percent.
    pub share: f64,
    /// Keys in the replica on this node, if it has one.
    pub keys: Option<usize>,
    /// Prepared, undecided transactions, likewise.
    pub prepared: Option<usize>,
}

impl Node {
    /// This node's view, as it is now.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let ring = self.ring();
        let share = |shard: u16| {
            let held = self.group(GroupId::Shard(shard)).and_then(|group| {
                group.peek(|machine| {
                    machine
                        .as_shard()
                        .map(|s| (s.keyspace().len(), s.prepared().count()))
                })
            });
            let slots = ring.slots_of(shard);
            ShardShare {
                shard,
                slots,
                share: slots as f64 * 100.0 / f64::from(crate::ring::SLOTS),
                keys: held.map(|(keys, _)| keys),
                prepared: held.map(|(_, prepared)| prepared),
            }
        };
        let (evicted, expired) = self.gone();
        NodeStatus {
            node: self.id(),
            version: env!("CARGO_PKG_VERSION"),
            cluster_id: format!("{:032x}", self.cluster_id()),
            connected: self.connected(),
            refilling: self.is_refilling(),
            groups: self
                .local_groups()
                .iter()
                .map(crate::raft::Group::status)
                .collect(),
            ring: (0..ring.shards()).map(share).collect(),
            memory: MemoryStatus {
                used: self.memory_used(),
                limit: self.settings().maxmemory(),
                policy: self.settings().maxmemory_policy().name(),
                evicted,
                expired,
            },
        }
    }
}
