//! At the gateway: follows what is written of some shards, through one node that has replicas of them; through this one, if it has.
//!
//! ```text
//!        ┌── no answer ──────────┐
//!  open ─┴▶ next, next, next …   ├─▶ clients are told not to rely on any copy ─▶ open, at another node if there is one
//!           confirm, confirm …  ─┘
//! ```
//!
//! Nothing is told twice, so an answer that is lost is as good as a write that nobody told.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::source::{CONFIRM, NEXT};
use super::{Inner, TrackAsk, TrackTold};
use crate::base::{GroupId, NodeId};
use crate::cluster::message::{Ask, Told};
use crate::cluster::router::Router;
use crate::machine::TrackerId;

/// How long an answer may take on top of what it waits for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two times that a node makes sure that it has told all.
const CONFIRM_EVERY: Duration = Duration::from_millis(500);
/// Before another node is asked.
const PAUSE: Duration = Duration::from_millis(50);

/// Some shards, and who tells of them.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Who may.
    pub members: Vec<NodeId>,
    pub groups: Vec<GroupId>,
    /// Who does.
    pub at: Option<(NodeId, TrackerId)>,
    /// Of the prefixes that it knows.
    pub version: u64,
}

pub async fn ask(router: &Router, node: NodeId, ask: TrackAsk, wait: Duration) -> Option<TrackTold> {
    let limit = Instant::now() + wait + PATIENCE;
    // It is no group's affair.
    let ask = Ask::Track(ask);
    match router
        .ask_member(node, GroupId::Coordinator(0), &ask, limit)
        .await
    {
        Some(Told::Track(told)) => Some(told),
        _ => None,
    }
}

/// One feed's task.
pub struct Following {
    pub router: Router,
    pub me: NodeId,
    pub inner: Arc<Inner>,
    /// Number of the feed.
    pub number: usize,
}

impl Following {
    pub async fn run(self) {
        let members = self.feed(|feed| feed.members.clone()).unwrap_or_default();
        for &node in members.iter().cycle() {
            if let Some(id) = self.open(node).await {
                tokio::select! {
                    biased;
                    () = self.listen(node, id) => {}
                    () = self.make_sure(node, id) => {}
                }
                tracing::debug!(node, "what it has not told of writes is made up for by a flush");
                self.lost();
                let _ = ask(&self.router, node, TrackAsk::Close(id), Duration::ZERO).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn feed<T>(&self, look: impl FnOnce(&mut Feed) -> T) -> Option<T> {
        self.inner.state.lock().feeds.get_mut(self.number).map(look)
    }

    async fn open(&self, node: NodeId) -> Option<TrackerId> {
        let (open, version) = {
            let state = self.inner.state.lock();
            let (version, prefixes) = (state.table.version, state.table.prefixes().into_iter().collect());
            let open = TrackAsk::Open {
                name: (self.me, u32::try_from(self.number).unwrap_or(u32::MAX)),
                groups: state.feeds.get(self.number)?.groups.clone(),
                prefixes: (version, prefixes),
            };
            (open, version)
        };
        let Some(TrackTold::Opened(id)) = ask(&self.router, node, open, Duration::ZERO).await else {
            return None;
        };
        self.feed(|feed| feed.at = Some((node, id)));
        self.prefixes_told(version);
        Some(id)
    }

    /// Clients whose prefixes were not told of before may have missed something since they track.
    fn prefixes_told(&self, version: u64) {
        let mut state = self.inner.state.lock();
        let Some(feed) = state.feeds.get_mut(self.number) else {
            return;
        };
        let before = std::mem::replace(&mut feed.version, version);
        state.table.prefixes_told(before);
        drop(state);
        self.inner.progress.notify_waiters();
    }

    fn lost(&self) {
        let mut state = self.inner.state.lock();
        let Some(feed) = state.feeds.get_mut(self.number) else {
            return;
        };
        feed.at = None;
        feed.version = 0;
        let groups = feed.groups.clone();
        state.table.forgotten(&groups);
        for group in groups {
            state.table.flush(group);
        }
    }

    async fn listen(&self, node: NodeId, id: TrackerId) {
        while let Some(TrackTold::Changes(changes)) = ask(&self.router, node, TrackAsk::Next(id), NEXT).await
        {
            let mut state = self.inner.state.lock();
            for (group, changes) in changes {
                state.table.changed(group, changes);
            }
        }
    }

    async fn make_sure(&self, node: NodeId, id: TrackerId) {
        while self.tell_prefixes(node, id).await {
            let groups = self.feed(|feed| feed.groups.clone()).unwrap_or_default();
            let given_up = self.inner.state.lock().table.forget(&groups);
            let confirm = TrackAsk::Confirm { id, given_up };
            let Some(TrackTold::Confirmed { changes, unsure }) =
                ask(&self.router, node, confirm, CONFIRM).await
            else {
                return;
            };
            {
                let mut state = self.inner.state.lock();
                state.table.forgotten(&groups);
                for (group, changes) in changes {
                    state.table.changed(group, changes);
                }
                for group in unsure {
                    state.table.flush(group);
                }
            }
            let until = Instant::now() + CONFIRM_EVERY;
            loop {
                let changed = self.inner.changed.notified();
                if !self.tell_prefixes(node, id).await {
                    return;
                }
                tokio::select! {
                    biased;
                    () = changed => {}
                    () = tokio::time::sleep_until(until) => break,
                }
            }
        }
    }

    /// Says which prefixes there are, if they are not what they were. `false`: it has no answer to that.
    async fn tell_prefixes(&self, node: NodeId, id: TrackerId) -> bool {
        let (version, prefixes) = {
            let state = self.inner.state.lock();
            let told = state.feeds.get(self.number).map_or(0, |feed| feed.version);
            if told >= state.table.version {
                return true;
            }
            (state.table.version, state.table.prefixes().into_iter().collect())
        };
        let tell = TrackAsk::Prefixes {
            id,
            version,
            prefixes,
        };
        let told = ask(&self.router, node, tell, Duration::ZERO).await;
        if !matches!(told, Some(TrackTold::Done)) {
            return false;
        }
        self.prefixes_told(version);
        true
    }
}
