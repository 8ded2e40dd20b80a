//! All nodes are killed at once under write load. What was acknowledged is there afterwards, once.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::eventually;
use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, Fate, Reply, words};

const ROUNDS: usize = 2;
/// Acknowledged requests before a kill.
const LOAD: u64 = 3000;
const SETTERS: usize = 2;
const BURSTERS: usize = 2;
const BURST: usize = 32;
const COUNTER_CLIENTS: usize = 2;
const COUNTERS: usize = 8;
const PAIR_CLIENTS: usize = 3;
const PAIRS: usize = 6;
const LOAD_TIME: Duration = Duration::from_secs(60);

/// How often a counter was raised for sure, and how often perhaps.
#[derive(Debug, Default, Clone, Copy)]
struct Raised {
    acked: i64,
    unknown: i64,
}

/// What one client knows. Keys are its own, but for those of counters.
#[derive(Debug, Default)]
pub struct Known {
    set: BTreeMap<String, String>,
    raised: BTreeMap<String, Raised>,
    /// The number that each acknowledged INCR gave.
    given: Vec<(String, i64)>,
}

impl Known {
    fn raise(&mut self, key: &str, fate: &Fate) {
        let raised = self.raised.entry(key.to_string()).or_default();
        match fate {
            Fate::Done(_) => raised.acked += 1,
            fate if fate.is_unknown() => raised.unknown += 1,
            _ => {}
        }
    }

    pub fn merge(&mut self, other: Known) {
        self.set.extend(other.set);
        self.given.extend(other.given);
        for (key, more) in other.raised {
            let raised = self.raised.entry(key).or_default();
            raised.acked += more.acked;
            raised.unknown += more.unknown;
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (acked, unknown) = self.raised.values().fold((0, 0), |sum, raised| {
            (sum.0 + raised.acked, sum.1 + raised.unknown)
        });
        write!(
            f,
            "{} SETs, {acked} INCRs acknowledged, {unknown} unknown",
            self.set.len()
        )
    }
}

struct Load<'a> {
    addresses: &'a [SocketAddr],
    round: usize,
    pairs: &'a [[String; 2]],
    acked: &'a AtomicU64,
    stop: &'a AtomicBool,
}

impl Load<'_> {
    /// Works on one node until its connection breaks: then all nodes are dead.
    fn run(
        &self,
        client: usize,
        mut step: impl FnMut(&mut Client, &mut Known, usize) -> Option<()>,
    ) -> Known {
        let mut known = Known::default();
        let address = self.addresses[client % self.addresses.len()];
        let mut connection = Client::open(address).expect("the node is up");
        for n in 0.. {
            if self.stop.load(Ordering::SeqCst) || step(&mut connection, &mut known, n).is_none() {
                break;
            }
        }
        known
    }

    fn count(&self, fate: &Fate) -> Option<()> {
        if let Fate::Done(_) = fate {
            self.acked.fetch_add(1, Ordering::SeqCst);
        }
        (!matches!(fate, Fate::Lost(_))).then_some(())
    }

    fn set_one_by_one(&self, client: usize) -> Known {
        self.run(client, |connection, known, n| {
            let (key, value) = (format!("set:{}:{client}:{n}", self.round), format!("v{n}"));
            let fate = Fate::of(connection.call(&["SET", &key, &value]));
            if let Fate::Done(reply) = &fate {
                assert!(reply.is_ok(), "{reply:?}");
                known.set.insert(key, value);
            }
            self.count(&fate)
        })
    }

    /// Pipelines; each reply counts for itself.
    fn set_in_bursts(&self, client: usize) -> Known {
        self.run(client, |connection, known, n| {
            let name = |i| format!("burst:{}:{client}:{n}:{i}", self.round);
            let lines: Vec<String> = (0..BURST).map(|i| format!("SET {} v{i}\r\n", name(i))).collect();
            connection.send(lines.concat().as_bytes()).ok()?;
            for i in 0..BURST {
                let fate = Fate::of(connection.receive());
                if let Fate::Done(reply) = &fate {
                    assert!(reply.is_ok(), "{reply:?}");
                    known.set.insert(name(i), format!("v{i}"));
                }
                self.count(&fate)?;
            }
            Some(())
        })
    }

    fn count_up(&self, client: usize) -> Known {
        self.run(client, |connection, known, n| {
            let key = format!("counter:{}", n % COUNTERS);
            let fate = Fate::of(connection.call(&["INCR", &key]));
            known.raise(&key, &fate);
            if let Fate::Done(Reply::Int(number)) = fate {
                known.given.push((key, number));
            }
            self.count(&fate)
        })
    }

    fn count_pairs(&self, client: usize) -> Known {
        self.run(client, |connection, known, n| {
            let [left, right] = &self.pairs[n % self.pairs.len()];
            let fate = Fate::of(connection.multi(&[words(&["INCR", left]), words(&["INCR", right])]));
            if let Fate::Done(reply) = &fate {
                let Reply::Array(items) = reply else {
                    panic!("EXEC gave {reply:?}")
                };
                assert!(
                    items.len() == 2 && items[0] == items[1],
                    "half a transaction: {items:?}"
                );
            }
            known.raise(left, &fate);
            known.raise(right, &fate);
            self.count(&fate)
        })
    }
}

