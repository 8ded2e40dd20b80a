//! Single keys under GET, SET, INCR and DEL: linearizable, each for itself.
//!
//! Keys are left alone after a while, since a history's check takes longer the more outcomes in it are unknown.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::Rng;

use super::unknowns::Told;
use super::world::{Session, World, lock};
use crate::wire::{Fate, Reply};

/// Registers that are worked on at a time.
const KEYS: u64 = 6;
/// Operations after which a register is left alone.
const OPERATIONS: u64 = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Get,
    Set(u64),
    Incr,
    Delete,
}

#[derive(Debug, Clone)]
pub struct Seen {
    pub key: u64,
    pub client: u64,
    pub call: Call,
    pub invoked: u64,
    /// When it returned, and what. `None`: unknown.
    pub returned: Option<(u64, Reply)>,
    /// The id of an unknown one.
    pub id: Option<String>,
}

#[derive(Default)]
pub struct Registers {
    started: AtomicU64,
    pub history: Mutex<Vec<Seen>>,
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
        };
        let done = matches!(fate, Fate::Done(_));
        let (returned, id) = match fate {
            Fate::Done(reply) => (Some((world.time(), reply)), None),
            Fate::Open(id) => (None, Some(id)),
            Fate::Lost(_) => (None, None),
            Fate::Refused(_) => return false,
            Fate::Conflict => {
                world.found(format!("{call:?} got a null array"));
                return false;
            }
        };
        lock(&self.history).push(Seen {
            key,
            client: session.id,
            call,
            invoked,
            returned,
            id,
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

/// Leaves out what `TXN STATUS` told to be aborted.
pub fn apply_told(world: &World, history: &mut Vec<Seen>) {
    history.retain(|seen| {
        let told = seen.id.as_ref().and_then(|id| world.unknowns.told(id));
        told != Some(Told::Aborted)
    });
}
