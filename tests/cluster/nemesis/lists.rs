//! Transactions that append to lists and read them, on keys of all shards. The order of each list's elements tells what
//! came before what, so that cycles can be found.
//!
//! A list is a string: `APPEND key "7,"` appends 7. A list that has `LENGTH` elements is left alone and a new key takes
//! its place.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::Rng;

use super::unknowns::Told;
use super::world::{Session, World, lock};
use crate::wire::{Fate, Reply, words};

/// Lists that are worked on at a time.
const LISTS: u64 = 24;
const LENGTH: u64 = 100;
/// Lists that one last read takes at once.
const READ_AT_ONCE: usize = 50;

#[derive(Debug, Clone)]
pub enum Op {
    Append { key: u64, element: u64 },
    Read { key: u64, list: Option<Vec<u64>> },
}

#[derive(Debug, Clone)]
pub enum Ended {
    Committed { at: u64 },
    Aborted { at: u64 },
    /// With the id to ask by, if one was told.
    Unknown { id: Option<String> },
}

/// A transaction, as its client saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub client: u64,
    pub invoked: u64,
    pub ended: Ended,
    pub ops: Vec<Op>,
}

pub struct Lists {
    /// For each place: how many elements were ever handed out. Key and element follow from it.
    places: Vec<AtomicU64>,
    pub history: Mutex<Vec<Seen>>,
}

fn name(world: &World, key: u64) -> String {
    world.key(&format!("list:{key}"))
}

fn parse(world: &World, reply: &Reply) -> Vec<u64> {
    let text = match reply {
        Reply::Nil => return Vec::new(),
        other => other.text(),
    };
    let list = text.as_deref().and_then(|text| {
        let numbers = text.strip_suffix(',')?.split(',');
        numbers.map(|number| number.parse().ok()).collect::<Option<Vec<u64>>>()
    });
    list.unwrap_or_else(|| {
        world.found(format!("{reply:?} is no list"));
        Vec::new()
    })
}

impl Lists {
    pub fn new() -> Lists {
        Lists {
            places: (0..LISTS).map(|_| AtomicU64::new(0)).collect(),
            history: Mutex::default(),
        }
    }

    fn key_at(place: u64, count: u64) -> u64 {
        (count / LENGTH) * LISTS + place
    }

    fn some_key(&self, session: &mut Session) -> u64 {
        let place = session.rng.random_range(0..LISTS);
        let at = usize::try_from(place).expect("it is small");
        Lists::key_at(place, self.places[at].load(Ordering::Relaxed))
    }

    fn append(&self, session: &mut Session) -> Op {
        let place = session.rng.random_range(0..LISTS);
        let at = usize::try_from(place).expect("it is small");
        let count = self.places[at].fetch_add(1, Ordering::Relaxed);
        Op::Append {
            key: Lists::key_at(place, count),
            element: count,
        }
    }

    fn read(&self, session: &mut Session) -> Op {
        Op::Read {
            key: self.some_key(session),
            list: None,
        }
    }

    pub fn step(&self, session: &mut Session) {
        match session.rng.random_range(0..20) {
            0 => self.one_command(session),
            1..=4 => self.watched(session),
            5..=7 => {
                let count = session.rng.random_range(2..=4);
                let reads = (0..count).map(|_| self.read(session)).collect();
                self.transaction(session, reads);
            }
            _ => {
                let count = session.rng.random_range(1..=4);
                let op = |_| {
                    if session.chance(60) {
                        self.append(session)
                    } else {
                        self.read(session)
                    }
                };
                let ops = (0..count).map(op).collect();
                self.transaction(session, ops);
            }
        }
    }

    fn one_command(&self, session: &mut Session) {
        let op = if session.chance(50) {
            self.append(session)
        } else {
            self.read(session)
        };
        let invoked = session.world.time();
        let request = command(session.world, &op);
        let request: Vec<&str> = request.iter().map(String::as_str).collect();
        let fate = match session.call(&request) {
            Fate::Done(reply) => Fate::Done(Reply::Array(vec![reply])),
            fate => fate,
        };
        self.note(session, invoked, vec![op], fate, 0);
    }

    fn transaction(&self, session: &mut Session, ops: Vec<Op>) {
        let invoked = session.world.time();
        let commands: Vec<_> = ops.iter().map(|op| command(session.world, op)).collect();
        let fate = session.multi(&commands);
        self.note(session, invoked, ops, fate, 0);
    }

