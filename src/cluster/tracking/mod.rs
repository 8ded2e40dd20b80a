//! `CLIENT TRACKING`: tells clients when keys of which they keep copies are written. The promise: after a write has been acknowledged,
//! each client that may keep an older copy is told so, or not to rely on any copy, within seven seconds whatever fails.
//!
//! ```text
//!  client reads k ─▶ entry in the table ─▶ whoever tells this gateway of k's shard knows ─▶ only now k is read ─▶ reply
//!  a write of k is applied by a replica ─▶ its node tells ─▶ entry goes, clients are told: after the reply, on their connections
//! ```
//!
//! Any replica will do to hear from: it was asked when it had applied entries up to some index; the read comes later and sees at
//! least those; so what the read has not seen is applied there after the question, and told. Who leads does not matter.
//! What can be missed is what is not told in time: by a replica that lags or is cut off. Twice a second it has to show that it has all
//! that is committed ([`source`]); where it cannot, copies of that shard are not to be relied on ([`feed`]).

mod asker;
mod feed;
mod inbox;
mod source;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub use asker::{Asker, numbered, on_behalf, remember_found};
use feed::{Feed, Following, ask};
use inbox::Word;
pub use inbox::{Gathered, Inbox, Stale};
pub use source::Sources;
use table::Table;
pub use table::Wish;

use super::node::Node;
use super::router::Router;
use super::settings::Settings;
use crate::base::limits::TRACKED_PREFIXES_MAX;
use crate::base::{GroupId, NodeId};
use crate::host::{Urgency, background};
use crate::machine::{Changes, TrackerId};
use crate::ring::Placement;

/// How long a client that begins to track waits until writes are told; if they are not by then, it is told to forget what it has read.
const BEGIN: Duration = Duration::from_secs(1);

/// What a gateway asks a node with replicas.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum TrackAsk {
    /// To follow these groups, by a name that ends what it had under the same.
    Open {
        name: (NodeId, u32),
        groups: Vec<GroupId>,
        /// With their version.
        prefixes: (u64, Vec<Bytes>),
    },
    /// To be told of the next write of each of these keys.
    Keys {
        id: TrackerId,
        group: GroupId,
        keys: Vec<Bytes>,
    },
    /// To be told of all writes of keys with these prefixes and no others.
    Prefixes {
        id: TrackerId,
        version: u64,
        prefixes: Vec<Bytes>,
    },
    /// What was written? It may take a while.
    Next(TrackerId),
    /// What was written, all that is acknowledged by now? And not to be told of these any more.
    Confirm {
        id: TrackerId,
        given_up: Vec<(GroupId, Bytes)>,
    },
    Close(TrackerId),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum TrackTold {
    Opened(TrackerId),
    Done,
    Changes(Vec<(GroupId, Changes)>),
    Confirmed {
        changes: Vec<(GroupId, Changes)>,
        /// Of these it may not be all.
        unsure: Vec<GroupId>,
    },
    /// There is no such follower, or no such replica.
    Unknown,
}

/// A gateway's tracking clients; cheap to clone.
#[derive(Clone)]
pub struct Tracking {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    state: Mutex<State>,
    /// Whether any client tracks.
    active: watch::Sender<bool>,
    /// Prefixes came or went.
    changed: Notify,
    /// A feed has got further.
    progress: Notify,
}

struct State {
    table: Table,
    feeds: Vec<Feed>,
    feed_of: BTreeMap<GroupId, usize>,
}

impl State {
    fn all_is_told(&self) -> bool {
        let told = |feed: &Feed| feed.at.is_some() && feed.version >= self.table.version;
        self.feeds.iter().all(told)
    }

    /// Nobody tells of any shard from now on.
    fn begin_anew(&mut self) {
        self.feeds.iter_mut().for_each(|feed| feed.version = 0);
        let groups: Vec<_> = self.feed_of.keys().copied().collect();
        self.table.forgotten(&groups);
        for group in groups {
            self.table.flush(group);
        }
    }
}

