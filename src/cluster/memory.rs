//! Memory: what a node's keys may take, which of them go when it is full, and how long ago they were asked for.
//!
//! ```text
//!  leader's proposer ─before each entry─▶ what does it need, what is used?
//!     enough ─▶ nothing      too little ─▶ Evict(the least worth), in front of the entry      nothing may go ─▶ Full
//! ```
//!
//! So memory does not grow beyond the limit by more than an entry. A limit is a node's; all replicas of a shard are equally large, so
//! its leader keeps to the tightest limit among its nodes: each tells the others how full it is. Of several shards, each gives its
//! share.
//!
//! How often a key is asked for, every replica knows of its own clients alone. So the leader asks the others about keys that might go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::message::{Ask, Told};
use super::router::Router;
use super::settings::Settings;
use crate::base::limits::{EVICT_KEYS_MAX, EVICT_POOL_KEYS};
use crate::base::memory::Policy;
use crate::base::{GroupId, NodeId};
use crate::host::Clock;
use crate::machine::{Body, Candidate, Counted, Machine, Request, Shard, Walk};
use crate::raft::{Admission, Group, Groups, Used};
use crate::ring::Placement;

/// What another node has said counts for so long.
const HEARD_LASTS: Duration = Duration::from_secs(1);
/// Keys that were chosen are not the least worth for longer; after half of it others are looked for.
const POOL_LASTS: Duration = Duration::from_secs(2);
/// How long other replicas may take to say how often keys are asked for.
const PATIENCE: Duration = Duration::from_millis(50);
/// Tenths of its limit from which on a node tells the others.
const TELLS_FROM: u64 = 9;

/// What nodes tell each other about memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum MemoryAsk {
    /// So much is used of so much.
    Full { node: NodeId, used: u64, limit: u64 },
    /// Of a shard's replica: since how many seconds were these keys not asked for, and how often are they?
    Accesses(Vec<Bytes>),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    used: Used,
    clock: Clock,
    placement: Placement,
    pools: Mutex<BTreeMap<GroupId, Pool>>,
    heard: Mutex<BTreeMap<NodeId, (u64, u64, Instant)>>,
    /// A pool is to be filled.
    low: Notify,
    /// Somebody wants to know since when keys were not asked for.
    asked: AtomicBool,
}

/// Keys of a shard that are to go next, and the walk that finds them.
struct Pool {
    walk: Walk,
    /// The least worth last.
    keys: Vec<Candidate>,
    filled: Instant,
}

impl Default for Pool {
    fn default() -> Self {
        Pool {
            walk: Walk::default(),
            keys: Vec::new(),
            filled: Instant::now(),
        }
    }
}

impl Pool {
    /// Takes over the least worth of what was found: one in so many.
    fn fill(&mut self, mut found: Vec<Candidate>, one_in: usize) {
        found.sort_unstable_by_key(|candidate| candidate.worth);
        found.truncate(found.len().div_ceil(one_in));
        found.reverse();
        self.keys = found;
        self.filled = Instant::now();
    }
}

impl Memory {
    #[must_use]
    pub fn new(settings: Settings, clock: Clock, placement: Placement) -> Memory {
        Memory {
            inner: Arc::new(Inner {
                settings,
                used: Used::default(),
                clock,
                placement,
                pools: Mutex::default(),
                heard: Mutex::default(),
                low: Notify::new(),
                asked: AtomicBool::new(false),
            }),
        }
    }

    /// Bytes that keys and values take on this node.
    #[must_use]
    pub fn used(&self) -> Used {
        self.inner.used.clone()
    }

    /// Of the group's nodes, the one that is the fullest: bytes used, and its limit.
    fn tightest(&self, group: GroupId) -> Option<(u64, u64)> {
        let inner = &self.inner;
        let mine = (inner.used.get(), inner.settings.maxmemory());
        let heard = inner.heard.lock();
        let members = inner.placement.get(&group).into_iter().flatten();
        let others = members.filter_map(|node| heard.get(node));
        let others = others.filter(|(_, _, at)| at.elapsed() < HEARD_LASTS);
        let all = others
            .map(|&(used, limit, _)| (used, limit))
            .chain([mine])
            .filter(|(_, limit)| *limit > 0);
        let fullness = |&(used, limit): &(u64, u64)| u128::from(used) * 1_000_000 / u128::from(limit);
        all.max_by_key(fullness)
    }

    fn one_in(&self) -> usize {
        usize::try_from(self.inner.settings.maxmemory_samples()).map_or(5, |n| n.clamp(1, 64))
    }

