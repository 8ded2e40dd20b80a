//! What `INFO`, `SAVE` and `WAIT` ask of the cluster: how many keys there are, what replicas here have counted, how far snapshots and
//! replicas are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::message::{Ask, Failure, Told};
use super::node::Node;
use crate::base::limits::WAIT_STEP_MS;
use crate::base::{GroupId, Millis};
use crate::machine::Tally;
use crate::raft::Group;

/// How long a group may take to say how many keys it has.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many keys there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub keys: u64,
    /// How many of them expire.
    pub expiring: u64,
    /// Sum of the times at which they do.
    pub expiry_sum: u128,
}

impl Size {
    /// Milliseconds that keys that expire have left, on average.
    #[must_use]
    pub fn average_ttl(&self, now: Millis) -> u64 {
        let average = self
            .expiry_sum
            .checked_div(u128::from(self.expiring))
            .unwrap_or(0);
        u64::try_from(average).unwrap_or(u64::MAX).saturating_sub(now)
    }
}

/// What became of the snapshots of this node's replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// When the last was written; `None`: none by this process.
    pub last: Option<Millis>,
    /// How long that took.
    pub took: Duration,
    /// Whether one is being written.
    pub under_way: bool,
    /// Bytes of log that are in no snapshot.
    pub unsaved_bytes: u64,
}

/// Of a shard, as its leader has it.
pub(super) fn size(group: &Group) -> Told {
    if !group.is_leader() {
        return Told::Failed(Failure::NotLeader(group.leader().0));
    }
    let size = group.peek(|machine| {
        let keyspace = machine.as_shard()?.keyspace();
        let (expiring, expiry_sum) = keyspace.expiries();
        Some(Size {
            keys: keyspace.len() as u64,
            expiring: expiring as u64,
            expiry_sum,
        })
    });
    Told::Size(size.unwrap_or_default())
}

impl Node {
    /// Keys of the whole cluster. `None`: a shard's leader did not answer.
    pub async fn size(&self) -> Option<Size> {
        let deadline = Instant::now() + PATIENCE;
        let shards = (0..self.ring().shards()).map(GroupId::Shard);
        let asked = shards.map(|shard| self.router().ask(shard, &Ask::Size, deadline));
        let mut sum = Size::default();
        for told in join_all(asked).await {
            let Ok(Told::Size(size)) = told else {
                return None;
            };
            sum.keys += size.keys;
            sum.expiring += size.expiring;
            sum.expiry_sum += size.expiry_sum;
        }
        Some(sum)
    }

    /// What the shards' replicas on this node have counted.
    #[must_use]
    pub fn tallies(&self) -> Vec<Arc<Tally>> {
        let groups = self.local_groups();
        let tally = |group: &Group| group.peek(|machine| Some(Arc::clone(machine.as_shard()?.tally())));
        groups.iter().filter_map(tally).collect()
    }

    /// How many other members, of each of these shards, have all that has been acknowledged there: the least of all. Waits until
    /// they are `least` for so long as `patience`.
    pub async fn replicated(&self, shards: &BTreeSet<u16>, least: usize, patience: Duration) -> usize {
        let until = Instant::now() + patience;
        let asked = shards.iter().map(|&shard| async move {
            loop {
                let left = until.saturating_duration_since(Instant::now());
                // In steps: a leader may change meanwhile.
                let step = left.min(Duration::from_millis(WAIT_STEP_MS));
                let patience_ms = u64::try_from(step.as_millis()).unwrap_or(WAIT_STEP_MS);
                let ask = Ask::Replicas { least, patience_ms };
                let deadline = Instant::now() + step + PATIENCE;
                let told = self.router().ask(GroupId::Shard(shard), &ask, deadline).await;
                match told {
                    Ok(Told::Replicas(have)) if have >= least || Instant::now() >= until => return have,
                    Err(_) if Instant::now() >= until => return 0,
                    _ => {}
                }
            }
        });
        join_all(asked).await.into_iter().min().unwrap_or(0)
    }

    /// Writes snapshots of all replicas on this node, one after the other.
    ///
    /// # Errors
    /// A replica that has stopped.
    pub async fn save(&self) -> Result<(), String> {
        for group in self.local_groups() {
            group.save().await?;
        }
        Ok(())
    }

    #[must_use]
    pub fn saved(&self) -> Saved {
        let groups = self.local_groups();
        let last = groups.iter().filter_map(Group::snapshot_written).max();
        Saved {
            last: last.map(|(at, _)| {
                let ago = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.now().saturating_sub(ago)
            }),
            took: last.map_or(Duration::ZERO, |(_, took)| took),
            under_way: groups.iter().any(Group::writes_snapshot),
            unsaved_bytes: groups.iter().map(Group::bytes_since_snapshot).sum(),
        }
    }
}