/// Shards by who can tell of them: this node of those that it has, of others each set of replicas.
fn feeds(me: NodeId, placement: &Placement) -> Vec<Feed> {
    let mut by_members: BTreeMap<Vec<NodeId>, Vec<GroupId>> = BTreeMap::new();
    for (&group, replicas) in placement {
        if matches!(group, GroupId::Shard(_)) {
            let members = if replicas.contains(&me) {
                vec![me]
            } else {
                let mut members = replicas.clone();
                members.sort_unstable();
                members
            };
            by_members.entry(members).or_default().push(group);
        }
    }
    let feed = |(members, groups)| Feed {
        members,
        groups,
        at: None,
        version: 0,
    };
    by_members.into_iter().map(feed).collect()
}

/// Frees what may be a million of keys where nobody waits.
fn free(garbage: impl Send + 'static) {
    tokio::spawn(async move {
        let freed = background("quorate-free", Urgency::Lowest, move || {
            drop(garbage);
            Ok(())
        });
        if let Err(e) = freed.await {
            tracing::warn!("what was tracked was not freed in the background: {e}");
        }
    });
}

impl Tracking {
    #[must_use]
    pub fn new(me: NodeId, placement: &Placement, settings: Settings) -> Tracking {
        let feeds = feeds(me, placement);
        let of = |(number, feed): (usize, &Feed)| -> Vec<(GroupId, usize)> {
            feed.groups.iter().map(|&group| (group, number)).collect()
        };
        let feed_of = feeds.iter().enumerate().flat_map(of).collect();
        let state = State {
            table: Table::default(),
            feeds,
            feed_of,
        };
        Tracking {
            inner: Arc::new(Inner {
                settings,
                state: Mutex::new(state),
                active: watch::Sender::new(false),
                changed: Notify::new(),
                progress: Notify::new(),
            }),
        }
    }

    /// Follows all shards while any client tracks, until the runtime ends.
    pub async fn run(self, router: Router, me: NodeId) {
        let mut active = self.inner.active.subscribe();
        loop {
            if active.wait_for(|&active| active).await.is_err() {
                return;
            }
            let count = self.inner.state.lock().feeds.len();
            let following = (0..count).map(|number| {
                let following = Following {
                    router: router.clone(),
                    me,
                    inner: Arc::clone(&self.inner),
                    number,
                };
                following.run()
            });
            tokio::select! {
                biased;
                ended = active.wait_for(|&active| !active) => if ended.is_err() { return },
                _ = join_all(following) => return,
            }
            let followed: Vec<_> = {
                let mut state = self.inner.state.lock();
                // A client may have come meanwhile, and rely on those that told until now.
                state.begin_anew();
                state.feeds.iter_mut().filter_map(|feed| feed.at.take()).collect()
            };
            let closes = followed
                .into_iter()
                .map(|(node, id)| ask(&router, node, TrackAsk::Close(id), Duration::ZERO));
            join_all(closes).await;
        }
    }

    /// A client tracks no more.
    pub fn off(&self, id: u64) {
        let mut state = self.inner.state.lock();
        let garbage = state.table.off(id);
        if state.table.is_empty() {
            self.inner
                .active
                .send_if_modified(|active| std::mem::replace(active, false));
        }
        drop(state);
        self.inner.changed.notify_waiters();
        if let Some(garbage) = garbage {
            free(garbage);
        }
    }

    /// Whether the connection that this client redirects to is gone, as far as has been noticed.
    #[must_use]
    pub fn redirect_is_gone(&self, id: u64) -> bool {
        self.inner.state.lock().table.redirect_is_gone(id)
    }

    /// Tells a client to rely on no copy.
    pub fn distrust(&self, id: u64) {
        self.inner.state.lock().table.tell(id, Word::All);
    }

    /// Clients that track, and keys of which they may keep copies.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        self.inner.state.lock().table.counts()
    }
}

