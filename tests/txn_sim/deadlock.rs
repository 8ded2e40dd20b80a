//! Whether transactions wait for each other in a circle, at any moment: a deadline would end that, and nothing else would
//! be seen of it.

use std::collections::{BTreeMap, BTreeSet};

use quorate::base::TxnId;
use quorate::machine::{State, Wait};

use super::checks::check;
use super::world::World;

/// Steps between two looks.
pub const EVERY: u64 = 32;

impl World {
    /// A parked prepare is looked at again when any of its locks goes, so it is stuck if all their holders are; a transaction is
    /// stuck if any of its prepares is.
    pub fn check_deadlocks(&self) {
        let mut parked: BTreeMap<TxnId, Vec<BTreeSet<TxnId>>> = BTreeMap::new();
        for log in &self.shards {
            let rows = log
                .machine
                .as_shard()
                .map(|shard| shard.listed(log.group, None).rows);
            for row in rows.unwrap_or_default() {
                if row.state == State::Parked && row.attempt.is_some() && row.more_waits == 0 {
                    let holder = |wait: &Wait| match wait {
                        Wait::Lock { holder, .. } => Some(holder.txn),
                        _ => None,
                    };
                    let holders = row.waits.iter().filter_map(holder).collect();
                    parked.entry(row.txn).or_default().push(holders);
                }
            }
        }
        let mut stuck: BTreeSet<TxnId> = parked.keys().copied().collect();
        loop {
            let held_up = |txn: &TxnId| {
                let by_stuck = |holders: &BTreeSet<TxnId>| {
                    let mut others = holders.iter();
                    others.all(|holder| holder != txn && stuck.contains(holder))
                };
                parked[txn].iter().any(by_stuck)
            };
            let still: BTreeSet<TxnId> = stuck.iter().filter(|txn| held_up(txn)).copied().collect();
            if still.len() == stuck.len() {
                break;
            }
            stuck = still;
        }
        check(stuck.is_empty(), "deadlock", || {
            format!("they wait for each other: {stuck:?}")
        });
    }
}
