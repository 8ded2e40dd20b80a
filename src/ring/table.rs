//! The ring: shards' virtual nodes on a 64-bit circle, with bounded loads.
//!
//! A slot belongs to the first virtual node clockwise of its hash whose shard is not full. Plain consistent hashing
//! (Karger et al., 1997) leaves shards uneven; bounding each shard at 1.12 × its fair share and walking on when it is
//! full is "Consistent Hashing with Bounded Loads" (Mirrokni, Thorup, Zadimoghaddam, 2016).
//!
//! Not here: weights, moving slots while running, and the cluster map that would carry a new epoch.

use std::collections::BTreeMap;

use crate::base::slot::{SLOTS, slot_of};

/// Virtual nodes of one shard unless the config says otherwise.
pub const VIRTUAL_NODES_DEFAULT: u32 = 3072;

/// No shard may own more than this many hundredths of its fair share of slots.
const LOAD_BOUND_PERCENT: u64 = 112;

/// Which shard owns which slot, at one epoch. Immutable; a change makes a ring of the next epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    epoch: u64,
    shards: u16,
    virtual_nodes: u32,
    owner: Vec<u16>,
}

impl Ring {
    /// Builds the ring of `shards` (1 to 1024) shards with `virtual_nodes` (1 to 4096) points each.
    ///
    /// # Panics
    /// If `shards` or `virtual_nodes` is zero: the config refuses both.
    #[must_use]
    pub fn new(epoch: u64, shards: u16, virtual_nodes: u32) -> Ring {
        assert!(
            shards > 0 && virtual_nodes > 0,
            "a ring needs a shard and a virtual node"
        );
        let points = points(shards, virtual_nodes);
        let bound = (u64::from(SLOTS) * LOAD_BOUND_PERCENT).div_ceil(u64::from(shards) * 100);
        let mut load = vec![0u64; usize::from(shards)];
        let mut owner = vec![0u16; usize::from(SLOTS)];
        for slot in 0..SLOTS {
            // Slots are hashes of keys already; spreading them evenly leaves only the virtual nodes to chance.
            let hash = u64::from(slot) << (64 - SLOTS.trailing_zeros());
            let clockwise = points.range(hash..).chain(points.range(..hash));
            let shard = clockwise
                .map(|(_, &shard)| shard)
                .find(|&shard| load[usize::from(shard)] < bound)
                .unwrap_or(0);
            load[usize::from(shard)] += 1;
            owner[usize::from(slot)] = shard;
        }
        Ring {
            epoch,
            shards,
            virtual_nodes,
            owner,
        }
    }

    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    #[must_use]
    pub fn virtual_nodes(&self) -> u32 {
        self.virtual_nodes
    }

    /// The shard that owns `slot` (below [`SLOTS`]).
    #[must_use]
    pub fn shard_of_slot(&self, slot: u16) -> u16 {
        self.owner[usize::from(slot % SLOTS)]
    }

    /// The shard that owns `key`.
    #[must_use]
    pub fn shard_of(&self, key: &[u8]) -> u16 {
        self.shard_of_slot(slot_of(key))
    }

    /// Slots that `shard` owns.
    #[must_use]
    pub fn slots_of(&self, shard: u16) -> usize {
        self.owner.iter().filter(|&&s| s == shard).count()
    }
}

fn points(shards: u16, virtual_nodes: u32) -> BTreeMap<u64, u16> {
    let mut points = BTreeMap::new();
    for shard in 0..shards {
        for replica in 0..virtual_nodes {
            let hash = mix(u64::from(shard) << 32 | u64::from(replica) | 1 << 63);
            points.entry(hash).or_insert(shard);
        }
    }
    points
}

/// `SplitMix64`'s finaliser (Steele, Lea, Flood, 2014): fixed for ever, since it decides where keys live.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(a: &Ring, b: &Ring) -> usize {
        (0..SLOTS)
            .filter(|&slot| a.shard_of_slot(slot) != b.shard_of_slot(slot))
            .count()
    }

    #[test]
    fn no_shard_owns_more_than_1_15_of_its_fair_share() {
        for shards in 3..=64u16 {
            let ring = Ring::new(1, shards, VIRTUAL_NODES_DEFAULT);
            let fair = f64::from(SLOTS) / f64::from(shards);
            let total: usize = (0..shards).map(|s| ring.slots_of(s)).sum();
            assert_eq!(total, usize::from(SLOTS));
            for shard in 0..shards {
                let share = ring.slots_of(shard) as f64 / fair;
                assert!(
                    share <= 1.15,
                    "{shards} shards: shard {shard} owns {share:.3} of its fair share"
                );
                assert!(
                    share >= 0.70,
                    "{shards} shards: shard {shard} owns only {share:.3} of its fair share"
                );
            }
        }
    }

    #[test]
    fn adding_or_removing_a_shard_moves_at_most_its_fair_share_plus_a_tenth() {
        for shards in 3..64u16 {
            let small = Ring::new(1, shards, VIRTUAL_NODES_DEFAULT);
            let large = Ring::new(2, shards + 1, VIRTUAL_NODES_DEFAULT);
            let fair = f64::from(SLOTS) / f64::from(shards + 1);
            let moved = moved(&small, &large) as f64;
            // Read one way it is an addition, the other way the removal of the last shard.
            assert!(
                moved <= fair * 1.10,
                "{shards} → {}: moved {moved}, fair share {fair:.0}",
                shards + 1
            );
            assert!(
                moved > fair * 0.5,
                "{shards} → {}: only {moved} moved: is the new shard used?",
                shards + 1
            );
        }
    }
}