impl Node {
    /// A client tracks from now on.
    ///
    /// # Errors
    /// There are too many prefixes.
    pub async fn track(&self, id: u64, inbox: Arc<Inbox>, wish: Wish) -> Result<(), String> {
        let inner = &self.tracking().inner;
        {
            let mut state = inner.state.lock();
            let mut prefixes = state.table.prefixes();
            prefixes.extend(wish.prefixes.iter().flatten().cloned());
            if prefixes.len() > TRACKED_PREFIXES_MAX {
                return Err(format!(
                    "ERR a node's clients may track {TRACKED_PREFIXES_MAX} prefixes at the most"
                ));
            }
            state.table.on(id, inbox, wish);
            inner
                .active
                .send_if_modified(|active| !std::mem::replace(active, true));
        }
        inner.changed.notify_waiters();
        let until = Instant::now() + BEGIN;
        loop {
            let progress = inner.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if inner.state.lock().all_is_told() || tokio::time::timeout_at(until, progress).await.is_err() {
                break;
            }
        }
        inner.state.lock().table.answered(id);
        Ok(())
    }

    /// A client that tracks is about to read these keys: writes that come after what it will see are told from now on.
    pub async fn remember(&self, id: u64, keys: &[Bytes]) {
        let inner = &self.tracking().inner;
        let keys_max = match inner.settings.tracking_table_max_keys() {
            0 => usize::MAX,
            max => usize::try_from(max).unwrap_or(usize::MAX),
        };
        let mut new: BTreeMap<GroupId, Vec<(Bytes, u64)>> = BTreeMap::new();
        {
            let mut state = inner.state.lock();
            for key in keys {
                let group = GroupId::Shard(self.ring().shard_of(key));
                if let Some(number) = state.table.enter(id, group, key, keys_max) {
                    let key = Bytes::copy_from_slice(key);
                    new.entry(group).or_default().push((key, number));
                }
            }
        }
        join_all(
            new.into_iter()
                .map(|(group, keys)| self.register(id, group, keys)),
        )
        .await;
    }

    async fn register(&self, id: u64, group: GroupId, keys: Vec<(Bytes, u64)>) {
        let inner = &self.tracking().inner;
        let at = || {
            let state = inner.state.lock();
            state.feeds.get(*state.feed_of.get(&group)?)?.at
        };
        let before = at();
        let told = match before {
            None => None,
            Some((node, tracker)) => {
                let keys = TrackAsk::Keys {
                    id: tracker,
                    group,
                    keys: keys.iter().map(|(key, _)| key.clone()).collect(),
                };
                ask(self.router(), node, keys, Duration::ZERO).await
            }
        };
        let known = matches!(told, Some(TrackTold::Done)) && at() == before;
        let mut state = inner.state.lock();
        for (key, number) in &keys {
            if known {
                state.table.registered(group, key, *number);
            } else {
                state.table.failed(id, group, key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LimitsSection;

    #[test]
    fn who_comes_while_nobody_else_tracks_does_not_rely_on_those_that_told_until_then() {
        let group = GroupId::Shard(0);
        let placement = Placement::from([(group, vec![2])]);
        let tracking = Tracking::new(1, &placement, Settings::new(&LimitsSection::default()));
        let inbox = Arc::new(Inbox::new(Arc::new(Notify::new())));
        let mut state = tracking.inner.state.lock();
        // The feed is still what it was for the last one that went.
        let key = Bytes::from_static(b"k");
        state.table.on(7, Arc::clone(&inbox), Wish::default());
        let number = state.table.enter(7, group, &key, 10).expect("it is new");
        state.table.registered(group, &key, number);
        assert!(!inbox.has_some());
        state.begin_anew();
        assert!(inbox.take().own.all);
        assert!(
            state.table.enter(7, group, &key, 10).is_some(),
            "it has to be registered again"
        );
    }
}
