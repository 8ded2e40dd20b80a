//! `SCAN`, `HSCAN`, `SSCAN` and `ZSCAN`: whatever is there from a scan's beginning to its end is found by it, though others come and go
//! meanwhile, leaders die, and each step asks another node.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::bank::{Picks, StopAtEnd, count, keep_busy};
use crate::eventually;
use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, Reply};

/// Keys, and members of each collection, that stay.
const STAY: usize = 2000;
/// Names of those that come and go.
const PASS: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(30);

/// How something is scanned: the words before the cursor, and how many words each of what it holds has.
#[derive(Clone, Copy)]
struct Kind {
    words: &'static [&'static str],
    each: usize,
}

const KINDS: [Kind; 4] = [
    Kind {
        words: &["SCAN"],
        each: 1,
    },
    Kind {
        words: &["HSCAN", "hash"],
        each: 2,
    },
    Kind {
        words: &["SSCAN", "set"],
        each: 1,
    },
    Kind {
        words: &["ZSCAN", "zset"],
        each: 2,
    },
];

/// What puts a name where scans look for it, and what takes it away.
fn put(kind: usize, name: &str) -> Vec<String> {
    let request: &[&str] = match kind {
        0 => &["SET", name, "1"],
        1 => &["HSET", "hash", name, "1"],
        2 => &["SADD", "set", name],
        _ => &["ZADD", "zset", "1", name],
    };
    request.iter().map(ToString::to_string).collect()
}

fn take(kind: usize, name: &str) -> Vec<String> {
    let request: &[&str] = match kind {
        0 => &["DEL", name],
        1 => &["HDEL", "hash", name],
        2 => &["SREM", "set", name],
        _ => &["ZREM", "zset", name],
    };
    request.iter().map(ToString::to_string).collect()
}

/// Puts and takes what does not stay, until it is told to stop.
fn churn(addresses: &[SocketAddr], stop: &AtomicBool, changes: &AtomicU64) {
    let mut picks = Picks(77);
    keep_busy(addresses, 0, stop, |client: &mut Client| -> io::Result<()> {
        let requests: Vec<Vec<String>> = (0..16)
            .map(|n| {
                let name = format!("pass:{}", picks.below(PASS));
                match picks.below(2) {
                    0 => put(n % KINDS.len(), &name),
                    _ => take(n % KINDS.len(), &name),
                }
            })
            .collect();
        client.pipeline(&requests)?;
        count(changes);
        Ok(())
    });
}

/// A scan in its course.
struct Scan {
    kind: Kind,
    cursor: String,
    seen: BTreeSet<String>,
    steps: usize,
}

impl Scan {
    fn new(kind: Kind) -> Scan {
        Scan {
            kind,
            cursor: "0".into(),
            seen: BTreeSet::new(),
            steps: 0,
        }
    }

    /// One step further, at a node of those that live; asked again until it is answered. `false`: that was the last.
    fn step(&mut self, nodes: &Nodes, alive: &[u64]) -> bool {
        let mut request = self.kind.words.to_vec();
        request.extend([self.cursor.as_str(), "MATCH", "stay:*", "COUNT", "40"]);
        let (next, found) = eventually("a scan goes on", PATIENCE, || {
            self.steps += 1;
            let address = nodes.address(alive[self.steps % alive.len()]);
            let Ok(Reply::Array(parts)) = Client::open(address).and_then(|mut client| client.call(&request))
            else {
                return None;
            };
            let Reply::Array(found) = &parts[1] else {
                return None;
            };
            let names = found.iter().step_by(self.kind.each).filter_map(Reply::text);
            Some((parts[0].text()?, names.collect::<Vec<_>>()))
        });
        self.seen.extend(found);
        self.cursor = next;
        self.cursor != "0"
    }

    fn is_past(&self, share: usize) -> bool {
        self.seen.len() >= STAY * share / 4
    }
}

fn scan_through_a_kill(nodes: &mut Nodes, victim: u64) {
    let mut scans = KINDS.map(Scan::new);
    for scan in &mut scans {
        while !scan.is_past(1) {
            assert!(scan.step(nodes, &NODES), "it ended early");
        }
    }
    nodes.kill(victim);
    let alive: Vec<u64> = NODES.into_iter().filter(|node| *node != victim).collect();
    for scan in &mut scans {
        while !scan.is_past(3) {
            assert!(scan.step(nodes, &alive), "it ended early");
        }
    }
    nodes.start_node(victim);
    for scan in &mut scans {
        while scan.step(nodes, &NODES) {}
        let missing: Vec<usize> = (0..STAY)
            .filter(|n| !scan.seen.contains(&format!("stay:{n}")))
            .collect();
        assert!(missing.is_empty(), "{:?} has missed {missing:?}", scan.kind.words);
        assert_eq!(scan.seen.len(), STAY);
    }
}

#[test]
fn scans_find_all_that_stays_while_leaders_are_killed_and_others_come_and_go() {
    let mut nodes = Nodes::start(|text| text);
    let mut client = nodes.client(1);
    for kind in 0..KINDS.len() {
        let puts: Vec<Vec<String>> = (0..STAY).map(|n| put(kind, &format!("stay:{n}"))).collect();
        for some in puts.chunks(500) {
            let replies = client.pipeline(some).expect("the cluster is up");
            assert!(!replies.iter().any(|reply| matches!(reply, Reply::Error(_))));
        }
    }
    let (stop, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    let addresses = nodes.addresses();
    thread::scope(|scope| {
        scope.spawn(|| churn(&addresses, &stop, &changes));
        let _stopping = StopAtEnd(&stop);
        for victim in NODES {
            let before = changes.load(Ordering::SeqCst);
            scan_through_a_kill(&mut nodes, victim);
            assert!(
                changes.load(Ordering::SeqCst) > before,
                "nothing changed meanwhile"
            );
        }
    });
}
