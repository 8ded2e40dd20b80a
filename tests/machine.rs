//! Conversations with the replicated state: what `Machine::apply` answers, to whom, when, and what it remembers.
//! Only the public interface is used; `talk.rs` holds the words.
//!
//! Not here: what each command does (golden.rs), chance (txn_sim.rs).
#![expect(clippy::panic, reason = "a test fails by panicking")]

#[path = "machine/collections.rs"]
mod collections;
#[path = "machine/coordinator.rs"]
mod coordinator;
#[path = "machine/digest.rs"]
mod digest;
#[path = "machine/direct.rs"]
mod direct;
#[path = "machine/entries.rs"]
mod entries;
#[path = "machine/eviction.rs"]
mod eviction;
#[path = "machine/expiry.rs"]
mod expiry;
#[path = "machine/functions.rs"]
mod functions;
#[path = "machine/memcached.rs"]
mod memcached;
#[path = "machine/parking.rs"]
mod parking;
#[path = "machine/prepare.rs"]
mod prepare;
#[path = "machine/reads.rs"]
mod reads;
#[path = "machine/replies.rs"]
mod replies;
#[path = "machine/snapshot.rs"]
mod snapshot;
#[path = "machine/strict.rs"]
mod strict;
#[path = "machine/talk.rs"]
mod talk;
#[path = "machine/withdraw.rs"]
mod withdraw;
