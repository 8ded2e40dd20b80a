//! When keys were last asked for, or how often. No part of the state: each replica knows what it was asked itself, and neither
//! digests nor snapshots have it.
//!
//! ```text
//!  slot ─▶ table of buckets of eight cells;  cell = 8 bits of the key's hash, and 24 as Redis has them in each object:
//!     Lru: seconds                      Lfu: minutes of the last decrement (16), logarithmic counter (8)
//! ```
//!
//! A table is as large as its slot's keys need, and is made anew when they have outgrown it. Two keys of a bucket that share 8 bits
//! of their hashes share a cell, and a full bucket forgets its coldest: a few keys in a hundred count as warmer or colder than they are. That
//! costs 8 to 16 bytes a key, and nothing while nobody wants to know.
//!
//! The counter, and how it fades: "LFU mode", `redis/src/evict.c`, version 7.0.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64;

use crate::base::Millis;
use crate::base::slot::{SLOTS, slot_of};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// When a key was last asked for.
    Last,
    /// How often. The larger the factor, the more hits the counter takes; it loses one each so many minutes (0: never).
    Often { log_factor: u32, decay_minutes: u32 },
}

/// What a new key's counter starts at, so that it is not evicted before it can be asked for.
const OFTEN_AT_FIRST: u32 = 5;
const COUNTER_MAX: u32 = 255;
const BUCKET: usize = 8;
const DATA: u32 = 0x00ff_ffff;

type Table = Box<[AtomicU32]>;

#[derive(Debug, Default)]
pub struct Access {
    counted: Option<Counted>,
    /// Since when; what was not seen since has not been asked for.
    since: Millis,
    /// Empty while nothing is counted.
    slots: Vec<OnceLock<Table>>,
    /// So that counters grow by chance.
    throws: AtomicU64,
}

/// A copy of the state does not need it.
impl Clone for Access {
    fn clone(&self) -> Self {
        Access::default()
    }
}

impl Access {
    #[must_use]
    pub fn counted(&self) -> Option<Counted> {
        self.counted
    }

    /// Counts this from now on. What was counted before goes, unless it is the same kind.
    pub fn count(&mut self, counted: Option<Counted>, now: Millis) {
        let same = matches!(
            (self.counted, counted),
            (Some(Counted::Last), Some(Counted::Last))
                | (Some(Counted::Often { .. }), Some(Counted::Often { .. }))
                | (None, None)
        );
        self.counted = counted;
        if !same {
            self.since = now;
            self.slots.clear();
            if counted.is_some() {
                self.slots.resize_with(usize::from(SLOTS), OnceLock::new);
            }
        }
    }

    /// A key was asked for; its slot has so many.
    pub fn note(&self, key: &[u8], keys: usize, now: Millis) {
        let Some(counted) = self.counted else { return };
        let Some(slot) = self.slots.get(usize::from(slot_of(key))) else {
            return;
        };
        let table = slot.get_or_init(|| table_for(keys));
        let (bucket, tag) = place(table, key);
        let held = bucket
            .iter()
            .find(|cell| cell.load(Ordering::Relaxed) >> 24 == tag);
        let data = match (counted, held.map(|cell| cell.load(Ordering::Relaxed) & DATA)) {
            (Counted::Last, _) => seconds(now),
            (Counted::Often { .. }, None) => minutes(now) << 8 | OFTEN_AT_FIRST,
            (
                Counted::Often {
                    log_factor,
                    decay_minutes,
                },
                Some(data),
            ) => {
                let counter = faded(data, now, decay_minutes);
                minutes(now) << 8 | self.raised(counter, log_factor)
            }
        };
        let colder = |cell: &&AtomicU32| match cell.load(Ordering::Relaxed) {
            0 => 0,
            full => u64::from(warmth(counted, full & DATA, now)) + 1,
        };
        // The coldest gives way.
        if let Some(cell) = held.or_else(|| bucket.iter().min_by_key(colder)) {
            cell.store(tag << 24 | data, Ordering::Relaxed);
        }
    }

