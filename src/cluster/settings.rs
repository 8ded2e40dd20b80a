//! What `CONFIG SET` changes while the node runs. Meant for the cluster: a change at one node is told to all others.
//! A node that is down then misses it, and a restart forgets it: it begins with what the config file says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::message::Ask;
use super::node::Node;
use crate::base::events::Events;
use crate::base::memory::Policy;
use crate::base::{GroupId, NodeId};
use crate::config::LimitsSection;

/// How long other nodes may take to hear of a change.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two tries to reach one.
const PAUSE: Duration = Duration::from_millis(20);

/// Names a setting; its place in the table, and on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    MaxMemory,
    MaxMemoryPolicy,
    MaxMemorySamples,
    LfuLogFactor,
    LfuDecayTime,
    NotifyKeyspaceEvents,
    SlowlogLogSlowerThan,
    SlowlogMaxLen,
    LatencyMonitorThreshold,
    Timeout,
    TrackingTableMaxKeys,
    /// Not of `CONFIG`: `DEBUG SET-ACTIVE-EXPIRE`.
    ActiveExpire,
    /// Histograms for `INFO latencystats`.
    LatencyTracking,
}

const COUNT: usize = Setting::LatencyTracking as usize + 1;

/// Cheap to clone; reading is one load that waits for nobody.
#[derive(Debug, Clone)]
pub struct Settings {
    values: Arc<[AtomicU64; COUNT]>,
    /// Held while this node's are changed.
    pub(super) setting: Arc<Mutex<()>>,
    /// Held while all nodes are told of a change.
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl Settings {
    /// Redis's defaults, and what the config file says.
    #[must_use]
    pub fn new(limits: &LimitsSection) -> Settings {
        let settings = Settings {
            values: Arc::new([const { AtomicU64::new(0) }; COUNT]),
            setting: Arc::default(),
            changing: Arc::default(),
        };
        let initial = [
            (Setting::MaxMemory, limits.maxmemory),
            (Setting::MaxMemoryPolicy, limits.maxmemory_policy as u64),
            (Setting::MaxMemorySamples, 5),
            (Setting::LfuLogFactor, 10),
            (Setting::LfuDecayTime, 1),
            (Setting::SlowlogLogSlowerThan, 10_000),
            (Setting::SlowlogMaxLen, 128),
            (Setting::TrackingTableMaxKeys, 1_000_000),
            (Setting::ActiveExpire, 1),
            (Setting::LatencyTracking, 1),
        ];
        settings.set(&initial);
        settings
    }

    /// Of this node alone.
    pub fn set(&self, changes: &[(Setting, u64)]) {
        for (setting, value) in changes {
            self.values[*setting as usize].store(*value, Ordering::Relaxed);
        }
    }

    /// A setting as it is kept: policies and events by their codes.
    #[must_use]
    pub fn get(&self, setting: Setting) -> u64 {
        self.values[setting as usize].load(Ordering::Relaxed)
    }

    /// Bytes that the node's keys may take. 0: no limit.
    #[must_use]
    pub fn maxmemory(&self) -> u64 {
        self.get(Setting::MaxMemory)
    }

    #[must_use]
    pub fn maxmemory_policy(&self) -> Policy {
        Policy::from_code(self.get(Setting::MaxMemoryPolicy))
    }

    /// Keys that eviction looks at before it picks one.
    #[must_use]
    pub fn maxmemory_samples(&self) -> u64 {
        self.get(Setting::MaxMemorySamples)
    }

    #[must_use]
    pub fn lfu_log_factor(&self) -> u64 {
        self.get(Setting::LfuLogFactor)
    }

    /// Minutes.
    #[must_use]
    pub fn lfu_decay_time(&self) -> u64 {
        self.get(Setting::LfuDecayTime)
    }

    #[must_use]
    pub fn notify_keyspace_events(&self) -> Events {
        Events::from_code(self.get(Setting::NotifyKeyspaceEvents))
    }

    /// Microseconds from which on a command is slow. `None`: none is.
    #[must_use]
    pub fn slowlog_log_slower_than(&self) -> Option<u64> {
        let value = self.get(Setting::SlowlogLogSlowerThan);
        (value.cast_signed() >= 0).then_some(value)
    }

    #[must_use]
    pub fn slowlog_max_len(&self) -> usize {
        usize::try_from(self.get(Setting::SlowlogMaxLen)).unwrap_or(usize::MAX)
    }

    /// Milliseconds from which on an event is remembered. `None`: none is.
    #[must_use]
    pub fn latency_monitor_threshold(&self) -> Option<u64> {
        Some(self.get(Setting::LatencyMonitorThreshold)).filter(|ms| *ms > 0)
    }

    /// After how long without a request a client is disconnected. `None`: never.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        Some(self.get(Setting::Timeout))
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs)
    }

    /// Keys that a node remembers on behalf of clients that keep copies. 0: no limit.
    #[must_use]
    pub fn tracking_table_max_keys(&self) -> u64 {
        self.get(Setting::TrackingTableMaxKeys)
    }

    /// Whether keys that have expired are removed before anybody asks for them.
    #[must_use]
    pub fn active_expire(&self) -> bool {
        self.get(Setting::ActiveExpire) != 0
    }

    #[must_use]
    pub fn latency_tracking(&self) -> bool {
        self.get(Setting::LatencyTracking) != 0
    }
}

