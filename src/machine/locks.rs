//! Who holds which key from prepare to decision, and who waits for it. Part of the replicated state.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::request::Condition;
use super::{Command, Ticket, Touches};
use crate::base::{AttemptId, Mutant, mutant};

/// What a request touches in one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    Keys(Vec<Bytes>),
    /// Every key, those that are not there yet included (`FLUSHALL`, `DBSIZE`).
    All,
}

impl Scope {
    /// The same in bytes of its own.
    #[must_use]
    pub fn detached(&self) -> Scope {
        match self {
            Scope::Keys(keys) => Scope::Keys(keys.iter().map(|key| Bytes::copy_from_slice(key)).collect()),
            Scope::All => Scope::All,
        }
    }
}

/// Exclusive locks with exactly one owner each, and the tickets that wait for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locks {
    owners: BTreeMap<Bytes, AttemptId>,
    whole: Option<AttemptId>,
    waiting: BTreeMap<Bytes, BTreeSet<Ticket>>,
    waiting_whole: BTreeSet<Ticket>,
}

impl Locks {
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.owners.is_empty() && self.whole.is_none()
    }

    /// Keys locked one by one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// The owner of one key.
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> Option<AttemptId> {
        self.owners.get(key).copied().or(self.whole)
    }

    /// Owners that stand in the way of `scope`.
    #[must_use]
    pub fn in_the_way(&self, scope: &Scope) -> BTreeSet<AttemptId> {
        if self.is_free() {
            return BTreeSet::new();
        }
        let mut owners: BTreeSet<AttemptId> = self.whole.into_iter().collect();
        match scope {
            Scope::Keys(keys) => owners.extend(keys.iter().filter_map(|key| self.owners.get(key))),
            Scope::All if mutant::is(Mutant::WholeLockSeesNoKeys) => {}
            Scope::All => owners.extend(self.owners.values()),
        }
        owners
    }

    /// Locks `scope` for `owner`.
    ///
    /// # Panics
    /// If anybody else holds part of it: the caller has looked.
    pub fn lock(&mut self, scope: &Scope, owner: AttemptId) {
        assert!(
            self.in_the_way(scope).is_empty(),
            "{owner} locks what another transaction holds"
        );
        match scope {
            Scope::Keys(keys) => self.owners.extend(keys.iter().map(|key| (key.clone(), owner))),
            Scope::All => self.whole = Some(owner),
        }
    }

    /// Frees `scope` and returns who waited for any of it, in order of arrival.
    ///
    /// # Panics
    /// If `owner` does not hold all of it.
    pub fn unlock(&mut self, scope: &Scope, owner: AttemptId) -> BTreeSet<Ticket> {
        let mut woken = self.waiting_whole.clone();
        match scope {
            Scope::Keys(keys) => {
                let keys: BTreeSet<&Bytes> = keys.iter().collect();
                for key in keys {
                    assert_eq!(
                        self.owners.remove(key),
                        Some(owner),
                        "{owner} frees a key it does not hold"
                    );
                    woken.extend(self.waiting.get(key).into_iter().flatten());
                }
            }
            Scope::All => {
                assert_eq!(
                    self.whole.take(),
                    Some(owner),
                    "{owner} frees a shard it does not hold"
                );
                woken.extend(self.waiting.values().flatten());
            }
        }
        woken
    }

    pub fn wait(&mut self, scope: &Scope, ticket: Ticket) {
        match scope {
            Scope::Keys(keys) => {
                for key in keys {
                    self.waiting.entry(key.clone()).or_default().insert(ticket);
                }
            }
            Scope::All => drop(self.waiting_whole.insert(ticket)),
        }
    }

    pub fn stop_waiting(&mut self, scope: &Scope, ticket: Ticket) {
        self.waiting_whole.remove(&ticket);
        if let Scope::Keys(keys) = scope {
            for key in keys {
                if let Some(tickets) = self.waiting.get_mut(key) {
                    tickets.remove(&ticket);
                    if tickets.is_empty() {
                        self.waiting.remove(key);
                    }
                }
            }
        }
    }
}

/// Everything that commands and conditions touch in this shard.
#[must_use]
pub fn scope_of(commands: &[Command], conditions: &[Condition]) -> Scope {
    let mut keys = Vec::new();
    for command in commands {
        match command.touches() {
            Touches::Keys(more) => keys.extend(more.into_iter().cloned()),
            Touches::Everything | Touches::Shard(_) => return Scope::All,
        }
    }
    for condition in conditions {
        match condition.key() {
            Some(key) => keys.push(key.clone()),
            None => return Scope::All,
        }
    }
    Scope::Keys(keys)
}
