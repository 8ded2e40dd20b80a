//! What is done to a cluster, and undone.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::network::{CLIENTS, Network};
use super::options::Kind;
use crate::nodes::{NODES, Nodes, READY};
use crate::wait::eventually;
use crate::wire::Client;

/// Jumps of a clock, in milliseconds.
const JUMPS: [i64; 8] = [-60_000, -10_000, -2_000, -300, 300, 2_000, 10_000, 60_000];

/// A transaction that nobody has begun.
const NOBODY: &str = "00000000000000000000000000000001";
/// Longer than a gateway tries.
const ANSWER: Duration = Duration::from_secs(4);

/// A fault that lasts.
#[derive(Debug, Clone)]
pub struct Fault {
    pub kind: Kind,
    pub what: String,
    /// Nodes that can be expected to serve nobody while it lasts.
    pub hit: Vec<u64>,
    /// Groups that a node which was hit had led.
    pub led: Vec<String>,
}

impl Fault {
    /// The nodes that go on, if they are a majority.
    pub fn majority(&self) -> Option<Vec<u64>> {
        let rest: Vec<u64> = NODES
            .into_iter()
            .filter(|node| !self.hit.contains(node))
            .collect();
        (rest.len() * 2 > NODES.len()).then_some(rest)
    }
}

/// A cluster with all the means to hurt it.
pub struct Patient {
    pub nodes: Nodes,
    pub network: Option<Network>,
    rng: StdRng,
}

pub fn clock_file(nodes: &Nodes, node: u64) -> PathBuf {
    nodes.dir.path().join(format!("clock-{node}"))
}

pub fn set_clock(nodes: &Nodes, node: u64, offset: i64) {
    let (file, new) = (clock_file(nodes, node), nodes.dir.path().join("clock-new"));
    fs::write(&new, offset.to_string()).expect("a file can be written");
    fs::rename(&new, &file).expect("a file can be renamed");
}

