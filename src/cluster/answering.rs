//! Answers what another node, or this one, asks of a group's replica here.

use std::future::ready;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::driver::DriverCall;
use super::failing::Step;
use super::message::{Ask, Envelope, Failure, Told};
use super::recovery;
use super::router::Router;
use super::tracking::TrackAsk;
use super::vitals::size;
use crate::base::{GroupId, NodeId, TxnId, codec};
use crate::machine::{Body, Request, Response};
use crate::raft::{Group, GroupError, Responder};

impl Router {
    /// Answers a question as the leader of the group, if this node is.
    pub async fn answer(&self, id: GroupId, ask: Ask) -> Told {
        let ask = match ask {
            Ask::Script(ask) => return self.inner.volatile.scripts.answer(ask),
            Ask::PubSub(ask) => return Told::PubSub(self.inner.volatile.pubsub.answer(ask)),
            Ask::Track(ask) => return self.track(ask).await,
            Ask::Settings(changes) => {
                self.change_here(&changes);
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
                let mut answering =
                    Box::pin(async move { respond(responder, &router.answer(group, ask).await) });
                // Begun here and now: who leaves a line must not come before it was in it.
                if (&mut answering).now_or_never().is_none() {
                    tokio::spawn(answering);
                }
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
