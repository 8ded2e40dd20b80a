//! A stream with a consumer group: what a consumer has left is claimed by another. Nothing is given as new twice, and in the end
//! nothing is pending.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redis::streams::{
    StreamAutoClaimOptions, StreamAutoClaimReply, StreamPendingReply, StreamRangeReply, StreamReadOptions,
    StreamReadReply,
};
use redis::{Commands, Connection, RedisResult};

use super::Run;
use super::attempts::{Client, Fate};

const CLAIMS_EVERY: u64 = 4;
const DIES_EVERY: u64 = 9;
/// After so many milliseconds what a consumer has left is taken by another.
const IDLE_MS: usize = 300;
const WAIT_MS: usize = 100;

#[derive(Debug, Default)]
struct Events {
    added: BTreeMap<String, u64>,
    open: BTreeSet<u64>,
    /// Given as new.
    delivered: BTreeSet<String>,
    processed: BTreeSet<String>,
    acked: BTreeSet<String>,
}

#[derive(Default)]
pub struct Told {
    events: Mutex<Events>,
    no_more: AtomicBool,
}

impl Told {
    fn backlog(&self) -> usize {
        let events = self.events.lock();
        events.added.len().saturating_sub(events.processed.len())
    }
}

pub fn prepare(client: &mut Client) {
    let () = client.look(|c| c.xgroup_create_mkstream("events", "readers", "$"));
}

pub fn add(run: &Run, client: &mut Client, _: usize) {
    for n in 0.. {
        run.wait_for_room(|| run.stream.backlog());
        if !run.goes_on() {
            break;
        }
        match client.attempt(|c| c.xadd::<_, _, _, _, String>("events", "*", &[("n", n)])) {
            Fate::Done(id) => {
                let again = run.stream.events.lock().added.insert(id, n);
                assert_eq!(again, None, "the id of {n} was given before");
            }
            Fate::Unknown => {
                run.stream.events.lock().open.insert(n);
            }
            Fate::Refused => {}
        }
    }
    run.stream.no_more.store(true, Ordering::SeqCst);
}

fn read_new(c: &mut Connection, consumer: &str) -> RedisResult<Vec<String>> {
    let options = StreamReadOptions::default()
        .group("readers", consumer)
        .count(3)
        .block(WAIT_MS);
    let reply: Option<StreamReadReply> = c.xread_options(&["events"], &[">"], &options)?;
    let streams = reply.map(|reply| reply.keys).unwrap_or_default();
    Ok(streams
        .into_iter()
        .flat_map(|stream| stream.ids)
        .map(|entry| entry.id)
        .collect())
}

fn claim(c: &mut Connection, consumer: &str, idle_ms: usize) -> RedisResult<Vec<String>> {
    let options = StreamAutoClaimOptions::default().count(10);
    let reply: StreamAutoClaimReply =
        c.xautoclaim_options("events", "readers", consumer, idle_ms, "0-0", options)?;
    Ok(reply.claimed.into_iter().map(|entry| entry.id).collect())
}

fn pending(c: &mut Connection) -> RedisResult<usize> {
    let reply: StreamPendingReply = c.xpending("events", "readers")?;
    Ok(reply.count())
}

/// Reads what is new and, in turn, what others have left; ends when nothing is pending. Now and then it drops what it has read.
pub fn consume(run: &Run, client: &mut Client, n: usize) {
    let consumer = format!("consumer:{n}");
    for turn in 1_u64.. {
        if !run.may_finish() {
            return;
        }
        let last = run.stream.no_more.load(Ordering::SeqCst);
        let claims = turn.is_multiple_of(CLAIMS_EVERY);
        let fate = if claims {
            client.attempt(|c| claim(c, &consumer, if last { 1 } else { IDLE_MS }))
        } else {
            client.attempt(|c| read_new(c, &consumer))
        };
        let Fate::Done(entries) = fate else { continue };
        if !claims {
            let delivered = &mut run.stream.events.lock().delivered;
            for entry in &entries {
                assert!(delivered.insert(entry.clone()), "{entry} was given as new twice");
            }
        }
        if last && !claims && entries.is_empty() && client.until_done(pending) == Some(0) {
            return;
        }
        if !entries.is_empty() && turn.is_multiple_of(DIES_EVERY) && !last {
            client.next_node();
            continue;
        }
        for entry in entries {
            acknowledge(run, client, &entry);
        }
    }
}

fn acknowledge(run: &Run, client: &mut Client, entry: &str) {
    run.stream.events.lock().processed.insert(entry.to_string());
    if client.attempt(|c| c.xack("events", "readers", &[entry])) == Fate::Done(1) {
        let fresh = run.stream.events.lock().acked.insert(entry.to_string());
        assert!(fresh, "{entry} was acknowledged twice");
        run.did("events");
    }
}

pub fn check(run: &Run, client: &mut Client) {
    let events = run.stream.events.lock();
    let reply: StreamRangeReply = client.look(|c| c.xrange_all("events"));
    let there: BTreeMap<String, u64> = reply
        .ids
        .iter()
        .map(|entry| (entry.id.clone(), entry.get("n").expect("it was added with n")))
        .collect();
    for (id, n) in &events.added {
        assert_eq!(there.get(id), Some(n), "{id} is lost");
        assert!(events.processed.contains(id), "{id} was not processed");
    }
    let mut open = events.open.clone();
    for (id, n) in &there {
        assert!(
            events.added.contains_key(id) || open.remove(n),
            "{id} of {n} was added by nobody, or twice"
        );
    }
    for id in &events.processed {
        assert!(there.contains_key(id), "{id} was read and is not there");
    }
    assert_eq!(client.look(pending), 0, "some are pending");
}
