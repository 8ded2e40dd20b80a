//! Reads: answered from the leader's memory, without an entry, unless a lock or an expiry is in the way.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::keyspace::Value;
use super::locks::Scope;
use super::locks::scope_of;
use super::overlay::Overlay;
use super::request::Condition;
use super::run::replies;
use super::shard::{Fate, Shard};
use super::{Command, Decision, Libraries};
use crate::base::{AttemptId, Millis, Mutant, Reply, RequestId, mutant};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Read {
    /// Shard: if the conditions hold, run read-only commands.
    Run {
        commands: Vec<Command>,
        conditions: Vec<Condition>,
        seed: u64,
        /// Say the versions of all that was touched, too.
        versions: bool,
        /// Say which keys were looked for and not found, too.
        misses: bool,
    },
    /// Any group: what became of a request or transaction.
    Status(RequestId),
    /// Coordinator: which of these are staged and not decided?
    Staged(Vec<AttemptId>),
    /// Shard: what these keys hold, unless it is more than so many bytes.
    Values { keys: Vec<Bytes>, most: u64 },
    /// First shard: the libraries of functions, unless they are those of this version.
    Functions(u64),
}

/// Value and expiry of a key that is there.
pub type Held = Option<(Value, Option<Millis>)>;

/// What a read saw, in one state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Seen {
    Run {
        replies: Vec<Reply>,
        /// Empty unless versions were asked for.
        touched: Vec<Condition>,
        /// Empty unless misses were asked for.
        missed: Vec<Bytes>,
    },
    Conflict,
    Decision(Decision),
    /// Shard: what its reply table says.
    Request(Fate),
    Staged(Vec<AttemptId>),
    Nothing,
    Values {
        held: Vec<Held>,
        touched: Vec<Condition>,
    },
    /// The values that were asked for are so many bytes.
    TooMuch(u64),
    /// `None`: as known.
    Functions(Option<Libraries>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum ReadOutcome {
    Ready(Seen),
    /// A prepared transaction holds a key: its decision comes first.
    Locked,
    /// A key has expired by the leader's clock: that must be logged before it is seen.
    Expired,
}

impl Shard {
    pub(super) fn read(&self, read: &Read, now: Millis, asked: u64) -> ReadOutcome {
        match read {
            Read::Run {
                commands,
                conditions,
                seed,
                versions,
                misses,
            } => {
                let run = (commands.as_slice(), conditions.as_slice());
                self.read_run(run, *seed, (*versions, *misses), now, asked)
            }
            Read::Status(id) => ReadOutcome::Ready(Seen::Request(self.fate(*id))),
            Read::Staged(_) => ReadOutcome::Ready(Seen::Nothing),
            Read::Values { keys, most } => self.read_values(keys, *most, now, asked),
            Read::Functions(known) => {
                let libraries = self.libraries();
                let news = libraries.version() != *known;
                ReadOutcome::Ready(Seen::Functions(news.then(|| libraries.clone())))
            }
        }
    }

    fn read_run(
        &self,
        (commands, conditions): (&[Command], &[Condition]),
        seed: u64,
        (versions, misses): (bool, bool),
        now: Millis,
        asked: u64,
    ) -> ReadOutcome {
        debug_assert!(
            commands.iter().all(|command| !command.is_write()),
            "a write among reads"
        );
        let now = now.max(self.time());
        let nothing_expires = self.keyspace().expiring(now).next().is_none();
        // Mostly nothing can be in the way, whatever the commands touch.
        let scope =
            (versions || !nothing_expires || !self.locks().is_free()).then(|| scope_of(commands, conditions));
        if let Some(scope) = &scope {
            if !self.is_decided(scope, asked) && !mutant::is(Mutant::ReadsIgnoreLocks) {
                return ReadOutcome::Locked;
            }
            if self.sees_unlogged_expiry(scope, now) && !mutant::is(Mutant::ExpiryByLocalClock) {
                return ReadOutcome::Expired;
            }
        }
        if !self.hold(conditions) {
            return ReadOutcome::Ready(Seen::Conflict);
        }
        self.note_access(commands, now);
        let mut view = Overlay::new(self.keyspace(), now, seed);
        view.record(misses);
        let replies = replies(commands, &mut view, false);
        let missed = view.take_notices().into_iter().map(|notice| notice.key).collect();
        let ((hits, misses), tally) = (view.looked(), &self.keyspace().tally);
        tally.hits.add(hits);
        tally.misses.add(misses);
        let touched = match scope.filter(|_| versions) {
            None => Vec::new(),
            Some(Scope::All) => vec![Condition::Whole {
                version: self.last_write(),
            }],
            Some(Scope::Keys(keys)) => keys.into_iter().map(|key| self.touched(key)).collect(),
        };
        ReadOutcome::Ready(Seen::Run {
            replies,
            touched,
            missed,
        })
    }

    fn read_values(&self, keys: &[Bytes], most: u64, now: Millis, asked: u64) -> ReadOutcome {
        let now = now.max(self.time());
        let scope = Scope::Keys(keys.to_vec());
        if !self.is_decided(&scope, asked) && !mutant::is(Mutant::ReadsIgnoreLocks) {
            return ReadOutcome::Locked;
        }
        if self.sees_unlogged_expiry(&scope, now) && !mutant::is(Mutant::ExpiryByLocalClock) {
            return ReadOutcome::Expired;
        }
        let view = Overlay::new(self.keyspace(), now, 0);
        let there = keys.iter().map(|key| view.get(key));
        let bytes: u64 = there
            .clone()
            .flatten()
            .map(|(value, _)| value.weight() as u64)
            .sum();
        if bytes > most {
            return ReadOutcome::Ready(Seen::TooMuch(bytes));
        }
        self.note_keys(keys.iter(), now);
        let held = there.map(|held| held.map(|(value, expires)| (value.clone(), expires)));
        let touched = keys.iter().map(|key| self.touched(key.clone()));
        ReadOutcome::Ready(Seen::Values {
            held: held.collect(),
            touched: touched.collect(),
        })
    }

    /// Whether all conditions hold at replicated time: an expired key is an absent one.
    pub(super) fn hold(&self, conditions: &[Condition]) -> bool {
        conditions.iter().all(|condition| match condition {
            Condition::Key { key, version } => self.version(key, self.head.time) == *version,
            Condition::Whole { version } => self.head.last_write == *version,
            Condition::Absent { .. } => {
                self.touched(condition.key().cloned().unwrap_or_default()) == *condition
            }
        })
    }

    /// A key's version at time `now`; 0 if it is absent.
    #[must_use]
    pub fn version(&self, key: &[u8], now: Millis) -> u64 {
        self.keyspace
            .get(key)
            .filter(|object| !object.expired(now) || mutant::is(Mutant::WatchBlindToExpiry))
            .map_or(0, |object| object.version)
    }

    /// Whether no transaction that was prepared by log index `asked` is undecided here. What was prepared later had not
    /// been acknowledged to anybody when the read began, so the read may come before it; were it to wait for that as well, a
    /// key that is written all the time could never be read.
    fn is_decided(&self, scope: &Scope, asked: u64) -> bool {
        let owners = self.locks().in_the_way(scope);
        let later = |owner| {
            self.head
                .prepared
                .get(owner)
                .is_some_and(|intent| intent.at > asked)
        };
        owners.iter().all(later)
    }

    pub(super) fn touched(&self, key: Bytes) -> Condition {
        let version = self.version(&key, self.time());
        if version != 0 || mutant::is(Mutant::AbsentIsUnchanged) {
            return Condition::Key { key, version };
        }
        let expired = self.keyspace().get(&key).map_or(0, |object| object.version);
        let removed = self.head.removals.last(&key);
        Condition::Absent {
            key,
            expired,
            removed,
        }
    }

    fn sees_unlogged_expiry(&self, scope: &Scope, now: Millis) -> bool {
        match scope {
            // Counting commands must not count what has expired, so it has to be gone, not only known.
            Scope::All => self.keyspace().expiring(now).next().is_some(),
            Scope::Keys(keys) => keys.iter().any(|key| {
                let object = self.keyspace().get(key);
                object.is_some_and(|object| object.expired(now) && !object.expired(self.time()))
            }),
        }
    }
}
