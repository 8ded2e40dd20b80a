//! Channels: who listens on this node, and messages from and to all others. Nothing of this is in a log: as in Redis, who does not
//! listen at the moment does not hear. Messages of one publisher reach each listener in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::message::{Ask, Told};
use super::node::Node;
use super::router::Router;
use crate::base::limits::{PUSHES_BYTES_MAX, PUSHES_MAX};
use crate::base::{GroupId, NodeId};
use crate::machine::glob::matches;

/// How long other nodes may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What somebody listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    Channel,
    Pattern,
    /// Of `SSUBSCRIBE`: a name space of its own.
    ShardChannel,
}

/// What nodes ask each other about channels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum PubSubAsk {
    /// A message to whoever listens to a channel of this kind.
    Publish {
        kind: Kind,
        channel: Bytes,
        message: Bytes,
    },
    /// Channels and texts, one after the other.
    PublishAll(Vec<(Bytes, Bytes)>),
    /// Which channels somebody listens to, and how many do.
    Listening(Kind),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum PubSubTold {
    Received(u64),
    Listening(Vec<(Bytes, u64)>),
}

/// What one listener is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The pattern by which it listens, if it is by one.
    pub pattern: Option<Bytes>,
    pub kind: Kind,
    pub channel: Bytes,
    pub message: Bytes,
}

impl Message {
    /// What one has to listen to, to be sent this.
    fn by(&self) -> (Kind, Bytes) {
        match &self.pattern {
            Some(pattern) => (Kind::Pattern, pattern.clone()),
            None => (self.kind, self.channel.clone()),
        }
    }

    fn weight(&self) -> usize {
        self.channel.len() + self.message.len() + 64
    }
}

/// A listener's side.
pub struct Listener {
    messages: mpsc::Receiver<Message>,
    bytes: Arc<AtomicUsize>,
    overflowed: Arc<Notify>,
    /// Listens to so much, by kind.
    pub to: BTreeSet<(Kind, Bytes)>,
    hub: PubSub,
    id: u64,
}

impl Listener {
    /// The next message. `None`: it took them too slowly, so some are lost.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            let message = self.messages.recv().await?;
            self.bytes.fetch_sub(message.weight(), Ordering::Relaxed);
            // What came before it stopped to listen is not for it any more.
            if self.to.contains(&message.by()) {
                return Some(message);
            }
        }
    }

    /// Waits until messages have been lost because it took them too slowly.
    pub async fn overflowed(&self) {
        self.overflowed.notified().await;
    }

    /// How many of these it listens to.
    #[must_use]
    pub fn count(&self, kinds: &[Kind]) -> usize {
        self.to.iter().filter(|(kind, _)| kinds.contains(kind)).count()
    }

    pub fn subscribe(&mut self, kind: Kind, name: &Bytes) {
        if self.to.insert((kind, name.clone())) {
            let mut state = self.hub.inner.lock();
            state
                .names
                .entry((kind, name.clone()))
                .or_default()
                .insert(self.id);
        }
    }

    pub fn unsubscribe(&mut self, kind: Kind, name: &Bytes) {
        let key = (kind, name.clone());
        if self.to.remove(&key) {
            self.hub.inner.lock().forget(&key, self.id);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.hub.inner.lock();
        for key in &self.to {
            state.forget(key, self.id);
        }
        state.queues.remove(&self.id);
    }
}

/// A node's listeners. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct PubSub {
    inner: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<(Kind, Bytes), BTreeSet<u64>>,
    queues: BTreeMap<u64, Queue>,
}

#[derive(Debug)]
struct Queue {
    messages: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
    overflowed: Arc<Notify>,
}

impl State {
    fn forget(&mut self, key: &(Kind, Bytes), id: u64) {
        if let Some(ids) = self.names.get_mut(key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.names.remove(key);
            }
        }
    }

    /// Sends to one listener; one that cannot take any more is sent nothing ever again.
    fn send(&mut self, id: u64, message: Message) -> bool {
        let Some(queue) = self.queues.get(&id) else {
            return false;
        };
        let weight = message.weight();
        let held = queue.bytes.fetch_add(weight, Ordering::Relaxed) + weight;
        let sent = held <= PUSHES_BYTES_MAX && queue.messages.try_send(message).is_ok();
        if !sent {
            queue.overflowed.notify_one();
            self.queues.remove(&id);
        }
        sent
    }

    fn publish(&mut self, kind: Kind, channel: &Bytes, message: &Bytes) -> u64 {
        let to = |pattern: Option<Bytes>| Message {
            pattern,
            kind,
            channel: channel.clone(),
            message: message.clone(),
        };
        let mut sends: Vec<(u64, Message)> = Vec::new();
        if let Some(ids) = self.names.get(&(kind, channel.clone())) {
            sends.extend(ids.iter().map(|&id| (id, to(None))));
        }
        if kind == Kind::Channel {
            let patterns = self.names.range((Kind::Pattern, Bytes::new())..);
            for ((_, pattern), ids) in patterns.take_while(|((kind, _), _)| *kind == Kind::Pattern) {
                if matches(pattern, channel) {
                    sends.extend(ids.iter().map(|&id| (id, to(Some(pattern.clone())))));
                }
            }
        }
        let sent = sends.into_iter().map(|(id, message)| self.send(id, message));
        sent.map(u64::from).sum()
    }
}

