//! A rate limiter by script. Windows are numbered by who asks: a clock would let a test pass that grants too many.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use redis::Commands;

use super::Run;
use super::attempts::{Client, Fate};

const LIMIT: u64 = 25;
const GRANT: &str = "
    local granted = tonumber(redis.call('GET', KEYS[1]) or '0')
    if granted >= tonumber(ARGV[1]) then return 0 end
    redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
    return redis.call('INCR', KEYS[1])";

#[derive(Debug, Default)]
struct Window {
    tickets: BTreeSet<u64>,
    open: u64,
    denied: bool,
}

#[derive(Default)]
pub struct Told(Mutex<BTreeMap<u64, Window>>);

pub fn ask(run: &Run, client: &mut Client, n: usize) {
    let script = redis::Script::new(GRANT);
    let mut window = 0;
    while run.goes_on() {
        let fate = client.attempt(|c| {
            script
                .key(format!("limit:{window}"))
                .key(format!("limit:{window}:users"))
                .arg(LIMIT)
                .arg(format!("user:{n}"))
                .invoke::<u64>(c)
        });
        let mut windows = run.limiter.0.lock();
        let told = windows.entry(window).or_default();
        match fate {
            Fate::Done(0) => {
                told.denied = true;
                window += 1;
            }
            Fate::Done(ticket) => {
                let fresh = ticket <= LIMIT && told.tickets.insert(ticket);
                assert!(fresh, "window {window}: {ticket} was granted; {told:?}");
                run.did("grants");
            }
            Fate::Refused => {}
            Fate::Unknown => told.open += 1,
        }
    }
}

pub fn check(run: &Run, client: &mut Client) {
    for (window, told) in run.limiter.0.lock().iter() {
        let granted: Option<u64> = client.look(|c| c.get(format!("limit:{window}")));
        let granted = granted.unwrap_or_default();
        let users: Vec<u64> = client.look(|c| c.hvals(format!("limit:{window}:users")));
        let acked = told.tickets.len() as u64;
        let right = granted <= LIMIT
            && granted == users.iter().sum::<u64>()
            && (granted == LIMIT || !told.denied)
            && (acked..=acked + told.open).contains(&granted)
            && told.tickets.iter().all(|ticket| *ticket <= granted);
        assert!(
            right,
            "window {window}: {granted} granted, {users:?} by user; {told:?}"
        );
    }
}
