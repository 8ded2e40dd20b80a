//! Floor 0: ids, limits, errors, time and the reply type that every other floor shares.
//!
//! Absence as an invariant: nothing here knows tokio, a socket, a clock or randomness.

pub mod ascending;
pub mod codec;
pub mod error;
pub mod events;
pub mod float;
pub mod ids;
pub mod limits;
pub mod memory;
pub mod mutant;
pub mod names;
pub mod reply;
pub mod slot;

pub use ascending::Ascending;
pub use error::{Error, Result};
pub use events::Events;
pub use ids::{AttemptId, GroupId, NodeId, RequestId, SessionId, TxnId, gateway_of, gateway_session};
pub use memory::Policy;
pub use mutant::Mutant;
pub use names::Names;
pub use reply::Reply;

/// Milliseconds since the Unix epoch. Time reaches the pure floors only inside log entries.
pub type Millis = u64;

/// The Redis version whose behaviour is kept to; clients and scripts look at it to know what they may use.
pub const REDIS_VERSION: &str = "7.0.15";
