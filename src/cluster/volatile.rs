//! What a node knows that no log has: it is gone with the process, and nothing durable depends on it.

use std::sync::Arc;

use bytes::Bytes;

use super::leaders::Writers;
use super::memory::Memory;
use super::node::Node;
use super::notices::{self, Missed};
use super::pubsub::PubSub;
use super::router::Router;
use super::scripts::Scripts;
use super::settings::Settings;
use super::tracking::{Sources, Tracking};
use super::turns::Turns;
use crate::base::{GroupId, NodeId};
use crate::config::Config;
use crate::host::Clock;
use crate::machine::Shard;
use crate::raft::Group;
use crate::ring::Placement;

/// Cheap to clone.
#[derive(Clone)]
pub struct Volatile {
    /// Who waits for keys of the shards that are led here.
    pub turns: Turns,
    /// Scripts by their names, and those that run.
    pub scripts: Scripts,
    /// Who listens to channels.
    pub pubsub: PubSub,
    /// Which gateways are told of writes.
    pub sources: Sources,
    /// Which clients of this node keep copies of what.
    pub tracking: Tracking,
    /// What can be changed while the node runs.
    pub settings: Settings,
    /// What keys take, and which may go.
    pub memory: Memory,
    /// What was read and not found.
    pub missed: Missed,
    /// Whose clients write to the groups that are led here.
    pub writers: Writers,
}

impl Volatile {
    #[must_use]
    pub fn new(clock: Clock, config: &Config, me: NodeId, placement: &Placement) -> Volatile {
        let settings = Settings::new(&config.limits);
        let memory = Memory::new(settings.clone(), Arc::clone(&clock), placement.clone());
        Volatile {
            turns: Turns::new(clock),
            scripts: Scripts::default(),
            pubsub: PubSub::default(),
            sources: Sources::default(),
            tracking: Tracking::new(me, placement, settings.clone()),
            settings,
            memory,
            missed: Missed::default(),
            writers: Writers::default(),
        }
    }

    /// Does what belongs to no group, as long as the node runs.
    pub fn run(&self, router: &Router, me: NodeId) {
        tokio::spawn(self.tracking.clone().run(router.clone(), me));
        tokio::spawn(self.missed.clone().run(router.clone(), self.settings.clone()));
    }

    /// Tells whoever wants to know of writes to this group, as long as it runs.
    pub fn follow(&self, group: &Group, router: &Router) {
        tokio::spawn(self.turns.clone().run(group.clone()));
        tokio::spawn(self.sources.clone().run(group.clone()));
        tokio::spawn(notices::run(router.clone(), self.settings.clone(), group.clone()));
    }
}

impl Node {
    /// How many clients, of any node, wait here for keys of shards that are led here.
    #[must_use]
    pub fn in_line(&self) -> usize {
        self.volatile().turns.len()
    }

    #[must_use]
    pub fn pubsub(&self) -> &PubSub {
        &self.volatile().pubsub
    }

    #[must_use]
    pub fn scripts(&self) -> &Scripts {
        &self.volatile().scripts
    }

    /// Bytes that keys and values take here.
    #[must_use]
    pub fn memory_used(&self) -> u64 {
        self.volatile().memory.used().get()
    }

    /// The most that they took since the node runs.
    #[must_use]
    pub fn memory_peak(&self) -> u64 {
        self.volatile().memory.used().peak()
    }

    /// Keys that were evicted here, and that have expired, since the node runs.
    #[must_use]
    pub fn gone(&self) -> (u64, u64) {
        let of = |group: &Group| group.peek(|machine| machine.as_shard().map(Shard::gone));
        let all = self.local_groups();
        let all = all.iter().filter_map(of);
        all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Since how many seconds no client has asked for a key at any node, and the largest counter of an LFU policy.
    pub async fn access_of(&self, key: &Bytes) -> (u32, u8) {
        let group = GroupId::Shard(self.ring().shard_of(key));
        self.volatile()
            .memory
            .access_of(group, key, self.router(), self.id())
            .await
    }

    /// What `CONFIG SET` changes.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.volatile().settings
    }

    #[must_use]
    pub fn tracking(&self) -> &Tracking {
        &self.volatile().tracking
    }
}
