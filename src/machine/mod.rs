//! Floor 2, pure: the replicated state of a group. `apply` is a function of state and entry, and nothing else.
//!
//! ```text
//!  Batch (one log entry) ─apply─▶ [(Ticket, Response)]
//!     a request that meets a lock is parked in the state; its response comes out of the apply that frees the lock,
//!     under the ticket it had
//! ```
//!
//! Absence as an invariant: no clock is read and no die is cast here; time and seed arrive in the entry.
//!
//! Not here: which keys are evicted, and when (cluster); what is chosen arrives in the entry.

mod access;
pub mod commands;
mod coordinator;
mod digest;
mod eviction;
mod finished;
mod function_dump;
mod functions;
pub mod glob;
mod interest;
pub mod keyspace;
mod listing;
pub mod locks;
mod notices;
mod object;
pub mod overlay;
mod parked;
pub mod rdb;
mod read;
mod removals;
mod request;
mod run;
mod second_phase;
mod serving;
mod sessions;
mod shard;
mod snapshot;
mod strict;
mod tally;
mod tracked;
pub mod values;
mod warming;

pub use access::{Access, Counted};
pub use commands::{Command, Touches};
pub use coordinator::Coordinator;
pub use digest::Digest;
pub use eviction::{Candidate, Walk};
pub use function_dump::{dumped_codes, too_much};
pub use functions::{Function, FunctionChange, FunctionFlag, Libraries, Library, RestorePolicy};
pub use interest::Interest;
pub use listing::{Listing, Row, State, Wait};
pub use locks::{Scope, scope_of};
pub use notices::{Notice, Notices};
pub use read::{Held, Read, ReadOutcome, Seen};
pub use request::{
    Age, Batch, Body, Condition, Decide, Decision, Finish, Mode, No, Origin, Prepare, Prepared, Refusal,
    Request, Response, Stage, Staged, Ticket, Vote,
};
pub use shard::{Fate, Shard};
pub use snapshot::{Frozen, Thaw};
pub use strict::Failed;
pub use tally::Tally;
pub use tracked::{Changes, Tracked, TrackerId};

use std::sync::Arc;

use crate::base::{GroupId, Millis};

/// The state of one group, of either kind.
#[derive(Debug, Clone)]
pub enum Machine {
    Shard(Box<Shard>),
    Coordinator(Box<Coordinator>),
}

impl Machine {
    #[must_use]
    pub fn new(group: GroupId) -> Machine {
        match group {
            GroupId::Shard(_) => Machine::Shard(Box::default()),
            GroupId::Coordinator(_) => Machine::Coordinator(Box::default()),
        }
    }

    /// Applies the entry at `index`; says who is answered what. Indexes only grow.
    pub fn apply(&mut self, index: u64, batch: Batch) -> Vec<(Ticket, Response)> {
        self.apply_heard(index, batch, true)
    }

    /// As [`Machine::apply`]. Where nobody waits for the entry's own requests (`heard`: somebody does), their answers may be left
    /// out: of three replicas two need none.
    pub fn apply_heard(&mut self, index: u64, batch: Batch, heard: bool) -> Vec<(Ticket, Response)> {
        match self {
            Machine::Shard(shard) => shard.apply(index, batch, heard),
            Machine::Coordinator(coordinator) => coordinator.apply(index, batch),
        }
    }

    /// Answers a read at the leader's clock `now`; the caller has made sure that the state is current. `asked`: a log index
    /// that was applied, and confirmed, after the read had begun; it waits for what was prepared by then.
    #[must_use]
    pub fn read(&self, read: &Read, now: Millis, asked: u64) -> ReadOutcome {
        match self {
            Machine::Shard(shard) => shard.read(read, now, asked),
            Machine::Coordinator(coordinator) => coordinator.read(read),
        }
    }

    /// Brings near what reads that are answered next will look at.
    pub fn warm_for<'a>(&self, reads: impl Iterator<Item = &'a Read>) {
        if let Machine::Shard(shard) = self {
            warming::warm_for_reads(shard.keyspace(), reads);
        }
    }

    /// Large values that are gone, to be freed where nobody waits.
    #[must_use]
    pub fn take_garbage(&mut self) -> keyspace::Garbage {
        match self {
            Machine::Shard(shard) => shard.take_garbage(),
            Machine::Coordinator(_) => keyspace::Garbage::default(),
        }
    }

    /// The keys of interest here, and which of them were written; none at a coordinator.
    pub fn interest(&mut self) -> Option<&mut Interest> {
        match self {
            Machine::Shard(shard) => Some(shard.interest()),
            Machine::Coordinator(_) => None,
        }
    }

    /// What is counted about keys here; nothing at a coordinator.
    pub fn access(&mut self) -> Option<&mut Access> {
        match self {
            Machine::Shard(shard) => Some(shard.access()),
            Machine::Coordinator(_) => None,
        }
    }

    /// Goes on counting where the state that this one replaces had got.
    pub fn keep_tally(&mut self, before: &Machine) {
        if let (Machine::Shard(new), Machine::Shard(old)) = (self, before) {
            new.keep_tally(Arc::clone(old.tally()));
        }
    }

    /// The largest time stamped on an applied entry.
    #[must_use]
    pub fn time(&self) -> Millis {
        match self {
            Machine::Shard(shard) => shard.time(),
            Machine::Coordinator(coordinator) => coordinator.time(),
        }
    }

    #[must_use]
    pub fn as_shard(&self) -> Option<&Shard> {
        match self {
            Machine::Shard(shard) => Some(shard),
            Machine::Coordinator(_) => None,
        }
    }

    #[must_use]
    pub fn as_coordinator(&self) -> Option<&Coordinator> {
        match self {
            Machine::Coordinator(coordinator) => Some(coordinator),
            Machine::Shard(_) => None,
        }
    }
}
