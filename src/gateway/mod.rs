//! Floor 6: what clients see. Bytes → request → reply, sessions, MULTI, the commands that are about the connection.
//!
//! ```text
//!  socket ─▶ all whole requests that are there ─▶ runs of data commands, by shard, at once ─▶ replies in order ─▶ socket
//!                                              └▶ MULTI … EXEC: one wish ─▶ cluster floor
//! ```
//!
//! A run on one shard is one request to it, so order on each key is kept however often it is sent again; different
//! shards work at the same time. Commands that touch several shards, and EXEC, wait for all before them.

mod admin;
mod burst;
mod client;
mod clients;
mod exec;
mod info;
mod large;
mod multi;
mod pubsub;
mod scripts;
mod serve;
mod server;
mod session;
pub mod table;
mod tracking;
mod txn;
pub mod unknown;

pub use server::{Server, ServerError, ServerOptions, serve};
