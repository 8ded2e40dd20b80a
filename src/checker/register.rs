//! The [`Model`] of one key that holds a number or is absent.
//!
//! A history checks fastest, and tells most, when every write brings a value of its own: then a read names the write
//! that it saw.

use std::collections::{BTreeMap, BTreeSet};

use super::linear::{Blind, Makes, Model, Operation, Outcome, Reach};

/// One key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Register {
    /// What the key holds when the history begins; `None`: it is absent.
    pub start: Option<u64>,
}

/// What a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Answers [`Reply::Value`].
    Get,
    /// Answers [`Reply::Stored`].
    Set(u64),
    /// Sets `value` if the key holds `expected` (`None`: is absent). Answers [`Reply::Swapped`].
    SetIf { expected: Option<u64>, value: u64 },
    /// Adds one; an absent key counts as 0. Answers [`Reply::Count`].
    Incr,
    /// Answers [`Reply::Deleted`].
    Delete,
}

/// What a client learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reply {
    Value(Option<u64>),
    Stored,
    /// Whether the key held what was expected, and was set.
    Swapped(bool),
    /// The value after the increment.
    Count(u64),
    /// Whether there was a key to delete.
    Deleted(bool),
}

/// One call on a register.
pub type RegisterOperation = Operation<Call, Reply>;

impl Register {
    /// The state after `call`, and its answer; `None` if a number would pass `u64::MAX`.
    pub fn run(state: Option<u64>, call: Call) -> Option<(Option<u64>, Reply)> {
        Some(match call {
            Call::Get => (state, Reply::Value(state)),
            Call::Set(value) => (Some(value), Reply::Stored),
            Call::SetIf { expected, value } if state == expected => (Some(value), Reply::Swapped(true)),
            Call::SetIf { .. } => (state, Reply::Swapped(false)),
            Call::Incr => {
                let count = state.unwrap_or(0).checked_add(1)?;
                (Some(count), Reply::Count(count))
            }
            Call::Delete => (None, Reply::Deleted(state.is_some())),
        })
    }
}

impl Model for Register {
    type State = Option<u64>;
    type Call = Call;
    type Reply = Reply;

    fn start(&self) -> Option<u64> {
        self.start
    }

    fn step(&self, state: &Option<u64>, call: &Call, reply: Option<&Reply>) -> Option<Option<u64>> {
        let (after, answer) = Register::run(*state, *call)?;
        reply.is_none_or(|reply| *reply == answer).then_some(after)
    }

    /// A write whose value nobody could recognise is *fresh*: fresh values are all alike. It can be left out if,
    /// besides, no reply was learnt that only says "some other value is there" (a failed [`Call::SetIf`], a
    /// [`Call::Delete`] that found a key): then every call that follows the write and tells the outcome overwrites
    /// blindly, up to the next overwrite only unknown calls can have seen it, and those can be left out with it.
    ///
    /// An increment is never left out (each changes what later ones answer), but one is as good as another. So is a
    /// deletion.
    fn classes(&self, history: &[RegisterOperation]) -> Vec<Option<u64>> {
        let recognised = Recognised::of(history);
        let mut numbers = BTreeMap::new();
        history
            .iter()
            .filter(|operation| matches!(operation.outcome, Outcome::Unknown))
            .map(|operation| {
                let kind = recognised.kind(operation.call)?;
                let fresh = numbers.len() as u64;
                Some(*numbers.entry(kind).or_insert(fresh))
            })
            .collect()
    }

    /// Only unknown increments make anything: what lies closely above a value that somebody else made.
    fn reach(&self, history: &[RegisterOperation], states: &[Option<u64>]) -> Vec<Reach> {
        let made =
            history
                .iter()
                .filter_map(|operation| match self.makes(&operation.call, operation.reply()) {
                    Makes::Only(state) => state,
                    Makes::Nothing | Makes::Anything => None,
                });
        // An absent key counts as 0.
        let made: BTreeSet<u64> = made.chain([0]).chain(self.start).collect();
        let steps = Recognised::of(history).unknown_increments;
        let is_above = |value: u64| made.range(value.saturating_sub(steps)..value).next().is_some();
        let reach = states.iter().map(|state| match state {
            Some(value) if is_above(*value) => Reach::ByAnything,
            _ => Reach::ByItsMakers,
        });
        reach.collect()
    }

