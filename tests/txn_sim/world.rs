//! Perfect logs, a network that is not, and leaders that die; chance decides what happens next.

use std::collections::BTreeMap;

use quorate::base::{GroupId, Millis};
use quorate::machine::{Batch, Body, Machine, Origin, Request, Response, Thaw, Ticket, Vote};

use crate::gateway::Gateway;
use crate::leader::Leader;
use crate::message::{Decider, Message, Waiter};
use crate::model::Model;
use crate::op::Op;
use crate::rng::Rng;

/// One group: a log that never fails, and the state it makes.
pub struct Log {
    pub group: GroupId,
    pub machine: Machine,
    pub index: u64,
    pending: Vec<(Request, Waiter)>,
}

/// How rough one run is: drawn from its seed.
#[derive(Debug, Clone)]
pub struct Profile {
    pub steps: u64,
    pub drop: u64,
    pub double: u64,
    pub delay: u64,
    pub crash: u64,
    pub skew: u64,
    pub ops: usize,
    pub patience: Millis,
    pub timeout: Millis,
    /// A planted error: gateways that have asked more than once believe a "no" that is not recorded.
    pub believe: bool,
}

/// What the run has seen, to show that the simulation is not vacuous.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats(pub BTreeMap<&'static str, u64>);

impl Stats {
    pub fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

pub struct World {
    pub rng: Rng,
    pub now: Millis,
    pub profile: Profile,
    pub shards: Vec<Log>,
    pub coordinators: Vec<Log>,
    /// Processes that lead or have led a coordinator, oldest first.
    pub leaders: Vec<Leader>,
    pub terms: u64,
    pub bag: Vec<Message>,
    /// Held up for long.
    pub late: Vec<Message>,
    pub gateways: Vec<Gateway>,
    pub ops: Vec<Op>,
    pub model: Model,
    pub stats: Stats,
    pub healing: bool,
    waiters: BTreeMap<(GroupId, Ticket), Waiter>,
    /// One line an event, kept if asked for.
    pub trace: Option<Vec<String>>,
}

impl Log {
    fn new(group: GroupId) -> Log {
        Log {
            group,
            machine: Machine::new(group),
            index: 0,
            pending: Vec::new(),
        }
    }
}

impl World {
    pub fn new(seed: u64, traced: bool) -> World {
        let mut rng = Rng::new(seed);
        let shards = 2 + u16::try_from(rng.below(3)).expect("a small number");
        let coordinators = 1 + u16::from(rng.per_mille(300));
        let profile = Profile {
            steps: 150 + rng.below(500),
            drop: [0, 20, 100, 250][rng.index(4)],
            double: [0, 30, 150][rng.index(3)],
            delay: [0, 10, 60][rng.index(3)],
            crash: [0, 4, 12, 40][rng.index(4)],
            skew: [0, 5, 40][rng.index(3)],
            ops: 4 + rng.index(16),
            patience: 20 + rng.below(100),
            timeout: 60 + rng.below(300),
            believe: std::env::var_os("QUORATE_SIM_BELIEVE").is_some(),
        };
        let mut world = World {
            now: 1_000_000,
            profile,
            shards: (0..shards).map(|n| Log::new(GroupId::Shard(n))).collect(),
            coordinators: (0..coordinators)
                .map(|n| Log::new(GroupId::Coordinator(n)))
                .collect(),
            leaders: Vec::new(),
            terms: 0,
            bag: Vec::new(),
            late: Vec::new(),
            gateways: (0..2 + rng.index(2)).map(|n| Gateway::new(n as u64)).collect(),
            ops: Vec::new(),
            model: Model::new(shards),
            stats: Stats::default(),
            healing: false,
            waiters: BTreeMap::new(),
            trace: traced.then(Vec::new),
            rng,
        };
        world.fill();
        world
    }

