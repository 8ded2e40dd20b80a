//! Commands over several shards that need each other's data: read everything with versions, run at the gateway on a
//! scratch keyspace, then commit the writes under the condition that nothing that was read has changed.
//!
//! ```text
//!  keys ─▶ values + versions ─run─▶ replies + writes ─▶ Put … if versions still hold ─conflict─▶ again
//!                                └─strict, and one failed─▶ nothing but the replies, likewise
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::base::{Millis, Mutant, Reply, mutant};
use crate::machine::commands::Apart;
use crate::machine::keyspace::{Keyspace, Object};
use crate::machine::overlay::Overlay;
use crate::machine::{Command, Condition, Held, Notice, Touches};

/// One run of such a transaction.
#[derive(Debug)]
pub struct Optimistic {
    /// What to commit, with absolute expiries. The first command recalls the replies: its place must not depend on what
    /// was written, which differs when the same request comes again.
    pub commands: Vec<Command>,
    /// It is strict, and this command failed with this reply: there is nothing to commit.
    pub failed: Option<(usize, Reply)>,
    /// What is to be told of it when it is committed.
    pub notices: Vec<Notice>,
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

    /// How to read little for `commands`, if it is one that can be taken apart; else all that its keys hold is needed.
    #[must_use]
    pub fn apart(commands: &[Command]) -> Option<Apart> {
        match commands {
            [command] => command.apart(),
            _ => None,
        }
    }

    /// What comes of a command that was taken apart, from what was `seen`.
    ///
    /// # Errors
    /// Replies that say nothing of it.
    pub fn moves(apart: &Apart, strict: bool, seen: &[Reply]) -> Result<Optimistic, String> {
        let moves = apart.moves(seen);
        let (reply, moves) = moves.ok_or_else(|| format!("replies that are not understood: {seen:?}"))?;
        let key = apart.key().clone();
        let replies = vec![reply];
        let failed = Self::failed(&replies).filter(|_| strict && !mutant::is(Mutant::StrictErrorsApplied));
        let recall = Command::Recall { key, replies };
        Ok(Optimistic {
            commands: std::iter::once(recall).chain(moves).collect(),
            failed,
            notices: Vec::new(),
        })
    }

    /// Runs `commands` on what `keys` were found to hold, at time `now`, each by `execute`: a script is the affair of another floor.
    #[must_use]
    pub fn run(
        wanted: (&[Command], bool),
        records: bool,
        keys: &[Bytes],
        held: Vec<Held>,
        now: Millis,
        seed: u64,
        mut execute: impl FnMut(&Command, &mut Overlay<'_>) -> Reply,
    ) -> Optimistic {
        let (commands, strict) = wanted;
        let mut keyspace = Keyspace::default();
        for (key, held) in keys.iter().zip(held) {
            let object = held.map(|(value, expires)| Object::new(value, expires, 1));
            keyspace.set(key, object);
        }
        let mut view = Overlay::new(&keyspace, now, seed);
        view.record(records);
        let replies: Vec<Reply> = commands
            .iter()
            .map(|command| execute(command, &mut view))
            .collect();
        let failed = Self::failed(&replies).filter(|_| strict && !mutant::is(Mutant::StrictErrorsApplied));
        let notices = view.take_notices();
        let writes = if failed.is_some() {
            BTreeMap::new()
        } else {
            view.writes.keys
        };
        let puts = writes.into_iter().map(|(key, value)| Command::Put { key, value });
        let key = keys.first().cloned().unwrap_or_default();
        Optimistic {
            commands: [Command::Recall { key, replies }]
                .into_iter()
                .chain(puts)
                .collect(),
            failed,
            notices,
        }
    }

    /// Commits these commands, which make the same changes and tell of them, in place of the values.
    pub fn replay(&mut self, commands: impl IntoIterator<Item = Command>) {
        self.commands.truncate(1);
        self.commands.extend(commands);
        self.notices.clear();
    }

    /// Bytes of the values that it has to commit.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.commands.iter().skip(1).map(Command::weight).sum()
    }

    /// The first reply that is an error, and its place.
    #[must_use]
    pub fn failed(replies: &[Reply]) -> Option<(usize, Reply)> {
        let at = replies.iter().position(Reply::is_error)?;
        Some((at, replies[at].clone()))
    }

    /// The replies of the run that was committed: this one, or an earlier one of the same request.
    #[must_use]
    pub fn replies(outcome: Vec<Reply>) -> Vec<Reply> {
        match outcome.into_iter().next() {
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
        let touched = touched.map(Condition::for_commit);
        watched.iter().cloned().chain(touched).collect()
    }
}