    /// The slot of a key that was added has so many keys now.
    pub fn fit<'a>(&mut self, slot: u16, keys: usize, all: impl Iterator<Item = &'a [u8]>) {
        let Some(held) = self.slots.get_mut(usize::from(slot)) else {
            return;
        };
        let Some(table) = held.get().filter(|table| keys * 2 > table.len()) else {
            return;
        };
        let larger = table_for(keys);
        for key in all {
            let (bucket, tag) = place(table, key);
            let held = bucket.iter().map(|cell| cell.load(Ordering::Relaxed));
            let (others, _) = place(&larger, key);
            if let Some(cell) = held.into_iter().find(|cell| cell >> 24 == tag)
                && let Some(free) = others.iter().find(|cell| cell.load(Ordering::Relaxed) == 0)
            {
                free.store(cell, Ordering::Relaxed);
            }
        }
        *held = OnceLock::from(larger);
    }

    /// Seconds since a key was last asked for, and its counter as it is now.
    #[must_use]
    pub fn of(&self, key: &[u8], now: Millis) -> (u32, u8) {
        let table = self.slots.get(usize::from(slot_of(key))).and_then(OnceLock::get);
        let cell = table.and_then(|table| {
            let (bucket, tag) = place(table, key);
            let cells = bucket.iter().map(|cell| cell.load(Ordering::Relaxed));
            cells.into_iter().find(|cell| cell >> 24 == tag)
        });
        let never = u32::try_from(now.saturating_sub(self.since) / 1000).unwrap_or(u32::MAX);
        match (self.counted, cell.map(|cell| cell & DATA)) {
            (Some(Counted::Last), Some(data)) => (seconds(now).wrapping_sub(data) & DATA, 0),
            (Some(Counted::Often { decay_minutes, .. }), Some(data)) => {
                let counter = faded(data, now, decay_minutes);
                (0, u8::try_from(counter).unwrap_or(u8::MAX))
            }
            (Some(Counted::Often { decay_minutes, .. }), None) => {
                let counter = faded(minutes(self.since) << 8 | OFTEN_AT_FIRST, now, decay_minutes);
                (never, u8::try_from(counter).unwrap_or(u8::MAX))
            }
            (_, None) | (None, Some(_)) => (never, 0),
        }
    }

    fn raised(&self, counter: u32, log_factor: u32) -> u32 {
        // SplitMix64 (Steele, Lea, Flood, 2014) over a count of throws: no replica has to agree.
        let thrown = self.throws.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (thrown ^ (thrown >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let one_of = u64::from(counter.saturating_sub(OFTEN_AT_FIRST)) * u64::from(log_factor) + 1;
        let up = (mixed >> 32).is_multiple_of(one_of);
        (counter + u32::from(up)).min(COUNTER_MAX)
    }
}

fn table_for(keys: usize) -> Table {
    let cells = (keys * 2 + 1).next_power_of_two().max(BUCKET);
    (0..cells).map(|_| AtomicU32::new(0)).collect()
}

/// A key's bucket, and how its cell there is marked: never by 0, which is an empty one.
fn place<'a>(table: &'a Table, key: &[u8]) -> (&'a [AtomicU32], u32) {
    let hash = xxh3_64(key);
    let bucket = (hash as usize) & (table.len() / BUCKET - 1);
    let tag = ((hash >> 56) as u32).max(1);
    (&table[bucket * BUCKET..(bucket + 1) * BUCKET], tag)
}

fn seconds(now: Millis) -> u32 {
    (now / 1000) as u32 & DATA
}

fn minutes(now: Millis) -> u32 {
    (now / 60_000) as u32 & 0xffff
}

fn faded(data: u32, now: Millis, decay_minutes: u32) -> u32 {
    let (then, counter) = (data >> 8, data & 0xff);
    let passed = minutes(now).wrapping_sub(then) & 0xffff;
    counter.saturating_sub(passed.checked_div(decay_minutes).unwrap_or(0))
}

/// The larger, the longer it is kept.
fn warmth(counted: Counted, data: u32, now: Millis) -> u32 {
    match counted {
        Counted::Last => DATA - (seconds(now).wrapping_sub(data) & DATA),
        Counted::Often { decay_minutes, .. } => faded(data, now, decay_minutes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFTEN: Counted = Counted::Often {
        log_factor: 10,
        decay_minutes: 1,
    };

    fn access(counted: Counted) -> Access {
        let mut access = Access::default();
        access.count(Some(counted), 0);
        access
    }

    #[test]
    fn idle_times_are_those_of_the_last_question_and_count_from_the_beginning() {
        let access = access(Counted::Last);
        access.note(b"k", 1, 10_000);
        assert_eq!(access.of(b"k", 25_000).0, 15);
        assert_eq!(access.of(b"other", 25_000).0, 25);
        access.note(b"k", 1, 30_000);
        assert_eq!(access.of(b"k", 30_000).0, 0);
    }

    #[test]
    fn counters_rise_with_hits_and_fade_with_time() {
        let access = access(OFTEN);
        access.note(b"cold", 2, 1);
        (0..1000).for_each(|_| access.note(b"hot", 2, 1));
        let (hot, cold) = (access.of(b"hot", 1).1, access.of(b"cold", 1).1);
        assert_eq!(cold, 5);
        assert!((15..40).contains(&hot), "{hot}");
        assert_eq!(access.of(b"hot", 3 * 60_000).1, hot - 3);
        assert_eq!(access.of(b"unseen", 2 * 60_000).1, 3);
    }

    #[test]
    fn a_slot_that_grows_keeps_what_was_counted() {
        let mut access = access(Counted::Last);
        let keys: Vec<Vec<u8>> = (0..5000).map(|n| format!("{{tag}}{n}").into_bytes()).collect();
        for (at, key) in (1..).zip(&keys) {
            let all = keys[..at].iter().map(|key| &key[..]);
            access.fit(slot_of(key), at, all);
            access.note(key, at, 1000 * at as u64);
        }
        let now = 5_000_000;
        let wrong = (1..).zip(&keys).filter(|(at, key)| {
            let idle = u64::from(access.of(key, now).0);
            idle != (now - 1000 * at) / 1000
        });
        let wrong = wrong.count();
        assert!(
            wrong < 5000 / 25,
            "{wrong} of 5000 share a cell or have lost theirs"
        );
    }

    #[test]
    fn nothing_is_kept_while_nothing_is_counted() {
        let mut access = access(Counted::Last);
        access.note(b"k", 1, 1000);
        access.count(None, 2000);
        access.note(b"k", 1, 3000);
        assert!(access.slots.is_empty());
    }
}
