//! Strict transactions: a command that replies with an error undoes all of them. Plain ones keep an error as a reply like
//! any other, as Redis does.

use serde::{Deserialize, Serialize};

use super::Command;
use crate::base::{Mutant, Reply, mutant};

/// Why a strict transaction was rolled back: the first of one shard's commands that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// Place among the commands of that shard.
    pub at: u32,
    /// What the command replied; for [`Command::Recall`] all that it recalls.
    pub reply: Reply,
}

impl Failed {
    /// Whether it failed for want of memory.
    #[must_use]
    pub fn for_memory(&self) -> bool {
        matches!(&self.reply, Reply::Error(why) if why.starts_with("OOM "))
    }
}

/// The first command that has failed, if a transaction of that kind minds.
pub(super) fn failed(strict: bool, commands: &[Command], replies: &[Reply]) -> Option<Failed> {
    if !strict || mutant::is(Mutant::StrictErrorsApplied) {
        return None;
    }
    let ran = (0..).zip(commands.iter().zip(replies));
    let mut failed = ran.filter(|(_, (command, reply))| match (command, reply) {
        // It ran at the gateway: its errors are among what it recalls.
        (Command::Recall { .. }, Reply::Array(replies)) => replies.iter().any(Reply::is_error),
        (_, reply) => reply.is_error(),
    });
    failed.next().map(|(at, (_, reply))| Failed {
        at,
        reply: reply.clone(),
    })
}
