//! Three nodes, their disks and clocks, some clients, and what happens to them.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use quorate::base::GroupId;
use quorate::cluster::Env;
use quorate::gateway::{ServerOptions, serve};
use quorate::host::{self, Clock};
use quorate::storage::{Disk, Flusher};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use turmoil::Sim;

use crate::disk::SimDisk;
use crate::history::{History, Shared};
use crate::net::{SimNetwork, Unheard};
use crate::profile::{Plot, Profile, config};
use crate::verify;
use crate::workload::Worker;

pub const NODES: u64 = 3;
pub const CLIENT_PORT: u16 = 7001;
pub const PEER_PORT: u16 = 7101;
/// Wall clocks begin here: a day in 2026, in milliseconds.
const EPOCH_MS: i64 = 1_780_000_000_000;
/// Nodes may take this long to be ready after all faults are mended.
const HEALED: Duration = Duration::from_secs(20);

/// One node as the world sees it.
pub struct Host {
    pub ip: IpAddr,
    disk: SimDisk,
    /// Milliseconds that its wall clock is ahead.
    offset_ms: Arc<AtomicI64>,
    /// Parts of a million that its wall clock runs too fast.
    drift_ppm: Arc<AtomicI64>,
    flush_ms: Arc<AtomicU64>,
    unheard: Unheard,
    /// Its disk fails, so it may end by itself.
    excused: Arc<AtomicBool>,
    up: bool,
    ready: Rc<RefCell<Option<watch::Receiver<bool>>>>,
}

pub struct World<'a> {
    pub sim: Sim<'a>,
    pub hosts: Vec<Host>,
    pub history: Shared,
    profile: Profile,
    pub rng: SmallRng,
    stop: Rc<Cell<bool>>,
    /// What nodes ended with that may not end.
    ended: Rc<RefCell<Vec<String>>>,
}

pub fn address(node: u64, port: u16) -> SocketAddr {
    let last = u8::try_from(node).expect("few nodes");
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), port))
}

pub fn gateways() -> Vec<SocketAddr> {
    (1..=NODES).map(|node| address(node, CLIENT_PORT)).collect()
}

