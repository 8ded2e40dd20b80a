//! What is asked of a node, and what comes of it.

use super::node::Node;
use crate::base::{Reply, RequestId, Result};
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

impl Node {
    /// Which error a lone command over shards is answered with: not the first that was heard of, but the first in the order of
    /// its keys, as of one moment. Nothing has happened, so there is time.
    pub(super) async fn first_failure(&self, wish: &Wish, heard: Reply) -> Result<Reply> {
        let looks = Wish {
            commands: wish
                .commands
                .first()
                .map(Command::looks_after_failing)
                .unwrap_or_default(),
            ..Wish::default()
        };
        let Outcome::Replies(seen) = Box::pin(self.execute(looks)).await? else {
            return Ok(heard);
        };
        let first = wish
            .commands
            .first()
            .and_then(|command| command.first_failure(seen));
        Ok(first.unwrap_or(heard))
    }
}
