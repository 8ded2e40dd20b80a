//! Money moves between accounts on all shards while nodes are killed: every read sees the same total.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, Fate, Reply, words};
use crate::{eventually, now};

const ACCOUNTS: u64 = 100;
const OPENING: i64 = 1000;
const TOTAL: i64 = ACCOUNTS.cast_signed() * OPENING;
const MOVERS: usize = 4;
/// Reads by one connection, so that the reader sees all nodes.
const READS_PER_NODE: usize = 10;
/// What must go on between two kills, and while a node is down.
const STEP_TRANSFERS: u64 = 25;
const STEP_READS: u64 = 3;
/// How long that may take: an election, then work on two cores that other tests share.
const STEP: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Counts {
    pub transfers: AtomicU64,
    pub conflicts: AtomicU64,
    pub refused: AtomicU64,
    pub unknown: AtomicU64,
    pub reads: AtomicU64,
    pub stop: AtomicBool,
}

pub fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::SeqCst)
}

fn account(i: u64) -> String {
    format!("account:{i}")
}

fn all_accounts() -> Vec<String> {
    (0..ACCOUNTS).map(account).collect()
}

pub fn seconds() -> u64 {
    let given = std::env::var("QUORATE_TEST_SECONDS").ok();
    given.map_or(20, |text| text.parse().expect("QUORATE_TEST_SECONDS is a number"))
}

/// Calls `work` with a connection to some live node until `stop`; a broken one is replaced by one to the next node.
pub fn keep_busy(
    addresses: &[SocketAddr],
    first: usize,
    stop: &AtomicBool,
    mut work: impl FnMut(&mut Client) -> io::Result<()>,
) {
    let mut turn = first;
    while !stop.load(Ordering::SeqCst) {
        turn += 1;
        let Ok(mut client) = Client::open(addresses[turn % addresses.len()]) else {
            continue;
        };
        while !stop.load(Ordering::SeqCst) && work(&mut client).is_ok() {}
    }
}

/// A generator that is good enough to pick accounts (xorshift).
pub struct Picks(pub u64);

