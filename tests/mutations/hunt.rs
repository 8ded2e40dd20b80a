//! Hunts each fault with the same seeds, in the same order, and tells what found it.

use std::cell::RefCell;
use std::panic;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quorate::base::mutant::{self, Hunt, Mutant};

use super::sim::{Failure, judge_alone, run, run_all};

/// Prints the table.
const COMMAND: &str = "cargo test --release --features mutants --test mutations -- --nocapture";
/// Seeds that are tried before a fault counts as not found. All are found well before that.
const SEEDS: u64 = 60_000;
/// Seeds that the checkers of histories get, when they are alone.
const SEEDS_BY_HISTORY: u64 = 2_000;
/// Seeds that must find nothing where there is no fault, at the least.
const CLEAN_SEEDS: u64 = 2_000;

/// One fault is active at a time in the whole process.
static HUNTING: Mutex<()> = Mutex::new(());

thread_local! {
    /// Where the last panic of this thread came from.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

fn hunting() -> MutexGuard<'static, ()> {
    // Panics are what is hunted: they are told in the table, not on the screen.
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(|at| at.file().to_owned());
        PLACE.with(|last| *last.borrow_mut() = place.unwrap_or_default());
    }));
    HUNTING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Catch {
    seed: u64,
    check: String,
}

/// Activates the fault of that name, looks for it, and deactivates it.
fn hunt(mutant: Mutant, seeds: u64) -> Option<Catch> {
    mutant::activate(mutant.name()).expect("a mutant's name");
    let caught = run_all(0..seeds).err().map(|failure| Catch {
        seed: failure.seed,
        check: check_of(&failure),
    });
    mutant::deactivate();
    caught
}

/// As [`hunt`], with the checkers of histories alone: how many seeds they need.
fn hunt_by_history(mutant: Mutant) -> String {
    judge_alone(true);
    let caught = hunt(mutant, SEEDS_BY_HISTORY);
    judge_alone(false);
    match caught {
        None => "–".into(),
        Some(Catch { seed, check }) if check.starts_with("assertion") => format!("assertion, {}", seed + 1),
        Some(Catch { seed, .. }) => (seed + 1).to_string(),
    }
}

/// The name of the check that found it. The seed is run once more, here: it has to fail in the same way.
fn check_of(failure: &Failure) -> String {
    let again = run(failure.seed, false).err().map(|failure| failure.why);
    assert_eq!(
        again.as_ref(),
        Some(&failure.why),
        "seed {} fails otherwise",
        failure.seed
    );
    let place = PLACE.with(|last| last.borrow().clone());
    match failure.why.split_once(':') {
        Some((name, _)) if place.contains("tests/") => name.to_owned(),
        _ => format!("assertion in `{place}`"),
    }
}

/// The rows of the table, or which faults were not found.
fn report(mutants: &[Mutant], seeds: u64) -> Result<(String, u64), Vec<&'static str>> {
    let mut table = String::from(
        "| mutant | breaks | seeds to find | found by | by histories alone | what it does |\n|---|---|---|---|---|---|\n",
    );
    let (mut missed, mut last) = (Vec::new(), 0);
    for &mutant in mutants {
        let name = mutant.name();
        let Some(Catch { seed, check }) = hunt(mutant, seeds) else {
            missed.push(name);
            continue;
        };
        last = last.max(seed);
        let (promise, what, by_history) = (mutant.promise(), mutant.what(), hunt_by_history(mutant));
        println!("{name}: seed {seed}, {check}");
        let row = format!(
            "| `{name}` | {promise} | {} | {check} | {by_history} | {what} |\n",
            seed + 1
        );
        table.push_str(&row);
    }
    if missed.is_empty() {
        Ok((table, last))
    } else {
        Err(missed)
    }
}

fn seeds() -> u64 {
    let text = std::env::var("QUORATE_MUTATION_SEEDS").ok();
    text.map_or(SEEDS, |text| text.parse().expect("a number of seeds"))
}

#[test]
fn the_simulation_finds_every_mutant_and_nothing_where_there_is_none() {
    let _one_at_a_time = hunting();
    let of_logs: Vec<Mutant> = Mutant::ALL
        .iter()
        .copied()
        .filter(|mutant| mutant.hunt() == Hunt::Logs)
        .collect();
    assert!(of_logs.len() >= 15, "{} mutants", of_logs.len());
    let reported = report(&of_logs, seeds());
    let (table, last) = match reported {
        Ok(reported) => reported,
        Err(missed) => {
            drop(panic::take_hook());
            panic!("not found within {} seeds: {missed:?}", seeds());
        }
    };
    println!("{table}");
    let clean = run_all(0..CLEAN_SEEDS.max(last + 1)).err();
    assert!(clean.is_none(), "without a mutant: {clean:?}");
}

/// A fault that no code asks for must be reported as missed, or the test above proves nothing.
#[test]
fn a_mutant_that_is_not_found_fails_the_report() {
    let _one_at_a_time = hunting();
    assert_eq!(report(&[Mutant::Inert], 200).err(), Some(vec!["inert"]));
}

#[test]
fn the_table_in_the_docs_names_every_mutant() {
    let docs = include_str!("../../docs/testing.md");
    let hunted = Mutant::ALL.iter().filter(|mutant| mutant.hunt() != Hunt::Nobody);
    let missing: Vec<&str> = hunted
        .map(|mutant| mutant.name())
        .filter(|name| !docs.contains(&format!("| `{name}` |")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/testing.md lacks {missing:?}: run `{COMMAND}` and paste what it prints"
    );
}
