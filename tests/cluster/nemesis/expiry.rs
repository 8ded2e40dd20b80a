//! Keys that expire: once a client has seen one gone, nobody ever sees it again, whatever the clocks do (P6).

use std::collections::VecDeque;
use std::sync::Mutex;

use rand::RngExt;

use super::world::{Session, World, lock};
use crate::wire::{Fate, Reply};

/// Keys that are looked at at a time.
const WATCHED: usize = 24;
/// Of a key's life in milliseconds: one that ends while it is looked at, or one that only a jump of a clock ends.
const SHORT: std::ops::Range<u64> = 20..1500;
const LONG: std::ops::Range<u64> = 1500..30_000;
/// By how much clocks that nobody moves may be wrong, in milliseconds.
const DRIFT: u64 = 20;

#[derive(Debug, Clone)]
struct Key {
    number: u64,
    life: u64,
    set_at: u64,
    /// The earliest end of a read that did not find it.
    gone: Option<u64>,
}

#[derive(Default)]
pub struct Expiry {
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    next: u64,
    watched: VecDeque<Key>,
    seen_gone: u64,
    looked_after: u64,
}

fn name(world: &World, number: u64) -> String {
    world.key(&format!("expiring:{number}"))
}

impl Expiry {
    /// `honest`: nobody moves clocks, so nothing may go early.
    pub fn step(&self, session: &mut Session, honest: bool) {
        let picked = {
            let keys = lock(&self.keys);
            let count = keys.watched.len();
            let at = session.rng.random_range(0..WATCHED.max(1));
            (at < count).then(|| keys.watched[at].clone())
        };
        match picked {
            Some(key) if !session.chance(4) => self.look(session, &key, honest),
            _ => self.set(session),
        }
    }

    /// Every key is set once. One whose SET was not acknowledged is left alone.
    fn set(&self, session: &mut Session) {
        let number = {
            let mut keys = lock(&self.keys);
            keys.next += 1;
            keys.next
        };
        let life = if session.chance(70) { SHORT } else { LONG };
        let life = session.rng.random_range(life);
        let set_at = session.world.time();
        let fate = session.call(&[
            "SET",
            &name(session.world, number),
            &number.to_string(),
            "PX",
            &life.to_string(),
        ]);
        if let Fate::Done(_) = fate {
            let mut keys = lock(&self.keys);
            keys.watched.push_back(Key {
                number,
                life,
                set_at,
                gone: None,
            });
            if keys.watched.len() > WATCHED {
                keys.watched.pop_front();
            }
        }
    }

    fn look(&self, session: &mut Session, key: &Key, honest: bool) {
        let world = session.world;
        let name = name(world, key.number);
        let invoked = world.time();
        // Readers go from node to node.
        if session.chance(20) {
            session.move_on();
        }
        let Fate::Done(reply) = session.call(&["GET", &name]) else {
            return;
        };
        let returned = world.time();
        let mut keys = lock(&self.keys);
        match reply {
            Reply::Nil => {
                if honest && returned < key.set_at + (key.life - DRIFT.min(key.life)) * 1_000_000 {
                    world.found(format!(
                        "{name} was gone early: {key:?}, read from {invoked} to {returned}"
                    ));
                }
                if key.gone.is_none() {
                    keys.seen_gone += 1;
                } else {
                    keys.looked_after += 1;
                }
                let found = keys.watched.iter_mut().find(|other| other.number == key.number);
                if let Some(known) = found {
                    known.gone = Some(known.gone.map_or(returned, |gone| gone.min(returned)));
                }
            }
            reply if reply.text() == Some(key.number.to_string()) => {
                // Only what was known before this read began: `key` is from then.
                if let Some(gone) = key.gone.filter(|&gone| gone < invoked) {
                    world.found(format!(
                        "{name} came back: gone in a read that ended at {gone}, there in one from {invoked}: {key:?}"
                    ));
                }
            }
            reply => world.found(format!("{name} holds {reply:?}")),
        }
    }

    /// Keys that were seen to go, and looks after that.
    pub fn counts(&self) -> (u64, u64) {
        let keys = lock(&self.keys);
        (keys.seen_gone, keys.looked_after)
    }
}