    /// A counter that is never set only grows.
    fn never_returns(&self, history: &[RegisterOperation]) -> bool {
        history
            .iter()
            .all(|operation| matches!(operation.call, Call::Get | Call::Incr))
    }

    fn blind(&self, history: &[RegisterOperation]) -> Vec<Blind> {
        let recognised = Recognised::of(history);
        let is_unseen = |value| !recognised.any_other_value_counts && recognised.is_fresh(value);
        let blind = history.iter().map(|operation| match operation.call {
            Call::Set(value) if is_unseen(value) => Blind::Unseen,
            Call::Set(_) => Blind::Overwrites,
            _ => Blind::No,
        });
        blind.collect()
    }

    fn needs(&self, call: &Call, reply: &Reply) -> Option<Option<u64>> {
        match (*call, *reply) {
            (Call::Get, Reply::Value(value)) => Some(value),
            (Call::SetIf { expected, .. }, Reply::Swapped(true)) => Some(expected),
            // One is what both an absent key and 0 answer.
            (Call::Incr, Reply::Count(count)) if count >= 2 => Some(Some(count - 1)),
            (Call::Delete, Reply::Deleted(false)) => Some(None),
            _ => None,
        }
    }

    fn makes(&self, call: &Call, reply: Option<&Reply>) -> Makes<Option<u64>> {
        match (*call, reply) {
            (Call::Get, _)
            | (Call::SetIf { .. }, Some(Reply::Swapped(false)))
            | (Call::Delete, Some(Reply::Deleted(false))) => Makes::Nothing,
            (Call::Set(value) | Call::SetIf { value, .. }, _) => Makes::Only(Some(value)),
            (Call::Incr, Some(Reply::Count(count))) => Makes::Only(Some(*count)),
            (Call::Incr, _) => Makes::Anything,
            (Call::Delete, _) => Makes::Only(None),
        }
    }
}

/// Unknown calls that compare equal are interchangeable. A fresh value is no part of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Set(Option<u64>),
    SetIf(Option<u64>, Option<u64>),
    Incr,
    Delete,
}

/// The values that some call's meaning depends on.
struct Recognised {
    values: BTreeSet<u64>,
    /// Unknown increments: each can carry a value one further before somebody recognises it.
    unknown_increments: u64,
    /// Somebody learnt only that *some* (other) value was there.
    any_other_value_counts: bool,
}

impl Recognised {
    fn of(history: &[RegisterOperation]) -> Recognised {
        let mut recognised = Recognised {
            values: BTreeSet::new(),
            unknown_increments: 0,
            any_other_value_counts: false,
        };
        for operation in history {
            let reply = operation.reply().copied();
            let value = match (operation.call, reply) {
                (Call::Get, Some(Reply::Value(value))) => value,
                (Call::SetIf { expected, .. }, _) => expected,
                (Call::Incr, Some(Reply::Count(count))) => count.checked_sub(1),
                _ => None,
            };
            recognised.values.extend(value);
            recognised.unknown_increments += u64::from((operation.call, reply) == (Call::Incr, None));
            recognised.any_other_value_counts |=
                matches!(reply, Some(Reply::Swapped(false) | Reply::Deleted(true)));
        }
        recognised
    }

    fn is_fresh(&self, value: u64) -> bool {
        let furthest = value.saturating_add(self.unknown_increments);
        self.values.range(value..=furthest).next().is_none()
    }

    /// `None`: can be left out.
    fn kind(&self, call: Call) -> Option<Kind> {
        let written = |value| match self.is_fresh(value) {
            true if self.any_other_value_counts => Some(None),
            true => None,
            false => Some(Some(value)),
        };
        match call {
            Call::Get => None,
            Call::Set(value) => Some(Kind::Set(written(value)?)),
            Call::SetIf { expected, value } if expected == Some(value) => None,
            Call::SetIf { expected, value } => Some(Kind::SetIf(expected, written(value)?)),
            Call::Incr => Some(Kind::Incr),
            Call::Delete => Some(Kind::Delete),
        }
    }
}
