//! What all clients of a run share: the gate that holds them back, counts, findings; and their connections.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use quorate::ring::Ring;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::unknowns::Unknowns;
use crate::now;
use crate::wire::{Client, Fate, Reply};

/// How long a client tries to connect before it turns to the next node.
const CONNECT: Duration = Duration::from_millis(500);
/// A client's wait for a reply. Longer than a gateway tries, or most outcomes would be lost instead of told.
pub const PATIENCE: Duration = Duration::from_millis(4500);
/// Between two tries of a client that gets nowhere.
const PAUSE: Duration = Duration::from_millis(5);

/// Findings that are told.
const FINDINGS: usize = 20;

pub struct World {
    pub epoch: u64,
    pub seed: u64,
    pub addresses: Vec<SocketAddr>,
    pub ring: Ring,
    pub gate: Gate,
    pub counts: Counts,
    pub unknowns: Unknowns,
    /// What must not be. The run ends at the first.
    findings: Mutex<Vec<String>>,
    start: Instant,
}

#[derive(Debug, Default)]
pub struct Counts {
    /// MULTI … EXEC, done.
    pub transactions: AtomicU64,
    /// Other commands, done.
    pub commands: AtomicU64,
    pub conflicts: AtomicU64,
    pub refused: AtomicU64,
    pub unknown: AtomicU64,
    pub lost: AtomicU64,
}

impl World {
    pub fn new(epoch: u64, seed: u64, addresses: Vec<SocketAddr>, ring: Ring) -> World {
        World {
            epoch,
            seed,
            addresses,
            ring,
            gate: Gate::default(),
            counts: Counts::default(),
            unknowns: Unknowns::default(),
            findings: Mutex::default(),
            start: now(),
        }
    }

    /// Nanoseconds since this world began.
    pub fn time(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a run is shorter than 584 years")
    }

    /// A key of this epoch.
    pub fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.epoch)
    }

    pub fn shard_of(&self, key: &str) -> u16 {
        self.ring.shard_of(key.as_bytes())
    }

    /// Notes a violation and ends the load.
    pub fn found(&self, what: String) {
        let mut findings = lock(&self.findings);
        // One broken thing shows in many places.
        if findings.len() < FINDINGS {
            findings.push(what);
        }
        drop(findings);
        self.gate.stop();
    }

    pub fn findings(&self) -> Vec<String> {
        lock(&self.findings).clone()
    }

    /// Runs `step` again and again as one client until the load ends.
    pub fn drive(&self, client: u64, mut step: impl FnMut(&mut Session)) {
        let _end = StopAtPanic(&self.gate);
        let mut session = Session::new(self, client);
        while let Some(_turn) = self.gate.enter() {
            if session.connect() {
                step(&mut session);
            }
        }
    }

    fn count(&self, fate: &Fate, is_transaction: bool) {
        let counts = &self.counts;
        let counter = match fate {
            Fate::Done(_) if is_transaction => &counts.transactions,
            Fate::Done(_) => &counts.commands,
            Fate::Conflict => &counts.conflicts,
            Fate::Refused(_) => &counts.refused,
            Fate::Open(_) => &counts.unknown,
            Fate::Lost(_) => &counts.lost,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Fate::Open(id) = fate {
            self.unknowns.ask(id.clone(), self.time());
        }
    }
}

/// A panic of one client ends them all: the scope that joins them passes it on.
struct StopAtPanic<'a>(&'a Gate);

impl Drop for StopAtPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where clients pass before each piece of work.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    held: bool,
    stopped: bool,
    working: usize,
}

/// A client's piece of work.
pub struct Turn<'a>(&'a Gate);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.working -= 1;
        if state.held && state.working == 0 {
            self.0.changed.notify_all();
        }
    }
}

impl Gate {
    /// Waits while clients are held. `None`: the load has ended.
    pub fn enter(&self) -> Option<Turn<'_>> {
        let state = lock(&self.state);
        let mut state = self
            .changed
            .wait_while(state, |state| state.held && !state.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return None;
        }
        state.working += 1;
        Some(Turn(self))
    }

    /// Holds clients back and waits until those at work are through. Says whether they are.
    pub fn hold(&self, limit: Duration) -> bool {
        let mut state = lock(&self.state);
        state.held = true;
        let (state, _) = self
            .changed
            .wait_timeout_while(state, limit, |state| state.working > 0)
            .unwrap_or_else(PoisonError::into_inner);
        state.working == 0
    }

    pub fn release(&self) {
        lock(&self.state).held = false;
        self.changed.notify_all();
    }

    pub fn stop(&self) {
        lock(&self.state).stopped = true;
        self.changed.notify_all();
    }

    pub fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }
}

/// A client: one connection at a time, to the next node when one breaks.
pub struct Session<'a> {
    pub world: &'a World,
    pub id: u64,
    pub rng: StdRng,
    connection: Option<Client>,
    turn: usize,
    patience: Duration,
}

impl<'a> Session<'a> {
    pub fn new(world: &'a World, id: u64) -> Session<'a> {
        Session {
            world,
            id,
            rng: StdRng::seed_from_u64(
                world.seed ^ (world.epoch << 32) ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ),
            connection: None,
            turn: usize::try_from(id).expect("there are few clients"),
            patience: PATIENCE,
        }
    }

    /// A client that gives up early.
    pub fn impatient(mut self, patience: Duration) -> Session<'a> {
        self.patience = patience;
        self
    }

    /// Sees to it that there is a connection; if this node takes none, the next is tried the next time.
    pub fn connect(&mut self) -> bool {
        if self.connection.is_none() {
            let address = self.world.addresses[self.turn % self.world.addresses.len()];
            let opened = Client::open_for(address, CONNECT).and_then(|mut client| {
                client.wait_for(self.patience)?;
                Ok(client)
            });
            self.connection = opened.ok();
            if self.connection.is_none() {
                self.turn += 1;
                thread::sleep(PAUSE);
            }
        }
        self.connection.is_some()
    }

    /// Gives up the connection; the next request goes to the next node.
    pub fn move_on(&mut self) {
        self.connection = None;
        self.turn += 1;
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    pub fn call(&mut self, request: &[&str]) -> Fate {
        let fate = self.send(|client| client.call(request));
        self.world.count(&fate, false);
        fate
    }

    pub fn multi(&mut self, commands: &[Vec<String>]) -> Fate {
        let fate = self.send(|client| client.multi(commands));
        self.world.count(&fate, true);
        fate
    }

    /// Requests that change nothing: all replies, or nothing when one of them is missing or an error.
    pub fn look(&mut self, requests: &[Vec<String>]) -> Option<Vec<Reply>> {
        let mut all = Vec::new();
        let fate = self.send(|client| {
            all = client.pipeline(requests)?;
            Ok(Reply::Nil)
        });
        if matches!(fate, Fate::Done(_))
            && let Some(error) = all.iter().find(|reply| matches!(reply, Reply::Error(_)))
        {
            // Looks at its kind, and panics at one that must not be.
            self.world.count(&Fate::of(Ok(error.clone())), false);
            return None;
        }
        matches!(fate, Fate::Done(_)).then_some(all)
    }

    fn send(&mut self, request: impl FnOnce(&mut Client) -> io::Result<Reply>) -> Fate {
        if !self.connect() {
            return Fate::Refused("no connection, so nothing was sent".into());
        }
        let client = self.connection.as_mut().expect("it was just made");
        let fate = Fate::of(request(client));
        match fate {
            Fate::Lost(_) => self.move_on(),
            Fate::Refused(_) => thread::sleep(PAUSE),
            _ => {}
        }
        fate
    }
}
