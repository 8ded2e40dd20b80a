//! Memory: what a node's keys may take, which of them go when it is full, and how long ago they were asked for.
//!
//! ```text
//!  leader's proposer ─before each entry─▶ what does it need, what is used?
//!     enough ─▶ nothing      too little ─▶ Evict(the least worth), in front of the entry      nothing may go ─▶ Full
//! ```
//!
//! So memory does not grow beyond the limit by more than an entry; by a 64th, where a shard has nothing that may go and others have. A
//! limit is a node's; all replicas of a shard are equally large, so its leader keeps to the tightest limit among its nodes: each tells
//! the others how full it is. Of several shards, each gives its share.
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
use crate::base::limits::{EVICT_FOR_ENTRY_KEYS_MAX, EVICT_KEYS_MAX, EVICT_POOL_KEYS};
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
/// A pool that has been filled is not filled again for so long; nor, if there was little to fill it with, for the longer time.
const REFILL_AFTER: Duration = Duration::from_millis(20);
const POOR_REFILL_AFTER: Duration = Duration::from_millis(250);
/// How long other replicas may take to say how often keys are asked for.
const PATIENCE: Duration = Duration::from_millis(50);
/// Where keys may go, memory counts as full from so small a part of the limit beyond it: a shard may have none, and others some.
const SLACK: u64 = 64;
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
    heard: Mutex<BTreeMap<NodeId, Heard>>,
    /// A pool is to be filled.
    low: Notify,
    /// Somebody wants to know since when keys were not asked for.
    asked: AtomicBool,
}

/// How full another node is.
#[derive(Debug, Clone, Copy)]
struct Heard {
    used: u64,
    limit: u64,
    at: Instant,
    /// What was used here then: what is evicted here goes there, too, before it says so.
    here: u64,
}

/// Keys of a shard that are to go next, and the walk that finds them.
struct Pool {
    walk: Walk,
    /// The least worth last.
    keys: Vec<Candidate>,
    filled: Instant,
    /// When it is worth while to look for what is asked for the least.
    refill_from: Instant,
}

impl Default for Pool {
    fn default() -> Self {
        Pool {
            walk: Walk::default(),
            keys: Vec::new(),
            filled: Instant::now(),
            refill_from: Instant::now(),
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

    fn has_few(&self) -> bool {
        self.keys.len() < EVICT_POOL_KEYS / 2
    }

    /// Whether the keys that are ready are few, or were chosen long ago.
    fn is_low(&self) -> bool {
        let old = self.filled.elapsed() > POOL_LASTS / 2;
        (self.has_few() || old) && Instant::now() >= self.refill_from
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
        let others = others.filter(|heard| heard.at.elapsed() < HEARD_LASTS);
        let by_now = |heard: &Heard| (heard.used + mine.0).saturating_sub(heard.here);
        let all = others
            .map(|heard| (by_now(heard), heard.limit))
            .chain([mine])
            .filter(|(_, limit)| *limit > 0);
        let fullness = |&(used, limit): &(u64, u64)| u128::from(used) * 1_000_000 / u128::from(limit);
        all.max_by_key(fullness)
    }

    fn one_in(&self) -> usize {
        usize::try_from(self.inner.settings.maxmemory_samples()).map_or(5, |n| n.clamp(1, 64))
    }

    /// Keys worth the least that take so many bytes together, as far as there are any; and what they take.
    fn choose(&self, group: GroupId, shard: &Shard, need: Need) -> (Vec<(Bytes, u64)>, u64) {
        let policy = self.inner.settings.maxmemory_policy();
        let mut pools = self.inner.pools.lock();
        let pool = pools.entry(group).or_default();
        if pool.filled.elapsed() > POOL_LASTS {
            pool.keys.clear();
        }
        let (mut chosen, mut freed) = (BTreeMap::new(), 0);
        while need.wants_more(chosen.len(), freed) {
            let Some(next) = pool.keys.pop() else {
                let one_in = self.one_in();
                let average = shard.bytes() / (shard.keyspace().len() as u64).max(1);
                let left = (need.entry + need.before).saturating_sub(freed);
                let wanted = usize::try_from(left / average.max(1)).unwrap_or(EVICT_KEYS_MAX);
                let most = (wanted + 1).min(EVICT_KEYS_MAX) * one_in;
                let mut found = shard.candidates(&mut pool.walk, policy, most, (self.inner.clock)());
                // What was chosen already is still there.
                found.retain(|one| !chosen.contains_key(&one.key));
                pool.fill(found, one_in);
                if pool.keys.is_empty() {
                    break;
                }
                continue;
            };
            freed += next.cost;
            chosen.insert(next.key, next.version);
        }
        if pool.is_low() {
            self.inner.low.notify_one();
        }
        (chosen.into_iter().collect(), freed)
    }

    /// Answers another node.
    pub fn answer(&self, group: Option<&Group>, ask: MemoryAsk) -> Told {
        match ask {
            MemoryAsk::Full { node, used, limit } => {
                let heard = Heard {
                    used,
                    limit,
                    at: Instant::now(),
                    here: self.inner.used.get(),
                };
                self.inner.heard.lock().insert(node, heard);
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
            let need = Need {
                entry: 0,
                before: share(shard.bytes(), used, limit),
            };
            Some(self.choose(group.id(), shard, need).0)
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

    fn is_low(&self, group: GroupId) -> bool {
        self.inner.pools.lock().get(&group).is_none_or(Pool::is_low)
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
        let pool = pools.entry(id).or_default();
        pool.fill(found, one_in);
        let rest = if pool.has_few() {
            POOR_REFILL_AFTER
        } else {
            REFILL_AFTER
        };
        pool.refill_from = Instant::now() + rest;
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

/// Bytes that are to be freed.
#[derive(Debug, Clone, Copy)]
struct Need {
    /// For an entry that is about to come.
    entry: u64,
    /// Because there was too much before.
    before: u64,
}

impl Need {
    /// What was too much before goes little by little; what an entry needs goes at once, so that there is never more too much.
    fn wants_more(self, keys: usize, freed: u64) -> bool {
        let most = if freed < self.entry {
            EVICT_FOR_ENTRY_KEYS_MAX
        } else {
            EVICT_KEYS_MAX
        };
        freed < self.entry + self.before && keys < most
    }
}

impl Admission for Memory {
    fn before(&self, group: GroupId, machine: &Machine, requests: &[Request]) -> Vec<Body> {
        let (Some((used, limit)), Some(shard)) = (self.tightest(group), machine.as_shard()) else {
            return Vec::new();
        };
        let growth: u64 = requests.iter().map(Request::growth).sum();
        if growth == 0 || used + growth <= limit {
            return Vec::new();
        }
        let need = Need {
            entry: growth.min(used + growth - limit),
            before: share(shard.bytes(), used, limit),
        };
        let (chosen, freed, bound) = match self.inner.settings.maxmemory_policy() {
            Policy::NoEviction => (Vec::new(), 0, limit),
            _ => {
                let (chosen, freed) = self.choose(group, shard, need);
                (chosen, freed, limit + limit / SLACK)
            }
        };
        let full = freed < need.entry && used > bound;
        let evict = Some(Body::Evict(chosen)).filter(|_| freed > 0);
        evict.into_iter().chain(full.then_some(Body::Full)).collect()
    }
}
