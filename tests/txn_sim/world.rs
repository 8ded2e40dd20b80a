//! Logs, a network that is not perfect, and leaders that die; chance decides what happens next.

use std::collections::{BTreeMap, BTreeSet};

use quorate::base::{AttemptId, GroupId, Millis, Reply};
use quorate::machine::{Body, Mode, Request, Staged, Ticket};

use super::checks::{Records, check};
use super::deadlock;
use super::gateway::Gateway;
use super::keys::Keys;
use super::leader::Leader;
use super::log::Log;
use super::message::{Message, Waiter};
use super::model::Model;
use super::op::{Moment, Op, State};
use super::rng::Rng;
use super::workload::{Kind, first_commands};

/// How rough one run is: drawn from its seed.
#[derive(Debug, Clone)]
pub struct Profile {
    pub steps: u64,
    pub drop: u64,
    pub double: u64,
    pub delay: u64,
    pub crash: u64,
    /// Per mille of steps after which a group has another leader.
    pub changes: u64,
    pub restarts: u64,
    /// How far clocks are apart.
    pub skew: u64,
    /// Per mille of steps after which all is quiet for so long that idle sessions are forgotten.
    pub nights: u64,
    pub ops: usize,
    pub focus: &'static [Kind],
    pub patience: Millis,
    /// How long operations may take. So long at times that whatever waits for a deadline waits for ever.
    pub timeout: Millis,
}

/// What the run has seen, to show that the simulation is not vacuous.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats(pub BTreeMap<&'static str, u64>);

impl Stats {
    pub fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn add_many(&mut self, what: &'static str, n: u64) {
        *self.0.entry(what).or_default() += n;
    }

    pub fn merge(&mut self, other: &Stats) {
        for (what, n) in &other.0 {
            *self.0.entry(what).or_default() += n;
        }
    }
}

pub struct World {
    pub rng: Rng,
    pub now: Millis,
    pub moment: Moment,
    pub profile: Profile,
    pub keys: &'static Keys,
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
    pub records: Records,
    /// Attempts that a shard has refused, and when it has voted yes for the others, in replicated time.
    pub refused: BTreeSet<(AttemptId, GroupId)>,
    pub voted: BTreeMap<(AttemptId, GroupId), Millis>,
    /// The replies of those votes.
    pub votes: BTreeMap<(AttemptId, GroupId), Vec<Reply>>,
    /// What the coordinators' logs hold staged, or have held.
    pub staged: BTreeMap<AttemptId, Staged>,
    pub stats: Stats,
    pub healing: bool,
    pub waiters: BTreeMap<(GroupId, Ticket), Waiter>,
    /// One line an event, kept if asked for.
    pub trace: Option<Vec<String>>,
}

/// Rounds after which everything must have come to rest, once all faults are over.
const HEALING_ROUNDS: u32 = 400;
/// Longer than a reply table remembers an idle session.
const NIGHT_MS: Millis = 15 * 60 * 1000;
/// Longer than healing takes: what waits for a deadline does not come to rest.
const ENDLESS_MS: Millis = 1 << 40;

impl Profile {
    fn draw(rng: &mut Rng) -> Profile {
        let is_endless = rng.per_mille(120);
        Profile {
            steps: 150 + rng.below(500),
            drop: [0, 20, 100, 250][rng.index(4)],
            double: [0, 30, 150][rng.index(3)],
            delay: [0, 10, 60][rng.index(3)],
            crash: [0, 4, 12, 40][rng.index(4)],
            changes: [0, 0, 4, 20][rng.index(4)],
            restarts: [0, 2, 8][rng.index(3)],
            skew: [0, 5, 40, 150][rng.index(4)],
            // What is not over after a night has a deadline that is: a reply table relies on that.
            nights: if !is_endless && rng.per_mille(100) { 3 } else { 0 },
            ops: 5 + rng.index(22),
            focus: Kind::some_focus(rng),
            patience: 20 + rng.below(100),
            timeout: if is_endless {
                ENDLESS_MS
            } else {
                60 + rng.below(300)
            },
        }
    }
}

