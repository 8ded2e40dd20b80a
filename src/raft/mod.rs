//! Floor 4: consensus. The only place that names openraft.
//!
//! ```text
//!  Group::propose ─▶ proposer: what waits becomes one entry ─▶ openraft ─▶ LogStore (journal) + Network (link)
//!                                                                  └─ committed ─▶ apply ─▶ waiters by origin
//!  Group::read    ─▶ reader: one ReadIndex for all that wait ─▶ applied so far? ─▶ machine.read
//! ```
//!
//! A waiter is found by the batch's origin when the batch is applied on the node that proposed it, whether that is
//! still the leader or not; so a lost leadership alone makes no outcome unknown.
//!
//! Not here: membership changes.

mod admission;
mod bare_commits;
mod confirm;
mod entry;
mod faults;
mod follower;
mod framing;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gathering;
mod greeting;
mod group;
mod groups;
mod hibernation;
mod link;
mod log_store;
mod network;
mod options;
mod proposer;
mod reader;
mod runtime;
mod saving;
mod shared;
mod state_machine;
mod upkeep;
mod waiter;
mod wire;

pub use admission::{Admission, Used};
pub use confirm::Confirmer;
pub use framing::time_for;
pub use gathering::Gathering;
pub use group::{Group, GroupError};
pub use groups::Groups;
pub use hibernation::HibernationOptions;
pub use link::{LinkOptions, Links, PeerHello, Responder, ServiceHandler};
pub use options::GroupOptions;
pub use upkeep::GroupStatus;
pub use wire::LinkError;

#[cfg(test)]
mod suite;

openraft::declare_raft_types!(
    /// openraft's types as used here: opaque payloads, replies by our own waiters.
    pub TypeConfig:
        D = entry::Payload,
        R = (),
        Node = openraft::impls::EmptyNode,
        AsyncRuntime = runtime::Runtime,
);

type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
type Raft = openraft::Raft<TypeConfig, state_machine::StateMachine>;
