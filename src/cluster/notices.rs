//! Keyspace events on their way to whoever listens: from the shards that are led here, and from what has run at this gateway.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::node::Node;
use super::pubsub::PubSubAsk;
use super::router::Router;
use super::settings::{Setting, Settings};
use crate::base::events::Events;
use crate::base::limits::{PUSHES_BYTES_MAX, PUSHES_MAX};
use crate::machine::Notice;
use crate::raft::Group;

/// Channels and texts.
pub type Messages = Vec<(Bytes, Bytes)>;

/// What is to be published of these events, in Redis's order.
pub fn messages(settings: &Settings, notices: Vec<Notice>) -> Messages {
    let wanted = settings.notify_keyspace_events();
    let mut messages = Vec::new();
    for Notice { class, event, key } in notices {
        if wanted.has(class) && wanted.has(Events::KEYSPACE) {
            let channel = [b"__keyspace@0__:", &key[..]].concat();
            messages.push((channel.into(), Bytes::from_static(event.as_bytes())));
        }
        if wanted.has(class) && wanted.has(Events::KEYEVENT) {
            let channel = [b"__keyevent@0__:", event.as_bytes()].concat();
            messages.push((channel.into(), key));
        }
    }
    messages
}

/// Tells of what is done to the keys of this group, as long as it runs.
pub async fn run(router: Router, settings: Settings, group: Group) {
    loop {
        group.noticed().await;
        let taken = group.interest(|interest, _| interest.notices.take());
        let (notices, lost) = taken.unwrap_or_default();
        if lost > 0 {
            tracing::warn!(group = %group.id(), lost, "keyspace events are lost: they come faster than they are told");
        }
        router.publish_all(messages(&settings, notices)).await;
    }
}

impl Router {
    /// Publishes messages, in order, here and at all nodes that are linked.
    pub async fn publish_all(&self, messages: Messages) {
        if !messages.is_empty() {
            self.ask_listeners(PubSubAsk::PublishAll(messages)).await;
        }
    }

    /// Changes settings of this node alone.
    pub(super) fn change_here(&self, changes: &[(Setting, u64)]) {
        let settings = &self.volatile().settings;
        // Or one change's events would be switched by what the other wants.
        let _one_at_a_time = settings.setting.lock();
        settings.set(changes);
        self.note_events(settings);
    }

    /// Has the replicas here note events, if anybody wants to hear of any.
    fn note_events(&self, settings: &Settings) {
        let wanted = settings.notify_keyspace_events();
        let on = wanted.has(Events::KEYSPACE) || wanted.has(Events::KEYEVENT);
        for group in self.groups() {
            group.interest(|interest, _| interest.notices.switch(on));
        }
    }
}

/// Keys that were read and not found, until somebody is told: nobody's read waits for that. Cheap to clone.
#[derive(Clone, Default)]
pub struct Missed {
    inner: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    missed: Mutex<Misses>,
    some: Notify,
}

#[derive(Default)]
struct Misses {
    keys: Vec<Bytes>,
    bytes: usize,
    lost: u64,
}

impl Misses {
    fn add(&mut self, key: Bytes) {
        if self.keys.len() >= PUSHES_MAX || self.bytes + key.len() > PUSHES_BYTES_MAX {
            self.lost += 1;
            return;
        }
        self.bytes += key.len();
        self.keys.push(key);
    }
}

impl Missed {
    /// Tells of them, as long as the node runs.
    pub async fn run(self, router: Router, settings: Settings) {
        loop {
            self.inner.some.notified().await;
            let Misses { keys, lost, .. } = std::mem::take(&mut *self.inner.missed.lock());
            if lost > 0 {
                tracing::warn!(
                    lost,
                    "keyspace events of misses are lost: they come faster than they are told"
                );
            }
            let notice = |key| Notice {
                class: Events::MISS,
                event: "keymiss",
                key,
            };
            let notices = keys.into_iter().map(notice).collect();
            router.publish_all(messages(&settings, notices)).await;
        }
    }
}

impl Node {
    /// Whether what runs at this gateway is to note its events.
    pub(super) fn notes_events(&self) -> bool {
        let wanted = self.settings().notify_keyspace_events();
        wanted.has(Events::KEYSPACE) || wanted.has(Events::KEYEVENT)
    }

    /// Tells that keys were read and not found.
    pub(super) fn tell_missed(&self, missed: Vec<Bytes>) {
        if !missed.is_empty() {
            let waiting = &self.volatile().missed.inner;
            let mut misses = waiting.missed.lock();
            for key in missed {
                misses.add(key);
            }
            drop(misses);
            waiting.some.notify_one();
        }
    }
}
