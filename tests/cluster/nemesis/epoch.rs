//! One epoch: load, each kind of fault once, everything read once more, judgement.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::RESOLVE;
use super::bank::Bank;
use super::counters::Counters;
use super::expiry::Expiry;
use super::faults::{Fault, Patient};
use super::judge;
use super::lists::Lists;
use super::options::{Kind, Options};
use super::probes::Probes;
use super::registers::Registers;
use super::report::{Report, Suffered};
use super::unknowns::keep_asking;
use super::world::{PATIENCE, Session, World};
use crate::nodes::NODES;
use crate::wait::{now, within};

/// What a client does, and how many do it. Lists have about two thirds.
#[derive(Debug, Clone, Copy)]
enum Work {
    Lists,
    Registers,
    Bank,
    Counters,
    Expiry,
}

const CLIENTS: [(Work, u64); 5] = [
    (Work::Lists, 26),
    (Work::Registers, 4),
    (Work::Bank, 4),
    (Work::Counters, 3),
    (Work::Expiry, 3),
];
/// Between the operations of clients with single commands, which would else take the machine from the transactions.
const PACE: Duration = Duration::from_millis(5);
/// Clients that are none of the above have numbers from here.
const OTHERS: u64 = 1000;
/// Without faults, before each one.
const CALM: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];
/// With one.
const SICK: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(6)];

/// How long what is late is waited for, to say how late it is.
const LATE: Duration = Duration::from_secs(30);

pub struct Loads {
    pub lists: Lists,
    pub registers: Registers,
    pub counters: Counters,
    pub bank: Bank,
    pub expiry: Expiry,
    probes: Probes,
    /// Nobody moves clocks, so nothing may expire early.
    honest_clocks: bool,
}

impl Loads {
    fn new(world: &World, honest_clocks: bool) -> Loads {
        Loads {
            lists: Lists::new(),
            registers: Registers::default(),
            counters: Counters::default(),
            bank: Bank::default(),
            expiry: Expiry::default(),
            probes: Probes::new(world),
            honest_clocks,
        }
    }

    fn step(&self, work: Work, session: &mut Session) {
        match work {
            Work::Lists => self.lists.step(session),
            Work::Registers => {
                self.registers.step(session);
                thread::sleep(PACE);
            }
            Work::Bank => self.bank.step(session),
            Work::Counters => self.counters.step(session),
            Work::Expiry => {
                self.expiry.step(session, self.honest_clocks);
                thread::sleep(PACE);
            }
        }
    }
}

/// Runs epoch `number`; what must not be, if anything.
pub fn run(
    patient: &mut Patient,
    options: &Options,
    number: u64,
    left: Duration,
    report: &mut Report,
) -> Vec<String> {
    let world = World::new(
        number,
        options.seed,
        patient.nodes.addresses(),
        patient.nodes.config.ring(),
    );
    // Replicated time stays ahead after a jump, also in later epochs: what counts is whether any fault moves clocks.
    let loads = Loads::new(&world, !options.kinds.contains(&Kind::Clock));
    if let Err(why) = Bank::open(&mut Session::new(&world, OTHERS)) {
        return vec![why];
    }
    thread::scope(|scope| {
        let _end = StopAtEnd(&world);
        spawn_clients(scope, &world, &loads);
        in_turn(patient, options, &world, &loads, left, report);
    });
    report.add(&world, &loads);
    judge::judge(&world, &loads, report);
    world.findings()
}

struct StopAtEnd<'a>(&'a World);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.gate.stop();
    }
}

fn spawn_clients<'s>(scope: &'s thread::Scope<'s, '_>, world: &'s World, loads: &'s Loads) {
    let mut client = 0;
    for (work, count) in CLIENTS {
        for _ in 0..count {
            client += 1;
            let id = client;
            scope.spawn(move || world.drive(id, |session| loads.step(work, session)));
        }
    }
    for target in 0..loads.probes.targets.len() {
        for first in 0..world.addresses.len() as u64 {
            scope.spawn(move || {
                let client = OTHERS * (target as u64 + 2) + first;
                loads.probes.probe(world, target, client);
            });
        }
    }
    scope.spawn(move || keep_asking(world));
}

