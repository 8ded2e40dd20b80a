//! Real faults: three processes are killed, paused, cut off from each other and given wrong clocks under load; what
//! clients saw goes through consistency checkers.
//!
//! `cargo test` runs it for half a minute. For longer, or to see one kind of fault:
//!
//! ```text
//! cargo test --release --test nemesis -- --duration 30m --faults kill,pause,partition,clock --seed 7
//! ```
//!
//! Partitions need root, `unshare`, `ip` and `setpriv`; without them the other faults run on the loopback interface.
//! `NEMESIS_LOG=debug` makes nodes say more. A violation leaves the histories and the nodes' logs below target/tmp.
//! The seed fixes the faults and what clients ask for, not what the machine's scheduler makes of it.

#![expect(
    clippy::panic,
    reason = "a test fails by panicking; the message says more than an assertion would"
)]

#[path = "cluster/nemesis/mod.rs"]
mod nemesis;
#[expect(dead_code, reason = "tests/cluster.rs uses all of it")]
#[path = "cluster/nodes.rs"]
mod nodes;
#[path = "cluster/wait.rs"]
mod wait;
#[expect(dead_code, reason = "tests/cluster.rs uses all of it")]
#[path = "cluster/wire.rs"]
mod wire;

use wait::{eventually, now, within};

fn main() -> std::process::ExitCode {
    nemesis::main()
}
