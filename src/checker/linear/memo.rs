//! The configurations that were entered already.
//!
//! A set of ordered calls is kept as a 128-bit sum of one pseudo-random number a call (Zobrist 1970), so that a step
//! costs the same in a history of any length. Two different sets that share a sum would hide a branch: with ten
//! million configurations the chance is below 10^-24. States are compared whole.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};

/// A sum over the calls in order; independent of their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint(u128);

impl Fingerprint {
    pub(super) fn add(&mut self, operation: usize) {
        self.0 = self.0.wrapping_add(scatter(operation));
    }

    pub(super) fn remove(&mut self, operation: usize) {
        self.0 = self.0.wrapping_sub(scatter(operation));
    }
}

fn scatter(operation: usize) -> u128 {
    let seed = operation as u64;
    u128::from(split_mix(seed)) << 64 | u128::from(split_mix(!seed))
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn split_mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A set with a fixed seed; nothing iterates over it.
#[derive(Debug)]
pub(super) struct Memo<T>(HashSet<T, BuildHasherDefault<DefaultHasher>>);

impl<T: Eq + Hash> Memo<T> {
    pub(super) fn new() -> Memo<T> {
        Memo(HashSet::default())
    }

    /// Whether it was not there yet.
    pub(super) fn enter(&mut self, configuration: T) -> bool {
        self.0.insert(configuration)
    }
}
