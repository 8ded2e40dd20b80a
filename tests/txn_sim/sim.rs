//! Tier 1 of the simulation: the pure floors (machine, txn, ring) between perfect logs, in a world of chance.
//!
//! ```text
//!  seed ─▶ Profile (how rough) ─▶ World: steps of chance ─▶ healing: no more faults ─▶ rest
//!                                   │ every entry, record, read, answer                │
//!                                   └──▶ checks against the model (checks.rs) ◀────────┘
//! ```
//!
//! A step delivers, loses, doubles or holds up a message; lets somebody ask again; kills or deposes a coordinator's
//! leader, also between two of its effects; gives a shard another leader with another clock; restarts a replica from a
//! snapshot; ends a gateway; lets a night pass. Gateways and leaders are copies of what `src/cluster` does.
//!
//! Not here: Raft, disks, sockets (tier 2 and the real clusters), eviction, moving slots.

mod checks;
mod gateway;
mod keys;
mod leader;
mod log;
mod message;
mod model;
mod op;
mod rng;
mod workload;
mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use log::digest;
pub use world::{Stats, World};

/// Why a run failed, and the story up to there if it was traced.
pub struct Failure {
    /// Begins with the name of the check, or is what an assertion of the product says.
    pub why: String,
    pub story: Vec<String>,
}

/// One run from its seed; the world as it ended.
pub fn run(seed: u64, traced: bool) -> Result<World, Failure> {
    let mut world = World::new(seed, traced);
    match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(()) => Ok(world),
        Err(why) => Err(Failure {
            why: text_of(why.as_ref()),
            story: world.trace.take().unwrap_or_default(),
        }),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.into()));
    text.unwrap_or_else(|| "a panic without words".into())
}
