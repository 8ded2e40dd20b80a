//! What `INFO` counts of a replica's work. No part of the state: replicas differ in it, and neither digests nor snapshots have it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by the replica and whoever shows it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Keys that reads have found here.
    pub hits: Count,
    /// Keys that reads have not found here.
    pub misses: Count,
    /// Keys that have been removed here because they had expired.
    pub expired: Count,
    /// Keys that have been removed here because there was no room.
    pub evicted: Count,
}

impl Tally {
    /// Begins anew.
    pub fn reset(&self) {
        for count in [&self.hits, &self.misses, &self.expired, &self.evicted] {
            count.0.store(0, Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        if more > 0 {
            self.0.fetch_add(more, Ordering::Relaxed);
        }
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
