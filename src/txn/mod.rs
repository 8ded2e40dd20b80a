//! Floor 3, pure: two-phase commit as `step(event) → effects`, and how commands are spread over shards.
//!
//! ```text
//!  begin ─▶ Queued ─admitted─▶ Preparing ─staged, all yes─▶ answered, Telling ─told and recorded─▶ over
//!                                  ├─ no: locked ─▶ abort the attempt ─▶ Waiting ─▶ Preparing
//!                                  ├─ no: else, or deadline ─▶ abort the attempt, answer
//!                                  └─ a participant, or the log, says something else ─▶ Deciding ─▶ what the log has
//! ```
//!
//! Absence as an invariant: no I/O, no clock; a driver (floor 5) performs the effects and reports back as events.
//!
//! Preparing includes staging the attempt in the coordinator's log (parallel commit, `machine/coordinator.rs`).

mod admission;
mod coordinator;
mod ending;
mod listing;
mod now;
mod optimistic;
mod plan;
mod resolving;
mod telling;

pub use coordinator::{Answer, Coordinator, Effect, Part, Query, Txn};
pub use now::Now;
pub use optimistic::Optimistic;
pub use plan::{Gather, Plan, Work};
