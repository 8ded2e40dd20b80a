//! Floor 6: what clients see, Redis's and memcached's (`memcached`). Bytes → request → reply, sessions, MULTI, the commands that are about the connection.
//!
//! ```text
//!  socket ─▶ all whole requests that are there ─▶ runs of data commands, by shard, at once ─▶ replies in order ─▶ socket
//!                                              └▶ MULTI … EXEC: one wish ─▶ cluster floor
//! ```
//!
//! A run on one shard is one request to it, so order on each key is kept however often it is sent again; different
//! shards work at the same time. Commands that touch several shards, and EXEC, wait for all before them.

mod accept;
mod accounts;
mod admin;
mod burst;
mod client;
mod clients;
pub mod command;
mod config;
mod control;
mod debug;
mod exec;
pub mod facts;
mod functions;
#[cfg(fuzzing)]
pub mod fuzzing;
mod help;
mod info;
mod large;
mod latency;
mod memcached;
mod memory;
mod monitor;
mod multi;
mod object;
mod pause;
mod process;
mod pubsub;
mod quorate;
mod refused;
mod scripts;
mod serve;
mod server;
mod session;
mod slowlog;
mod stats;
pub mod table;
mod tracking;
mod txn;
pub mod unknown;
mod watch;

pub use server::{Server, ServerError, ServerOptions, serve};
