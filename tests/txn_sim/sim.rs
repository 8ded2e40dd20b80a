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
mod deadlock;
mod gateway;
mod judge;
mod keys;
mod leader;
mod log;
mod message;
mod model;
mod op;
mod rng;
mod strict;
mod workload;
mod world;

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

pub use checks::judge_alone;
pub use log::digest;
pub use world::{Stats, World};

/// The simulation allocates little things all the time; the product's allocator does it a quarter faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why a run failed, and the story up to there if it was traced.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
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
            seed,
            why: text_of(why.as_ref()),
            story: world.trace.take().unwrap_or_default(),
        }),
    }
}

/// Runs all these seeds, on all processors; what they have seen, or the failure of the smallest seed that fails.
pub fn run_all(seeds: Range<u64>) -> Result<Stats, Failure> {
    let (next, end) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (sender, results) = sync_channel(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, end) = (sender.clone(), &next, &end);
            scope.spawn(move || {
                let mut stats = Stats::default();
                loop {
                    // Seeds are taken in order, so all below the first failure are run to their end.
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end.load(Ordering::Relaxed) {
                        break;
                    }
                    match run(seed, false) {
                        Ok(world) => stats.merge(&world.stats),
                        Err(failure) => {
                            end.fetch_min(seed, Ordering::Relaxed);
                            sender.send(Err(failure)).expect("the collector waits for all");
                            return;
                        }
                    }
                }
                sender.send(Ok(stats)).expect("the collector waits for all");
            });
        }
        drop(sender);
        let mut all = Stats::default();
        let mut first: Option<Failure> = None;
        for result in results {
            match result {
                Ok(stats) => all.merge(&stats),
                Err(failure) if first.as_ref().is_none_or(|f| failure.seed < f.seed) => first = Some(failure),
                Err(_) => {}
            }
        }
        first.map_or(Ok(all), Err)
    })
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.into()));
    text.unwrap_or_else(|| "a panic without words".into())
}