    /// The accounts' first money.
    fn fill(&mut self) {
        for shard in 0..self.shards.len() {
            let commands = self.model.first_commands(shard);
            let body = Body::Run {
                commands,
                conditions: Vec::new(),
            };
            let group = self.shards[shard].group;
            self.propose(group, Request::anonymous(body), Waiter::Nobody);
            self.flush(group);
        }
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now} {}", line()));
        }
    }

    /// A clock as somebody reads it: not all agree.
    pub fn clock(&mut self) -> Millis {
        let skew = self.profile.skew;
        self.now + self.rng.below(skew + 1)
    }

    pub fn log(&mut self, group: GroupId) -> &mut Log {
        match group {
            GroupId::Shard(n) => &mut self.shards[usize::from(n)],
            GroupId::Coordinator(n) => &mut self.coordinators[usize::from(n)],
        }
    }

    /// Puts a request into a group's next entry.
    pub fn propose(&mut self, group: GroupId, request: Request, waiter: Waiter) {
        self.log(group).pending.push((request, waiter));
        if self.healing || self.rng.per_mille(750) {
            self.flush(group);
        }
    }

    /// Logs and applies what waits.
    pub fn flush(&mut self, group: GroupId) {
        let (time, seed) = (self.clock(), self.rng.next());
        let log = self.log(group);
        if log.pending.is_empty() {
            return;
        }
        log.index += 1;
        let index = log.index;
        let (requests, waiters): (Vec<_>, Vec<_>) = std::mem::take(&mut log.pending).into_iter().unzip();
        let batch = Batch {
            origin: Origin {
                node: 1,
                nonce: index,
            },
            time: time.max(log.machine.time()),
            seed,
            requests,
        };
        self.note(|| format!("{group} #{index} {batch:?}"));
        for (at, waiter) in (0..).zip(waiters) {
            self.waiters.insert((group, Ticket { index, at }), waiter);
        }
        let answers = self.log(group).machine.apply(index, batch);
        for (ticket, response) in answers {
            let waiter = self.waiters.remove(&(group, ticket));
            let waiter = waiter.expect("a ticket is answered once, and only if it was given");
            self.note(|| format!("{group} answers {ticket:?} {waiter:?}: {response:?}"));
            self.respond(group, waiter, response);
        }
        self.check_group(group);
    }

    fn respond(&mut self, group: GroupId, waiter: Waiter, response: Response) {
        let message = match (waiter, response) {
            (Waiter::Nobody, _) => return,
            (Waiter::Op(op), response) => {
                self.ran(op, &response);
                Message::Response { op, response }
            }
            (Waiter::Vote { term, attempt, shard }, Response::Vote(vote)) => {
                self.stats.add(match vote {
                    Vote::Yes(_) => "votes yes",
                    Vote::No(_) => "votes no",
                });
                Message::Vote {
                    term,
                    attempt,
                    shard,
                    vote,
                }
            }
            (Waiter::Told { term, shard, finish }, Response::Done) => Message::Told { term, shard, finish },
            (Waiter::Retire { term, txn }, Response::Done) => Message::Retired { term, txn },
            (Waiter::Decide(by, txn), Response::Decision(decision)) => {
                self.recorded(group, txn, &decision);
                match by {
                    Decider::Leader(term) => Message::Decided { term, txn, decision },
                    Decider::Gateway(op) => Message::Response {
                        op,
                        response: Response::Decision(decision),
                    },
                    Decider::Participant(shard, prepared) => Message::Verdict {
                        shard,
                        prepared,
                        decision,
                    },
                }
            }
            (waiter, response) => panic!("{group} answers {waiter:?} with {response:?}"),
        };
        self.send(message);
    }

    pub fn send(&mut self, message: Message) {
        self.bag.push(message);
    }

    /// One thing happens.
    pub fn step(&mut self) {
        self.now += self.rng.below(3);
        if self.rng.per_mille(8) {
            self.now += 20 + self.rng.below(200);
        }
        match self.rng.below(1000) {
            0..520 => self.some_message(),
            520..700 => self.poke_some_op(),
            700..780 => self.resend_some(),
            780..840 => self.tick_all(),
            840..900 => self.recover_some_shard(),
            900..920 => self.let_time_pass(),
            920..930 => self.flush_all(),
            930..932 => self.restart_some_group(),
            932..936 => self.kill_some_gateway(),
            _ => self.start_op(),
        }
        let crash = self.profile.crash;
        if self.rng.per_mille(crash) {
            self.disturb_leaders();
        }
        self.elect();
    }

    fn some_message(&mut self) {
        if !self.late.is_empty() && self.rng.per_mille(20) {
            let at = self.rng.index(self.late.len());
            let message = self.late.swap_remove(at);
            return self.deliver(message);
        }
        if self.bag.is_empty() {
            return;
        }
        let at = self.rng.index(self.bag.len());
        let message = self.bag.swap_remove(at);
        let Profile {
            drop, double, delay, ..
        } = self.profile;
        if self.rng.per_mille(drop) {
            return self.note(|| format!("lost: {message:?}"));
        }
        if self.rng.per_mille(delay) {
            return self.late.push(message);
        }
        if message.may_double() && self.rng.per_mille(double) {
            let copy = message.clone();
            if self.rng.per_mille(500) {
                self.late.push(copy);
            } else {
                self.bag.push(copy);
            }
        }
        self.deliver(message);
    }

    pub fn flush_all(&mut self) {
        let groups: Vec<GroupId> = self
            .shards
            .iter()
            .chain(&self.coordinators)
            .map(|log| log.group)
            .collect();
        for group in groups {
            self.flush(group);
        }
    }

    /// As housekeeping does it: an entry if anything waits for time to pass.
    pub fn let_time_pass(&mut self) {
        for n in 0..self.shards.len() {
            let log = &self.shards[n];
            let due = log
                .machine
                .as_shard()
                .is_some_and(|shard| shard.has_overdue(self.now));
            if due {
                let group = log.group;
                self.propose(group, Request::anonymous(Body::Sweep), Waiter::Nobody);
            }
        }
    }

    /// A group goes on from its own snapshot.
    fn restart_some_group(&mut self) {
        let groups = self.shards.len() + self.coordinators.len();
        let n = self.rng.index(groups);
        let piece = 1 + self.rng.index(700);
        let log = match n.checked_sub(self.shards.len()) {
            None => &mut self.shards[n],
            Some(n) => &mut self.coordinators[n],
        };
        let mut thaw = Thaw::default();
        let taken = log.machine.freeze().sections(|section| {
            for part in section.chunks(piece) {
                thaw.take(part).expect("a piece of a snapshot is taken");
            }
            Ok::<(), quorate::base::codec::CodecError>(())
        });
        taken.expect("a snapshot is encoded");
        log.machine = thaw.finish().expect("a snapshot ends with its last piece");
        let group = log.group;
        self.stats.add("restarts");
        self.note(|| format!("{group} goes on from its snapshot"));
    }

    /// No more faults: everything arrives, time passes, and all must come to rest.
    pub fn heal(&mut self) {
        self.healing = true;
        self.note(|| "healing".into());
        self.depose_stale();
        for _ in 0..400 {
            self.elect();
            self.flush_all();
            self.bag.append(&mut self.late);
            for _ in 0..20_000 {
                if self.bag.is_empty() {
                    break;
                }
                let at = self.rng.index(self.bag.len());
                let message = self.bag.swap_remove(at);
                self.deliver(message);
            }
            if self.bag.is_empty() && self.at_rest() {
                return self.check_end();
            }
            self.now += 1 + self.rng.below(40);
            self.resend_all();
            self.poke_all_ops();
            self.tick_all();
            for shard in 0..self.shards.len() {
                self.recover_shard(shard);
            }
            self.let_time_pass();
        }
        panic!("no rest after healing: {:?}", self.unrest());
    }
}

/// One run from its seed; the world as it ended.
pub fn run(seed: u64, traced: bool) -> World {
    let mut world = World::new(seed, traced);
    world.run();
    world
}

impl World {
    pub fn run(&mut self) {
        for _ in 0..self.profile.steps {
            self.step();
        }
        self.heal();
    }
}
