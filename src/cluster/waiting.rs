//! At the gateway: a client's place in the lines of the shards whose keys it waits for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::line::WaiterId;
use super::message::{Ask, Failure, Told};
use super::node::Node;
use super::router::Router;
use crate::base::{GroupId, NodeId};
use crate::machine::commands::{Need, Waits};

/// Pause before the next member is asked.
const PAUSE: Duration = Duration::from_millis(20);
/// How often a client that waits looks whether it still does so at the leader, as far as is known here.
const LOOK: Duration = Duration::from_millis(500);
/// How long, and how often, is tried to say that somebody waits no more; what is not heard is noticed by the leader.
const LEAVE: Duration = Duration::from_secs(1);
const LEAVE_TRIES: usize = 3;

/// A client that waits in line. When this is dropped it does not any more.
pub struct InLine {
    router: Router,
    id: WaiterId,
    since: Instant,
    shards: BTreeMap<GroupId, At>,
    asked: FuturesUnordered<BoxFuture<'static, GroupId>>,
}

struct At {
    keys: Vec<(Bytes, Need)>,
    /// Who was asked last.
    node: Arc<Mutex<NodeId>>,
}

impl Node {
    /// Joins the lines of the shards of these keys.
    #[must_use]
    pub fn stand_in_line(&self, waits: &Waits) -> InLine {
        let mut shards: BTreeMap<GroupId, At> = BTreeMap::new();
        for (key, need) in &waits.keys {
            let group = GroupId::Shard(self.ring().shard_of(key));
            let leader = || Arc::new(Mutex::new(self.router().leader(group)));
            let at = shards.entry(group).or_insert_with(|| At {
                keys: Vec::new(),
                node: leader(),
            });
            // Copied: a slice of a request's buffer would keep the whole buffer alive as long as somebody waits.
            at.keys.push((Bytes::copy_from_slice(key), need.clone()));
        }
        let mut line = InLine {
            router: self.router().clone(),
            id: self.new_waiter(),
            since: Instant::now(),
            shards,
            asked: FuturesUnordered::new(),
        };
        line.join_all(true, |_| true);
        line
    }
}

impl InLine {
    fn join_all(&mut self, anew: bool, which: impl Fn(&GroupId) -> bool) {
        for (&group, at) in self.shards.iter().filter(|(group, _)| which(group)) {
            let waiting = Waiting {
                router: self.router.clone(),
                id: self.id,
                since: self.since,
                group,
                keys: at.keys.clone(),
                node: Arc::clone(&at.node),
                anew,
            };
            self.asked.push(Box::pin(waiting.run()));
        }
    }

    /// Waits for this client's turn. The future may be dropped, and the wait go on with another.
    pub async fn turn(&mut self) -> GroupId {
        match self.asked.next().await {
            Some(group) => group,
            // Called everywhere, and not gone back to any: not to be.
            None => std::future::pending().await,
        }
    }

    /// Goes back to its old place: nothing was there for it at `group`.
    pub fn back_to(&mut self, group: GroupId) {
        self.join_all(false, |other| *other == group);
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.asked.clear();
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        for (&group, at) in &self.shards {
            let (router, id, node) = (self.router.clone(), self.id, *at.node.lock());
            runtime.spawn(async move {
                for _ in 0..LEAVE_TRIES {
                    let limit = Instant::now() + LEAVE;
                    let told = router.ask_member(node, group, &Ask::Leave(id), limit).await;
                    if told.is_some() {
                        return;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
    }
}

/// A wait at one shard.
struct Waiting {
    router: Router,
    id: WaiterId,
    since: Instant,
    group: GroupId,
    keys: Vec<(Bytes, Need)>,
    node: Arc<Mutex<NodeId>>,
    /// It has not been taken into a line yet, as far as is known.
    anew: bool,
}

impl Waiting {
    async fn run(mut self) -> GroupId {
        loop {
            let node = *self.node.lock();
            let next = match self.wait_at(node).await {
                Some(Ok(Told::Turn)) => return self.group,
                // Somebody else is said to lead.
                None => self.router.leader(self.group),
                Some(Err((Failure::NotLeader(Some(hint)), _))) if hint != node => hint,
                Some(_) => {
                    tokio::time::sleep(PAUSE).await;
                    self.router.next(self.group, node)
                }
            };
            *self.node.lock() = next;
        }
    }

    /// `None`: by now another seems to lead.
    async fn wait_at(&mut self, node: NodeId) -> Option<Result<Told, (Failure, bool)>> {
        let ask = Ask::Wait {
            waiter: self.id,
            keys: self.keys.clone(),
            waited_us: u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX),
            anew: self.anew,
        };
        let asked = self.router.try_node(node, self.group, &ask);
        tokio::pin!(asked);
        loop {
            tokio::select! {
                biased;
                answer = &mut asked => return Some(answer),
                () = tokio::time::sleep(LOOK) => {
                    // It would have refused at once.
                    self.anew = false;
                    if !self.router.has_replica(self.group) {
                        self.router.remember(self.group, node);
                    }
                    if self.router.leader(self.group) != node {
                        return None;
                    }
                }
            }
        }
    }
}
