//! RESP2 and RESP3: replies out by the `redis-protocol` crate, requests in by a flat reader of our own.
//!
//! Requests are arrays of bulk strings or inline lines and nothing else. The crate's decoder takes any frame and
//! recurses into nested arrays, which a hostile client can make deep enough to overflow the stack; ours does not nest.

mod encode;
mod request;

pub use encode::{Protocol, encode};
pub use request::{ProtocolError, RequestReader};
