//! What a node knows that no log has: it is gone with the process, and nothing durable depends on it.

use super::pubsub::PubSub;
use super::scripts::Scripts;
use super::turns::Turns;
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
}

impl Volatile {
    #[must_use]
    pub fn new(clock: Clock) -> Volatile {
        Volatile {
            turns: Turns::new(clock),
            scripts: Scripts::default(),
            pubsub: PubSub::default(),
        }
    }
}
