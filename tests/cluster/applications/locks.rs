//! A lock by SET NX PX and a token, released by a script that compares.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{Commands, ExistenceCheck, SetExpiry, SetOptions};

use super::Run;
use super::attempts::{Client, Fate};
use crate::{now, within};

const LEASE: Duration = Duration::from_millis(1500);
const OVERSTAYS_EVERY: u64 = 4;
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// Who holds it, and until when at most.
#[derive(Default)]
pub struct Told(Mutex<BTreeMap<usize, Instant>>);

fn acquire(run: &Run, client: &mut Client, token: &str) -> bool {
    let lease = u64::try_from(LEASE.as_millis()).expect("it is small");
    let options = SetOptions::default()
        .conditional_set(ExistenceCheck::NX)
        .with_expiration(SetExpiry::PX(lease));
    match client.attempt(|c| c.set_options::<_, _, Option<String>>("lock", token, options)) {
        Fate::Done(reply) => reply.is_some(),
        Fate::Refused => false,
        Fate::Unknown => holder(run, client).as_deref() == Some(token),
    }
}

fn holder(run: &Run, client: &mut Client) -> Option<String> {
    let holder = client.until_done(|c| c.get("lock"));
    assert!(holder.is_some() || run.failed(), "until it is done");
    holder.flatten()
}

/// From the reply to the acquisition until the release is asked for, or until the lease that was asked for has passed.
fn hold(run: &Run, n: usize, ends: Instant) {
    let mut holders = run.locks.0.lock();
    let now = now();
    let other = holders.iter().find(|(_, end)| **end > now);
    assert!(other.is_none() || ends <= now, "{n} and {other:?} hold the lock");
    holders.insert(n, ends);
}

/// Worker 0 stays too long now and then: somebody else has the lock by then, and has to keep it when worker 0 releases what it no
/// longer has.
pub fn take_turns(run: &Run, client: &mut Client, n: usize) {
    let (release, mut held) = (redis::Script::new(RELEASE), 0_u64);
    for turn in 1_u64.. {
        if !run.goes_on() {
            return;
        }
        let token = format!("{n}:{turn}");
        let ends = now() + LEASE;
        if !acquire(run, client, &token) {
            within(LEASE, || {
                (!run.goes_on() || holder(run, client).is_none()).then_some(())
            });
            continue;
        }
        hold(run, n, ends);
        held += 1;
        let overstays = n == 0 && held.is_multiple_of(OVERSTAYS_EVERY);
        if overstays {
            while run.goes_on() && holder(run, client).is_none_or(|who| who == token) {}
        } else {
            let _: Fate<u64> = client.attempt(|c| c.incr("lock:entered", 1));
        }
        run.locks.0.lock().remove(&n);
        run.did("locks");
        if let Fate::Done(released) = client.attempt(|c| release.key("lock").arg(&token).invoke::<u64>(c)) {
            assert!(
                released == 1 || now() >= ends,
                "somebody else has released the lock of {token}"
            );
            assert!(
                released == 0 || !overstays || !run.goes_on(),
                "{token} was over, and was released"
            );
            if overstays {
                run.did("overstays");
            }
        }
    }
}
