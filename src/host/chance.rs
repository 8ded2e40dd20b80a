//! Chance: boot numbers, seeds of log entries, jitter, election time-outs. One place to make all of it repeatable.

use std::cell::RefCell;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

thread_local! {
    /// Set in a thread that simulates.
    static SEEDED: RefCell<Option<SmallRng>> = const { RefCell::new(None) };
}

/// From now on this thread simulates (`None`: not any more): what its nodes draw follows from `seed` and the order of
/// drawing, and blocking work is done at once.
pub fn simulate(seed: Option<u64>) {
    SEEDED.with(|seeded| *seeded.borrow_mut() = seed.map(SmallRng::seed_from_u64));
}

/// Whether this thread simulates.
#[must_use]
pub fn is_simulated() -> bool {
    SEEDED.with(|seeded| seeded.borrow().is_some())
}

/// 64 bits of chance.
#[must_use]
pub fn chance() -> u64 {
    let seeded = SEEDED.with(|seeded| seeded.borrow_mut().as_mut().map(Rng::next_u64));
    seeded.unwrap_or_else(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where chance enters the program"
        )]
        rand::random()
    })
}

/// A generator of its own for whoever draws much.
#[must_use]
pub fn generator() -> SmallRng {
    SmallRng::seed_from_u64(chance())
}