/// Pairs of counters on different shards.
pub fn pairs(nodes: &Nodes) -> Vec<[String; 2]> {
    let pair = |i: usize| {
        let mut keys = nodes.key_per_shard(&format!("pair-{i}"));
        let count = keys.len();
        [
            keys[i % count].clone(),
            std::mem::take(&mut keys[(i + 1) % count]),
        ]
    };
    (0..PAIRS).map(pair).collect()
}

/// Load from all kinds of clients until `LOAD` requests were acknowledged; then every node is killed.
pub fn load_and_kill(nodes: &mut Nodes, round: usize, pairs: &[[String; 2]]) -> Known {
    let (acked, stop, addresses) = (AtomicU64::new(0), AtomicBool::new(false), nodes.addresses());
    let load = Load {
        addresses: &addresses,
        round,
        pairs,
        acked: &acked,
        stop: &stop,
    };
    thread::scope(|scope| {
        let (mut clients, load) = (Vec::new(), &load);
        for client in 0..SETTERS {
            clients.push(scope.spawn(move || load.set_one_by_one(client)));
        }
        for client in 0..BURSTERS {
            clients.push(scope.spawn(move || load.set_in_bursts(client + 1)));
        }
        for client in 0..COUNTER_CLIENTS {
            clients.push(scope.spawn(move || load.count_up(client)));
        }
        for client in 0..PAIR_CLIENTS {
            clients.push(scope.spawn(move || load.count_pairs(client)));
        }
        eventually(&format!("{LOAD} acknowledged requests"), LOAD_TIME, || {
            let dead = clients.iter().any(thread::ScopedJoinHandle::is_finished);
            (dead || acked.load(Ordering::SeqCst) >= LOAD).then_some(())
        });
        let early = clients.iter().filter(|client| client.is_finished()).count();
        nodes.kill_all();
        stop.store(true, Ordering::SeqCst);
        let mut all = Known::default();
        for client in clients {
            all.merge(
                client
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        assert_eq!(early, 0, "clients had lost their connections before the kill");
        all
    })
}

fn get_all(client: &mut Client, keys: &[&String]) -> Vec<Reply> {
    let mut replies = Vec::new();
    for some in keys.chunks(500) {
        let gets: Vec<_> = some.iter().map(|key| words(&["GET", key])).collect();
        replies.extend(client.pipeline(&gets).expect("the cluster is up"));
    }
    replies
}

pub fn check(nodes: &Nodes, node: u64, known: &Known, pairs: &[[String; 2]]) {
    let mut client = nodes.client(node);
    let keys: Vec<&String> = known.set.keys().collect();
    let replies = get_all(&mut client, &keys);
    let lost: Vec<_> = keys
        .iter()
        .zip(&replies)
        .filter(|(key, reply)| reply.text().as_ref() != known.set.get(**key))
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged SETs lost, such as {:?}",
        lost.len(),
        keys.len(),
        lost[0]
    );

    for (key, raised) in &known.raised {
        let reply = client.call(&["GET", key]).expect("the cluster is up");
        let value = reply.number().unwrap_or_else(|| panic!("{key}: {reply:?}"));
        assert!(
            (raised.acked..=raised.acked + raised.unknown).contains(&value),
            "{key} is {value} at node {node}: {raised:?}"
        );
    }
    for [left, right] in pairs {
        let both = client.call(&["MGET", left, right]).expect("the cluster is up");
        let Reply::Array(values) = &both else {
            panic!("{left}, {right}: {both:?}")
        };
        assert_eq!(values[0], values[1], "{left} and {right} at node {node}");
    }
}

/// No transaction stays undecided, and no key locked.
pub fn check_free(nodes: &Nodes, pairs: &[[String; 2]], known: &mut Known) {
    let mut client = nodes.client(1);
    for key in pairs.iter().flatten() {
        let fate = Fate::of(client.call(&["INCR", key]));
        assert!(matches!(fate, Fate::Done(_)), "{key}: {fate:?}");
        known.raise(key, &fate);
    }
    for node in NODES {
        nodes.wait_unprepared(node);
    }
}

#[test]
fn what_was_acknowledged_survives_the_death_of_all_nodes_at_once() {
    let mut nodes = Nodes::start(|text| text);
    let pairs = pairs(&nodes);
    let mut known = Known::default();
    for round in 0..ROUNDS {
        known.merge(load_and_kill(&mut nodes, round, &pairs));
        nodes.start_all();
        for node in NODES {
            check(&nodes, node, &known, &pairs);
        }
        check_free(&nodes, &pairs, &mut known);
    }
    let mut given = known.given.clone();
    given.sort();
    assert!(
        given.windows(2).all(|two| two[0] != two[1]),
        "an INCR gave the same number twice"
    );
    println!("{known}");
    let acked: i64 = known.raised.values().map(|raised| raised.acked).sum();
    assert!(
        known.set.len() > 100 && acked > 100,
        "too little load to tell anything"
    );
}