impl World {
    pub fn new(seed: u64, traced: bool) -> World {
        let mut rng = Rng::new(seed);
        let shards = 2 + u16::try_from(rng.below(3)).expect("a small number");
        let coordinators = 1 + u16::from(rng.per_mille(300));
        let followed = rng.per_mille(300);
        let profile = Profile::draw(&mut rng);
        let keys = Keys::of(shards);
        let log = |group| Log::new(group, followed);
        let mut world = World {
            now: 1_000_000,
            moment: 0,
            profile,
            keys,
            shards: (0..shards).map(GroupId::Shard).map(log).collect(),
            coordinators: (0..coordinators).map(GroupId::Coordinator).map(log).collect(),
            leaders: Vec::new(),
            terms: 0,
            bag: Vec::new(),
            late: Vec::new(),
            gateways: (0..2 + rng.below(2)).map(Gateway::new).collect(),
            ops: Vec::new(),
            model: Model::new(keys),
            records: Records::default(),
            refused: BTreeSet::new(),
            voted: BTreeMap::new(),
            votes: BTreeMap::new(),
            staged: BTreeMap::new(),
            stats: Stats::default(),
            healing: false,
            waiters: BTreeMap::new(),
            trace: traced.then(Vec::new),
            rng,
        };
        world.fill();
        world
    }

    /// What is there from the start.
    fn fill(&mut self) {
        let times = self.model.times.clone();
        for command in first_commands(self.keys) {
            self.model.run(&command, &times);
            let shard = match command.touches() {
                quorate::machine::Touches::Keys(keys) => self.keys.shard_of(keys[0]),
                _ => continue,
            };
            let body = Body::Run {
                commands: vec![command],
                conditions: Vec::new(),
                mode: Mode::Each,
            };
            let request = Request::anonymous(body);
            self.log(GroupId::Shard(shard)).enqueue(request, Waiter::Nobody);
        }
        self.flush_all();
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now} {}", line()));
        }
    }

    pub fn some_skew(&mut self) -> Millis {
        self.rng.below(self.profile.skew + 1)
    }

    /// A clock as somebody reads it: not all agree.
    pub fn clock(&mut self) -> Millis {
        self.now + self.some_skew()
    }

    /// The next moment of the histories.
    pub fn moment(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    pub fn send(&mut self, message: Message) {
        self.bag.push(message);
    }

    /// One thing happens.
    fn step(&mut self) {
        self.now += self.rng.below(3);
        if self.rng.per_mille(8) {
            self.now += 20 + self.rng.below(200);
        }
        match self.rng.below(1000) {
            0..520 => self.some_message(),
            520..700 => self.poke_some_op(),
            700..780 => self.resend_some(),
            780..830 => self.tick_all(),
            830..880 => self.recover_some_shard(),
            880..900 => self.let_time_pass(),
            900..910 => self.flush_all(),
            910..914 => self.kill_some_gateway(),
            _ => self.start_op(),
        }
        self.disturb();
        self.elect();
    }

    /// What goes wrong besides.
    fn disturb(&mut self) {
        let Profile {
            crash,
            changes,
            restarts,
            nights,
            ..
        } = self.profile;
        if self.rng.per_mille(crash) {
            self.disturb_leaders();
        }
        if self.rng.per_mille(changes) {
            self.change_some_leader();
        }
        if self.rng.per_mille(restarts) {
            self.restart_some_group();
        }
        if self.rng.per_mille(nights) {
            self.pass_night();
        }
    }

    /// Nobody waits for an answer that long. Messages may come after it all the same.
    fn pass_night(&mut self) {
        self.now += NIGHT_MS;
        let waits = |op: &&mut Op| op.is_open() && op.id.is_some();
        for op in self.ops.iter_mut().filter(waits) {
            op.state = State::Left;
        }
        self.stats.add("nights");
        self.note(|| "a night passes".into());
    }

    fn some_message(&mut self) {
        if !self.late.is_empty() && self.rng.per_mille(30) {
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

    /// No more faults: everything arrives, time passes, and all must come to rest.
    fn heal(&mut self) {
        self.healing = true;
        self.note(|| "healing".into());
        self.depose_stale();
        for _ in 0..HEALING_ROUNDS {
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
                self.check_end();
                return self.judge();
            }
            self.now += 1 + self.rng.below(40);
            self.resend_all();
            self.poke_all_ops();
            self.tick_all();
            for shard in 0..self.shards.len() {
                self.recover_shard(shard);
                self.ask_to_forget(shard);
            }
            self.let_time_pass();
        }
        check(false, "rest", || {
            format!("still under way after healing: {:?}", self.unrest())
        });
    }

    pub fn run(&mut self) {
        for step in 0..self.profile.steps {
            self.step();
            if step % deadlock::EVERY == 0 {
                self.check_deadlocks();
            }
        }
        self.heal();
    }
}
