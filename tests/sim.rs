//! Whole nodes in a simulated world: real gateways, drivers, openraft and journal, on a network that is cut, on disks that
//! lose what was not synced, with clocks that jump. Time is paused, so a minute takes a second.
//!
//! One number makes one run; the same number makes the same run. `QUORATE_SIM_SEEDS=20000 cargo test --release --test sim`
//! runs more of them (from `QUORATE_SIM_FIRST` on, on as many threads as `QUORATE_SIM_THREADS`);
//! `QUORATE_SIM_SEED=n` runs one and prints its story if it fails.
//!
//! `cargo test --release --features mutants --test sim hunt -- --nocapture` shows that it finds the faults that only whole
//! nodes can have (`src/base/mutant.rs`), and prints the table of docs/testing.md.
//!
//! The pure floors have a simulation of their own, a thousand times faster: tests/txn_sim.rs.
#![expect(clippy::panic, reason = "a test fails by panicking")]

#[path = "sim/amnesia.rs"]
mod amnesia;
#[path = "sim/client.rs"]
mod client;
#[path = "sim/disk.rs"]
mod disk;
#[path = "sim/history.rs"]
mod history;
#[cfg(feature = "mutants")]
#[path = "sim/hunt.rs"]
mod hunt;
#[path = "sim/late.rs"]
mod late;
#[path = "sim/net.rs"]
mod net;
#[path = "sim/profile.rs"]
mod profile;
#[path = "sim/tokens.rs"]
mod tokens;
#[path = "sim/usurp.rs"]
mod usurp;
#[path = "sim/verify.rs"]
mod verify;
#[path = "sim/workload.rs"]
mod workload;
#[path = "sim/world.rs"]
mod world;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;

use world::World;

/// The simulation allocates little things all the time, and this is the product's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seed 8 is the one that found reads confirmed by late answers (`late.rs`).
const SEEDS: u64 = 32;
static HOOK: Once = Once::new();

thread_local! {
    /// What this thread runs.
    static SEED: Cell<u64> = const { Cell::new(0) };
}
/// Lines of the story that a failing run prints.
const STORY_LINES: usize = 300;

type Stats = BTreeMap<&'static str, u64>;

fn number_from(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// Runs one seed; its story and what it has seen.
fn run(seed: u64, tell: bool) -> (Vec<String>, Stats) {
    // A panic inside a node takes tokio's runtime down so hard that the process aborts: its seed is told before.
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>().map_or("", String::as_str);
            let text = info.payload().downcast_ref::<&str>().copied().unwrap_or(text);
            let text = text.lines().next().unwrap_or_default();
            println!("seed {} panics: {text}", SEED.get());
            usual(info);
        }));
    });
    SEED.set(seed);
    let mut world = World::new(seed);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let story = world.history.story.borrow().clone();
    if let Err(why) = outcome {
        if tell {
            let from = story.len().saturating_sub(STORY_LINES);
            story[from..].iter().for_each(|line| println!("{line}"));
        }
        println!("seed {seed} fails; its story:");
        println!("    QUORATE_SIM_SEED={seed} cargo test --test sim -- --nocapture");
        resume_unwind(why);
    }
    let stats = world.history.stats.borrow().clone();
    (story, stats)
}

fn trace() {
    if std::env::var_os("QUORATE_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_env("QUORATE_LOG");
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
    }
}

#[test]
fn no_chain_of_accidents_breaks_a_cluster() {
    trace();
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var("QUORATE_MUTANT") {
        quorate::base::mutant::activate(&name).expect("a mutant's name");
    }
    if let Some(seed) = number_from("QUORATE_SIM_SEED") {
        let (story, _) = run(seed, true);
        if std::env::var_os("QUORATE_SIM_TELL").is_some() {
            for line in &story {
                println!("{line}");
            }
        }
        return;
    }
    let first = number_from("QUORATE_SIM_FIRST").unwrap_or(0);
    let seeds = number_from("QUORATE_SIM_SEEDS").unwrap_or(SEEDS);
    let threads = number_from("QUORATE_SIM_THREADS").unwrap_or(1);
    let seen: Vec<Stats> = std::thread::scope(|scope| {
        let part = |thread| {
            move || {
                let mut all = Stats::new();
                for seed in (first + thread..first + seeds).step_by(usize::try_from(threads).expect("few")) {
                    let (_, stats) = run(seed, false);
                    for (what, n) in stats {
                        *all.entry(what).or_default() += n;
                    }
                }
                all
            }
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(part(thread))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|why| resume_unwind(why)))
            .collect()
    });
    let mut all = Stats::new();
    for (what, n) in seen.into_iter().flatten() {
        *all.entry(what).or_default() += n;
    }
    println!("{seeds} runs: {all:?}");
    // Plots that not every few seeds have; those of CI do.
    for what in ["writes around a forgotten vote", "reads around late answers"] {
        let count = all.get(what).copied().unwrap_or(0);
        assert!(
            count > 0 || first != 0 || seeds < SEEDS,
            "{seeds} runs have seen no {what}"
        );
    }
    for what in [
        "txns committed",
        "register operations",
        "transfers",
        "strict failures",
        "crashes",
        "cuts",
        "reads of a leader that is usurped",
    ] {
        assert!(
            all.get(what).copied().unwrap_or(0) > seeds / 4,
            "{seeds} runs have seen too few {what}"
        );
    }
}

/// Each in a process of its own, as a replay is. (In one process the second run of a seed may differ by milliseconds: some
/// library below keeps a count.)
#[test]
fn one_seed_makes_one_story() {
    let story = |seed: u64| {
        let output = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["no_chain_of_accidents_breaks_a_cluster", "--exact", "--nocapture"])
            .env("QUORATE_SIM_SEED", seed.to_string())
            .env("QUORATE_SIM_TELL", "1")
            .output()
            .expect("this test can be run");
        assert!(output.status.success(), "seed {seed} fails");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = said.lines().filter(|line| !line.contains("finished in"));
        lines.map(str::to_owned).collect::<Vec<String>>()
    };
    for seed in 0..2 {
        let [one, other] = [story(seed), story(seed)];
        assert!(one.len() > 8, "seed {seed} tells nothing: {one:?}");
        if let Some(at) = (0..one.len().max(other.len())).find(|&at| one.get(at) != other.get(at)) {
            panic!(
                "seed {seed} differs at line {at}:\n{:?}\n{:?}",
                one.get(at),
                other.get(at)
            );
        }
    }
}
