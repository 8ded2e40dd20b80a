//! What is under way in a group, as `TXN LIST` and `TXN INFO` show it: for people, and for nothing else to rely on.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::request::Body;
use super::shard::{Fate, Intent, Shard};
use super::{Scope, parked::Parked};
use crate::base::limits::{LISTED_KEY_BYTES_MAX, LISTED_ROWS_MAX, LISTED_WAITS_MAX};
use crate::base::{AttemptId, GroupId, Millis, TxnId};

/// What one group knows of one transaction or request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub txn: TxnId,
    pub state: State,
    pub attempt: Option<AttemptId>,
    pub started: Option<Millis>,
    pub deadline: Option<Millis>,
    pub coordinator: Option<GroupId>,
    pub participants: Vec<GroupId>,
    pub waits: Vec<Wait>,
    /// Those beyond [`LISTED_WAITS_MAX`].
    pub more_waits: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// At the coordinator: its turn has not come.
    Queued,
    /// At the coordinator: prepares are sent, and the attempt is not known to be staged.
    Preparing,
    /// At the coordinator: between two attempts.
    Waiting,
    /// In the coordinator's log: committed as soon as all participants have prepared.
    Staged,
    /// At the coordinator: the outcome is on its way to the log.
    Deciding,
    /// Committed; some participant has not acknowledged it.
    Telling,
    /// At a participant.
    Prepared,
    /// At a shard: waits for a lock.
    Parked,
    Committed,
    Aborted,
    /// A request of one shard: done.
    Executed,
    /// A request of one shard: it had no effect, and never will.
    Refused,
}

/// What a transaction waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// A coordinator starts transactions that share a key one after another; without a key: one of them runs alone.
    Turn {
        behind: TxnId,
        lane: Option<(GroupId, Bytes)>,
    },
    Vote(GroupId),
    /// A coordinator's log: to stage an attempt, or to record its outcome.
    Log(GroupId),
    /// The next attempt, at this time.
    Retry(Millis),
    Acknowledgement(GroupId),
    /// The decision, at a participant.
    Decision(GroupId),
    Lock {
        holder: AttemptId,
        key: Option<Bytes>,
    },
}

/// Rows of one group, the oldest ones if there are too many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    pub rows: Vec<Row>,
    pub left_out: usize,
}

impl Listing {
    /// Builds rows of the oldest of `all`, each given with its start.
    pub fn oldest<T: Copy>(mut all: Vec<(Millis, T)>, row: impl Fn(T) -> Row) -> Listing {
        all.sort_by_key(|(started, _)| *started);
        Listing {
            left_out: all.len().saturating_sub(LISTED_ROWS_MAX),
            rows: all
                .iter()
                .take(LISTED_ROWS_MAX)
                .map(|(_, what)| row(*what))
                .collect(),
        }
    }
}

impl Row {
    #[must_use]
    pub fn new(txn: TxnId, state: State) -> Row {
        Row {
            txn,
            state,
            attempt: None,
            started: None,
            deadline: None,
            coordinator: None,
            participants: Vec::new(),
            waits: Vec::new(),
            more_waits: 0,
        }
    }

    #[must_use]
    pub fn waiting_for(mut self, waits: impl IntoIterator<Item = Wait>) -> Row {
        for wait in waits {
            if self.waits.len() < LISTED_WAITS_MAX {
                self.waits.push(wait.cut());
            } else {
                self.more_waits += 1;
            }
        }
        self
    }
}

impl State {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Preparing => "preparing",
            State::Waiting => "waiting",
            State::Staged => "staged",
            State::Deciding => "deciding",
            State::Telling => "telling",
            State::Prepared => "prepared",
            State::Parked => "parked",
            State::Committed => "committed",
            State::Aborted => "aborted",
            State::Executed => "executed",
            State::Refused => "refused",
        }
    }
}

