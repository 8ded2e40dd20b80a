//! Making room: what a shard's keys take, which of them might go, and their going.
//!
//! ```text
//!  leader: walk ─▶ candidates ─(cluster: the coldest of them)─▶ Body::Evict in the log ─▶ every replica removes the same keys
//!          nothing may go ─▶ Body::Full ─▶ what needs more memory is refused, the same on every replica
//! ```
//!
//! Intents, locks and reply tables are never evicted, nor keys that a transaction holds.

use bytes::Bytes;

use super::access::{Access, Counted};
use super::keyspace::{Key, Object, cost};
use super::notices::Notice;
use super::overlay::Writes;
use super::shard::{Applying, Shard};
use super::{Command, Failed, Touches};
use crate::base::events::Events;
use crate::base::limits::EXPIRE_KEYS_MAX;
use crate::base::memory::Policy;
use crate::base::slot::{SLOTS, slot_of};
use crate::base::{Millis, Reply};

/// Keys that are looked at for each that is wanted, where few of them expire.
const LOOKED_AT: usize = 16;

/// A key that might go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub key: Bytes,
    pub version: u64,
    /// What it takes.
    pub cost: u64,
    /// The smaller, the sooner it is to go.
    pub worth: u64,
}

/// Where a walk over all keys has come to. It goes on behind the last key for ever.
#[derive(Debug, Clone, Default)]
pub struct Walk {
    slot: u16,
    after: Option<Key>,
}