    /// Keys worth the least that take so many bytes together, as far as there are any.
    fn choose(&self, group: GroupId, shard: &Shard, bytes: u64) -> Vec<(Bytes, u64)> {
        let policy = self.inner.settings.maxmemory_policy();
        let mut pools = self.inner.pools.lock();
        let pool = pools.entry(group).or_default();
        if pool.filled.elapsed() > POOL_LASTS {
            pool.keys.clear();
        }
        let (mut chosen, mut freed) = (Vec::new(), 0);
        while freed < bytes && chosen.len() < EVICT_KEYS_MAX {
            let Some(next) = pool.keys.pop() else {
                let one_in = self.one_in();
                let average = shard.bytes() / (shard.keyspace().len() as u64).max(1);
                let wanted = usize::try_from((bytes - freed) / average.max(1)).unwrap_or(EVICT_KEYS_MAX);
                let most = (wanted + 1).min(EVICT_KEYS_MAX) * one_in;
                let found = shard.candidates(&mut pool.walk, policy, most, (self.inner.clock)());
                pool.fill(found, one_in);
                // What was chosen already is still there.
                pool.keys
                    .retain(|one| !chosen.iter().any(|(key, _)| *key == one.key));
                if pool.keys.is_empty() {
                    break;
                }
                continue;
            };
            freed += next.cost;
            chosen.push((next.key, next.version));
        }
        if pool.keys.len() < EVICT_POOL_KEYS / 2 {
            self.inner.low.notify_one();
        }
        chosen
    }

    /// Answers another node.
    pub fn answer(&self, group: Option<&Group>, ask: MemoryAsk) -> Told {
        match ask {
            MemoryAsk::Full { node, used, limit } => {
                self.inner
                    .heard
                    .lock()
                    .insert(node, (used, limit, Instant::now()));
                Told::Accesses(Vec::new())
            }
            MemoryAsk::Accesses(keys) => {
                self.inner.asked.store(true, Ordering::Relaxed);
                let now = (self.inner.clock)();
                let accesses = group.and_then(|group| {
                    group.peek(|machine| machine.as_shard().map(|shard| shard.accesses(&keys, now)))
                });
                Told::Accesses(accesses.unwrap_or_default())
            }
        }
    }

    /// What is to be counted about keys, by the policy of now.
    fn counted(&self) -> Option<Counted> {
        let settings = &self.inner.settings;
        let policy = settings.maxmemory_policy();
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        if policy.is_lfu() {
            return Some(Counted::Often {
                log_factor: small(settings.lfu_log_factor()),
                decay_minutes: small(settings.lfu_decay_time()),
            });
        }
        let wanted = policy.is_lru() || self.inner.asked.load(Ordering::Relaxed);
        wanted.then_some(Counted::Last)
    }

    /// Looked at by the clock: what is counted, how full the node is, and whether it is too full although nobody writes.
    pub fn tend(&self, groups: &[Group], linked: &[NodeId], me: NodeId, router: &Router) {
        let counted = self.counted();
        let now = (self.inner.clock)();
        for group in groups {
            group.access(|access| {
                if access.counted() != counted {
                    access.count(counted, now);
                }
            });
        }
        let (used, limit) = (self.inner.used.get(), self.inner.settings.maxmemory());
        if limit > 0 && used / TELLS_FROM * 10 >= limit {
            let ask = Ask::Memory(MemoryAsk::Full {
                node: me,
                used,
                limit,
            });
            for &node in linked {
                let (router, ask) = (router.clone(), ask.clone());
                tokio::spawn(async move {
                    let until = Instant::now() + HEARD_LASTS;
                    router
                        .ask_member(node, GroupId::Coordinator(0), &ask, until)
                        .await
                });
            }
        }
        for group in groups.iter().filter(|group| group.is_leader()) {
            let Some((used, limit)) = self.tightest(group.id()) else {
                continue;
            };
            if used / TELLS_FROM * 10 >= limit && self.is_low(group.id()) {
                self.inner.low.notify_one();
            }
            if used > limit {
                self.shrink(group, used, limit);
            }
        }
    }

    /// Evicts some keys of a shard that is led here, for nobody's sake.
    fn shrink(&self, group: &Group, used: u64, limit: u64) {
        let chosen = group.peek(|machine| {
            let shard = machine.as_shard()?;
            Some(self.choose(group.id(), shard, share(shard.bytes(), used, limit)))
        });
        if let Some(chosen) = chosen.filter(|chosen| !chosen.is_empty()) {
            let group = group.clone();
            tokio::spawn(async move {
                if let Err(e) = group.propose(Request::anonymous(Body::Evict(chosen))).await {
                    tracing::debug!(group = %group.id(), "keys are not evicted yet: {e}");
                }
            });
        }
    }

