//! Availability: small writes to each shard, and over all shards, through every node, one every few milliseconds. The
//! longest time without a success is the gap that a fault tears.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::world::{Session, World};
use crate::wire::{Fate, words};

const PACE: Duration = Duration::from_millis(50);
/// A probe whose node is silent turns to another.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is probed: a shard, or transactions over all.
pub struct Target {
    pub name: String,
    keys: Vec<String>,
    last: AtomicU64,
    longest: AtomicU64,
}

pub struct Probes {
    pub targets: Vec<Target>,
}

impl Probes {
    pub fn new(world: &World) -> Probes {
        let keys_of = |name: &str| {
            let key_of = |shard: u16| {
                let mut keys = (0..).map(|n: u32| world.key(&format!("{name}:{n}")));
                keys.find(|key| world.shard_of(key) == shard)
                    .expect("there is no end of numbers")
            };
            (0..world.ring.shards()).map(key_of).collect::<Vec<String>>()
        };
        let target = |name: String, keys: Vec<String>| Target {
            name,
            keys,
            last: AtomicU64::new(world.time()),
            longest: AtomicU64::new(0),
        };
        let mut targets: Vec<Target> = keys_of("probe")
            .into_iter()
            .enumerate()
            .map(|(shard, key)| target(format!("shard-{shard}"), vec![key]))
            .collect();
        targets.push(target("all shards".into(), keys_of("probe-all")));
        Probes { targets }
    }

    /// Probes one target through the nodes, `client` saying which first, until the load has ended.
    pub fn probe(&self, world: &World, target: usize, client: u64) {
        let target = &self.targets[target];
        let mut session = Session::new(world, client).impatient(PATIENCE);
        loop {
            let Some(turn) = world.gate.enter() else { break };
            let sets: Vec<_> = target.keys.iter().map(|key| words(&["SET", key, "1"])).collect();
            let fate = match &target.keys[..] {
                [key] => session.call(&["SET", key, "1"]),
                _ => session.multi(&sets),
            };
            if let Fate::Done(_) = fate {
                target.succeeded(world.time());
            }
            drop(turn);
            thread::sleep(PACE);
        }
    }

    /// Forgets gaps that are over.
    pub fn begin(&self) {
        for target in &self.targets {
            target.longest.store(0, Ordering::SeqCst);
        }
    }

    /// Targets without a success since `time`.
    pub fn silent_since(&self, time: u64) -> Vec<String> {
        let silent = self
            .targets
            .iter()
            .filter(|target| target.last.load(Ordering::SeqCst) < time);
        silent.map(|target| target.name.clone()).collect()
    }

    /// Each target's longest gap since [`Probes::begin`], in milliseconds, one that goes on included.
    pub fn gaps(&self, world: &World) -> Vec<(String, u64)> {
        let gap = |target: &Target| {
            let open = world.time().saturating_sub(target.last.load(Ordering::SeqCst));
            let longest = target.longest.load(Ordering::SeqCst).max(open);
            (target.name.clone(), longest / 1_000_000)
        };
        self.targets.iter().map(gap).collect()
    }
}

impl Target {
    fn succeeded(&self, time: u64) {
        let before = self.last.fetch_max(time, Ordering::SeqCst);
        self.longest
            .fetch_max(time.saturating_sub(before), Ordering::SeqCst);
    }
}
