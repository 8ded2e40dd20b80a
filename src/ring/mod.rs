//! Floor 3, pure: key → slot → shard, and where a group's replicas live.

mod placement;
pub use crate::base::slot::{SLOTS, hash_tag, slot_of};
mod table;

pub use placement::{Placement, place};
pub use table::{Ring, VIRTUAL_NODES_DEFAULT};
