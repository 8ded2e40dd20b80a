//! Two-phase commit in a world of chance: perfect logs, and between them messages that are lost, doubled, reordered and
//! held up, leaders that die or are deposed without knowing it, gateways that ask again, and clocks that disagree.
//!
//! One number makes one run; the same number makes the same run.
//!
//! ```text
//! QUORATE_SIM_SEEDS=200000 cargo test --release --test txn_sim        more runs (from QUORATE_SIM_FIRST on)
//! QUORATE_SIM_SEED=17 cargo test --test txn_sim -- --nocapture        one run; its story if it fails
//! QUORATE_SIM_JUDGE=1 …                                               only the checkers of histories judge
//! QUORATE_MUTANT=decided-twice … --features mutants                   with a fault of src/base/mutant.rs
//! ```
//!
//! What happens in a run: `txn_sim/sim.rs`. What must be so: `txn_sim/checks.rs`.

#[path = "txn_sim/found.rs"]
mod found;
#[path = "txn_sim/query.rs"]
mod query;
#[path = "txn_sim/sim.rs"]
mod sim;

use sim::{Failure, Stats, World, digest, judge_alone, run, run_all};

const SEEDS: u64 = 6000;
/// Lines of the story that a failing run prints.
const STORY_LINES: usize = 400;

fn number_from(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number of a seed or of seeds"))
}

/// A planted fault, to hear its story.
#[cfg(feature = "mutants")]
fn plant() {
    if let Ok(name) = std::env::var("QUORATE_MUTANT") {
        quorate::base::mutant::activate(&name).expect("a mutant's name");
    }
}

#[cfg(not(feature = "mutants"))]
fn plant() {}

#[test]
fn no_chain_of_accidents_breaks_a_transaction() {
    plant();
    judge_alone(std::env::var_os("QUORATE_SIM_JUDGE").is_some());
    if let Some(seed) = number_from("QUORATE_SIM_SEED") {
        return tell(seed);
    }
    let first = number_from("QUORATE_SIM_FIRST").unwrap_or(0);
    let seeds = number_from("QUORATE_SIM_SEEDS").unwrap_or(SEEDS);
    let stats = run_all(first..first + seeds).unwrap_or_else(|failure| fail(&failure));
    println!("{seeds} runs: {:?}", stats.0);
    assert_not_vacuous(&stats, seeds);
}

#[expect(clippy::panic, reason = "a test fails by panicking")]
fn fail(failure: &Failure) -> ! {
    let seed = failure.seed;
    let from = failure.story.len().saturating_sub(STORY_LINES);
    for line in &failure.story[from..] {
        println!("{line}");
    }
    println!("seed {seed} fails; its story:");
    let also = ["QUORATE_MUTANT", "QUORATE_SIM_JUDGE"]
        .iter()
        .filter_map(|name| Some(format!("{name}={} ", std::env::var(name).ok()?)));
    let also: String = also.collect();
    let features = if cfg!(feature = "mutants") {
        "--features mutants "
    } else {
        ""
    };
    println!("    {also}QUORATE_SIM_SEED={seed} cargo test {features}--test txn_sim -- --nocapture");
    panic!("seed {seed}: {}", failure.why);
}

/// Runs one seed and, if it fails, prints what happened last.
fn tell(seed: u64) {
    if let Err(failure) = run(seed, true) {
        fail(&failure);
    }
}

/// What a good number of runs must have seen, or they prove nothing.
fn assert_not_vacuous(stats: &Stats, seeds: u64) {
    let wanted = [
        "commits",
        "aborts recorded",
        "aborts",
        "conflicts",
        "retries",
        "votes no",
        "attempts aborted",
        "unreachable",
        "recovered",
        "elections",
        "depositions",
        "deaths between effects",
        "gateways killed",
        "restarts",
        "leaders changed",
        "replicas compared",
        "nights",
        "reads that met a lock",
        "expiries logged for a read",
        "snapshots read",
        "single requests run",
        "looks",
        "moves",
        "shifts",
        "audits",
        "pairs",
        "counts",
        "lists",
        "register writes",
        "set adds",
        "set reads",
        "increments",
        "bumps",
        "leases",
        "renewals",
        "renames",
        "fickle",
        "failures found",
        "roll-backs over shards",
        "roll-backs on one shard",
        "errors applied",
        "list elements judged",
        "calls judged",
    ];
    for what in wanted {
        let seen = stats.0.get(what).copied().unwrap_or(0);
        assert!(seen > seeds / 100, "{seeds} runs have seen only {seen} {what}");
    }
}

#[test]
fn one_seed_makes_one_story() {
    let story = |seed| run(seed, true).unwrap_or_else(|failure| fail(&failure));
    for seed in 0..20 {
        let [one, other] = [story(seed), story(seed)];
        assert_eq!(one.trace, other.trace, "seed {seed}");
        let digests = |world: &World| -> Vec<_> {
            let logs = world.shards.iter().chain(&world.coordinators);
            logs.map(|log| digest(&log.machine)).collect()
        };
        assert_eq!(digests(&one), digests(&other), "seed {seed}");
    }
}
