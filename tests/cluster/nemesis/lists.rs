//! Transactions that append to lists and read them, on keys of all shards. The order of each list's elements tells what
//! came before what, so that cycles can be found.
//!
//! A list is a string: `APPEND key "7,"` appends 7. A list that has `LENGTH` elements is left alone and a new key takes
//! its place.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate::checker::list_append::{Op, Outcome, Txn};
use rand::RngExt;

use super::unknowns::Told;
use super::world::{Session, World, lock};
use crate::wire::{Fate, Reply, words};

/// Lists that are worked on at a time.
const LISTS: u64 = 24;
const LENGTH: u64 = 100;
/// Lists that one last read takes at once.
const READ_AT_ONCE: usize = 50;

/// What all clients saw, and the ids to ask by of what they did not see.
#[derive(Debug, Default)]
pub struct History {
    pub txns: Vec<Txn>,
    /// By index into the transactions.
    pub ids: Vec<(usize, String)>,
}

pub struct Lists {
    /// For each place: how many elements were ever handed out. Key and element follow from it.
    places: Vec<AtomicU64>,
    pub history: Mutex<History>,
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
        numbers
            .map(|number| number.parse().ok())
            .collect::<Option<Vec<u64>>>()
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
        let mut id = None;
        let outcome = match fate {
            Fate::Done(Reply::Array(replies)) if replies.len() + before == ops.len() => {
                for (op, reply) in ops[before..].iter_mut().zip(&replies) {
                    match (op, reply) {
                        (Op::Read { list, .. }, reply) => *list = Some(parse(session.world, reply)),
                        (Op::Append { .. }, Reply::Int(_)) => {}
                        (op, reply) => session.world.found(format!("{op:?} got {reply:?}")),
                    }
                }
                Outcome::Committed { at }
            }
            Fate::Done(reply) => return session.world.found(format!("{ops:?} got {reply:?}")),
            Fate::Conflict | Fate::Refused(_) => Outcome::Aborted { at },
            Fate::Open(open) => {
                id = Some(open);
                Outcome::Unknown
            }
            Fate::Lost(_) => Outcome::Unknown,
        };
        if outcome == Outcome::Unknown {
            // WATCH had shown it, but whether that was part of anything is not known.
            for op in &mut ops {
                if let Op::Read { list, .. } = op {
                    *list = None;
                }
            }
        }
        let mut history = lock(&self.history);
        let index = history.txns.len();
        history.ids.extend(id.map(|id| (index, id)));
        history.txns.push(Txn {
            client: session.id,
            invoked,
            outcome,
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

/// What `TXN STATUS` told of unknown outcomes, against what the reads show: told committed, all its elements are there.
/// What was told aborted becomes so in the history, for the checkers to find it if it is there.
pub fn apply_told(world: &World, history: &mut History) -> Vec<String> {
    let reads = history.txns.iter().flat_map(|txn| &txn.ops);
    let mut there = BTreeSet::new();
    for op in reads {
        if let Op::Read {
            key,
            list: Some(list),
        } = op
        {
            there.extend(list.iter().map(|&element| (*key, element)));
        }
    }
    let mut wrong = Vec::new();
    for (index, id) in &history.ids {
        let txn = &mut history.txns[*index];
        match world.unknowns.told(id) {
            Some(Told::Committed) => {
                let is_lost = |op: &Op| match op {
                    Op::Append { key, element } => !there.contains(&(*key, *element)),
                    Op::Read { .. } => false,
                };
                if txn.ops.iter().any(is_lost) {
                    wrong.push(format!(
                        "{id} was told to be committed, and is not all there: {txn:?}"
                    ));
                }
            }
            // When it ended is not known better than "before now".
            Some(Told::Aborted) => txn.outcome = Outcome::Aborted { at: world.time() },
            _ => {}
        }
    }
    wrong
}
