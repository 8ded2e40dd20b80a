//! What somebody above wants to stand in an entry before the requests that wait for it, and what a node's replicas take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::GroupId;
use crate::machine::{Body, Machine, Request};

/// Asked for each entry at its leader, while the state is held: it must not wait for anything.
pub trait Admission: Send + Sync {
    fn before(&self, group: GroupId, machine: &Machine, requests: &[Request]) -> Vec<Body>;
}

/// Bytes that keys and values take in all replicas of a node. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Used(Arc<Bytes>);

#[derive(Debug, Default)]
struct Bytes {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Used {
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.now.load(Ordering::Relaxed)
    }

    /// The most that they took.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// A replica that took `before` bytes takes `now`.
    pub(super) fn change(&self, before: u64, now: u64) {
        let change = now.wrapping_sub(before);
        let all = self
            .0
            .now
            .fetch_add(change, Ordering::Relaxed)
            .wrapping_add(change);
        self.0.peak.fetch_max(all, Ordering::Relaxed);
    }
}
