//! The data commands beside Redis itself: the same random sequences of commands to both, every reply and then every value
//! compared. Both clocks are the test's own (`differential/times.rs`). Runs where `redis-server` 7.0 is installed (CI installs
//! it); says so and passes where it is not.
//!
//! A difference is shown with the last commands before it, or with `QUORATE_DIFF_WHOLE=1` with all of its round.
//!
//! `QUORATE_DIFF_SECONDS=600 QUORATE_DIFF_SEED=7 cargo test --release --test differential -- --nocapture` for long.

#![allow(clippy::disallowed_methods)] // Clocks: this is no simulation.

#[path = "differential/dumps.rs"]
mod dumps;
#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/machine.rs"]
mod machine;
#[path = "differential/pair.rs"]
mod pair;
#[path = "differential/redis.rs"]
mod redis;
#[path = "golden/resp.rs"]
#[allow(dead_code)]
mod resp;
#[path = "differential/templates.rs"]
mod templates;
#[path = "differential/times.rs"]
mod times;

use std::env;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate::resp::Protocol;
use quorate::testing::Cluster;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use generate::{Command, Generator, Order};
use machine::Machine;
use pair::{Pair, Pairs};
use redis::{Connection, Server};
use times::Times;

/// Commands before everything is compared and begun anew.
const ROUND: usize = 300;
/// The same for a cluster, which is slower.
const CLUSTER_ROUND: usize = 100;

/// 2027, three milliseconds past a second (`times.rs`); a round's clock stands there, and later in later ones.
const FIRST_ROUND_MS: u64 = 1_800_000_000_003;
const ROUND_MS: u64 = 10_000_000;

/// So many are shown.
const DIFFERENCES_MAX: usize = 10;

/// One round in the state machine alone.
fn machine_round(server: &Server, seed: u64) -> Result<usize, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let protocol = either_protocol(&mut rng);
    let now = FIRST_ROUND_MS + seed * ROUND_MS;
    server.stand_at(now);
    let quorate = Machine::new(protocol, rng.random(), now);
    let redis = Connection::open(server.addr, protocol);
    let mut pairs = Pairs::new(vec![Pair { redis, quorate }]);
    let generator = Generator::new(&mut rng, Times::still(now));
    let jumps = rng.random_range(0..20);
    for _ in 0..ROUND {
        if rng.random_ratio(jumps, ROUND as u32) {
            let by = generator.times.jump(&mut rng);
            pairs.note(format!("{by} ms later:"));
            let machine = &mut pairs.pairs[0].quorate;
            machine.now += by;
            server.stand_at(machine.now);
            if rng.random() {
                machine.sweep();
            }
        }
        // Dear: it looks at all slots.
        let command = if rng.random_ratio(1, 300) {
            Generator::on_all_keys(&mut rng)
        } else {
            generator.command(&mut rng)
        };
        pairs.command(0, &command)?;
        let keyspace = &pairs.pairs[0].quorate.keyspace;
        let last = pairs.done.last().map_or("", |last| last);
        assert_eq!(
            keyspace.digest(),
            keyspace.digest_by_walk(),
            "the digest after {last}"
        );
    }
    pairs.everything(&generator)?;
    Ok(pairs.done.len())
}

/// A cluster and a Redis, whose clocks go together.
struct Clocks<'a> {
    server: &'a Server,
    cluster: &'a Cluster,
    /// Milliseconds, as far as all rounds so far have set them.
    ahead: u64,
}

impl Clocks<'_> {
    fn now(&self) -> u64 {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        real.as_millis() as u64 + self.ahead
    }

    fn jump(&mut self, by: u64) {
        self.ahead += by;
        self.cluster
            .skew_clocks(i64::try_from(self.ahead).expect("not that far"));
        self.server.be_ahead(self.ahead);
    }
}

/// One round in a cluster.
struct Round<'a, 'b> {
    clocks: &'a mut Clocks<'b>,
    pairs: Pairs<Connection>,
    generator: Generator,
    rng: StdRng,
}

/// Two connections, each to a node of its own; some of it in transactions and scripts, the clocks jump, the second connection
/// writes what the first has watched.
fn cluster_round(clocks: &mut Clocks<'_>, seed: u64) -> Result<usize, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let nodes = clocks.cluster.addrs();
    let pairs = [(); 2].map(|()| {
        let protocol = either_protocol(&mut rng);
        Pair {
            redis: Connection::open(clocks.server.addr, protocol),
            quorate: Connection::open(nodes[rng.random_range(0..nodes.len())], protocol),
        }
    });
    let generator = Generator::new(&mut rng, Times::going(clocks.now()));
    let mut round = Round {
        clocks,
        pairs: Pairs::new(pairs.into()),
        generator,
        rng,
    };
    let mut left = CLUSTER_ROUND;
    while left > 0 {
        left = left.saturating_sub(round.step()?);
    }
    round.pairs.everything(&round.generator)?;
    Ok(round.pairs.done.len())
}

