//! A run writes to the keyspace as it goes, or, where it may be rolled back, to a buffer first. Nobody must be able to tell.

use quorate::base::GroupId;
use quorate::machine::{Body, Mode, Request, Response};

use crate::talk::{Talk, commands_of};

const SEEDS: u64 = 200;
const RUNS: u64 = 40;
const KEYS: u64 = 6;

/// A generator without a pattern that these tests could see (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// A command that cannot fail: a strict run of one that does is rolled back.
    fn command(&mut self) -> String {
        let (a, b, v, ms) = (
            self.below(KEYS),
            self.below(KEYS),
            self.below(1000),
            self.below(50),
        );
        match self.below(24) {
            0..6 => format!("SET k{a} {v}"),
            6 => format!("SET k{a} {v} PX {}", ms + 1),
            7 => format!("SET k{a} {v} KEEPTTL GET"),
            8 => format!("SET k{a} {v} NX"),
            9 => format!("SET k{a} {v} XX GET"),
            10 => format!("GETDEL k{a}"),
            11 => format!("GETEX k{a} PX {}", ms + 1),
            12 => format!("GETEX k{a} PERSIST"),
            13 => format!("DEL k{a} k{b}"),
            14 => format!("MSET k{a} {v} k{b} {v}x"),
            15 => format!("MSETNX k{a} {v} k{b} {v}y"),
            16 => format!("APPEND k{a} {v}"),
            17 => format!("SETRANGE k{a} {ms} {v}"),
            18 => format!("INCRBY n{a} {v}"),
            19 => format!("COPY k{a} {{k{a}}}copy"),
            20 => format!("PEXPIRE k{a} {ms}"),
            21 => format!("PTTL k{a};GET k{b};DBSIZE;KEYS *;RANDOMKEY"),
            22 => format!("EXISTS k{a} k{a} k{b};STRLEN k{b}"),
            _ if self.below(8) == 0 => "FLUSHALL".into(),
            _ => format!("GET k{a}"),
        }
    }

    fn run(&mut self) -> String {
        let count = 1 + self.below(6);
        (0..count).map(|_| self.command()).collect::<Vec<_>>().join(";")
    }
}

fn ask(talk: &mut Talk, text: &str, strict: bool) -> Response {
    talk.ask(Request::anonymous(Body::Run {
        commands: commands_of(text),
        conditions: Vec::new(),
        mode: if strict { Mode::Strict } else { Mode::Together },
    }))
}

#[test]
fn a_run_comes_to_the_same_with_a_buffer_and_without() {
    for seed in 0..SEEDS {
        let mut chance = Chance(seed);
        let (mut direct, mut buffered) = (Talk::new(GroupId::Shard(0)), Talk::new(GroupId::Shard(0)));
        let mut frozen = Vec::new();
        for _ in 0..RUNS {
            let text = chance.run();
            let replies = ask(&mut direct, &text, false);
            assert_eq!(replies, ask(&mut buffered, &text, true), "seed {seed}: {text}");
            let (d, b) = (direct.state(), buffered.state());
            assert!(d.keyspace().iter().eq(b.keyspace().iter()), "seed {seed}: {text}");
            assert_eq!(d.keyspace().digest(), b.keyspace().digest());
            assert_eq!(d.keyspace().digest(), d.keyspace().digest_by_walk());
            assert_eq!(d.keyspace().bytes(), d.keyspace().bytes_by_walk());
            assert_eq!(d.last_write(), b.last_write(), "seed {seed}: {text}");
            assert!(
                d.keyspace()
                    .expiring(u64::MAX)
                    .eq(b.keyspace().expiring(u64::MAX))
            );
            for (slots, shown) in &frozen {
                assert_eq!(
                    &format!("{slots:?}"),
                    shown,
                    "seed {seed}: {text}: a snapshot has changed"
                );
            }
            frozen.truncate(2);
            if chance.below(3) == 0 {
                let slots = d.keyspace().freeze();
                frozen.insert(0, (slots.clone(), format!("{slots:?}")));
            }
            let step = chance.below(20);
            direct.now += step;
            buffered.now += step;
        }
    }
}

/// What WATCH of an absent key relies on: that it was removed in between is remembered.
#[test]
fn removals_are_noted_without_a_buffer_too() {
    for gone in ["DEL k", "GETDEL k", "PEXPIRE k 0", "FLUSHALL"] {
        let mut talk = Talk::shard();
        let before = talk.read("EXISTS k", &[]);
        talk.run("SET k 1");
        talk.run(gone);
        assert_ne!(talk.read("EXISTS k", &[]), before, "{gone}");
    }
}
