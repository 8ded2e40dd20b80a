//! Money moves by WATCH, MULTI and EXEC; every look at all accounts shows the same total.

use std::sync::Mutex;

use rand::RngExt;

use super::unknowns::Told;
use super::world::{Session, World, lock};
use crate::wire::{Fate, Reply, words};

const ACCOUNTS: u64 = 30;
const OPENING: i64 = 1000;
const TOTAL: i64 = ACCOUNTS.cast_signed() * OPENING;

#[derive(Default)]
pub struct Bank {
    moves: Mutex<Moves>,
}

#[derive(Default)]
struct Moves {
    acked: i64,
    lost: i64,
    ids: Vec<String>,
    looks: u64,
}

fn account(world: &World, n: u64) -> String {
    world.key(&format!("account:{n}"))
}

impl Bank {
    /// # Errors
    /// It cannot be opened.
    pub fn open(session: &mut Session) -> Result<(), String> {
        let mut opening = words(&["MSET"]);
        for n in 0..ACCOUNTS {
            opening.extend([account(session.world, n), OPENING.to_string()]);
        }
        let opening: Vec<&str> = opening.iter().map(String::as_str).collect();
        match session.call(&opening) {
            Fate::Done(_) => Ok(()),
            fate => Err(format!("the bank does not open: {fate:?}")),
        }
    }

    pub fn step(&self, session: &mut Session) {
        if session.chance(15) {
            self.look(session);
        } else {
            self.transfer(session);
        }
    }

    /// Between two accounts, and one more move as a third key.
    fn transfer(&self, session: &mut Session) {
        let from = session.rng.random_range(0..ACCOUNTS);
        let to = (from + session.rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let (from, to) = (account(session.world, from), account(session.world, to));
        let looked = session.look(&[
            words(&["WATCH", &from, &to]),
            words(&["GET", &from]),
            words(&["GET", &to]),
        ]);
        let Some(looked) = looked else {
            return session.move_on();
        };
        let balances: Vec<i64> = looked[1..].iter().filter_map(Reply::number).collect();
        let [source, target] = balances[..] else {
            return session.world.found(format!("{from} and {to} hold {looked:?}"));
        };
        let amount = session.rng.random_range(1..=50).min(source);
        let fate = session.multi(&[
            words(&["SET", &from, &(source - amount).to_string()]),
            words(&["SET", &to, &(target + amount).to_string()]),
            words(&["INCR", &session.world.key("moves")]),
        ]);
        let mut moves = lock(&self.moves);
        match fate {
            Fate::Done(_) => moves.acked += 1,
            Fate::Lost(_) => moves.lost += 1,
            Fate::Open(id) => moves.ids.push(id),
            Fate::Conflict | Fate::Refused(_) => {}
        }
    }

    fn look(&self, session: &mut Session) {
        let keys = (0..ACCOUNTS).map(|n| account(session.world, n));
        let fate = if session.chance(50) {
            let gets: Vec<_> = keys.map(|key| words(&["GET", &key])).collect();
            session.multi(&gets)
        } else {
            let mget: Vec<String> = ["MGET".to_string()].into_iter().chain(keys).collect();
            let mget: Vec<&str> = mget.iter().map(String::as_str).collect();
            session.call(&mget)
        };
        let Fate::Done(reply) = fate else { return };
        let Reply::Array(items) = &reply else {
            return session
                .world
                .found(format!("a look at the accounts got {reply:?}"));
        };
        let balances: Vec<i64> = items
            .iter()
            .filter_map(|item| item.text()?.parse().ok())
            .collect();
        if balances.len() as u64 != ACCOUNTS || balances.iter().sum::<i64>() != TOTAL {
            session.world.found(format!(
                "the total is not {TOTAL}: {balances:?} of {} items",
                items.len()
            ));
        }
        lock(&self.moves).looks += 1;
    }

    /// `Ok`: acknowledged moves and looks.
    ///
    /// # Errors
    /// A read that fails.
    pub fn check(&self, session: &mut Session) -> Result<(i64, u64), String> {
        let looks = lock(&self.moves).looks;
        // By MULTI and by MGET, through all nodes.
        for _ in 0..10 {
            self.look(session);
            session.move_on();
        }
        let world = session.world;
        let Fate::Done(reply) = session.call(&["GET", &world.key("moves")]) else {
            return Err("the last read of the moves failed".into());
        };
        let made = reply.number().ok_or_else(|| format!("moves hold {reply:?}"))?;
        let moves = lock(&self.moves);
        if moves.looks < looks + 10 {
            return Err("the last looks at the accounts failed".into());
        }
        let told = |what: &Told| {
            let count = moves
                .ids
                .iter()
                .filter(|id| world.unknowns.told(id).as_ref() == Some(what));
            i64::try_from(count.count()).expect("there are few")
        };
        let ids = i64::try_from(moves.ids.len()).expect("there are few");
        let least = moves.acked + told(&Told::Committed);
        let most = moves.acked + moves.lost + ids - told(&Told::Aborted);
        if !(least..=most).contains(&made) {
            world.found(format!("{made} transfers were made, not {least} to {most}"));
        }
        Ok((moves.acked, looks))
    }
}
