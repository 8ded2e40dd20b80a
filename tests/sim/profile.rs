//! What kind of run a seed makes.

use std::path::PathBuf;

use quorate::config::{Config, Reads};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::world::{CLIENT_PORT, NODES, PEER_PORT, address};

/// How rough one run is: drawn from its seed.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each turns one kind of fault on")]
pub struct Profile {
    pub shards: u16,
    pub coordinators: u16,
    pub clients: u64,
    pub fault_ms: u64,
    /// Milliseconds between faults, on average.
    pub pace_ms: u64,
    pub latency_ms: u64,
    pub flush_ms: u64,
    pub snapshot_log_bytes: u64,
    pub crashes: bool,
    pub partitions: bool,
    pub clocks: bool,
    pub disks: bool,
    pub lease: bool,
    pub plot: Plot,
}

/// What happens in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plot {
    Chance,
    /// `usurp.rs`
    Usurped,
    /// `amnesia.rs`
    Amnesia,
    /// `late.rs`
    Late,
}

impl Profile {
    pub fn draw(rng: &mut SmallRng) -> Profile {
        let drawn = Profile {
            shards: rng.random_range(1..=4),
            coordinators: rng.random_range(1..=3),
            clients: rng.random_range(2..=5),
            fault_ms: rng.random_range(3000..12_000),
            pace_ms: rng.random_range(300..3000),
            latency_ms: [1, 5, 40][rng.random_range(0..3)],
            flush_ms: [1, 3, 30][rng.random_range(0..3)],
            snapshot_log_bytes: [2 << 10, 8 << 10, 64 << 10][rng.random_range(0..3)],
            crashes: rng.random_bool(0.8),
            partitions: rng.random_bool(0.7),
            clocks: rng.random_bool(0.5),
            disks: rng.random_bool(0.3),
            lease: rng.random_bool(0.5),
            plot: match rng.random_range(0..16) {
                0 | 1 => Plot::Usurped,
                2 => Plot::Amnesia,
                3 => Plot::Late,
                _ => Plot::Chance,
            },
        };
        let quick = Profile {
            shards: 1,
            clients: 0,
            latency_ms: 1,
            flush_ms: 1,
            lease: true,
            ..drawn.clone()
        };
        match drawn.plot {
            Plot::Chance => drawn,
            Plot::Usurped => quick,
            Plot::Amnesia => Profile {
                lease: drawn.lease,
                ..quick
            },
            // So that something is always on its way.
            Plot::Late => Profile {
                lease: drawn.lease,
                latency_ms: drawn.latency_ms.clamp(3, 20),
                ..quick
            },
        }
    }
}

pub fn config(profile: &Profile) -> Config {
    let nodes = u16::try_from(NODES).expect("few nodes");
    let mut config = Config::dev(nodes, profile.shards, 1, PathBuf::from("unused")).expect("a valid config");
    config.cluster.coordinators = profile.coordinators;
    config.cluster.virtual_nodes = 16;
    config.cluster.reads = if profile.lease { Reads::Lease } else { Reads::Index };
    config.limits.snapshot_log_bytes = profile.snapshot_log_bytes;
    config.timeouts.request_ms = 4000;
    config.timeouts.txn_ms = 2000;
    config.timeouts.recovery_ms = 500;
    config.timeouts.digest_ms = 300;
    config.timeouts.hibernate_ms = 300;
    if profile.plot == Plot::Late {
        // Well below what a link takes for broken.
        config.timeouts.heartbeat_ms = 50;
        config.timeouts.election_min_ms = 200;
        config.timeouts.election_max_ms = 300;
    }
    for node in &mut config.nodes {
        node.client = address(node.id, CLIENT_PORT);
        node.peer = address(node.id, PEER_PORT);
        node.admin = address(node.id, 7201);
    }
    config
}
