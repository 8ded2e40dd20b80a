//! The independent judge: what gateways were told, as histories, goes to the checkers of `src/checker`, which know
//! nothing of this simulation's model. Lists: strict serializability. Registers and counters: linearizability of each.

use bytes::Bytes;
use quorate::base::{Millis, Reply};
use quorate::checker::linear::{self, Answer};
use quorate::checker::list_append::{self, Op as ListOp, Outcome as ListOutcome, Txn};
use quorate::checker::register::{Call, Register, RegisterOperation, Reply as Learnt};
use quorate::machine::{Command, Read, ReadOutcome, Seen};

use super::checks::check;
use super::keys::Use;
use super::message::OpId;
use super::model::number;
use super::op::{Op, Outcome, State};
use super::workload::{COUNTERS, Kind, LISTS, REGISTERS};
use super::world::World;

/// Configurations of one history after which its check gives up: only broken histories need as many.
const CONFIGURATIONS_MAX: u64 = 50_000;

impl World {
    /// Judges all that was told; the run has come to rest.
    pub fn judge(&mut self) {
        let lists = self.list_history();
        match list_append::check(&lists) {
            Ok(summary) => self
                .stats
                .add_many("list elements judged", summary.elements_read as u64),
            Err(violations) => check(false, "strict serializability", || violations.to_string()),
        }
        for n in 0..REGISTERS {
            let key = self.keys.nth(Use::Register, n);
            self.judge_register(&key);
        }
        for n in 0..COUNTERS {
            let key = self.keys.nth(Use::Counter, n);
            self.judge_register(&key);
        }
    }

    fn list_history(&mut self) -> Vec<Txn> {
        let lists: Vec<Bytes> = (0..LISTS).map(|n| self.keys.nth(Use::List, n)).collect();
        let number_of = |key: &Bytes| {
            let at = lists.iter().position(|list| list == key);
            at.expect("a list") as u64
        };
        let asked = self.ops.iter().enumerate();
        let asked = asked.filter(|(_, op)| op.kind == Kind::List && op.id.is_some());
        let mut history: Vec<Txn> = asked.map(|(n, op)| transaction(n, op, &number_of)).collect();
        let last = lists.iter().map(|key| ListOp::Read {
            key: number_of(key),
            list: Some(elements(&self.stored(key))),
        });
        let last = last.collect();
        history.push(Txn {
            client: u64::MAX,
            invoked: self.moment(),
            outcome: ListOutcome::Committed { at: self.moment() },
            ops: last,
        });
        history
    }

    /// What a read from memory finds at the end.
    fn stored(&self, key: &Bytes) -> Reply {
        let read = Read::Run {
            commands: vec![Command::Get { key: key.clone() }],
            conditions: Vec::new(),
            seed: 0,
            versions: true,
            misses: false,
        };
        let late: Millis = self.now;
        match self.shards[self.model.shard_of(key)]
            .machine
            .read(&read, late, u64::MAX)
        {
            ReadOutcome::Ready(Seen::Run { mut replies, .. }) => replies.pop().unwrap_or(Reply::Nil),
            other => {
                check(false, "rest", || format!("{key:?} reads as {other:?} at the end"));
                Reply::Nil
            }
        }
    }

    fn judge_register(&mut self, key: &Bytes) {
        let calls = self.ops.iter().enumerate().filter_map(|(n, op)| call(n, op, key));
        let mut history: Vec<RegisterOperation> = calls.collect();
        let last = text_of(&self.stored(key));
        history.push(RegisterOperation {
            client: u64::MAX,
            call: Call::Get,
            invoked: self.moment(),
            outcome: linear::Outcome::Returned {
                at: self.moment(),
                reply: Learnt::Value(last.map(|text| value_of(&text))),
            },
        });
        let calls = history.len() as u64;
        match linear::check_within(&Register { start: None }, &history, CONFIGURATIONS_MAX) {
            Ok(Answer::Linearizable) => self.stats.add_many("calls judged", calls),
            Ok(Answer::GaveUp) => self.stats.add("histories not judged"),
            Err(violation) => check(false, "linearizability", || format!("{key:?}: {violation}")),
        }
    }
}

fn transaction(n: OpId, op: &Op, number_of: &dyn Fn(&Bytes) -> u64) -> Txn {
    let told = op.told.as_ref();
    let ops = op.commands.iter().enumerate().map(|(at, command)| match command {
        Command::Append { key, value } => ListOp::Append {
            key: number_of(key),
            element: value_of(value.strip_suffix(b",").unwrap_or(value)),
        },
        Command::Get { key } => ListOp::Read {
            key: number_of(key),
            list: told.map(|replies| elements(&replies[at])),
        },
        other => unreachable!("a list is not asked {other:?}"),
    });
    Txn {
        client: n as u64,
        invoked: op.invoked,
        outcome: match op.state {
            State::Over(Outcome::Done) => ListOutcome::Committed { at: op.returned },
            State::Over(Outcome::Nothing) => ListOutcome::Aborted { at: op.returned },
            _ => ListOutcome::Unknown,
        },
        ops: ops.collect(),
    }
}

/// The operation as a call on one register or counter, if it is one.
fn call(n: OpId, op: &Op, key: &Bytes) -> Option<RegisterOperation> {
    let told = |at: usize| op.told.as_ref().and_then(|replies| replies.get(at));
    let place = |wanted: &Bytes| {
        op.commands
            .iter()
            .position(|c| matches!(c, Command::IncrBy { key, .. } if key == wanted))
    };
    let (call, reply) = match op.kind {
        Kind::Look if op.to_read[0] == *key => {
            let value = op.seen.get(key)?.value.as_ref().map(|text| value_of(text));
            (Call::Get, Some(Learnt::Value(value)))
        }
        Kind::Write => {
            let value = op.commands.iter().find_map(|command| match command {
                Command::Set(set) if set.key == *key => Some(value_of(&set.value)),
                _ => None,
            });
            (Call::Set(value?), Some(Learnt::Stored))
        }
        Kind::Incr => {
            let count = match told(place(key)?) {
                Some(Reply::Int(n)) => u64::try_from(*n).ok(),
                _ => None,
            };
            (Call::Incr, count.map(Learnt::Count))
        }
        Kind::Bump if op.to_read.contains(key) => {
            let expected = op.seen.get(key)?.value.as_ref().map(|text| value_of(text));
            let value = expected.unwrap_or(0) + 1;
            (Call::SetIf { expected, value }, Some(Learnt::Swapped(true)))
        }
        _ => return None,
    };
    let outcome = match (op.state, reply) {
        (State::Over(Outcome::Done), Some(reply)) => linear::Outcome::Returned {
            at: op.returned,
            reply,
        },
        (State::Over(Outcome::Nothing), _) => return None,
        _ if op.id.is_none() => return None,
        _ => linear::Outcome::Unknown,
    };
    Some(RegisterOperation {
        client: n as u64,
        call,
        invoked: op.invoked,
        outcome,
    })
}

fn value_of(text: &[u8]) -> u64 {
    u64::try_from(number(text)).expect("no value here is negative")
}

fn text_of(reply: &Reply) -> Option<Bytes> {
    match reply {
        Reply::Bulk(text) => Some(text.clone()),
        _ => None,
    }
}

/// A list as it is stored: `70,31,`.
fn elements(reply: &Reply) -> Vec<u64> {
    let text = text_of(reply).unwrap_or_default();
    let numbers = text.split(|&byte| byte == b',').filter(|text| !text.is_empty());
    numbers.map(value_of).collect()
}
