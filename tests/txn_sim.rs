//! Two-phase commit in a world of chance: perfect logs, and between them messages that are lost, doubled, reordered and
//! held up, leaders that die or are deposed without knowing it, gateways that ask again, and clocks that disagree.
//!
//! One number makes one run; the same number makes the same run. `QUORATE_SIM_SEEDS=200000 cargo test --test txn_sim`
//! runs more of them (from `QUORATE_SIM_FIRST` on); `QUORATE_SIM_SEED=n` runs one and prints its story if it fails.
//! `QUORATE_SIM_BELIEVE=1` plants an error that must be found (see `Profile::believe`).
//!
//! Not here: Raft (the logs are perfect), expiry and eviction, snapshots under load (tests/machine.rs).
#![expect(clippy::panic, reason = "a test fails by panicking")]

#[path = "txn_sim/gateway.rs"]
mod gateway;
#[path = "txn_sim/leader.rs"]
mod leader;
#[path = "txn_sim/message.rs"]
mod message;
#[path = "txn_sim/model.rs"]
mod model;
#[path = "txn_sim/op.rs"]
mod op;
#[path = "txn_sim/query.rs"]
mod query;
#[path = "txn_sim/rng.rs"]
mod rng;
#[path = "txn_sim/world.rs"]
mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::{Stats, World, run};

const SEEDS: u64 = 6000;
/// Lines of the story that a failing run prints.
const STORY_LINES: usize = 400;

fn number_from(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number of a seed or of seeds"))
}

#[test]
fn no_chain_of_accidents_breaks_a_transaction() {
    if let Some(seed) = number_from("QUORATE_SIM_SEED") {
        return tell(seed);
    }
    let first = number_from("QUORATE_SIM_FIRST").unwrap_or(0);
    let seeds = number_from("QUORATE_SIM_SEEDS").unwrap_or(SEEDS);
    let mut stats = Stats::default();
    for seed in first..first + seeds {
        match catch_unwind(|| run(seed, false).stats) {
            Ok(more) => more
                .0
                .into_iter()
                .for_each(|(what, n)| *stats.0.entry(what).or_default() += n),
            Err(why) => fail(seed, why),
        }
    }
    println!("{seeds} runs: {:?}", stats.0);
    assert_not_vacuous(&stats, seeds);
}

fn fail(seed: u64, why: Box<dyn Any + Send>) -> ! {
    println!("seed {seed} fails; its story:");
    println!("    QUORATE_SIM_SEED={seed} cargo test --test txn_sim -- --nocapture");
    resume_unwind(why)
}

/// Runs one seed and, if it fails, prints what happened last.
fn tell(seed: u64) {
    let mut world = World::new(seed, true);
    if let Err(why) = catch_unwind(AssertUnwindSafe(|| world.run())) {
        let story = world.trace.take().unwrap_or_default();
        let from = story.len().saturating_sub(STORY_LINES);
        for line in &story[from..] {
            println!("{line}");
        }
        fail(seed, why);
    }
}

/// What a good number of runs must have seen, or they prove nothing.
fn assert_not_vacuous(stats: &Stats, seeds: u64) {
    let wanted = [
        "commits",
        "aborts recorded",
        "aborts",
        "conflicts",
        "votes no",
        "attempts aborted",
        "unreachable",
        "recovered",
        "elections",
        "depositions",
        "deaths between effects",
        "gateways killed",
        "restarts",
        "counts",
        "audits",
        "snapshots read",
        "single requests run",
    ];
    for what in wanted {
        let seen = stats.0.get(what).copied().unwrap_or(0);
        assert!(seen > seeds / 100, "{seeds} runs have seen only {seen} {what}");
    }
}

#[test]
fn one_seed_makes_one_story() {
    for seed in 0..20 {
        let [one, other] = [run(seed, true), run(seed, true)];
        assert_eq!(one.trace, other.trace, "seed {seed}");
        let digests = |world: &World| -> Vec<u32> {
            let logs = world.shards.iter().chain(&world.coordinators);
            logs.map(|log| log.machine.digest().expect("a state is encoded"))
                .collect()
        };
        assert_eq!(digests(&one), digests(&other), "seed {seed}");
    }
}