    /// Fills the pools of shards that are led here with what all replicas ask for the least, whenever they run low.
    pub async fn run(self, groups: Arc<Groups>, router: Router, me: NodeId) {
        loop {
            self.inner.low.notified().await;
            let led = groups.all().into_iter().filter(Group::is_leader);
            for group in led {
                if self.is_low(group.id()) {
                    self.refill(&group, &router, me).await;
                }
            }
        }
    }

    /// Whether the keys that are ready are few, or were chosen long ago.
    fn is_low(&self, group: GroupId) -> bool {
        let pools = self.inner.pools.lock();
        pools.get(&group).is_none_or(|pool| {
            pool.keys.len() < EVICT_POOL_KEYS / 2 || pool.filled.elapsed() > POOL_LASTS / 2
        })
    }

    async fn refill(&self, group: &Group, router: &Router, me: NodeId) {
        let policy = self.inner.settings.maxmemory_policy();
        let one_in = self.one_in();
        let (id, now) = (group.id(), (self.inner.clock)());
        let found = group.peek(|machine| {
            let mut pools = self.inner.pools.lock();
            let walk = &mut pools.entry(id).or_default().walk;
            machine
                .as_shard()
                .map(|shard| shard.candidates(walk, policy, EVICT_POOL_KEYS * one_in, now))
        });
        let mut found = found.unwrap_or_default();
        if policy.is_lru() || policy.is_lfu() {
            let keys = found.iter().map(|candidate| candidate.key.clone()).collect();
            for accesses in self.ask_others(id, keys, router, me).await {
                for (candidate, access) in found.iter_mut().zip(accesses) {
                    candidate.worth = candidate.worth.max(worth(policy, access));
                }
            }
        }
        let mut pools = self.inner.pools.lock();
        pools.entry(id).or_default().fill(found, one_in);
    }

    async fn ask_others(
        &self,
        group: GroupId,
        keys: Vec<Bytes>,
        router: &Router,
        me: NodeId,
    ) -> Vec<Vec<(u32, u8)>> {
        let ask = Ask::Memory(MemoryAsk::Accesses(keys));
        let limit = Instant::now() + PATIENCE;
        let others = self.inner.placement.get(&group).into_iter().flatten();
        let asked = others
            .filter(|node| **node != me)
            .map(|&node| timeout(PATIENCE, router.ask_member(node, group, &ask, limit)));
        let told = join_all(asked).await.into_iter().filter_map(|told| match told {
            Ok(Some(Told::Accesses(accesses))) => Some(accesses),
            _ => None,
        });
        told.collect()
    }

    /// Since how many seconds no replica was asked for a key, and the largest of their counters.
    pub async fn access_of(&self, group: GroupId, key: &Bytes, router: &Router, me: NodeId) -> (u32, u8) {
        let keys = vec![key.clone()];
        let mut all = self.ask_others(group, keys.clone(), router, me).await;
        if let Some(local) = router.group(group)
            && let Told::Accesses(mine) = self.answer(Some(&local), MemoryAsk::Accesses(keys))
        {
            all.push(mine);
        }
        let all = all.into_iter().flatten();
        all.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, 0))
    }
}

/// What a key is worth by another replica's word.
fn worth(policy: Policy, (idle, counter): (u32, u8)) -> u64 {
    let recent = u64::from(u32::MAX - idle);
    if policy.is_lfu() {
        u64::from(counter) << 32 | recent
    } else {
        recent
    }
}

/// A shard's share of what is too much.
fn share(bytes: u64, used: u64, limit: u64) -> u64 {
    let over = u128::from(used.saturating_sub(limit));
    u64::try_from((over * u128::from(bytes)).div_ceil(u128::from(used.max(1)))).unwrap_or(u64::MAX)
}

impl Admission for Memory {
    fn before(&self, group: GroupId, machine: &Machine, requests: &[Request]) -> Option<Body> {
        let (used, limit) = self.tightest(group)?;
        let shard = machine.as_shard()?;
        let growing = requests.iter().filter(|request| request.grows());
        let growth: u64 = growing.map(|request| request.weight() as u64).sum();
        if growth == 0 || used + growth <= limit {
            return None;
        }
        let chosen = match self.inner.settings.maxmemory_policy() {
            Policy::NoEviction => Vec::new(),
            _ => self.choose(group, shard, growth + share(shard.bytes(), used, limit)),
        };
        if !chosen.is_empty() {
            return Some(Body::Evict(chosen));
        }
        (used > limit).then_some(Body::Full)
    }
}
