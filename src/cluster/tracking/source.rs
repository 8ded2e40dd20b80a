//! At a node with replicas: tells gateways, this node's own among them, of writes of the keys of which their clients keep copies.
//!
//! Whatever goes wrong is the gateway's to notice: a question that is not answered, or that this node does not know any more what
//! it was asked before, means that some writes may not have been told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{TrackAsk, TrackTold};
use crate::base::{GroupId, NodeId};
use crate::cluster::message::{Ask, Told};
use crate::cluster::router::Router;
use crate::machine::{Changes, TrackerId};
use crate::raft::Group;

/// How long a question waits for something to be written.
pub const NEXT: Duration = Duration::from_secs(1);
/// How long a leader may take to say how far the log is, and the replica here to get there.
pub const CONFIRM: Duration = Duration::from_secs(2);
/// Who asks nothing for so long does not follow any more.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Sources {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    opened: AtomicU64,
    followers: Mutex<BTreeMap<TrackerId, Follower>>,
}

/// A gateway that follows some shards through this node.
struct Follower {
    /// It follows once at a time under one name.
    name: (NodeId, u32),
    groups: BTreeSet<GroupId>,
    /// Of the prefixes that it wants last.
    version: u64,
    changed: Arc<Notify>,
    asked: Instant,
}

impl Sources {
    /// Wakes who follows this group when something of it was written, as long as the group runs.
    pub async fn run(self, group: Group) {
        loop {
            group.tracked().await;
            let followers = self.inner.followers.lock();
            let concerned = followers
                .values()
                .filter(|other| other.groups.contains(&group.id()));
            concerned.for_each(|follower| follower.changed.notify_one());
        }
    }

    pub async fn answer(&self, router: &Router, ask: TrackAsk) -> TrackTold {
        match ask {
            TrackAsk::Open {
                name,
                groups,
                prefixes,
            } => self.open(router, name, groups, (prefixes.0, &prefixes.1)),
            TrackAsk::Keys { id, group, keys } => self.keys(router, id, group, &keys),
            TrackAsk::Prefixes {
                id,
                version,
                prefixes,
            } => self.prefixes(router, id, version, &prefixes),
            TrackAsk::Next(id) => self.next(router, id).await,
            TrackAsk::Confirm { id, given_up } => self.confirm(router, id, &given_up).await,
            TrackAsk::Close(id) => {
                self.close(router, id);
                TrackTold::Done
            }
        }
    }

    fn open(
        &self,
        router: &Router,
        name: (NodeId, u32),
        groups: Vec<GroupId>,
        (version, prefixes): (u64, &[Bytes]),
    ) -> TrackTold {
        if !groups.iter().all(|&group| router.has_replica(group)) {
            return TrackTold::Unknown;
        }
        let id = self.inner.opened.fetch_add(1, Ordering::Relaxed);
        let follower = Follower {
            name,
            groups: groups.into_iter().collect(),
            version: 0,
            changed: Arc::default(),
            asked: Instant::now(),
        };
        let earlier: Vec<TrackerId> = {
            let mut followers = self.inner.followers.lock();
            let same = followers.iter().filter(|(_, other)| other.name == name);
            let earlier = same.map(|(&id, _)| id).collect();
            followers.insert(id, follower);
            earlier
        };
        for id in earlier {
            self.close(router, id);
        }
        self.prefixes(router, id, version, prefixes);
        TrackTold::Opened(id)
    }

    /// The groups that it follows and what wakes it; notes that it still asks.
    fn known(&self, id: TrackerId) -> Option<(BTreeSet<GroupId>, Arc<Notify>)> {
        let mut followers = self.inner.followers.lock();
        let follower = followers.get_mut(&id)?;
        follower.asked = Instant::now();
        Some((follower.groups.clone(), Arc::clone(&follower.changed)))
    }

    fn keys(&self, router: &Router, id: TrackerId, group: GroupId, keys: &[Bytes]) -> TrackTold {
        // Held, so that it is not closed in between.
        let followers = self.inner.followers.lock();
        let known = followers
            .get(&id)
            .filter(|follower| follower.groups.contains(&group));
        let (Some(_), Some(group)) = (known, router.group(group)) else {
            return TrackTold::Unknown;
        };
        group.interest(|interest, _| interest.tracked.keys(id, keys));
        TrackTold::Done
    }

