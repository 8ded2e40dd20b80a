//! Finds a group's leader and asks it, here or over its node's link, again and again until the deadline.
//!
//! Asking again is safe because every request either carries an id that the group remembers, or an attempt that counts
//! once. What matters is the last word when time runs out: whether any try may have got through.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::driver::DriverCall;
use super::failing::Step;
use super::message::{Ask, Envelope, Failure, Told};
use super::nearest::nearest;
use super::recovery;
use super::tracking::TrackAsk;
use super::vitals::size;
use super::volatile::Volatile;
use crate::base::{GroupId, NodeId, TxnId, codec};
use crate::machine::{Body, Read, Request, Response};
use crate::raft::{Group, GroupError, Groups, Links, Responder, time_for};
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
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeId,
    groups: Arc<Groups>,
    links: Links,
    placement: Placement,
    hints: Mutex<BTreeMap<GroupId, NodeId>>,
    drivers: Mutex<BTreeMap<GroupId, mpsc::Sender<DriverCall>>>,
    volatile: Volatile,
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
        self.replica(group).is_some()
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

    pub(super) fn replica(&self, group: GroupId) -> Option<Group> {
        self.inner.groups.get(group)
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

    /// Answers a question as the leader of the group, if this node is.
    pub async fn answer(&self, id: GroupId, ask: Ask) -> Told {
        let ask = match ask {
            Ask::Script(ask) => return self.inner.volatile.scripts.answer(ask),
            Ask::PubSub(ask) => return Told::PubSub(self.inner.volatile.pubsub.answer(ask)),
            Ask::Track(ask) => return self.track(ask).await,
            Ask::Settings(changes) => {
                self.inner.volatile.settings.set(&changes);
                self.note_events(&self.inner.volatile.settings);
                return Told::Set;
            }
            Ask::Memory(ask) => {
                let group = self.inner.groups.get(id);
                return self.inner.volatile.memory.answer(group.as_ref(), ask);
            }
            ask => ask,
        };
        let Some(group) = self.inner.groups.get(id) else {
            return Told::Failed(Failure::NotLeader(
                self.inner.placement.get(&id).map(|replicas| replicas[0]),
            ));
        };
        // In boxes, but for the two that make up the load: else every task that asks for anything is kilobytes large.
        let rare: BoxFuture<'_, Told> = match ask {
            Ask::Propose(request) => {
                self.note_write(&group, &request, self.inner.me);
                let step = Step::of(&request);
                step.asked();
                let answer = group.propose(request).await;
                step.applied();
                return told(answer.map(Told::Response));
            }
            Ask::Read(read) => return told(group.read(read).await.map(Told::Seen)),
            Ask::Digest(index) => return Told::Digest(group.digest_at(index)),
            Ask::Confirm => Box::pin(async move { told(group.confirmed_index().await.map(Told::Index)) }),
            Ask::Begin(txn) => self.drive(&group, |answer| DriverCall::Begin { txn, answer }),
            Ask::Query { attempt, deadline } => self.drive(&group, |answer| DriverCall::Query {
                attempt,
                deadline,
                answer,
            }),
            Ask::Settle { txn, now } => self.drive(&group, |answer| DriverCall::Settle { txn, now, answer }),
            Ask::Inspect(only) => self.inspect(&group, only),
            Ask::Wait {
                waiter,
                keys,
                waited_us,
                anew,
            } => {
                let waited = Duration::from_micros(waited_us);
                let turns = self.inner.volatile.turns.clone();
                Box::pin(async move { turns.wait(group, waiter, keys, waited, anew).await })
            }
            Ask::Leave(waiter) => {
                self.inner.volatile.turns.leave(&group, waiter);
                Box::pin(ready(Told::Left))
            }
            // Answered above.
            Ask::Script(_) | Ask::PubSub(_) | Ask::Track(_) | Ask::Settings(_) | Ask::Memory(_) => {
                Box::pin(ready(Told::Script(None)))
            }
            Ask::Size => Box::pin(ready(size(&group))),
            Ask::Replicas { least, patience_ms } => {
                let patience = Duration::from_millis(patience_ms);
                Box::pin(async move { told(group.replicated(least, patience).await.map(Told::Replicas)) })
            }
            Ask::Recover(txn) => Box::pin(async move { recovery::recover(self, &group, txn).await }),
        };
        rare.await
    }

    fn track(&self, ask: TrackAsk) -> BoxFuture<'_, Told> {
        Box::pin(self.inner.volatile.sources.answer(self, ask).map(Told::Track))
    }

    fn inspect(&self, group: &Group, only: Option<TxnId>) -> BoxFuture<'static, Told> {
        if matches!(group.id(), GroupId::Coordinator(_)) {
            return self.drive(group, |answer| DriverCall::Inspect { only, answer });
        }
        let leader = group.leader().0;
        let told = if group.is_leader() {
            let listing =
                group.peek(|machine| machine.as_shard().map(|shard| shard.listed(group.id(), only)));
            Told::Listing(listing.unwrap_or_default())
        } else {
            Told::Failed(Failure::NotLeader(leader))
        };
        Box::pin(ready(told))
    }

    fn drive(
        &self,
        group: &Group,
        call: impl FnOnce(oneshot::Sender<Told>) -> DriverCall,
    ) -> BoxFuture<'static, Told> {
        let driver = self.inner.drivers.lock().get(&group.id()).cloned();
        let Some(driver) = driver else {
            return Box::pin(ready(Told::Failed(Failure::NotLeader(group.leader().0))));
        };
        let (answer, rx) = oneshot::channel();
        if driver.try_send(call(answer)).is_err() {
            return Box::pin(ready(Told::Failed(Failure::Busy)));
        }
        Box::pin(rx.map(|told| {
            told.unwrap_or_else(|_| {
                Told::Failed(Failure::Unknown("the coordinator has lost its leadership".into()))
            })
        }))
    }

    /// Proposes to the replica here, if it leads, without a task that waits; else, or if it fails, `then` is to ask.
    pub(super) fn propose_here(
        &self,
        group: GroupId,
        request: Request,
        then: impl FnOnce(Option<Response>) + Send + 'static,
    ) {
        match self.inner.groups.get(group).filter(Group::is_leader) {
            Some(group) => propose_then(&group, request, |answer| then(answer.ok())),
            None => then(None),
        }
    }

    /// What a coordinator wants of a shard tells nothing about where clients are.
    fn note_write(&self, group: &Group, request: &Request, from: NodeId) {
        if matches!(request.body, Body::Run { .. }) {
            self.inner.volatile.writers.note(group.id(), from);
        }
    }

    /// Answers an encoded question of another node. The two that make up the load get their answers from where these come to
    /// be; a task waits for the others.
    pub fn answer_encoded(&self, from: NodeId, message: &Bytes, responder: Responder) {
        let Envelope::<Ask> { group, ask } = match codec::decode_shared(message) {
            Ok(envelope) => envelope,
            Err(e) => {
                let failure = Failure::Stopped(format!("the question cannot be read: {e}"));
                return respond(responder, &Told::Failed(failure));
            }
        };
        match (ask, self.inner.groups.get(group)) {
            // Here and now: messages keep their order.
            (Ask::PubSub(ask), _) => {
                respond(responder, &Told::PubSub(self.inner.volatile.pubsub.answer(ask)));
            }
            (Ask::Propose(request), Some(group)) => {
                self.note_write(&group, &request, from);
                propose_then(&group, request, |answer| {
                    respond(responder, &told(answer.map(Told::Response)));
                });
            }
            (Ask::Read(read), Some(group)) => {
                group.read_then(read, move |answer| {
                    respond(responder, &told(answer.map(Told::Seen)));
                });
            }
            (mut ask, _) => {
                // It may stay for long, and the message with it.
                ask.detach();
                let router = self.clone();
                tokio::spawn(async move { respond(responder, &router.answer(group, ask).await) });
            }
        }
    }
}

fn propose_then(
    group: &Group,
    request: Request,
    then: impl FnOnce(Result<Response, GroupError>) + Send + 'static,
) {
    let step = Step::of(&request);
    step.asked();
    group.propose_then(request, move |answer| {
        step.applied();
        then(answer);
    });
}

fn respond(responder: Responder, told: &Told) {
    match codec::encode(told) {
        Ok(bytes) => responder.send(bytes.into()),
        Err(e) => tracing::error!("an answer cannot be encoded: {e}"),
    }
}

fn told(result: Result<Told, GroupError>) -> Told {
    result.unwrap_or_else(|error| Told::Failed(error.into()))
}