impl Picks {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// One transfer, and this mover's own count of transfers as a third key of the same transaction.
fn transfer(client: &mut Client, mover: usize, picks: &mut Picks, counts: &Counts) -> io::Result<()> {
    let from = picks.below(ACCOUNTS);
    let to = (from + 1 + picks.below(ACCOUNTS - 1)) % ACCOUNTS;
    let (from, to) = (account(from), account(to));
    let looked = client.pipeline(&[
        words(&["WATCH", &from, &to]),
        words(&["GET", &from]),
        words(&["GET", &to]),
    ])?;
    let balances: Vec<i64> = looked[1..].iter().filter_map(Reply::number).collect();
    let [source, target] = balances[..] else {
        for reply in looked {
            Fate::of(Ok(reply));
        }
        count(&counts.refused);
        return client.call(&["UNWATCH"]).map(drop);
    };
    if !looked[0].is_ok() || source == 0 {
        return client.call(&["UNWATCH"]).map(drop);
    }
    let amount = 1 + i64::try_from(picks.below(50))
        .expect("it is small")
        .min(source - 1);
    let reply = client.multi(&[
        words(&["SET", &from, &(source - amount).to_string()]),
        words(&["SET", &to, &(target + amount).to_string()]),
        words(&["INCR", &format!("moves:{mover}")]),
    ]);
    let lost = reply.as_ref().err().map(|e| io::Error::from(e.kind()));
    match Fate::of(reply) {
        Fate::Done(_) => count(&counts.transfers),
        Fate::Conflict => count(&counts.conflicts),
        Fate::Refused(_) => count(&counts.refused),
        Fate::Open(_) | Fate::Lost(_) => count(&counts.unknown),
    };
    lost.map_or(Ok(()), Err)
}

/// All balances at one moment: in one MULTI, or by MGET. `None`: an error that says so.
fn balances(client: &mut Client, by_multi: bool) -> io::Result<Option<Vec<i64>>> {
    let reply = if by_multi {
        let gets: Vec<_> = all_accounts().iter().map(|key| words(&["GET", key])).collect();
        client.multi(&gets)
    } else {
        let mut mget = words(&["MGET"]);
        mget.extend(all_accounts());
        client.pipeline(&[mget]).map(|mut replies| replies.remove(0))
    };
    let lost = reply.as_ref().err().map(|e| io::Error::from(e.kind()));
    match Fate::of(reply) {
        Fate::Done(Reply::Array(items)) => {
            let numbers: Vec<i64> = items.iter().filter_map(Reply::number).collect();
            assert_eq!(numbers.len(), items.len(), "not all are balances: {items:?}");
            Ok(Some(numbers))
        }
        Fate::Lost(why) => Err(lost.unwrap_or_else(|| io::Error::other(why))),
        Fate::Refused(_) => Ok(None),
        other => panic!(
            "balances by {}: {other:?}",
            if by_multi { "MULTI" } else { "MGET" }
        ),
    }
}

fn read_in_turn(addresses: &[SocketAddr], counts: &Counts) {
    let mut done = 0;
    keep_busy(addresses, 0, &counts.stop, |client| {
        let by_multi = done % 2 == 0;
        if let Some(balances) = balances(client, by_multi)? {
            let total: i64 = balances.iter().sum();
            assert_eq!(total, TOTAL, "by_multi: {by_multi}, balances: {balances:?}");
            count(&counts.reads);
        }
        done += 1;
        if done % READS_PER_NODE == 0 {
            return Err(io::Error::other("on to the next node"));
        }
        Ok(())
    });
}

/// Waits until transfers and reads have gone on for a while.
fn progress(counts: &Counts, when: &str) {
    let (transfers, reads) = (&counts.transfers, &counts.reads);
    let goals = (
        transfers.load(Ordering::SeqCst) + STEP_TRANSFERS,
        reads.load(Ordering::SeqCst) + STEP_READS,
    );
    eventually(
        &format!("{STEP_TRANSFERS} transfers and {STEP_READS} reads {when}"),
        STEP,
        || {
            // A failed assertion of a client shows as itself, not as a lack of progress.
            let dead = counts.stop.load(Ordering::SeqCst);
            let (done, seen) = (transfers.load(Ordering::SeqCst), reads.load(Ordering::SeqCst));
            (dead || done >= goals.0 && seen >= goals.1).then_some(())
        },
    );
}

/// Sets the flag also when its thread panics, so that nobody works on.
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn the_total_is_constant_while_nodes_are_killed_in_turn() {
    let mut nodes = Nodes::start(|text| text);
    let mut opening = words(&["MSET"]);
    for key in all_accounts() {
        opening.extend([key, OPENING.to_string()]);
    }
    let opened = nodes.client(1).pipeline(&[opening]).expect("the cluster is up");
    assert!(opened[0].is_ok(), "{opened:?}");
    let ring = nodes.config.ring();
    let shards: std::collections::BTreeSet<u16> = all_accounts()
        .iter()
        .map(|key| ring.shard_of(key.as_bytes()))
        .collect();
    assert_eq!(
        shards.len(),
        usize::from(ring.shards()),
        "the accounts leave shards out"
    );

    let counts = Counts::default();
    let worker = |mover: usize| {
        let (counts, mut picks) = (&counts, Picks(0x9e37_79b9_7f4a_7c15 ^ (mover as u64 + 1)));
        move |client: &mut Client| transfer(client, mover, &mut picks, counts)
    };
    let watch = |addresses: &[SocketAddr]| read_in_turn(addresses, &counts);
    let kills = under_kills(&mut nodes, &counts, MOVERS, worker, watch);
    println!(
        "{kills} kills, {:?} transfers, {:?} conflicts, {:?} refused, {:?} unknown, {:?} reads",
        counts.transfers, counts.conflicts, counts.refused, counts.unknown, counts.reads
    );
    check_end(&nodes, &counts);
}

/// Lets so many clients work, and somebody watch, while the nodes are killed in turn; says how often they were.
pub fn under_kills<W: FnMut(&mut Client) -> io::Result<()>>(
    nodes: &mut Nodes,
    counts: &Counts,
    workers: usize,
    worker: impl Fn(usize) -> W + Sync,
    watch: impl Fn(&[SocketAddr]) + Sync,
) -> u64 {
    let addresses = &nodes.addresses();
    let (worker, watch) = (&worker, &watch);
    thread::scope(|scope| {
        let _stop = StopAtEnd(&counts.stop);
        for n in 0..workers {
            scope.spawn(move || {
                let _stop = StopAtEnd(&counts.stop);
                keep_busy(addresses, n, &counts.stop, worker(n));
            });
        }
        scope.spawn(move || {
            let _stop = StopAtEnd(&counts.stop);
            watch(addresses);
        });
        kill_in_turn(nodes, counts)
    })
}

/// Each node in turn, at least once each, until the time is over.
fn kill_in_turn(nodes: &mut Nodes, counts: &Counts) -> u64 {
    let end = now() + Duration::from_secs(seconds());
    let mut kills = 0;
    loop {
        for node in NODES {
            progress(counts, &format!("before node {node} is killed"));
            nodes.kill(node);
            progress(counts, &format!("without node {node}"));
            nodes.start_node(node);
            kills += 1;
            if counts.stop.load(Ordering::SeqCst) || kills >= 3 && now() >= end {
                return kills;
            }
        }
    }
}

fn check_end(nodes: &Nodes, counts: &Counts) {
    let mut seen = Vec::new();
    for node in NODES {
        let mut client = nodes.client(node);
        for by_multi in [true, false] {
            let balances = balances(&mut client, by_multi).expect("the cluster is up");
            let balances = balances.expect("all shards have leaders");
            assert_eq!(
                balances.iter().sum::<i64>(),
                TOTAL,
                "at node {node}: {balances:?}"
            );
            seen.push(balances);
        }
        for key in all_accounts() {
            let balance = client.call(&["GET", &key]).expect("the cluster is up");
            assert!(balance.text().is_some(), "{key} at node {node}: {balance:?}");
        }
        let keys: Vec<String> = (0..MOVERS).map(|mover| format!("moves:{mover}")).collect();
        let moves = keys.iter().map(|key| {
            let reply = client.call(&["GET", key]).expect("the cluster is up");
            u64::try_from(reply.number().expect("a count")).expect("it only grows")
        });
        let (moves, acked) = (moves.sum::<u64>(), counts.transfers.load(Ordering::SeqCst));
        let unknown = counts.unknown.load(Ordering::SeqCst);
        assert!(
            (acked..=acked + unknown).contains(&moves),
            "{moves} transfers were made, {acked} acknowledged, {unknown} unknown"
        );
    }
    assert!(
        seen.windows(2).all(|pair| pair[0] == pair[1]),
        "the nodes show different balances"
    );
    assert!(
        seen[0].iter().any(|&balance| balance != OPENING),
        "no money has moved"
    );
}