/// Runs the flusher step by step: a frame is written, and synced only some time later.
async fn flush(mut flusher: Flusher, flush_ms: Arc<AtomicU64>) {
    loop {
        if flusher.write_waiting() {
            tokio::time::sleep(Duration::from_millis(flush_ms.load(Ordering::Relaxed))).await;
            flusher.sync_written();
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Host {
    fn new(node: u64, seed: u64, profile: &Profile) -> Host {
        Host {
            ip: address(node, 0).ip(),
            disk: SimDisk::new(node, seed),
            offset_ms: Arc::default(),
            drift_ppm: Arc::default(),
            flush_ms: Arc::new(AtomicU64::new(profile.flush_ms)),
            unheard: Unheard::default(),
            excused: Arc::default(),
            up: true,
            ready: Rc::default(),
        }
    }

    fn env(&self) -> Env {
        let (offset, drift) = (Arc::clone(&self.offset_ms), Arc::clone(&self.drift_ppm));
        let clock: Clock = Arc::new(move || {
            let elapsed = turmoil::sim_elapsed().map_or(0, |at| at.as_micros() as i64);
            let ms = elapsed * (1_000_000 + drift.load(Ordering::Relaxed)) / 1_000_000_000;
            u64::try_from(EPOCH_MS + ms + offset.load(Ordering::Relaxed)).unwrap_or(0)
        });
        let (disk, flush_ms) = (self.disk.clone(), Arc::clone(&self.flush_ms));
        Env {
            clock,
            network: Arc::new(SimNetwork {
                unheard: self.unheard.clone(),
            }),
            open_disk: Arc::new(move || {
                let disk: Arc<dyn Disk> = Arc::new(disk.clone());
                Ok(disk)
            }),
            start_flusher: Arc::new(move |flusher| {
                tokio::spawn(flush(flusher, Arc::clone(&flush_ms)));
                Ok(None)
            }),
        }
    }
}

impl World<'_> {
    pub fn new(seed: u64) -> World<'static> {
        host::simulate(Some(seed));
        let mut rng = SmallRng::seed_from_u64(seed);
        let profile = Profile::draw(&mut rng);
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(600))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(profile.latency_ms.max(2)))
            .tcp_capacity(1 << 20)
            .enable_random_order()
            .build();
        let mut world = World {
            sim,
            hosts: (1..=NODES)
                .map(|node| Host::new(node, rng.random(), &profile))
                .collect(),
            history: Rc::new(History::default()),
            profile,
            rng,
            stop: Rc::default(),
            ended: Rc::default(),
        };
        world
            .history
            .story
            .borrow_mut()
            .push(format!("seed {seed}: {:?}", world.profile));
        world.start_nodes();
        world.start_clients();
        world
    }

    fn start_nodes(&mut self) {
        let config = Arc::new(config(&self.profile));
        for (node, host) in (1..).zip(&self.hosts) {
            let (config, env, excused) = (Arc::clone(&config), host.env(), Arc::clone(&host.excused));
            let (ready, ended, history) = (
                Rc::clone(&host.ready),
                Rc::clone(&self.ended),
                Rc::clone(&self.history),
            );
            self.sim.host(host.ip, move || {
                let options = ServerOptions {
                    config: Arc::clone(&config),
                    node,
                    env: env.clone(),
                };
                let (excused, ended, history) =
                    (Arc::clone(&excused), Rc::clone(&ended), Rc::clone(&history));
                let (tx, rx) = watch::channel(false);
                *ready.borrow_mut() = Some(rx);
                async move {
                    let why = serve(options, &tx).await;
                    history.tell(|| format!("node {node} ends: {why:?}"));
                    if !excused.load(Ordering::Relaxed) {
                        ended.borrow_mut().push(format!("node {node}: {why:?}"));
                    }
                    Ok(())
                }
            });
        }
    }

    fn start_clients(&mut self) {
        let (seed, history) = (self.rng.random(), Rc::clone(&self.history));
        let opened = Rc::new(Cell::new(false));
        let opening = Rc::clone(&opened);
        self.sim.client("opening", async move {
            verify::open_accounts(seed, &history).await;
            opening.set(true);
            Ok(())
        });
        while !opened.get() {
            self.step();
        }
        for id in 1..=self.profile.clients {
            let (history, stop) = (Rc::clone(&self.history), Rc::clone(&self.stop));
            let worker = Worker::new(id, self.rng.random(), gateways(), history, stop);
            self.sim.client(format!("client-{id}"), async move {
                worker.run().await;
                Ok(())
            });
        }
    }

    fn step(&mut self) -> bool {
        let over = self.sim.step().expect("no node or client fails");
        let ended = self.ended.borrow();
        assert!(ended.is_empty(), "a node ended by itself: {ended:?}");
        over
    }

    pub fn run_for(&mut self, span: Duration) {
        let end = self.sim.elapsed() + span;
        while self.sim.elapsed() < end {
            self.step();
        }
    }

    /// The whole run; panics at the first thing that may not be.
    pub fn run(&mut self) {
        match self.profile.plot {
            Plot::Chance => self.strike_for(Duration::from_millis(self.profile.fault_ms)),
            Plot::Usurped => self.usurp_a_leader(),
            Plot::Amnesia if self.rng.random_bool(0.5) => self.have_entries_forgotten(),
            Plot::Amnesia => self.have_a_vote_forgotten(),
            Plot::Late => self.have_answers_come_late(),
        }
        self.heal();
        self.stop.set(true);
        let limit = self.sim.elapsed() + Duration::from_secs(60);
        while !self.step() {
            assert!(self.sim.elapsed() < limit, "a client never ends");
        }
        self.history.check();
        let (history, done) = (Rc::clone(&self.history), Rc::new(Cell::new(false)));
        let told = Rc::clone(&done);
        self.sim.client("auditor", async move {
            verify::everything(&history).await;
            told.set(true);
            Ok(())
        });
        while !done.get() {
            assert!(
                self.sim.elapsed() < limit + Duration::from_secs(60),
                "the audit never ends"
            );
            self.step();
        }
        self.history.check();
    }

    fn strike_for(&mut self, span: Duration) {
        let end = self.sim.elapsed() + span;
        while self.sim.elapsed() < end {
            let pause = self.rng.random_range(0..self.profile.pace_ms * 2);
            self.run_for(Duration::from_millis(pause));
            self.strike();
        }
    }

    /// Where the leader of a group is when all is well.
    pub fn preferred(&self, group: GroupId) -> usize {
        let node = config(&self.profile).placement()[&group][0];
        usize::try_from(node - 1).expect("few nodes")
    }

    fn tell(&self, what: &str) {
        let at = self.sim.elapsed().as_millis();
        self.history
            .story
            .borrow_mut()
            .push(format!("{at:>6} *** {what}"));
    }

    fn strike(&mut self) {
        let node = self.rng.random_range(0..self.hosts.len());
        let other = (node + self.rng.random_range(1..self.hosts.len())) % self.hosts.len();
        match self.rng.random_range(0..13) {
            0..3 if self.profile.crashes => self.crash(node),
            3 if self.profile.crashes => (0..self.hosts.len()).for_each(|node| self.crash(node)),
            4..6 if self.profile.partitions => self.cut(node, other),
            6 if self.profile.partitions => {
                (0..self.hosts.len())
                    .filter(|&peer| peer != node)
                    .for_each(|peer| self.cut(node, peer));
            }
            7 if self.profile.clocks => {
                let jump = [-60_000, -2000, -50, 50, 2000, 60_000][self.rng.random_range(0..6)];
                self.hosts[node].offset_ms.fetch_add(jump, Ordering::Relaxed);
                let drift = self.rng.random_range(-20_000..20_000);
                self.hosts[node].drift_ppm.store(drift, Ordering::Relaxed);
                self.history.count("clock jumps");
                self.tell(&format!(
                    "clock of node {} jumps by {jump} ms, drifts by {drift} ppm",
                    node + 1
                ));
            }
            8 if self.profile.disks && self.hosts[node].up => {
                self.hosts[node].excused.store(true, Ordering::Relaxed);
                self.hosts[node].disk.set_broken(true);
                self.history.count("disks failed");
                self.tell(&format!("disk of node {} fails", node + 1));
            }
            9 => {
                let slow = [1, 20, 300][self.rng.random_range(0..3)];
                self.slow_disk(node, slow);
            }
            10 if self.profile.crashes => self.reboot(node),
            _ => self.mend(),
        }
    }

    /// A crash and a start in the same moment: what the last process has promised still holds.
    pub fn reboot(&mut self, node: usize) {
        self.crash(node);
        if !self.hosts[node].excused.load(Ordering::Relaxed) && !self.hosts[node].up {
            self.sim.bounce(self.hosts[node].ip);
            self.hosts[node].up = true;
            self.tell(&format!("node {} starts again", node + 1));
        }
    }

    pub fn cut_both(&mut self, one: usize, other: usize) {
        self.sim.partition(self.hosts[one].ip, self.hosts[other].ip);
        self.history.count("cuts");
        self.tell(&format!("node {} | | node {}", one + 1, other + 1));
    }

    /// What they send each other stays on its way until it is released.
    pub fn hold(&mut self, one: usize, other: usize) {
        self.sim.hold(self.hosts[one].ip, self.hosts[other].ip);
        self.history.count("holds");
        self.tell(&format!("node {} ... node {}", one + 1, other + 1));
    }

    pub fn release(&mut self, one: usize, other: usize) {
        self.sim.release(self.hosts[one].ip, self.hosts[other].ip);
        self.tell(&format!("node {} --- node {}", one + 1, other + 1));
    }

    /// What has arrived from `peer` is not heard until it is told to be.
    pub fn deafen(&mut self, node: usize, peer: usize) {
        self.hosts[node].unheard.hold(self.hosts[peer].ip);
        self.tell(&format!("node {} does not hear node {}", node + 1, peer + 1));
    }

    pub fn let_hear(&mut self, node: usize, peer: usize) {
        self.hosts[node].unheard.release(self.hosts[peer].ip);
        self.tell(&format!("node {} hears node {}", node + 1, peer + 1));
    }

    pub fn mend_both(&mut self, one: usize, other: usize) {
        self.sim.repair(self.hosts[one].ip, self.hosts[other].ip);
        self.tell(&format!("node {} --- node {}", one + 1, other + 1));
    }

    /// How long the disk of a node takes for a sync.
    pub fn slow_disk(&mut self, node: usize, ms: u64) {
        self.hosts[node].flush_ms.store(ms, Ordering::Relaxed);
        self.tell(&format!("disk of node {} takes {ms} ms", node + 1));
    }

    fn crash(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        if host.up {
            self.sim.crash(host.ip);
            host.disk.crash();
            host.up = false;
            self.history.crashed.borrow_mut().insert(node as u64 + 1);
            self.history.count("crashes");
            self.tell(&format!("node {} crashes", node + 1));
        }
    }

    /// One way or both.
    fn cut(&mut self, from: usize, to: usize) {
        let (a, b) = (self.hosts[from].ip, self.hosts[to].ip);
        let both = self.rng.random_bool(0.5);
        if both {
            self.sim.partition(a, b);
        } else {
            self.sim.partition_oneway(a, b);
        }
        self.history.count("cuts");
        self.tell(&format!(
            "node {} {} node {}",
            from + 1,
            if both { "| |" } else { "->|" },
            to + 1
        ));
    }

    /// Ends all cuts, starts whoever is down.
    fn mend(&mut self) {
        for from in 0..self.hosts.len() {
            for to in from + 1..self.hosts.len() {
                self.sim.repair(self.hosts[from].ip, self.hosts[to].ip);
            }
        }
        for node in 0..self.hosts.len() {
            if self.hosts[node].excused.load(Ordering::Relaxed) {
                // It has ended, or will: a power cut is the way to a new start.
                self.crash(node);
                self.hosts[node].disk.set_broken(false);
                self.hosts[node].excused.store(false, Ordering::Relaxed);
            }
            if !self.hosts[node].up {
                self.sim.bounce(self.hosts[node].ip);
                self.hosts[node].up = true;
            }
        }
        self.tell("mended");
    }

    fn heal(&mut self) {
        for host in &self.hosts {
            host.flush_ms.store(self.profile.flush_ms, Ordering::Relaxed);
        }
        self.mend();
        let limit = self.sim.elapsed() + HEALED;
        while !self
            .hosts
            .iter()
            .all(|host| host.ready.borrow().as_ref().is_some_and(|ready| *ready.borrow()))
        {
            assert!(
                self.sim.elapsed() < limit,
                "not ready {HEALED:?} after all faults were mended"
            );
            self.step();
        }
        self.tell("all nodes are ready");
    }
}