impl Wait {
    fn cut(mut self) -> Wait {
        if let Wait::Turn {
            lane: Some((_, key)), ..
        }
        | Wait::Lock { key: Some(key), .. } = &mut self
        {
            // A copy: a slice would keep all of a large key.
            *key = Bytes::copy_from_slice(&key[..key.len().min(LISTED_KEY_BYTES_MAX)]);
        }
        self
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Turn { behind, lane: None } => write!(f, "turn after {behind}"),
            Wait::Turn {
                behind,
                lane: Some((group, key)),
            } => write!(
                f,
                "turn after {behind} at key '{}' of {group}",
                key.escape_ascii()
            ),
            Wait::Vote(group) => write!(f, "vote of {group}"),
            Wait::Log(group) => write!(f, "log of {group}"),
            Wait::Retry(at) => write!(f, "next attempt at {at}"),
            Wait::Acknowledgement(group) => write!(f, "acknowledgement of {group}"),
            Wait::Decision(group) => write!(f, "decision of {group}"),
            Wait::Lock { holder, key: None } => write!(f, "lock held by {holder}"),
            Wait::Lock {
                holder,
                key: Some(key),
            } => {
                write!(f, "lock on key '{}' held by {holder}", key.escape_ascii())
            }
        }
    }
}

impl Shard {
    /// What is prepared and parked here; of one transaction also what became of it. `group` is this shard.
    #[must_use]
    pub fn listed(&self, group: GroupId, only: Option<TxnId>) -> Listing {
        #[derive(Clone, Copy)]
        enum Found<'a> {
            Prepared(AttemptId, &'a Intent),
            Parked(TxnId, &'a Parked),
            Over(AttemptId, bool),
            Known(TxnId, State),
        }
        let wanted = |txn: TxnId| only.is_none_or(|only| only == txn);
        let mut found = Vec::new();
        let prepared = self
            .head
            .prepared
            .iter()
            .filter(|(attempt, _)| wanted(attempt.txn));
        found.extend(prepared.map(|(&attempt, intent)| (intent.age.0, Found::Prepared(attempt, intent))));
        for parked in self.head.parked.iter() {
            let (txn, started) = match &parked.request.body {
                Body::Prepare(prepare) => (Some(prepare.attempt.txn), prepare.age.0),
                // When a request came is not kept: it is younger than all that is known to wait longer.
                _ => (parked.request.id, Millis::MAX),
            };
            if let Some(txn) = txn.filter(|&txn| wanted(txn)) {
                found.push((started, Found::Parked(txn, parked)));
            }
        }
        if let Some(txn) = only {
            let over = self
                .head
                .finished
                .iter()
                .filter(|(attempt, _)| attempt.txn == txn);
            found.extend(over.map(|(attempt, committed)| (0, Found::Over(attempt, committed))));
            match self.fate(txn) {
                Fate::Executed => found.push((0, Found::Known(txn, State::Executed))),
                Fate::Refused => found.push((0, Found::Known(txn, State::Refused))),
                Fate::Unknown | Fate::Waits => {}
            }
        }
        let row = |found| match found {
            Found::Prepared(attempt, intent) => prepared_row(attempt, intent),
            Found::Parked(txn, parked) => self.parked_row(txn, parked),
            Found::Over(attempt, committed) => Row {
                attempt: Some(attempt),
                ..Row::new(
                    attempt.txn,
                    if committed {
                        State::Committed
                    } else {
                        State::Aborted
                    },
                )
            },
            Found::Known(txn, state) => Row::new(txn, state),
        };
        Listing::oldest(found, |found| Row {
            participants: vec![group],
            ..row(found)
        })
    }

    fn parked_row(&self, txn: TxnId, parked: &Parked) -> Row {
        let locks = self.locks();
        let waits: Vec<Wait> = match &parked.scope {
            Scope::Keys(keys) => {
                let held = keys.iter().filter_map(|key| Some((key, locks.owner(key)?)));
                let lock = |(key, holder): (&Bytes, AttemptId)| Wait::Lock {
                    holder,
                    key: Some(key.clone()),
                };
                held.map(lock).collect()
            }
            Scope::All => {
                let owners = locks.in_the_way(&parked.scope).into_iter();
                owners.map(|holder| Wait::Lock { holder, key: None }).collect()
            }
        };
        let mut row = Row::new(txn, State::Parked).waiting_for(waits);
        row.attempt = parked.attempt;
        row.deadline = Some(parked.deadline);
        if let Body::Prepare(prepare) = &parked.request.body {
            row.started = Some(prepare.age.0);
            row.coordinator = Some(prepare.coordinator);
        }
        row
    }
}

fn prepared_row(attempt: AttemptId, intent: &Intent) -> Row {
    Row {
        attempt: Some(attempt),
        started: Some(intent.age.0),
        deadline: Some(intent.deadline),
        coordinator: Some(intent.coordinator),
        ..Row::new(attempt.txn, State::Prepared).waiting_for([Wait::Decision(intent.coordinator)])
    }
}
