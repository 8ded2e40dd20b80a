//! Counts: numbers that INCR gives are given once, and every acknowledged increment is in the sum once.

use std::collections::BTreeMap;
use std::sync::Mutex;

use rand::RngExt;

use super::unknowns::Told;
use super::world::{Session, World, lock};
use crate::wire::{Fate, Reply, words};

const COUNTERS: u64 = 8;

#[derive(Debug, Clone, Default)]
struct Raised {
    acked: i64,
    /// Unknown, with ids to ask by.
    ids: Vec<String>,
    /// Unknown, the connection broke.
    lost: i64,
    /// The number that each acknowledged increment gave.
    given: Vec<i64>,
}

#[derive(Default)]
pub struct Counters {
    raised: Mutex<BTreeMap<String, Raised>>,
}

impl Counters {
    /// One or two counters up by one. What was refused is simply not counted.
    pub fn step(&self, session: &mut Session) {
        let first = session.rng.random_range(0..COUNTERS);
        let second = (first + session.rng.random_range(1..COUNTERS)) % COUNTERS;
        let name = |n: u64| session.world.key(&format!("counter:{n}"));
        let (first, second) = (name(first), name(second));
        if session.chance(50) {
            let fate = session.call(&["INCR", &first]);
            self.note(session.world, &[&first], &fate);
        } else {
            let fate = session.multi(&[words(&["INCR", &first]), words(&["INCR", &second])]);
            self.note(session.world, &[&first, &second], &fate);
        }
    }

    fn note(&self, world: &World, keys: &[&String], fate: &Fate) {
        let mut raised = lock(&self.raised);
        let numbers: Vec<Option<i64>> = match fate {
            Fate::Done(Reply::Array(items)) => items.iter().map(Reply::number).collect(),
            Fate::Done(reply) => vec![reply.number()],
            _ => Vec::new(),
        };
        for (at, key) in keys.iter().enumerate() {
            let raised = raised.entry((*key).clone()).or_default();
            match fate {
                Fate::Done(reply) => match numbers.get(at) {
                    Some(&Some(number)) => {
                        raised.acked += 1;
                        raised.given.push(number);
                    }
                    _ => world.found(format!("INCR of {keys:?} got {reply:?}")),
                },
                Fate::Open(id) => raised.ids.push(id.clone()),
                Fate::Lost(_) => raised.lost += 1,
                Fate::Conflict => world.found(format!(
                    "INCR of {keys:?} got a null array, and nothing was watched"
                )),
                Fate::Refused(_) => {}
            }
        }
    }

    /// Compares with what the counters hold now. `Ok`: how many increments were acknowledged.
    ///
    /// # Errors
    /// A read that fails.
    pub fn check(&self, session: &mut Session) -> Result<i64, String> {
        let world = session.world;
        let mut sum = 0;
        for (key, raised) in lock(&self.raised).iter_mut() {
            let Fate::Done(reply) = session.call(&["GET", key]) else {
                return Err(format!("the last read of {key} failed"));
            };
            let value = reply.number().ok_or_else(|| format!("{key} holds {reply:?}"))?;
            let told = |what: Told| {
                let count = raised
                    .ids
                    .iter()
                    .filter(|id| world.unknowns.told(id).as_ref() == Some(&what));
                i64::try_from(count.count()).expect("there are few")
            };
            let ids = i64::try_from(raised.ids.len()).expect("there are few");
            let least = raised.acked + told(Told::Committed);
            let most = raised.acked + raised.lost + ids - told(Told::Aborted);
            if !(least..=most).contains(&value) {
                world.found(format!(
                    "{key} is {value}, not {least} to {most}: {} acknowledged, {ids} with ids, {} lost",
                    raised.acked, raised.lost
                ));
            }
            raised.given.sort_unstable();
            let twice = raised.given.windows(2).find(|two| two[0] == two[1]);
            if let Some([number, _]) = twice {
                world.found(format!("{key}: two increments gave {number}"));
            }
            if let Some(&last) = raised.given.last().filter(|&&last| last > value) {
                world.found(format!("{key} is {value}, and an increment gave {last}"));
            }
            sum += raised.acked;
        }
        Ok(sum)
    }
}
