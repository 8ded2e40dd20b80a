//! Plants each fault that only whole nodes can have, and looks for the first seed that finds it.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;

use quorate::base::mutant::{self, Hunt, Mutant};

use crate::MUTANT;
use crate::world::World;

/// Seeds that are tried before a fault counts as not found; `QUORATE_MUTATION_SEEDS` changes it.
const SEEDS: u64 = 1000;

thread_local! {
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The first seed that fails, and the first words of why.
fn hunt(mutant: Mutant, seeds: u64) -> Option<(u64, String)> {
    mutant::activate(mutant.name()).expect("its own name");
    let found = (0..seeds).find(|&seed| {
        let mut world = World::new(seed);
        catch_unwind(AssertUnwindSafe(|| world.run())).is_err()
    });
    mutant::deactivate();
    found.map(|seed| (seed, MESSAGE.with(|message| message.borrow().clone())))
}

#[test]
fn every_fault_of_whole_nodes_is_found() {
    let _alone = MUTANT.write().unwrap_or_else(PoisonError::into_inner);
    // Panics are what is hunted: they are told in the table.
    panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or_default();
        let words: String = text.lines().next().unwrap_or_default().chars().take(60).collect();
        MESSAGE.with(|message| *message.borrow_mut() = words);
    }));
    let seeds = std::env::var("QUORATE_MUTATION_SEEDS").map_or(SEEDS, |text| text.parse().expect("a number"));
    let of_nodes = Mutant::ALL.iter().filter(|mutant| mutant.hunt() == Hunt::Nodes);
    let mut missed = Vec::new();
    println!("| mutant | breaks | seeds to find | what was seen | what it does |\n|---|---|---|---|---|");
    for &mutant in of_nodes {
        let (name, promise, what) = (mutant.name(), mutant.promise(), mutant.what());
        match hunt(mutant, seeds) {
            Some((seed, seen)) => println!("| {name} | {promise} | {} | {seen} | {what} |", seed + 1),
            None => missed.push(name),
        }
    }
    drop(panic::take_hook());
    assert!(missed.is_empty(), "not found within {seeds} seeds: {missed:?}");
}
