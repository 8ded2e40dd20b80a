//! Side room, pure: consistency checkers. A history of what clients saw goes in; "it can be explained" or a
//! contradiction told in words comes out. Simulations and real-fault tests judge with it; the product never runs it.
//!
//! - [`linear`]: linearizability of single operations, for any [`linear::Model`]; [`register`] is the model of one key.
//!   Linearizability is local (Herlihy & Wing 1990): check every key's history alone.
//! - [`list_append`]: strict serializability of transactions over many keys.
//!
//! Not here: recording histories, and clocks. All times of a history are nanoseconds on one clock; where two are equal
//! the calls count as concurrent, so a coarse clock hides violations but never invents one.

pub mod linear;
pub mod list_append;
pub mod register;
