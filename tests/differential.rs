//! The data commands beside Redis itself: the same random sequences of commands to both, every reply and then every value
//! compared. Runs where `redis-server` 7.0 is installed (CI installs it); says so and passes where it is not.
//!
//! A difference is shown with the last commands before it, or with `QUORATE_DIFF_WHOLE=1` with all of its round.
//!
//! `QUORATE_DIFF_SECONDS=600 QUORATE_DIFF_SEED=7 cargo test --release --test differential -- --nocapture` for long.

#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/redis.rs"]
mod redis;
#[path = "golden/resp.rs"]
#[allow(dead_code)]
mod resp;

use std::env;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quorate::base::Reply as Ours;
use quorate::machine::commands;
use quorate::machine::keyspace::Keyspace;
use quorate::machine::overlay::Overlay;
use quorate::resp::{Protocol, encode};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use generate::{Generator, Order};
use redis::Server;
use resp::{Reply, read_reply, render};

/// Commands before everything is compared and begun anew.
const ROUND: usize = 300;

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

fn shown(args: &[Vec<u8>]) -> String {
    let words = args.iter().map(|arg| format!("\"{}\"", arg.escape_ascii()));
    words.collect::<Vec<_>>().join(" ")
}

/// A reply as it is compared.
fn comparable(reply: Reply, order: Order) -> String {
    match (order, reply) {
        (Order::Any, reply) => render(&sorted(reply)),
        (Order::Size, Reply::List(mark, items)) => format!("{mark}{} items", items.len()),
        (Order::Size, Reply::Bulk(_)) => "a string".to_owned(),
        (_, reply) => render(&reply),
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

/// One round, begun with nothing.
fn round(server: &mut Server, seed: u64) -> Result<usize, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let protocol = if rng.random() {
        Protocol::Resp3
    } else {
        Protocol::Resp2
    };
    let mut machine = Machine {
        keyspace: Keyspace::default(),
        version: 0,
        protocol,
        buffered: rng.random(),
    };
    server.begin(protocol);
    let generator = Generator::new(&mut rng);
    let mut done: Vec<String> = Vec::new();
    for step in 0..ROUND {
        let last = step + 1 == ROUND;
        let commands = if last {
            generator.look_at_everything()
        } else {
            vec![generator.command(&mut rng)]
        };
        for command in commands {
            done.push(shown(&command.args));
            let theirs = comparable(server.call(&command.args), command.order);
            let ours = comparable(machine.call(&command.args), command.order);
            let numbers = (
                theirs.trim_matches('"').parse::<f64>(),
                ours.trim_matches('"').parse::<f64>(),
            );
            if theirs != ours && command.order == Order::Number && matches!(numbers, (Ok(a), Ok(b)) if a == b)
            {
                let forget = [b"DEL".to_vec(), command.args[1].clone()];
                server.call(&forget);
                machine.call(&forget);
                continue;
            }
            if theirs != ours {
                return Err(format!(
                    "seed {seed}, {protocol:?}, buffered {}, command {}:\n{}\nRedis:   {theirs}\nQuorate: {ours}",
                    machine.buffered,
                    done.len(),
                    last_of(&done)
                ));
            }
        }
        assert_eq!(
            machine.keyspace.digest(),
            machine.keyspace.digest_by_walk(),
            "seed {seed}: the digest went astray at\n{}",
            done.last().map_or("", |last| last)
        );
    }
    Ok(done.len())
}

/// The last commands before a difference.
fn last_of(done: &[String]) -> String {
    let shown = if env::var_os("QUORATE_DIFF_WHOLE").is_some() {
        done.len()
    } else {
        3
    };
    done[done.len().saturating_sub(shown)..].join("\n")
}

fn from_env(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|e| panic!("{name}: {e}"))
    })
}

#[test]
fn every_reply_and_every_value_are_those_of_redis() {
    let Some(mut server) = Server::start() else {
        eprintln!("not run: there is no redis-server 7.0 here");
        return;
    };
    let limit = Duration::from_secs(from_env("QUORATE_DIFF_SECONDS", 20));
    let first = from_env("QUORATE_DIFF_SEED", 1);
    let (begin, mut rounds, mut commands) = (Instant::now(), 0, 0);
    let mut differences = Vec::new();
    while begin.elapsed() < limit && differences.len() < 10 {
        match round(&mut server, first + rounds) {
            Ok(done) => commands += done,
            Err(difference) => differences.push(difference),
        }
        rounds += 1;
    }
    eprintln!("{rounds} rounds from seed {first} on, {commands} commands");
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}