impl Node {
    /// Changes settings here and at the other nodes. One that is not linked has [`PATIENCE`] to be: at a start links come one after
    /// the other.
    pub async fn change_settings(&self, changes: Vec<(Setting, u64)>) {
        // Of two changes the peers hear in the order in which they are made here, or they would differ from us for good.
        let _one_at_a_time = self.settings().changing.lock().await;
        self.router().change_here(&changes);
        let limit = Instant::now() + PATIENCE;
        let ask = Ask::Settings(changes);
        let peers = self.config().nodes.iter().map(|node| node.id);
        let peers = peers.filter(|node| *node != self.id());
        let told: Vec<bool> = join_all(peers.map(|node| self.tell(node, &ask, limit))).await;
        let missed = told.iter().filter(|told| !**told).count();
        if missed > 0 {
            tracing::warn!("{missed} node(s) have not heard of a change of settings");
        }
    }

    async fn tell(&self, node: NodeId, ask: &Ask, limit: Instant) -> bool {
        loop {
            // It is no group's affair.
            let told = self
                .router()
                .ask_member(node, GroupId::Coordinator(0), ask, limit);
            if told.await.is_some() {
                return true;
            }
            if Instant::now() + PAUSE >= limit {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_by_every_clone() {
        let settings = Settings::new(&LimitsSection::default());
        assert_eq!(
            (settings.maxmemory(), settings.maxmemory_policy()),
            (0, Policy::NoEviction)
        );
        assert_eq!(settings.slowlog_log_slower_than(), Some(10_000));
        assert_eq!(
            (settings.timeout(), settings.latency_monitor_threshold()),
            (None, None)
        );
        settings.clone().set(&[
            (Setting::MaxMemory, 7),
            (Setting::MaxMemoryPolicy, Policy::AllKeysLfu as u64),
            (Setting::SlowlogLogSlowerThan, (-1_i64).cast_unsigned()),
            (Setting::NotifyKeyspaceEvents, Events::ALL.code()),
            (Setting::Timeout, 3),
        ]);
        assert_eq!(
            (settings.maxmemory(), settings.maxmemory_policy()),
            (7, Policy::AllKeysLfu)
        );
        assert_eq!(settings.slowlog_log_slower_than(), None);
        assert_eq!(settings.notify_keyspace_events(), Events::ALL);
        assert_eq!(settings.timeout(), Some(Duration::from_secs(3)));
    }
}