    fn prefixes(&self, router: &Router, id: TrackerId, version: u64, prefixes: &[Bytes]) -> TrackTold {
        let mut followers = self.inner.followers.lock();
        let Some(follower) = followers.get_mut(&id) else {
            return TrackTold::Unknown;
        };
        if version >= follower.version {
            follower.version = version;
            for group in follower.groups.iter().filter_map(|&group| router.group(group)) {
                group.interest(|interest, _| interest.tracked.prefixes(id, prefixes.to_vec()));
            }
        }
        TrackTold::Done
    }

    async fn next(&self, router: &Router, id: TrackerId) -> TrackTold {
        let until = Instant::now() + NEXT;
        loop {
            let Some((groups, changed)) = self.known(id) else {
                return TrackTold::Unknown;
            };
            let changes = take(router, id, &groups);
            if !changes.is_empty() || Instant::now() >= until {
                return TrackTold::Changes(changes);
            }
            tokio::select! {
                biased;
                () = changed.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// What was written, up to all that had been acknowledged to anybody when this was asked; and of which groups that is not sure.
    async fn confirm(&self, router: &Router, id: TrackerId, given_up: &[(GroupId, Bytes)]) -> TrackTold {
        let Some((groups, _)) = self.known(id) else {
            return TrackTold::Unknown;
        };
        let local = groups.iter().filter_map(|&group| router.group(group));
        let wanted: Vec<Group> = local
            .filter(|group| {
                let of_group = given_up.iter().filter(|(other, _)| *other == group.id());
                let wanted = group.interest(|interest, _| {
                    interest.tracked.forget(id, of_group.map(|(_, key)| key));
                    interest.tracked.is_wanted_by(id)
                });
                wanted == Some(true)
            })
            .collect();
        let confirmed = join_all(wanted.iter().map(|group| is_current(router, group))).await;
        let unsure = wanted.iter().zip(confirmed).filter(|(_, sure)| !sure);
        let unsure = unsure.map(|(group, _)| group.id()).collect();
        TrackTold::Confirmed {
            changes: take(router, id, &groups),
            unsure,
        }
    }

    fn close(&self, router: &Router, id: TrackerId) {
        self.close_if(router, id, |_| true);
    }

    fn close_if(&self, router: &Router, id: TrackerId, still: impl Fn(&Follower) -> bool) {
        let mut followers = self.inner.followers.lock();
        if !followers.get(&id).is_some_and(still) {
            return;
        }
        let Some(follower) = followers.remove(&id) else {
            return;
        };
        let groups = follower.groups.iter().filter_map(|&group| router.group(group));
        let tracked = groups.filter_map(|group| group.interest(|interest, _| interest.tracked.close(id))?);
        super::free(tracked.collect::<Vec<_>>());
    }

    /// Forgets who has stopped to ask.
    pub fn tidy(&self, router: &Router) {
        let silent: Vec<TrackerId> = {
            let followers = self.inner.followers.lock();
            let silent = followers
                .iter()
                .filter(|(_, other)| other.asked.elapsed() > SILENT_MAX);
            silent.map(|(&id, _)| id).collect()
        };
        for id in silent {
            self.close_if(router, id, |other| other.asked.elapsed() > SILENT_MAX);
        }
    }
}

fn take(router: &Router, id: TrackerId, groups: &BTreeSet<GroupId>) -> Vec<(GroupId, Changes)> {
    let local = groups.iter().filter_map(|&group| router.group(group));
    let changes = local.filter_map(|group| {
        let changes = group.interest(|interest, _| interest.tracked.take(id))?;
        (!changes.is_empty()).then(|| (group.id(), changes))
    });
    changes.collect()
}

/// Whether the replica here has applied, in time, all that is committed now.
async fn is_current(router: &Router, group: &Group) -> bool {
    let until = Instant::now() + CONFIRM;
    let Ok(Told::Index(index)) = router.ask(group.id(), &Ask::Confirm, until).await else {
        return false;
    };
    let mut applied = group.watch_applied();
    let reached = applied.wait_for(|&applied| applied >= index);
    matches!(tokio::time::timeout_at(until, reached).await, Ok(Ok(_)))
}
