//! The data commands beside Redis itself: the same random sequences of commands to both, every reply and then every value
//! compared. Runs where `redis-server` 7.0 is installed (CI installs it); says so and passes where it is not.
//!
//! A difference is shown with the last commands before it, or with `QUORATE_DIFF_WHOLE=1` with all of its round.
//!
//! `QUORATE_DIFF_SECONDS=600 QUORATE_DIFF_SEED=7 cargo test --release --test differential -- --nocapture` for long.

#![allow(clippy::disallowed_methods)] // Clocks: this is no simulation.

#[path = "differential/dumps.rs"]
mod dumps;
#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/redis.rs"]
mod redis;
#[path = "golden/resp.rs"]
#[allow(dead_code)]
mod resp;
#[path = "differential/templates.rs"]
mod templates;

use std::env;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quorate::base::Reply as Ours;
use quorate::machine::commands;
use quorate::machine::keyspace::Keyspace;
use quorate::machine::overlay::Overlay;
use quorate::resp::{Protocol, encode};
use quorate::testing::Cluster;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use generate::{Command, Generator, Order};
use redis::{Connection, Server};
use resp::{Reply, read_reply, render};

/// Commands before everything is compared and begun anew.
const ROUND: usize = 300;
/// The same for a cluster, which is slower.
const CLUSTER_ROUND: usize = 100;

/// So many are shown.
const DIFFERENCES_MAX: usize = 10;

/// Quorate's state machine without a cluster around it.
struct Machine {
    keyspace: Keyspace,
    version: u64,
    protocol: Protocol,
    /// Writes are buffered first, as a prepare does, and applied then.
    buffered: bool,
}

impl Machine {
    fn call(&mut self, args: &[Vec<u8>]) -> Reply {
        if args[0] == b"FLUSHALL" {
            self.keyspace.clear();
        }
        let args: Vec<Bytes> = args.iter().cloned().map(Bytes::from).collect();
        let reply = self.run(&args);
        let mut out = BytesMut::new();
        encode(&reply, self.protocol, &mut out).expect("a reply encodes");
        read_reply(&mut &out[..]).expect("what is encoded can be read")
    }

    fn run(&mut self, args: &[Bytes]) -> Ours {
        let spec = commands::find(&args[0]).expect("the generator knows the table");
        let checked = commands::check_arity(spec, args.len() - 1);
        let command = match checked.and_then(|()| commands::parse(spec, &args[1..])) {
            Ok(command) => command,
            Err(reply) => return reply,
        };
        self.version += 1;
        let seed = self.version.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if !self.buffered {
            let mut view = Overlay::direct(&mut self.keyspace, self.version, 1, seed);
            return command.run(&mut view);
        }
        let mut view = Overlay::new(&self.keyspace, 1, seed);
        let reply = command.run(&mut view);
        let again = command.run(&mut Overlay::new(&self.keyspace, 1, seed));
        assert!(reply == again || reply.is_error(), "run twice, another reply");
        view.writes.apply(&mut self.keyspace, self.version);
        reply
    }
}

/// A reply as it is compared.
fn comparable(reply: Reply, order: Order) -> String {
    match (order, unsigned_zero(reply)) {
        (Order::Any, reply) => render(&sorted(reply)),
        (Order::Size, Reply::List(mark, items)) => format!("{mark}{} items", items.len()),
        (Order::Size, Reply::Bulk(_)) => "a string".to_owned(),
        (_, reply) => render(&reply),
    }
}

/// Redis keeps a score's negative zero in large sorted sets and not in small ones; Quorate in none.
fn unsigned_zero(reply: Reply) -> Reply {
    match reply {
        Reply::Text(text) if text == "(double) -0" => Reply::Text("(double) 0".to_owned()),
        Reply::Bulk(text) if text == b"-0" => Reply::Bulk(b"0".to_vec()),
        Reply::List(mark, items) => Reply::List(mark, items.into_iter().map(unsigned_zero).collect()),
        other => other,
    }
}

fn sorted(reply: Reply) -> Reply {
    match reply {
        Reply::List(mark, items) => {
            let mut items: Vec<Reply> = items.into_iter().map(sorted).collect();
            items.sort_by_cached_key(render);
            Reply::List(mark, items)
        }
        Reply::Map(mut pairs) => {
            pairs.sort_by_cached_key(|(key, _)| render(key));
            Reply::Map(pairs)
        }
        other => other,
    }
}

/// Something that replies to commands.
trait Speaker {
    fn call(&mut self, args: &[Vec<u8>]) -> Reply;
}

impl Speaker for Connection {
    fn call(&mut self, args: &[Vec<u8>]) -> Reply {
        Connection::call(self, args)
    }
}

impl Speaker for Machine {
    fn call(&mut self, args: &[Vec<u8>]) -> Reply {
        Machine::call(self, args)
    }
}

/// Redis and Quorate side by side.
struct Pair<'a, S> {
    redis: Connection,
    quorate: &'a mut S,
    done: Vec<String>,
}

