//! Floor 5: a running node. It wires the floors below together and performs the effects that the pure ones ask for.
//!
//! ```text
//!  gateway ─▶ Node::execute ─▶ plan ─┬─ one shard ─────────▶ Router ─▶ leader's Group (here, or over its node's link)
//!                                    ├─ reads of several ──▶ read, then check that nothing changed
//!                                    └─ writes of several ─▶ Router ─▶ coordinator leader's driver ─▶ two-phase commit
//!  beside: join (identity), housekeeping (expiry, snapshots, balance), recovery (prepared and forgotten transactions)
//! ```
//!
//! Not here: RESP, sessions, command names (gateway); what a decision means (machine, txn).

mod answering;
mod contention;
mod deliveries;
mod digests;
mod driver;
mod env;
mod execute;
mod failing;
mod fetching;
mod forgetting;
mod functions;
#[cfg(fuzzing)]
pub mod fuzzing;
mod housekeeping;
mod inspect;
mod join;
mod leaders;
mod line;
mod memory;
mod message;
mod nearest;
mod node;
mod notices;
mod numbering;
mod opened;
mod optimistic;
mod outcome;
mod pubsub;
mod reads;
mod recovery;
mod router;
mod scripts;
mod settings;
mod status;
mod tracking;
mod turns;
mod vitals;
mod volatile;
mod waiting;
mod wish;

pub use env::{Env, OpenDisk};
pub use inspect::{Overview, UnderWay};
pub use node::{Node, NodeOptions, StartError};
pub use outcome::Known;
pub use pubsub::{Kind, Listener, Message, PubSub};
pub use settings::{Setting, Settings};
pub use status::{NodeStatus, ShardShare};
pub use tracking::{Asker, Gathered, Inbox, Stale, Tracking, Wish as TrackingWish, on_behalf};
pub use vitals::{Saved, Size};
pub use waiting::InLine;
pub use wish::{Outcome, Wish};
