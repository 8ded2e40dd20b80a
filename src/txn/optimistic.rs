//! Commands over several shards that need each other's data: read everything with versions, run at the gateway on a
//! scratch keyspace, then commit the writes under the condition that nothing that was read has changed.
//!
//! ```text
//!  keys ─Fetch─▶ values + versions ─run─▶ replies + writes ─▶ Put … if versions still hold ─conflict─▶ again
//! ```

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::base::{Millis, Mutant, Reply, mutant};
use crate::machine::keyspace::{Keyspace, Object};
use crate::machine::overlay::Overlay;
use crate::machine::{Command, Condition, Touches};

/// One run of such a transaction.
#[derive(Debug)]
pub struct Optimistic {
    /// What to commit, with absolute expiries; the last command recalls the replies.
    pub commands: Vec<Command>,
}

impl Optimistic {
    /// Every key that `commands` touch; `None` if one touches the whole key space, which cannot be fetched.
    #[must_use]
    pub fn keys(commands: &[Command]) -> Option<Vec<Bytes>> {
        let mut keys = BTreeSet::new();
        for command in commands {
            match command.touches() {
                Touches::Keys(more) => keys.extend(more.into_iter().cloned()),
                Touches::Everything | Touches::Shard(_) => return None,
            }
        }
        Some(keys.into_iter().collect())
    }

    /// Runs `commands` on what `Fetch` replied for `keys`, at time `now`.
    #[must_use]
    pub fn run(commands: &[Command], keys: &[Bytes], fetched: &Reply, now: Millis, seed: u64) -> Optimistic {
        let mut keyspace = Keyspace::default();
        if let Reply::Array(values) = fetched {
            for (key, value) in keys.iter().zip(values) {
                let object = Command::fetched(value).map(|(value, expires)| Object {
                    value,
                    expires,
                    version: 1,
                });
                keyspace.set(key, object);
            }
        }
        let mut view = Overlay::new(&keyspace, now, seed);
        let replies = commands.iter().map(|command| command.run(&mut view)).collect();
        let puts = view
            .writes
            .keys
            .into_iter()
            .map(|(key, value)| Command::Put { key, value });
        let key = keys.first().cloned().unwrap_or_default();
        Optimistic {
            commands: puts.chain([Command::Recall { key, replies }]).collect(),
        }
    }

    /// The replies of the run that was committed: this one, or an earlier one of the same request.
    #[must_use]
    pub fn replies(mut outcome: Vec<Reply>) -> Vec<Reply> {
        match outcome.pop() {
            Some(Reply::Array(replies)) => replies,
            other => other.into_iter().collect(),
        }
    }

    /// The conditions to commit under: those that the user set, and that nothing fetched has changed. A key that both
    /// name keeps both conditions: if they differ, one of them fails, and rightly.
    #[must_use]
    pub fn conditions(watched: &[Condition], touched: Vec<Condition>) -> Vec<Condition> {
        let unconditional = mutant::is(Mutant::OptimisticWithoutConditions);
        let touched = touched.into_iter().filter(|_| !unconditional);
        watched.iter().cloned().chain(touched).collect()
    }
}
