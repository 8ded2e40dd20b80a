//! Finds a group's leader and asks it, here or over its node's link, again and again until the deadline.
//!
//! Asking again is safe because every request either carries an id that the group remembers, or an attempt that counts
//! once. What matters is the last word when time runs out: whether any try may have got through.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::driver::DriverCall;
use super::message::{Ask, Envelope, Failure, Told};
use super::nearest::nearest;
use super::volatile::Volatile;
use crate::base::{GroupId, NodeId, codec};
use crate::machine::Read;
use crate::raft::{Group, Groups, Links, time_for};
use crate::ring::Placement;

/// Pause between two tries that found no leader.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// How long one try may take, besides what its bytes do, before another member is asked.
const TRY: Duration = Duration::from_secs(2);

/// Why no answer was had until the deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteError {
    /// No try got through: nothing happened.
    NotDone(String),
    /// Nothing happened, since the group has too much to do.
    Busy,
    /// Some try may have got through.
    Unknown(String),
}

impl std::fmt::Display for RouteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RouteError::NotDone(why) | RouteError::Unknown(why) => f.write_str(why),
            RouteError::Busy => f.write_str("it has too much to do"),
        }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Router {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) me: NodeId,
    pub(super) groups: Arc<Groups>,
    pub(super) links: Links,
    pub(super) placement: Placement,
    hints: Mutex<BTreeMap<GroupId, NodeId>>,
    pub(super) drivers: Mutex<BTreeMap<GroupId, mpsc::Sender<DriverCall>>>,
    pub(super) volatile: Volatile,
}

impl Router {
    #[must_use]
    pub fn new(
        me: NodeId,
        groups: Arc<Groups>,
        links: Links,
        placement: Placement,
        volatile: Volatile,
    ) -> Router {
        let hints = placement
            .iter()
            .map(|(&group, replicas)| (group, replicas[0]))
            .collect();
        let drivers = Mutex::new(BTreeMap::new());
        Router {
            inner: Arc::new(Inner {
                me,
                groups,
                links,
                placement,
                hints: Mutex::new(hints),
                drivers,
                volatile,
            }),
        }
    }

    pub fn set_driver(&self, group: GroupId, driver: mpsc::Sender<DriverCall>) {
        self.inner.drivers.lock().insert(group, driver);
    }

    /// Asks the leader of `group` until it answers or `deadline` is past.
    ///
    /// # Errors
    /// [`RouteError`].
    pub async fn ask(&self, group: GroupId, ask: &Ask, deadline: Instant) -> Result<Told, RouteError> {
        self.ask_counting(group, ask, deadline)
            .await
            .map(|(told, _)| told)
    }

