//! What a node does by the clock: logs expiries, cuts snapshots, spreads leaders, notices stopped replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::leaders::{Leaders, Writes};
use super::router::Router;
use super::volatile::Volatile;
use crate::base::{GroupId, Millis, NodeId};
use crate::config::Leading;
use crate::host::Clock;
use crate::machine::{Body, Machine, Request};
use crate::raft::{Group, Groups, Links, PeerHello};
use crate::ring::Placement;

const TICK: Duration = Duration::from_millis(100);
/// This part of the log that makes a snapshot due is kept behind it.
const KEPT_SHARE: u64 = 4;
/// Between two entries that remove expired keys: so many times what one took.
const SWEEP_REST: u32 = 2;
const BALANCE_EVERY: Duration = Duration::from_secs(2);

pub struct Housekeeping {
    pub me: NodeId,
    pub groups: Arc<Groups>,
    pub links: Links,
    pub clock: Clock,
    pub volatile: Volatile,
    pub router: Router,
    pub placement: Placement,
    pub snapshot_log_bytes: u64,
    pub leaders: Leading,
    /// Groups whose expired keys are being removed.
    pub sweeping: Arc<Mutex<BTreeSet<GroupId>>>,
    /// Set when the node stops in order: then replicas stop, too.
    pub stopping: Arc<AtomicBool>,
    /// Set once, when a replica has stopped: the node has to end.
    pub fatal: watch::Sender<Option<String>>,
}

impl Housekeeping {
    /// Runs until the runtime ends.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut balanced = Instant::now();
        let mut leaders = Leaders::default();
        let mut connected_before: Vec<NodeId> = Vec::new();
        let mut cut: BTreeMap<GroupId, Instant> = BTreeMap::new();
        loop {
            tick.tick().await;
            let groups = self.groups.all();
            self.cut_snapshot(&groups, &mut cut).await;
            let linked = self.links.connected();
            let here = |node| node == self.me || linked.contains(&node);
            self.volatile.turns.tidy(&self.groups, here);
            self.volatile.sources.tidy(&self.router);
            self.volatile.memory.tend(&groups, &linked, self.me, &self.router);
            for group in &groups {
                self.let_time_pass(group);
                group.purge_behind_snapshot(self.kept(group, &linked)).await;
                group.look_after_sleep().await;
                leaders.see(group.id(), group.is_leader(), Instant::now());
            }
            let failure = groups.iter().find_map(Group::failure);
            // Looked at afterwards: replicas that are stopped in order have not failed.
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            if let Some(why) = failure {
                tracing::error!("a replica has stopped: {why}");
                self.fatal.send_replace(Some(why));
                return;
            }
            if balanced.elapsed() >= BALANCE_EVERY {
                balanced = Instant::now();
                let there = may_lead(&linked, &connected_before, &self.links.hellos().borrow());
                let writes = self.volatile.writers.take();
                for group in groups.iter().filter(|group| group.is_leader()) {
                    self.hand_over(group, &there, &mut leaders, &writes).await;
                }
                connected_before = linked;
            }
        }
    }

    /// Bytes of log to keep behind a group's snapshot, for a follower that is a little behind. None can be that while the group sleeps
    /// and all its nodes are linked.
    fn kept(&self, group: &Group, linked: &[NodeId]) -> usize {
        let here = |node: &NodeId| *node == self.me || linked.contains(node);
        let replicas = self.placement.get(&group.id());
        if group.is_asleep() && replicas.is_some_and(|nodes| nodes.iter().all(here)) {
            return 0;
        }
        usize::try_from(self.snapshot_log_bytes / KEPT_SHARE).unwrap_or(usize::MAX)
    }

    /// At the leader: keys that have expired, and requests whose deadline has passed, need an entry to say so; many keys many
    /// entries, between which there is room for others.
    fn let_time_pass(&self, group: &Group) {
        let active = self.volatile.settings.active_expire();
        if !is_due(group, (self.clock)(), active) || !self.sweeping.lock().insert(group.id()) {
            return;
        }
        let (group, clock, sweeping) = (group.clone(), Arc::clone(&self.clock), Arc::clone(&self.sweeping));
        tokio::spawn(async move {
            while is_due(&group, clock(), active) {
                let begun = Instant::now();
                if let Err(e) = group.propose(Request::anonymous(Body::Sweep)).await {
                    tracing::debug!(group = %group.id(), "expiry not logged yet: {e}");
                    break;
                }
                tokio::time::sleep(begun.elapsed() * SWEEP_REST).await;
            }
            sweeping.lock().remove(&group.id());
        });
    }

    /// Cuts the snapshot that is most due, one at a time: groups under even load would all write theirs at the same moment.
    async fn cut_snapshot(&self, groups: &[Group], cut: &mut BTreeMap<GroupId, Instant>) {
        let recent = |id| cut.get(&id).is_some_and(|at| at.elapsed() < TICK * 5);
        let due = |group: &Group| {
            let since = group.snapshot_is_due(self.snapshot_log_bytes);
            since.filter(|_| !recent(group.id()))
        };
        let looked = groups.iter().map(|group| (group.writes_snapshot(), due(group)));
        if let Some(group) = most_due(looked).and_then(|at| groups.get(at)) {
            cut.insert(group.id(), Instant::now());
            group.cut_snapshot().await;
        }
    }

    /// Gives leadership to who should have it, of the nodes that are there.
    async fn hand_over(
        &self,
        group: &Group,
        there: &[NodeId],
        leaders: &mut Leaders,
        writes: &BTreeMap<GroupId, Writes>,
    ) {
        let Some(replicas) = self.placement.get(&group.id()) else {
            return;
        };
        let nobody = Writes::default();
        let writes = match self.leaders {
            Leading::Near => writes.get(&group.id()).unwrap_or(&nobody),
            Leading::Spread => &nobody,
        };
        let to = leaders.look(group.id(), self.me, replicas[0], writes, Instant::now());
        if to != self.me && replicas.contains(&to) && there.contains(&to) {
            tracing::info!(group = %group.id(), to, preferred = replicas[0], "handing leadership over");
            group.transfer_leader(to).await;
        }
    }
}