impl Round<'_, '_> {
    /// A command or a transaction; how many commands.
    fn step(&mut self) -> Result<usize, String> {
        if self.rng.random_ratio(1, 60) {
            self.jump();
        }
        match self.rng.random_range(0..300) {
            0..5 => {
                let version = if self.rng.random() { "2" } else { "3" };
                self.pairs.both(0, &Command::exact(&["HELLO", version]).args);
                Ok(1)
            }
            5 => {
                self.pairs.command(0, &Generator::on_all_keys(&mut self.rng))?;
                Ok(1)
            }
            6..90 => self.transaction(),
            90..110 => self.one_by(1),
            _ => self.one_by(0),
        }
    }

    fn jump(&mut self) {
        let by = self.generator.times.jump(&mut self.rng);
        self.pairs.note(format!("{by} ms later:"));
        self.clocks.jump(by);
    }

    fn draw(&mut self) -> Command {
        if self.rng.random_ratio(1, 6) {
            self.generator.script(&mut self.rng)
        } else {
            self.generator.command(&mut self.rng)
        }
    }

    fn one_by(&mut self, who: usize) -> Result<usize, String> {
        let command = self.draw();
        self.pairs.command(who, &command)?;
        Ok(1)
    }

    /// MULTI to EXEC, perhaps behind WATCH; somebody else may write in between, or the clocks jump.
    fn transaction(&mut self) -> Result<usize, String> {
        if self.rng.random_ratio(1, 3) {
            let mut watch = Command::exact(&["WATCH"]);
            for _ in 0..self.rng.random_range(1..4) {
                watch.args.push(self.generator.any_key(&mut self.rng));
            }
            // What is watched may expire.
            let soon = self.rng.random_ratio(1, 8);
            if soon {
                let mut expire = Command::exact(&["PEXPIRE", "", times::BEFORE_A_JUMP_MS]);
                expire.args[1].clone_from(&watch.args[1]);
                self.pairs.command(0, &expire)?;
            }
            self.pairs.command(0, &watch)?;
            if soon && self.rng.random_ratio(2, 3) {
                self.jump();
            } else {
                self.meanwhile()?;
            }
        }
        let count = self.rng.random_range(1..6);
        let mut commands: Vec<Command> = (0..count).map(|_| self.draw()).collect();
        // What is stored would have to be removed within the transaction.
        commands.retain(|command| command.order != Order::Number);
        self.pairs.queue(&commands)?;
        self.meanwhile()?;
        if self.rng.random_ratio(1, 20) {
            self.pairs.command(0, &Command::exact(&["DISCARD"]))?;
        } else {
            self.pairs.exec(commands)?;
        }
        Ok(count)
    }

    fn meanwhile(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..30) {
            0 => self.jump(),
            1..10 => {
                let command = self.draw();
                if !changes_groups(&command) {
                    self.pairs.command(1, &command)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// WATCH notices that at Quorate alone.
fn changes_groups(command: &Command) -> bool {
    let names: [&[u8]; 6] = [
        b"XREADGROUP",
        b"XACK",
        b"XCLAIM",
        b"XAUTOCLAIM",
        b"XGROUP",
        b"XSETID",
    ];
    command.args.iter().any(|arg| names.contains(&&arg[..]))
}

fn either_protocol(rng: &mut StdRng) -> Protocol {
    if rng.random() {
        Protocol::Resp3
    } else {
        Protocol::Resp2
    }
}

fn from_env(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Rounds with one seed after the other, as long as is asked for.
fn rounds(mut round: impl FnMut(u64) -> Result<usize, String>) {
    let limit = Duration::from_secs(from_env("QUORATE_DIFF_SECONDS", 20));
    let first = from_env("QUORATE_DIFF_SEED", 1);
    let (begin, mut seed, mut commands) = (Instant::now(), first, 0);
    let mut differences = Vec::new();
    while begin.elapsed() < limit && differences.len() < DIFFERENCES_MAX {
        match round(seed) {
            Ok(done) => commands += done,
            Err(difference) => differences.push(format!("seed {seed}, {difference}")),
        }
        seed += 1;
    }
    eprintln!(
        "{} rounds from seed {first} on, {commands} commands",
        seed - first
    );
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

fn redis() -> Option<Server> {
    let server = Server::start();
    if server.is_none() {
        eprintln!("not run: there is no redis-server 7.0 here");
    }
    server
}

#[test]
fn every_reply_and_every_value_of_the_state_machine_are_those_of_redis() {
    let Some(server) = redis() else { return };
    rounds(|seed| machine_round(&server, seed));
}

#[test]
fn every_reply_and_every_value_of_a_cluster_are_those_of_redis() {
    let Some(server) = redis() else { return };
    let cluster = Cluster::start(3, 4).expect("a cluster");
    let mut clocks = Clocks {
        server: &server,
        cluster: &cluster,
        ahead: 0,
    };
    rounds(|seed| cluster_round(&mut clocks, seed));
}