impl Shard {
    /// Bytes that keys and values take, by the same rule on every replica.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.keyspace.bytes()
    }

    /// What is counted about keys here; no part of the state.
    pub fn access(&mut self) -> &mut Access {
        &mut self.keyspace.access
    }

    /// Notes that keys were asked for.
    pub(super) fn note_access(&self, commands: &[Command], now: Millis) {
        if self.keyspace.access.counted().is_none() {
            return;
        }
        for command in commands.iter().filter(|command| command.is_access()) {
            if let Touches::Keys(keys) = command.touches() {
                self.note_keys(keys.into_iter(), now);
            }
        }
    }

    pub(super) fn note_keys<'a>(&self, keys: impl Iterator<Item = &'a Bytes>, now: Millis) {
        for key in keys {
            let there = self.keyspace.slot_len(slot_of(key));
            self.keyspace.access.note(key, there, now);
        }
    }

    /// Some keys that may go by this policy, and how much each is worth to it; none: nothing may go. `now`: the leader's clock.
    #[must_use]
    pub fn candidates(&self, walk: &mut Walk, policy: Policy, most: usize, now: Millis) -> Vec<Candidate> {
        let free = |key: &[u8]| self.head.locks.owner(key).is_none();
        let candidate = |key: &[u8], object: &Object| Candidate {
            key: Bytes::copy_from_slice(key),
            version: object.version,
            cost: cost(key, object),
            worth: self.worth(policy, key, object, now),
        };
        let soonest = || {
            let all = self.keyspace.expiring(Millis::MAX).map(|(_, key)| &key[..]);
            let all = all.filter(|key| free(key)).take(most);
            all.filter_map(|key| Some(candidate(key, self.keyspace.get(key)?)))
                .collect()
        };
        let nothing_expires = || self.keyspace.expiring(Millis::MAX).next().is_none();
        match policy {
            Policy::NoEviction => Vec::new(),
            // Else each entry would walk over thousands of keys, to find none.
            _ if policy.only_volatile() && nothing_expires() => Vec::new(),
            Policy::VolatileTtl => soonest(),
            _ => {
                let wanted = |(key, object): &(&Key, &Object)| {
                    free(key) && (!policy.only_volatile() || object.expires().is_some())
                };
                let looked_at = if policy.only_volatile() {
                    most * LOOKED_AT
                } else {
                    most
                };
                let mut found = Vec::new();
                self.keyspace.walk(walk, looked_at, |key, object| {
                    if wanted(&(key, object)) {
                        found.push(candidate(key, object));
                    }
                    found.len() < most
                });
                // Few keys expire, so those are found by their times.
                if found.is_empty() { soonest() } else { found }
            }
        }
    }

    /// As for a candidate; the same on no two replicas.
    #[must_use]
    pub fn worth(&self, policy: Policy, key: &[u8], object: &Object, now: Millis) -> u64 {
        let (idle, counter) = self.keyspace.access.of(key, now);
        match policy {
            Policy::AllKeysLru | Policy::VolatileLru => u64::from(u32::MAX - idle),
            Policy::AllKeysLfu | Policy::VolatileLfu => u64::from(counter) << 32 | u64::from(u32::MAX - idle),
            Policy::VolatileTtl => object.expires().unwrap_or(Millis::MAX),
            Policy::NoEviction | Policy::AllKeysRandom | Policy::VolatileRandom => {
                // As good as chance, and no die is cast here.
                object.version.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ now
            }
        }
    }

    /// What other replicas say of keys that might go: seconds idle, and counter.
    #[must_use]
    pub fn accesses(&self, keys: &[Bytes], now: Millis) -> Vec<(u32, u8)> {
        let access = &self.keyspace.access;
        keys.iter().map(|key| access.of(key, now)).collect()
    }

    #[must_use]
    pub fn counted(&self) -> Option<Counted> {
        self.keyspace.access.counted()
    }

    /// Keys evicted, and expired, since this replica runs.
    #[must_use]
    pub fn gone(&self) -> (u64, u64) {
        let tally = &self.keyspace.tally;
        (tally.evicted.get(), tally.expired.get())
    }

    /// Removes the keys that are still what was chosen.
    pub(super) fn evict(&mut self, keys: &[(Bytes, u64)], index: u64) {
        let go = |(key, version): &&(Bytes, u64)| {
            let same = self
                .keyspace
                .get(key)
                .is_some_and(|object| object.version == *version);
            same && self.head.locks.owner(key).is_none()
        };
        let keys: Vec<Bytes> = keys.iter().filter(go).map(|(key, _)| key.clone()).collect();
        self.keyspace.tally.evicted.add(keys.len() as u64);
        self.notice(Events::EVICTED, "evicted", &keys);
        let writes = Writes {
            flush: false,
            keys: keys.into_iter().map(|key| (key, None)).collect(),
        };
        self.write(writes, index);
    }

    fn notice(&mut self, class: Events, event: &'static str, keys: &[Bytes]) {
        let notices = &mut self.keyspace.interest.notices;
        if notices.tells() {
            let notice = |key: &Bytes| Notice {
                class,
                event,
                key: key.clone(),
            };
            notices.tell(keys.iter().map(notice).collect());
        }
    }

    /// Removes expired keys, soonest first; locked ones stay until their transaction is decided.
    pub(super) fn sweep(&mut self, index: u64) {
        let free = |key: &[u8]| self.head.locks.owner(key).is_none();
        let expired = self
            .keyspace
            .expiring(self.head.time)
            .filter(|(_, key)| free(key));
        let keys: Vec<_> = expired
            .take(EXPIRE_KEYS_MAX)
            .map(|(_, key)| Bytes::copy_from_slice(key))
            .collect();
        self.keyspace.tally.expired.add(keys.len() as u64);
        self.notice(Events::EXPIRED, "expired", &keys);
        let writes = Writes {
            flush: false,
            keys: keys.into_iter().map(|key| (key, None)).collect(),
        };
        self.write(writes, index);
    }
}

impl Applying {
    /// Of commands that are executed together: the first that memory is missing for.
    pub(super) fn left_out(&self, commands: &[Command]) -> Option<Failed> {
        let at = commands.iter().position(Command::grows).filter(|_| self.full)?;
        Some(Failed {
            at: u32::try_from(at).unwrap_or(u32::MAX),
            reply: out_of_memory(),
        })
    }
}

/// What a command that needs memory is told when there is none.
#[must_use]
pub(super) fn out_of_memory() -> Reply {
    Reply::err(crate::base::Error::OutOfMemory.to_string())
}

impl super::keyspace::Keyspace {
    /// Shows keys one after another, from where the walk has come to, until `look` has seen enough or so many were shown; each at
    /// most once.
    pub(super) fn walk(&self, walk: &mut Walk, most: usize, mut look: impl FnMut(&Key, &Object) -> bool) {
        let mut left = most.min(self.len());
        // One slot more than there are: the first one's beginning comes last.
        for _ in 0..=SLOTS {
            if left == 0 {
                return;
            }
            for (key, object) in self.slot_behind(walk.slot, walk.after.as_deref()) {
                if left == 0 {
                    return;
                }
                left -= 1;
                walk.after = Some(key.clone());
                if !look(key, object) {
                    return;
                }
            }
            walk.after = None;
            walk.slot = (walk.slot + 1) % SLOTS;
        }
    }
}