/// Peers that leadership may be handed to: those that have been linked for a whole round, for one may be restarting, and are no
/// longer being refilled, for such a one may not stand for election.
fn may_lead(linked: &[NodeId], before: &[NodeId], hellos: &BTreeMap<NodeId, PeerHello>) -> Vec<NodeId> {
    let stands = |node: &NodeId| before.contains(node) && hellos.get(node).is_some_and(|said| said.formed);
    linked.iter().copied().filter(stands).collect()
}

/// Whether the leader of a group has to let time pass.
fn is_due(group: &Group, now: Millis, active: bool) -> bool {
    let due = |machine: &Machine| {
        let shard = machine.as_shard()?;
        let locks = shard.locks();
        let mut expired = shard.keyspace().expiring(now).take(64);
        let free = active && expired.any(|(_, key)| locks.owner(key).is_none());
        Some(free || shard.has_overdue(now))
    };
    group.is_leader() && group.peek(due) == Some(true)
}

/// Of replicas, each of which writes a snapshot or does not, and has so many bytes of log that make one due or none: which is
/// to be next. None while any is being written.
fn most_due(replicas: impl Iterator<Item = (bool, Option<u64>)>) -> Option<usize> {
    let mut most: Option<(u64, usize)> = None;
    for (at, (writes, due)) in replicas.enumerate() {
        if writes {
            return None;
        }
        most = most.max(due.map(|since| (since, at)));
    }
    most.map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leadership_goes_to_who_has_been_there_for_a_round_and_may_be_elected() {
        let said = |formed| PeerHello {
            cluster_id: Some(7),
            formed,
            foreign: false,
        };
        let hellos = [
            (1, said(true)),
            (2, said(false)),
            (3, said(true)),
            (4, said(true)),
        ]
        .into();
        assert_eq!(may_lead(&[1, 2, 3, 5], &[1, 2, 4, 5], &hellos), [1]);
    }

    #[test]
    fn one_snapshot_at_a_time_the_most_due_first() {
        let pick = |replicas: &[(bool, Option<u64>)]| most_due(replicas.iter().copied());
        assert_eq!(pick(&[]), None);
        assert_eq!(pick(&[(false, None), (false, None)]), None);
        assert_eq!(
            pick(&[(false, Some(1)), (false, Some(9)), (false, None)]),
            Some(1)
        );
        assert_eq!(pick(&[(false, Some(1)), (false, Some(9)), (true, None)]), None);
    }
}
