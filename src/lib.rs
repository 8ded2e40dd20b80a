//! Quorate: a Raft-replicated, transactional key-value cache. See `src/ARCHITECTURE.md` for the floors.

#![forbid(unsafe_code)]
// A session's future contains everything down to the Raft core; the compiler looks through all of it to see that it is Send.
#![recursion_limit = "256"]

pub mod base;
pub mod checker;
pub mod client;
pub mod cluster;
pub mod config;
pub mod gateway;
pub mod host;
pub mod machine;
pub mod raft;
pub mod resp;
pub mod ring;
pub mod script;
pub mod storage;
pub mod testing;
pub mod txn;