    /// WATCH and GET of one or two keys, then appends under the condition that these have not changed: the GETs are part
    /// of the transaction.
    fn watched(&self, session: &mut Session) {
        let invoked = session.world.time();
        let count = session.rng.random_range(1..=2);
        let mut ops: Vec<Op> = (0..count).map(|_| self.read(session)).collect();
        let mut requests = vec![words(&["WATCH"])];
        for op in &ops {
            let get = command(session.world, op);
            requests[0].push(get[1].clone());
            requests.push(get);
        }
        let Some(replies) = session.look(&requests) else {
            return session.move_on();
        };
        for (op, reply) in ops.iter_mut().zip(&replies[1..]) {
            if let Op::Read { list, .. } = op {
                *list = Some(parse(session.world, reply));
            }
        }
        let read = ops.len();
        for _ in 0..session.rng.random_range(1..=2) {
            ops.push(self.append(session));
        }
        let commands: Vec<_> = ops[read..].iter().map(|op| command(session.world, op)).collect();
        let fate = session.multi(&commands);
        self.note(session, invoked, ops, fate, read);
    }

    /// Records what became of it; `before`: ops that had been read before MULTI.
    fn note(&self, session: &Session, invoked: u64, mut ops: Vec<Op>, fate: Fate, before: usize) {
        let at = session.world.time();
        let ended = match fate {
            Fate::Done(Reply::Array(replies)) if replies.len() + before == ops.len() => {
                for (op, reply) in ops[before..].iter_mut().zip(&replies) {
                    match (op, reply) {
                        (Op::Read { list, .. }, reply) => *list = Some(parse(session.world, reply)),
                        (Op::Append { .. }, Reply::Int(_)) => {}
                        (op, reply) => session.world.found(format!("{op:?} got {reply:?}")),
                    }
                }
                Ended::Committed { at }
            }
            Fate::Done(reply) => return session.world.found(format!("{ops:?} got {reply:?}")),
            Fate::Conflict | Fate::Refused(_) => Ended::Aborted { at },
            Fate::Open(id) => Ended::Unknown { id: Some(id) },
            Fate::Lost(_) => Ended::Unknown { id: None },
        };
        if !matches!(ended, Ended::Committed { .. }) {
            // What WATCH had shown was no part of anything.
            for op in &mut ops {
                if let Op::Read { list, .. } = op {
                    *list = None;
                }
            }
        }
        lock(&self.history).push(Seen {
            client: session.id,
            invoked,
            ended,
            ops,
        });
    }

    /// Reads all lists once more, when nothing else goes on. Afterwards the history is complete.
    ///
    /// # Errors
    /// A read that fails.
    pub fn read_all(&self, session: &mut Session) -> Result<(), String> {
        let mut keys = Vec::new();
        for (place, count) in (0..).zip(&self.places) {
            let count = count.load(Ordering::Relaxed);
            keys.extend((0..=count / LENGTH).map(|generation| generation * LISTS + place));
        }
        for some in keys.chunks(READ_AT_ONCE) {
            let reads: Vec<Op> = some.iter().map(|&key| Op::Read { key, list: None }).collect();
            let commands: Vec<_> = reads.iter().map(|op| command(session.world, op)).collect();
            let invoked = session.world.time();
            let fate = session.multi(&commands);
            if !matches!(fate, Fate::Done(_)) {
                return Err(format!("the last read of {} lists: {fate:?}", some.len()));
            }
            self.note(session, invoked, reads, fate, 0);
        }
        Ok(())
    }
}

fn command(world: &World, op: &Op) -> Vec<String> {
    match op {
        Op::Append { key, element } => words(&["APPEND", &name(world, *key), &format!("{element},")]),
        Op::Read { key, .. } => words(&["GET", &name(world, *key)]),
    }
}

/// What `TXN STATUS` told of unknown outcomes, against the last reads: told committed, all its elements are there; told
/// aborted, none. The aborted become so in the history.
pub fn apply_told(world: &World, history: &mut [Seen]) -> Vec<String> {
    let mut there = BTreeSet::new();
    for seen in history.iter().filter(|seen| matches!(seen.ended, Ended::Committed { .. })) {
        for op in &seen.ops {
            if let Op::Read { key, list: Some(list) } = op {
                there.extend(list.iter().map(|&element| (*key, element)));
            }
        }
    }
    let mut wrong = Vec::new();
    for seen in history {
        let Ended::Unknown { id: Some(id) } = &seen.ended else {
            continue;
        };
        let appended = seen.ops.iter().filter_map(|op| match op {
            Op::Append { key, element } => Some(there.contains(&(*key, *element))),
            Op::Read { .. } => None,
        });
        let appended: Vec<bool> = appended.collect();
        match world.unknowns.told(id) {
            Some(Told::Committed) if appended.contains(&false) => {
                wrong.push(format!("{id} was told to be committed, and it is not all there: {seen:?}"));
            }
            Some(Told::Aborted) => {
                if appended.contains(&true) {
                    wrong.push(format!("{id} was told to be aborted, and is there: {seen:?}"));
                }
                // Its end is not known better than "some time before now".
                let at = world.time();
                seen.ended = Ended::Aborted { at };
            }
            _ => {}
        }
    }
    wrong
}
