//! What a node knows that no log has: it is gone with the process, and nothing durable depends on it.

use super::node::Node;
use super::pubsub::PubSub;
use super::scripts::Scripts;
use super::settings::Settings;
use super::turns::Turns;
use crate::config::LimitsSection;
use crate::host::Clock;

/// Cheap to clone.
#[derive(Clone)]
pub struct Volatile {
    /// Who waits for keys of the shards that are led here.
    pub turns: Turns,
    /// Scripts by their names, and those that run.
    pub scripts: Scripts,
    /// Who listens to channels.
    pub pubsub: PubSub,
    /// What can be changed while the node runs.
    pub settings: Settings,
}

impl Volatile {
    #[must_use]
    pub fn new(clock: Clock, limits: &LimitsSection) -> Volatile {
        Volatile {
            turns: Turns::new(clock),
            scripts: Scripts::default(),
            pubsub: PubSub::default(),
            settings: Settings::new(limits),
        }
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
}
