//! The consistency checkers, judged by three kinds of history: hand-made anomalies, each beside the nearest lawful
//! history; thousands of tiny random ones that a brute-force oracle judges too; and big ones that print their time.
//!
//! `QUORATE_CHECKER_ROUNDS=1000000 cargo test --release --test checker` asks the oracles more often.
#![expect(clippy::panic, reason = "a test fails by panicking")]

#[path = "checker/big.rs"]
mod big;
#[path = "checker/linear_cases.rs"]
mod linear_cases;
#[path = "checker/linear_oracle.rs"]
mod linear_oracle;
#[path = "checker/list_cases.rs"]
mod list_cases;
#[path = "checker/list_oracle.rs"]
mod list_oracle;
#[path = "txn_sim/rng.rs"]
mod rng;
#[path = "checker/stores.rs"]
mod stores;

/// How many random histories each comparison with an oracle makes.
fn rounds(default: u64) -> u64 {
    match std::env::var("QUORATE_CHECKER_ROUNDS") {
        Ok(text) => text.parse().expect("a number of rounds"),
        Err(_) => default,
    }
}