impl PubSub {
    /// A listener that listens to nothing yet.
    #[must_use]
    pub fn listen(&self, id: u64) -> Listener {
        let (sender, messages) = mpsc::channel(PUSHES_MAX);
        let (bytes, overflowed) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
        let queue = Queue {
            messages: sender,
            bytes: Arc::clone(&bytes),
            overflowed: Arc::clone(&overflowed),
        };
        self.inner.lock().queues.insert(id, queue);
        Listener {
            messages,
            bytes,
            overflowed,
            to: BTreeSet::new(),
            hub: self.clone(),
            id,
        }
    }

    /// Sends a message to whoever listens here; says how many do.
    pub fn tell(&self, channel: &Bytes, message: &Bytes) -> u64 {
        self.inner.lock().publish(Kind::Channel, channel, message)
    }

    /// How many names of this kind are listened to here.
    #[must_use]
    pub fn names(&self, kind: Kind) -> usize {
        let state = self.inner.lock();
        state.names.keys().filter(|(other, _)| *other == kind).count()
    }

    /// Answers another node, or this one.
    pub fn answer(&self, ask: PubSubAsk) -> PubSubTold {
        let mut state = self.inner.lock();
        match ask {
            PubSubAsk::Publish {
                kind,
                channel,
                message,
            } => PubSubTold::Received(state.publish(kind, &channel, &message)),
            PubSubAsk::PublishAll(messages) => {
                let sent = messages
                    .iter()
                    .map(|(channel, message)| state.publish(Kind::Channel, channel, message));
                PubSubTold::Received(sent.sum())
            }
            PubSubAsk::Listening(kind) => {
                let names = state.names.range((kind, Bytes::new())..);
                let names = names.take_while(|((other, _), _)| *other == kind);
                let counted = names.map(|((_, name), ids)| (name.clone(), ids.len() as u64));
                PubSubTold::Listening(counted.collect())
            }
        }
    }
}

impl Router {
    /// Asks this node and all that are linked. What is sent to a node is sent in the order of the calls.
    pub(super) async fn ask_listeners(&self, ask: PubSubAsk) -> Vec<PubSubTold> {
        let here = self.volatile().pubsub.answer(ask.clone());
        let limit = Instant::now() + PATIENCE;
        let ask = Ask::PubSub(ask);
        // It is no group's affair.
        let asked = |node: NodeId| self.ask_member(node, GroupId::Coordinator(0), &ask, limit);
        let told = join_all(self.linked().into_iter().map(asked)).await;
        let there = told.into_iter().filter_map(|told| match told {
            Some(Told::PubSub(told)) => Some(told),
            _ => None,
        });
        std::iter::once(here).chain(there).collect()
    }
}

impl Node {
    /// Sends a message to whoever listens, at any node; says how many do, as far as the nodes have answered.
    pub async fn publish(&self, kind: Kind, channel: &[u8], message: &[u8]) -> u64 {
        // Copied: slices of a request's buffer would keep the whole buffer alive as long as anybody has not heard them.
        let ask = PubSubAsk::Publish {
            kind,
            channel: Bytes::copy_from_slice(channel),
            message: Bytes::copy_from_slice(message),
        };
        let told = self.router().ask_listeners(ask).await;
        let received = told.iter().map(|told| match told {
            PubSubTold::Received(count) => *count,
            PubSubTold::Listening(_) => 0,
        });
        received.sum()
    }

    /// What is listened to in the cluster, and by how many.
    pub async fn listening(&self, kind: Kind) -> BTreeMap<Bytes, u64> {
        let mut all = BTreeMap::new();
        for told in self.router().ask_listeners(PubSubAsk::Listening(kind)).await {
            if let PubSubTold::Listening(names) = told {
                for (name, count) in names {
                    *all.entry(name).or_default() += count;
                }
            }
        }
        all
    }
}
