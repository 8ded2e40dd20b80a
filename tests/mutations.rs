//! The test of the simulation: it must find every deliberate fault of `src/base/mutant.rs`, and none where there is none.
//!
//! ```text
//! cargo test --release --features mutants --test mutations -- --nocapture         prints the table of docs/testing.md
//! QUORATE_MUTANT=decided-twice QUORATE_SIM_SEED=7 \
//!     cargo test --release --features mutants --test txn_sim -- --nocapture       the story of one
//! QUORATE_MUTATION_SEEDS=100000 …                                                  seeds tried before giving up
//! ```
//!
//! Not here: the faults that only whole nodes can have (`Hunt::Nodes`); tier 2 looks for those.

#[cfg(feature = "mutants")]
#[path = "mutations/hunt.rs"]
mod hunt;
#[cfg(feature = "mutants")]
#[path = "txn_sim/sim.rs"]
#[allow(dead_code, unused_imports, reason = "tests/txn_sim.rs uses the rest")]
mod sim;

#[cfg(not(feature = "mutants"))]
#[test]
fn mutants_are_not_built_in() {
    println!("nothing to hunt: this test needs `--features mutants`");
}