    /// As [`Router::ask`]; also says whether an earlier try may have been taken by somebody.
    ///
    /// # Errors
    /// [`RouteError`].
    pub async fn ask_counting(
        &self,
        group: GroupId,
        ask: &Ask,
        deadline: Instant,
    ) -> Result<(Told, bool), RouteError> {
        let mut open = None;
        let mut last = String::from("no leader is known");
        let mut pause = PAUSE_MIN;
        let mut target = self.leader(group);
        if self.reads_here(group, target, ask) {
            target = self.inner.me;
        }
        let patience = TRY + time_for(ask.weight());
        loop {
            let limit = deadline.min(Instant::now() + patience);
            let (failure, sent) =
                match tokio::time::timeout_at(limit, self.try_node(target, group, ask)).await {
                    Ok(Ok(told)) => {
                        if target != self.inner.me {
                            self.remember(group, target);
                        }
                        return Ok((told, open.is_some()));
                    }
                    Ok(Err(failed)) => failed,
                    Err(_) => (
                        Failure::Unknown(format!("node {target} did not answer in time")),
                        true,
                    ),
                };
            let hint = match failure {
                Failure::Busy if open.is_none() && Instant::now() >= deadline => {
                    return Err(RouteError::Busy);
                }
                Failure::Busy => Some(target),
                Failure::NotLeader(hint) => hint.filter(|&node| node != target),
                Failure::Unknown(why) | Failure::Stopped(why) => {
                    last = why;
                    if sent {
                        open = Some(last.clone());
                    }
                    None
                }
            };
            if Instant::now() >= deadline {
                return Err(match open {
                    Some(why) => RouteError::Unknown(why),
                    None => RouteError::NotDone(format!("{group}: {last}")),
                });
            }
            match hint {
                Some(node) if node != target => target = node,
                hint => {
                    let elected = self.pause(group, deadline.min(Instant::now() + pause)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    target = elected.or(hint).unwrap_or_else(|| self.next(group, target));
                }
            }
        }
    }

    /// Waits until `limit`, or until the replica here hears of another leader, which it says.
    async fn pause(&self, group: GroupId, limit: Instant) -> Option<NodeId> {
        let Some(replica) = self.inner.groups.get(group) else {
            tokio::time::sleep_until(limit).await;
            return None;
        };
        tokio::time::timeout_at(limit, replica.next_leader()).await.ok()
    }

    /// Asks one member of the group, whether it leads or not, once. `None`: no answer in time.
    pub async fn ask_member(&self, node: NodeId, group: GroupId, ask: &Ask, limit: Instant) -> Option<Told> {
        let told = tokio::time::timeout_at(limit, self.try_node(node, group, ask)).await;
        told.ok()?.ok()
    }

    /// Who probably leads: what the local replica says, else who answered last.
    pub(super) fn leader(&self, group: GroupId) -> NodeId {
        let local = self.inner.groups.get(group).and_then(|group| group.leader().0);
        local.unwrap_or_else(|| {
            self.inner
                .hints
                .lock()
                .get(&group)
                .copied()
                .unwrap_or(self.inner.me)
        })
    }

    /// Which of `count` coordinators hears of a transaction over `shards` soonest, and has the shortest way to them.
    pub fn nearest_coordinator(&self, count: u16, shards: impl Iterator<Item = u16>) -> u16 {
        let coordinators: SmallVec<[_; 8]> =
            (0..count).map(|n| self.leader(GroupId::Coordinator(n))).collect();
        let shards: SmallVec<[_; 8]> = shards.map(|n| self.leader(GroupId::Shard(n))).collect();
        u16::try_from(nearest(&coordinators, &shards, self.inner.me)).unwrap_or(0)
    }

    /// Whether a replica here that does not lead will probably answer a read as well as the leader, and sooner.
    fn reads_here(&self, group: GroupId, leader: NodeId, ask: &Ask) -> bool {
        matches!(ask, Ask::Read(Read::Run { .. } | Read::Values { .. }))
            && leader != self.inner.me
            && self.follower(group).is_some_and(|group| group.seems_current())
    }

    /// The replica here, if it follows and may vouch for its leader: a node that has forgotten its votes may not.
    pub(super) fn follower(&self, group: GroupId) -> Option<Group> {
        let group = self.inner.groups.get(group)?;
        (!group.is_leader() && !self.inner.groups.is_refilling()).then_some(group)
    }

    /// The replica here.
    pub(super) fn group(&self, group: GroupId) -> Option<Group> {
        self.inner.groups.get(group)
    }

    /// Whether there is a replica here, which knows better than hints who leads.
    pub(super) fn has_replica(&self, group: GroupId) -> bool {
        self.group(group).is_some()
    }

    pub(super) fn groups(&self) -> Vec<Group> {
        self.inner.groups.all()
    }

    pub(super) fn linked(&self) -> Vec<NodeId> {
        self.inner.links.connected()
    }

    pub(super) fn volatile(&self) -> &Volatile {
        &self.inner.volatile
    }

    pub(super) fn remember(&self, group: GroupId, leader: NodeId) {
        self.inner.hints.lock().insert(group, leader);
    }

    /// The member to ask after `node` had nothing to say.
    pub(super) fn next(&self, group: GroupId, node: NodeId) -> NodeId {
        let known = self.leader(group);
        if known != node && self.is_reachable(known) {
            return known;
        }
        let Some(replicas) = self.inner.placement.get(&group) else {
            return node;
        };
        let at = replicas.iter().position(|&replica| replica == node).unwrap_or(0);
        let others = (1..=replicas.len()).map(|i| replicas[(at + i) % replicas.len()]);
        others
            .into_iter()
            .find(|&other| self.is_reachable(other))
            .unwrap_or(node)
    }

    fn is_reachable(&self, node: NodeId) -> bool {
        node == self.inner.me || self.inner.links.connected().contains(&node)
    }

    /// One try. The flag of a failure says whether the question may have been taken.
    pub(super) async fn try_node(
        &self,
        node: NodeId,
        group: GroupId,
        ask: &Ask,
    ) -> Result<Told, (Failure, bool)> {
        if node == self.inner.me {
            if let Ask::Read(read) = ask
                && let Some(group) = self.follower(group)
            {
                let seen = group.read_as_follower(read.clone()).await;
                return seen.map(Told::Seen).map_err(|error| (error.into(), false));
            }
            return match self.answer(group, ask.clone()).await {
                Told::Failed(failure) => Err((failure, true)),
                told => Ok(told),
            };
        }
        let envelope = Envelope { group, ask };
        let message = codec::encode(&envelope).map_err(|e| (Failure::Unknown(e.to_string()), false))?;
        match self.inner.links.service(node, message.into()).await {
            Ok(answer) => match codec::decode(&answer) {
                Ok(Told::Failed(failure)) => Err((failure, true)),
                Ok(told) => Ok(told),
                Err(e) => Err((Failure::Unknown(e.to_string()), true)),
            },
            Err(e) => Err((Failure::Unknown(e.to_string()), !e.not_sent())),
        }
    }
}
