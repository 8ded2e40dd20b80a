//! What a shard's keys hold for commands that wait.

use super::commands::Need;
use super::keyspace::{Object, Value};
use super::shard::Shard;
use crate::base::Millis;

impl Shard {
    /// How many commands, one after another, would now find at this key what they need.
    #[must_use]
    pub fn serves(&self, key: &[u8], need: &Need, now: Millis) -> usize {
        need.served_by(self.live(key, now))
    }

    /// Whether the key holds what is of no use to this need.
    #[must_use]
    pub fn refuses(&self, key: &[u8], need: &Need, now: Millis) -> bool {
        self.live(key, now).is_some_and(|value| !need.suits(value))
    }

    fn live(&self, key: &[u8], now: Millis) -> Option<&Value> {
        let found = self.keyspace.get(key);
        let found = found.filter(|object| !object.expired(now.max(self.head.time)));
        found.map(Object::value)
    }
}