impl<S: Speaker> Pair<'_, S> {
    fn begin(&mut self) {
        let flush = [b"FLUSHALL".to_vec()];
        self.redis.call(&flush);
        self.quorate.call(&flush);
    }

    fn both(&mut self, args: &[Vec<u8>]) -> (Reply, Reply) {
        let words = args.iter().map(|arg| format!("\"{}\"", arg.escape_ascii()));
        self.done.push(words.collect::<Vec<_>>().join(" "));
        (self.redis.call(args), self.quorate.call(args))
    }

    /// Sends a command to both.
    ///
    /// # Errors
    /// The replies differ.
    fn command(&mut self, command: &Command) -> Result<(), String> {
        let (theirs, ours) = self.both(&command.args);
        self.compare(command, theirs, ours)
    }

    fn compare(&mut self, command: &Command, theirs: Reply, ours: Reply) -> Result<(), String> {
        let (theirs, ours) = (comparable(theirs, command.order), comparable(ours, command.order));
        if theirs == ours {
            return Ok(());
        }
        let numbers = (
            theirs.trim_matches('"').parse::<f64>(),
            ours.trim_matches('"').parse::<f64>(),
        );
        if command.order == Order::Number && matches!(numbers, (Ok(a), Ok(b)) if a.to_bits() == b.to_bits()) {
            self.both(&[b"DEL".to_vec(), command.args[1].clone()]);
            return Ok(());
        }
        let whole = env::var_os("QUORATE_DIFF_WHOLE").is_some();
        let from = if whole {
            0
        } else {
            self.done.len().saturating_sub(8)
        };
        Err(format!(
            "command {}:\n{}\nRedis:   {theirs}\nQuorate: {ours}",
            self.done.len(),
            self.done[from..].join("\n")
        ))
    }

    /// Sends commands to both as one transaction.
    fn transaction(&mut self, commands: &[Command]) -> Result<(), String> {
        let word = |word: &str| Command {
            args: vec![word.into()],
            order: Order::Exact,
        };
        self.command(&word("MULTI"))?;
        for command in commands {
            let queued = Command {
                args: command.args.clone(),
                order: Order::Exact,
            };
            self.command(&queued)?;
        }
        match self.both(&[b"EXEC".to_vec()]) {
            (Reply::List(_, theirs), Reply::List(_, ours)) if theirs.len() == ours.len() => {
                let replies = theirs.into_iter().zip(ours);
                let mut compared = commands.iter().zip(replies);
                compared.try_for_each(|(command, (theirs, ours))| self.compare(command, theirs, ours))
            }
            (theirs, ours) => self.compare(&word("EXEC"), theirs, ours),
        }
    }

    fn everything(&mut self, generator: &Generator) -> Result<(), String> {
        let all = generator.look_at_everything();
        all.iter().try_for_each(|command| self.command(command))
    }
}

/// One round in the state machine alone.
fn machine_round(redis: SocketAddr, seed: u64) -> Result<usize, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let protocol = either_protocol(&mut rng);
    let mut machine = Machine {
        keyspace: Keyspace::default(),
        version: 0,
        protocol,
        buffered: rng.random(),
    };
    let mut pair = Pair {
        redis: Connection::open(redis, protocol),
        quorate: &mut machine,
        done: Vec::new(),
    };
    pair.begin();
    let generator = Generator::new(&mut rng);
    for _ in 0..ROUND {
        pair.command(&generator.command(&mut rng))?;
        let keyspace = &pair.quorate.keyspace;
        let last = pair.done.last().map_or("", |last| last);
        assert_eq!(
            keyspace.digest(),
            keyspace.digest_by_walk(),
            "the digest after {last}"
        );
    }
    pair.everything(&generator)?;
    Ok(pair.done.len())
}

/// One round in a cluster, whose nodes take turns; some of it in transactions.
fn cluster_round(redis: SocketAddr, nodes: &[SocketAddr], seed: u64) -> Result<usize, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let protocol = either_protocol(&mut rng);
    let node = nodes[rng.random_range(0..nodes.len())];
    let mut pair = Pair {
        redis: Connection::open(redis, protocol),
        quorate: &mut Connection::open(node, protocol),
        done: Vec::new(),
    };
    pair.begin();
    let generator = Generator::new(&mut rng);
    let mut left = CLUSTER_ROUND;
    while left > 0 {
        let count = if rng.random_ratio(1, 3) {
            rng.random_range(2..6)
        } else {
            1
        };
        let mut commands: Vec<Command> = (0..count).map(|_| generator.command(&mut rng)).collect();
        left = left.saturating_sub(count);
        if count == 1 {
            pair.command(&commands[0])?;
        } else {
            // What is stored would have to be removed within the transaction.
            commands.retain(|command| command.order != Order::Number);
            pair.transaction(&commands)?;
        }
    }
    pair.everything(&generator)?;
    Ok(pair.done.len())
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
fn rounds(round: impl Fn(u64) -> Result<usize, String>) {
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
    rounds(|seed| machine_round(server.addr, seed));
}

#[test]
fn every_reply_and_every_value_of_a_cluster_are_those_of_redis() {
    let Some(server) = redis() else { return };
    let cluster = Cluster::start(3, 4).expect("a cluster");
    let nodes = cluster.addrs();
    rounds(|seed| cluster_round(server.addr, &nodes, seed));
}
