//! What is asked of a node, and what comes of it.

use crate::base::{Reply, RequestId};
use crate::machine::{Command, Condition};

/// Commands to run as one, under conditions.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    pub commands: Vec<Command>,
    pub conditions: Vec<Condition>,
    /// The client's own number for it, and below which all of its numbers are finished.
    pub id: Option<(RequestId, u64)>,
    /// Nothing at all if one of the commands fails.
    pub strict: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// One reply a command.
    Replies(Vec<Reply>),
    /// A condition did not hold: nothing happened.
    Conflict,
    /// It is strict, and the command at this place failed: nothing happened.
    Failed(usize, Reply),
}

impl Wish {
    /// Whether an error on one shard leaves the others' shares undone.
    pub(super) fn is_all_or_nothing(&self) -> bool {
        self.strict || matches!(&self.commands[..], [one] if one.is_all_or_nothing())
    }
}
