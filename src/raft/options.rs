//! What a group is started with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Admission, Used};
use super::gathering::Gathering;
use super::hibernation::HibernationOptions;
use super::shared::{Latest, Shared};
use crate::base::{GroupId, NodeId};
use crate::host::Clock;

/// What a group needs to run.
#[derive(Clone)]
pub struct GroupOptions {
    pub node: NodeId,
    pub members: BTreeSet<NodeId>,
    pub heartbeat_ms: u64,
    pub election_min_ms: u64,
    pub election_max_ms: u64,
    /// For how long the majority's last word is enough for a read; `None`: it is asked for each.
    pub lease: Option<Duration>,
    pub hibernation: HibernationOptions,
    pub clock: Clock,
    pub admission: Arc<dyn Admission>,
    pub used: Used,
    pub latest: Latest,
    pub gathering: Arc<Gathering>,
    /// Distinguishes this process from its earlier lives.
    pub boot: u32,
}

impl GroupOptions {
    /// The other members.
    pub(super) fn peers(&self) -> BTreeSet<NodeId> {
        let others = self.members.iter().filter(|&&node| node != self.node);
        others.copied().collect()
    }

    /// The replica's state, empty.
    pub(super) fn shared(&self, group: GroupId) -> Arc<Shared> {
        let shared = Shared::new(group, self.node, self.used.clone(), self.latest.clone());
        Arc::new(shared)
    }
}
