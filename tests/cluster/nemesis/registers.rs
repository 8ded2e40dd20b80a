//! Single keys under GET, SET, INCR and DEL: linearizable, each for itself.
//!
//! Keys are left alone after a while, since a history's check takes longer the more outcomes in it are unknown.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate::checker::linear::{Operation, Outcome};
use quorate::checker::register::{Call, RegisterOperation, Reply};
use rand::RngExt;

use super::unknowns::Told;
use super::world::{Session, World, lock};
use crate::wire::{self, Fate};

/// Registers that are worked on at a time.
const KEYS: u64 = 6;
/// Operations after which a register is left alone.
const OPERATIONS: u64 = 300;

/// What clients saw of one register, and the ids to ask by of what they did not see.
#[derive(Debug, Default)]
pub struct History {
    pub operations: Vec<RegisterOperation>,
    /// By index into the operations.
    ids: Vec<(usize, String)>,
}

#[derive(Default)]
pub struct Registers {
    started: AtomicU64,
    pub histories: Mutex<BTreeMap<u64, History>>,
}

impl Registers {
    pub fn step(&self, session: &mut Session) {
        let started = self.started.fetch_add(1, Ordering::Relaxed);
        let key = started / (OPERATIONS * KEYS) * KEYS + session.rng.random_range(0..KEYS);
        let call = match session.rng.random_range(0..10) {
            0..=4 => Call::Get,
            // Values far apart, so that an INCR of one never looks like another.
            5..=7 => Call::Set(started * 1_000_000),
            8 => Call::Incr,
            _ => Call::Delete,
        };
        self.run(session, key, call);
    }

    /// Says whether it was done.
    fn run(&self, session: &mut Session, key: u64, call: Call) -> bool {
        let world = session.world;
        let name = world.key(&format!("register:{key}"));
        let invoked = world.time();
        let fate = match call {
            Call::Get => session.call(&["GET", &name]),
            Call::Set(value) => session.call(&["SET", &name, &value.to_string()]),
            Call::Incr => session.call(&["INCR", &name]),
            Call::Delete => session.call(&["DEL", &name]),
            Call::SetIf { .. } => unreachable!("no such command is sent"),
        };
        let done = matches!(fate, Fate::Done(_));
        let (outcome, id) = match fate {
            Fate::Done(reply) => match answer(call, &reply) {
                Some(reply) => (
                    Outcome::Returned {
                        at: world.time(),
                        reply,
                    },
                    None,
                ),
                None => {
                    world.found(format!("{call:?} of {name} got {reply:?}"));
                    return false;
                }
            },
            Fate::Open(id) => (Outcome::Unknown, Some(id)),
            Fate::Lost(_) => (Outcome::Unknown, None),
            Fate::Refused(_) => return false,
            Fate::Conflict => {
                world.found(format!("{call:?} of {name} got a null array"));
                return false;
            }
        };
        let mut histories = lock(&self.histories);
        let history = histories.entry(key).or_default();
        let index = history.operations.len();
        history.ids.extend(id.map(|id| (index, id)));
        history.operations.push(Operation {
            client: session.id,
            call,
            invoked,
            outcome,
        });
        done
    }

    /// Reads all registers once more.
    ///
    /// # Errors
    /// A read that fails.
    pub fn read_all(&self, session: &mut Session) -> Result<(), String> {
        let started = self.started.load(Ordering::Relaxed);
        for key in 0..(started / (OPERATIONS * KEYS) + 1) * KEYS {
            if !self.run(session, key, Call::Get) {
                return Err(format!("the last read of register {key} failed"));
            }
        }
        Ok(())
    }
}

/// `None`: no answer to this call.
fn answer(call: Call, reply: &wire::Reply) -> Option<Reply> {
    let number = |reply: &wire::Reply| u64::try_from(reply.number()?).ok();
    match (call, reply) {
        (Call::Get, wire::Reply::Nil) => Some(Reply::Value(None)),
        (Call::Get, wire::Reply::Bulk(_)) => Some(Reply::Value(Some(number(reply)?))),
        (Call::Set(_), reply) => reply.is_ok().then_some(Reply::Stored),
        (Call::Incr, wire::Reply::Int(_)) => Some(Reply::Count(number(reply)?)),
        (Call::Delete, wire::Reply::Int(count @ (0 | 1))) => Some(Reply::Deleted(*count == 1)),
        _ => None,
    }
}

impl History {
    /// Leaves out what `TXN STATUS` told to be aborted.
    pub fn apply_told(&mut self, world: &World) {
        let aborted = |id: &String| world.unknowns.told(id) == Some(Told::Aborted);
        for (index, _) in self.ids.drain(..).rev().filter(|(_, id)| aborted(id)) {
            self.operations.remove(index);
        }
    }
}