impl Patient {
    pub fn new(nodes: Nodes, network: Option<Network>, rng: StdRng) -> Patient {
        Patient { nodes, network, rng }
    }

    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        self.rng.random_range(least..=most)
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        items.shuffle(&mut self.rng);
    }

    /// One node, in most cases; two or all now and then.
    fn victims(&mut self) -> Vec<u64> {
        let count = match self.rng.random_range(0..10) {
            0 => 3,
            1..=2 => 2,
            _ => 1,
        };
        let mut victims = NODES.to_vec();
        self.shuffle(&mut victims);
        victims.truncate(count);
        victims
    }

    /// Groups that these nodes lead, as any node sees it.
    fn led_by(&self, victims: &[u64]) -> Vec<String> {
        let status = NODES.into_iter().find_map(|node| self.nodes.status(node));
        let groups = status.and_then(|status| status["groups"].as_array().cloned());
        let led = |group: &serde_json::Value| {
            let leader = group["leader"].as_u64()?;
            victims
                .contains(&leader)
                .then(|| group["group"].as_str().unwrap_or("?").to_string())
        };
        groups.unwrap_or_default().iter().filter_map(led).collect()
    }

    pub fn hurt(&mut self, kind: Kind) -> Fault {
        let victims = self.victims();
        let led = self.led_by(&victims);
        let fault = |what: String, hit: Vec<u64>, led: Vec<String>| Fault { kind, what, hit, led };
        match kind {
            Kind::Kill => {
                if victims.len() == NODES.len() {
                    self.nodes.kill_all();
                } else {
                    for &node in &victims {
                        self.nodes.kill(node);
                    }
                }
                fault(format!("kill -9 of {victims:?}"), victims, led)
            }
            Kind::Pause => {
                for &node in &victims {
                    self.nodes.signal(node, "STOP");
                }
                fault(format!("SIGSTOP of {victims:?}"), victims, led)
            }
            Kind::Partition => {
                let (what, hit) = self.partition();
                let led = self.led_by(&hit);
                fault(what, hit, led)
            }
            Kind::Clock => {
                let mut jumps = Vec::new();
                for &node in &victims {
                    let offset = *JUMPS.choose(&mut self.rng).expect("there are some");
                    set_clock(&self.nodes, node, offset);
                    jumps.push(format!("{node} by {offset} ms"));
                }
                fault(format!("clock of {}", jumps.join(", ")), Vec::new(), Vec::new())
            }
        }
    }

    /// Cuts links; says how, and which nodes are then without a majority or clients.
    fn partition(&mut self) -> (String, Vec<u64>) {
        let mut order = NODES.to_vec();
        self.shuffle(&mut order);
        let [one, two, three] = order[..] else {
            unreachable!("there are three nodes")
        };
        let network = self.network.as_mut().expect("partitions need the network");
        match self.rng.random_range(0..7) {
            0 => {
                for other in [CLIENTS, two, three] {
                    network.cut_both(one, other);
                }
                (format!("node {one} alone"), vec![one])
            }
            1 => {
                network.cut_both(one, two);
                network.cut_both(one, three);
                (
                    format!("node {one} cut off from nodes, not from clients"),
                    vec![one],
                )
            }
            2 => {
                network.cut(one, two);
                network.cut(one, three);
                (
                    format!("node {one} hears the others, who do not hear it"),
                    vec![one],
                )
            }
            3 => {
                network.cut(two, one);
                network.cut(three, one);
                (
                    format!("node {one} does not hear the others, who hear it"),
                    vec![one],
                )
            }
            4 => {
                for majority in [two, three] {
                    network.cut_both(one, majority);
                    network.cut_both(CLIENTS, majority);
                }
                (
                    format!("node {one} and all clients on the minority's side"),
                    NODES.to_vec(),
                )
            }
            5 => {
                network.cut_both(one, two);
                // Who leads, and whom it hears, decides which of the two goes on.
                (
                    format!("nodes {one} and {two} cut off from each other"),
                    NODES.to_vec(),
                )
            }
            _ => {
                for (a, b) in [(one, two), (one, three), (two, three)] {
                    network.cut_both(a, b);
                }
                ("every node cut off from the others".to_string(), NODES.to_vec())
            }
        }
    }

    /// Ends a fault: afterwards nothing is in the way of the cluster's getting well.
    pub fn heal(&mut self, fault: &Fault) {
        match fault.kind {
            Kind::Kill => {
                for &node in &fault.hit {
                    self.nodes.launch(node, None);
                }
                for &node in &fault.hit {
                    self.nodes.wait_ready(node);
                }
            }
            Kind::Pause => {
                for &node in &fault.hit {
                    self.nodes.signal(node, "CONT");
                }
            }
            Kind::Partition => {
                if let Some(network) = &mut self.network {
                    network.heal();
                }
            }
            Kind::Clock => {
                for node in NODES {
                    set_clock(&self.nodes, node, 0);
                }
            }
        }
    }

    /// Waits until every group answers each of these nodes, and each is a voter. `TXN STATUS` of an id that nobody has used says
    /// "aborted" once all groups have refused it through their logs; what a node believes shows nothing.
    pub fn wait_quorum(&self, among: &[u64]) {
        for &node in among {
            eventually(&format!("all groups answer node {node}"), READY, || {
                let mut client = Client::open_for(self.nodes.address(node), ANSWER).ok()?;
                let reply = client.call(&["TXN", "STATUS", &unused_id()]).ok()?;
                (reply.text()? == "aborted").then_some(())
            });
            self.nodes.wait_member(node);
        }
    }

    /// Where prepared transactions are at these nodes, as node, shard and how many. `None`: a node does not answer.
    pub fn prepared(&self, at: &[u64]) -> Option<Vec<(u64, u64, u64)>> {
        let mut all = Vec::new();
        for &node in at {
            let status = self.nodes.status(node)?;
            for shard in status["ring"].as_array()? {
                let prepared = shard["prepared"].as_u64().unwrap_or(0);
                if prepared > 0 {
                    all.push((node, shard["shard"].as_u64()?, prepared));
                }
            }
        }
        Some(all)
    }
}

/// A new one each time: ten idle minutes after a group has refused an id it has forgotten why, and no longer says "aborted".
fn unused_id() -> String {
    static USED: AtomicU64 = AtomicU64::new(0);
    format!("{NOBODY}-{}", USED.fetch_add(1, Ordering::Relaxed) + 1)
}
