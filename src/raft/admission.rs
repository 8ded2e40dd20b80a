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
pub struct Used(Arc<AtomicU64>);

impl Used {
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A replica that took `before` bytes takes `now`.
    pub(super) fn change(&self, before: u64, now: u64) {
        self.0.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }
}
