//! What a node knows that no log has: it is gone with the process, and nothing durable depends on it.

use super::node::Node;
use super::notices;
use super::pubsub::PubSub;
use super::router::Router;
use super::scripts::Scripts;
use super::settings::Settings;
use super::tracking::{Sources, Tracking};
use super::turns::Turns;
use crate::base::NodeId;
use crate::host::Clock;
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
}

impl Volatile {
    #[must_use]
    pub fn new(clock: Clock, settings: Settings, me: NodeId, placement: &Placement) -> Volatile {
        Volatile {
            turns: Turns::new(clock),
            scripts: Scripts::default(),
            pubsub: PubSub::default(),
            sources: Sources::default(),
            tracking: Tracking::new(me, placement, settings.clone()),
            settings,
        }
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
