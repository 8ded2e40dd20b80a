//! Plants each fault that only whole nodes can have, and looks for the first seed that finds it. Each hunt is a process of its
//! own, for a panic inside a node may abort it.

use std::process::Command;

use quorate::base::mutant::{Hunt, Mutant};

/// Seeds that are tried before a fault counts as not found; `QUORATE_MUTATION_SEEDS` changes it.
const SEEDS: &str = "1000";
/// Of what was seen, for the table.
const SEEN_CHARS: usize = 70;

/// The first seed that fails, and the first words of why.
fn hunt(mutant: Mutant, seeds: &str) -> Option<(u64, String)> {
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["no_chain_of_accidents_breaks_a_cluster", "--exact", "--nocapture"])
        .env("QUORATE_MUTANT", mutant.name())
        .env("QUORATE_SIM_SEEDS", seeds)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("this test can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = said
        .lines()
        .find_map(|line| line.strip_prefix("seed ")?.split_once(" panics: "));
    let (seed, why) = found?;
    Some((
        seed.parse().expect("a seed"),
        why.chars().take(SEEN_CHARS).collect(),
    ))
}

#[test]
fn every_fault_of_whole_nodes_is_found() {
    let seeds = std::env::var("QUORATE_MUTATION_SEEDS").unwrap_or_else(|_| SEEDS.into());
    let of_nodes = Mutant::ALL.iter().filter(|mutant| mutant.hunt() == Hunt::Nodes);
    let mut missed = Vec::new();
    println!("| mutant | breaks | seeds to find | what was seen | what it does |\n|---|---|---|---|---|");
    for &mutant in of_nodes {
        let (name, promise, what) = (mutant.name(), mutant.promise(), mutant.what());
        match hunt(mutant, &seeds) {
            Some((seed, seen)) => println!("| `{name}` | {promise} | {} | {seen} | {what} |", seed + 1),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not found within {seeds} seeds: {missed:?}");
}