/// Each kind of fault once, in an order of its own, as long as there is time.
fn in_turn(
    patient: &mut Patient,
    options: &Options,
    world: &World,
    loads: &Loads,
    left: Duration,
    report: &mut Report,
) {
    let begun = now();
    let mut kinds = options.kinds.clone();
    patient.shuffle(&mut kinds);
    for kind in kinds {
        let calm = patient.between(CALM[0], CALM[1]);
        let (since, done) = (now(), world.counts.transactions.load(Ordering::Relaxed));
        go_on(world, calm);
        let done = world.counts.transactions.load(Ordering::Relaxed) - done;
        report.calm(since.elapsed(), done);
        if world.gate.is_stopped() || begun.elapsed() >= left {
            break;
        }
        let suffered = suffer(patient, world, loads, kind);
        println!("{suffered}");
        report.suffered(suffered);
        if world.gate.is_stopped() {
            break;
        }
    }
}

/// Lets the load go on, unless something is found.
fn go_on(world: &World, time: Duration) {
    within(time, || world.gate.is_stopped().then_some(()));
}

fn suffer(patient: &mut Patient, world: &World, loads: &Loads, kind: Kind) -> Suffered {
    let begun = now();
    loads.probes.begin();
    let fault = patient.hurt(kind);
    let lasts = patient.between(SICK[0], SICK[1]);
    go_on(world, lasts);
    let gaps = loads.probes.gaps(world);
    let mut without = None;
    if let Some(majority) = fault.majority()
        && patient.chance(50)
    {
        patient.wait_quorum(&majority);
        without = settle(patient, world, &fault, &majority);
    }
    let healing = now();
    patient.heal(&fault);
    patient.wait_quorum(&NODES);
    let quorum = healing.elapsed();
    let resolved = settle(patient, world, &fault, &NODES);
    let serving = is_serving(world, loads, &fault);
    Suffered {
        at: begun.elapsed(),
        fault,
        gaps,
        without,
        quorum,
        resolved,
        serving,
    }
}

/// Waits until every shard takes writes again, and so do transactions over all of them. `None`: not in time.
fn is_serving(world: &World, loads: &Loads, fault: &Fault) -> Option<Duration> {
    let (begun, since) = (now(), world.time());
    let mut silent = Vec::new();
    let serving = within(LATE, || {
        if begun.elapsed() < RESOLVE {
            silent = loads.probes.silent_since(since);
        }
        let over = world.gate.is_stopped() || loads.probes.silent_since(since).is_empty();
        over.then(|| begun.elapsed())
    });
    if serving.is_none_or(|took| took > RESOLVE) {
        world.found(format!(
            "after {} was healed, no write succeeded within {RESOLVE:?} of quorum on: {}. All did after: {serving:.1?}",
            fault.what,
            silent.join(", ")
        ));
        return None;
    }
    serving
}

/// Holds the load and waits until nothing is in the air at these nodes: how long that took. `None`: too long.
fn settle(patient: &Patient, world: &World, fault: &Fault, nodes: &[u64]) -> Option<Duration> {
    let quorum = now();
    let all = nodes.len() == NODES.len();
    // While the fault lasts, clients of nodes that were hit wait for nothing until their patience ends.
    let idle = world.gate.hold(if all { RESOLVE } else { PATIENCE + RESOLVE });
    let mut last = String::new();
    let resolved = within(LATE, || {
        let (prepared, open) = (patient.prepared(nodes), world.unknowns.open());
        let all = prepared.as_ref().is_some_and(Vec::is_empty) && open.is_empty();
        if quorum.elapsed() < RESOLVE {
            last = format!("prepared: {prepared:?}, unknown outcomes: {open:?}");
        }
        all.then(|| quorum.elapsed())
    });
    if (all && !idle) || resolved.is_none_or(|took| took > RESOLVE) {
        for known in super::unknowns::inform(world) {
            world.found(format!("still open: {known}"));
        }
        let healed = if all { "healed" } else { "not healed" };
        world.found(format!(
            "not all was resolved within {RESOLVE:?} of quorum among {nodes:?}, {healed}: {}. All clients had their \
             answers: {idle}. After {RESOLVE:?}: {last}. All was resolved after: {resolved:.1?}",
            fault.what
        ));
        return None;
    }
    world.gate.release();
    resolved
}
