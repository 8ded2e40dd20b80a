//! When keys last went: what is absent, and was absent before, may have been there in between.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::overlay::Writes;
use crate::base::slot::slot_of;

/// The log index of each slot's last removal: 16384 numbers at the most, and none where nothing ever went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removals {
    /// Of the last `FLUSHALL`.
    all: u64,
    slots: BTreeMap<u16, u64>,
}

impl Removals {
    pub fn note(&mut self, writes: &Writes, index: u64) {
        let gone = writes.keys.iter().filter(|(_, write)| write.is_none());
        self.note_slots(writes.flush, gone.map(|(key, _)| slot_of(key)), index);
    }

    /// Keys of these slots went, after all others did if `flushed`.
    pub fn note_slots(&mut self, flushed: bool, slots: impl IntoIterator<Item = u16>, index: u64) {
        if flushed {
            self.all = index;
            self.slots.clear();
        }
        self.slots.extend(slots.into_iter().map(|slot| (slot, index)));
    }

    /// The log index of the last removal in a key's slot; 0: there was none.
    #[must_use]
    pub fn last(&self, key: &[u8]) -> u64 {
        self.slots.get(&slot_of(key)).copied().unwrap_or(self.all)
    }
}
