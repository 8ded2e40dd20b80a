//! The running digest: kept up to date at every write, a function of the state alone, different for different states.

use bytes::Bytes;
use proptest::prelude::*;
use quorate::machine::keyspace::{Blob, Keyspace, Object, Value};
use quorate::machine::{Body, Digest, Machine, Request, Response, Thaw, Vote};

use crate::talk::*;

fn digest(machine: &Machine) -> Digest {
    machine.running_digest().expect("a state is encoded")
}

fn thawed(machine: &Machine) -> Machine {
    let mut thaw = Thaw::default();
    let taken = machine.freeze().sections(|section| {
        thaw.take(section).expect("a section is taken");
        Ok::<(), quorate::base::codec::CodecError>(())
    });
    taken.expect("a state is encoded");
    thaw.finish().expect("it is whole")
}

fn assert_right(machine: &Machine) {
    let keyspace = machine.as_shard().expect("a shard").keyspace();
    assert_eq!(keyspace.digest(), keyspace.digest_by_walk());
    assert_eq!(
        digest(&thawed(machine)),
        digest(machine),
        "also through a snapshot"
    );
}

fn object(value: &'static str, expires: Option<u64>, version: u64) -> Object {
    Object::new(Value::Str(Blob::from(value.as_bytes())), expires, version)
}

#[test]
fn one_byte_one_version_one_expiry_or_one_key_makes_another_digest() {
    let of = |keys: &[(&'static str, Object)]| {
        let mut keyspace = Keyspace::default();
        for (key, object) in keys {
            keyspace.set(&Bytes::from(*key), Some(object.clone()));
        }
        keyspace.digest()
    };
    let same = [("a", object("1", None, 5)), ("b", object("22", Some(9), 6))];
    let different = [
        of(&same),
        of(&[("a", object("2", None, 5)), same[1].clone()]),
        of(&[("a", object("1", None, 6)), same[1].clone()]),
        of(&[("a", object("1", Some(0), 5)), same[1].clone()]),
        of(&[same[0].clone(), ("b", object("22", Some(10), 6))]),
        of(&[same[0].clone(), ("b", object("22", None, 6))]),
        of(&[same[0].clone(), ("b2", object("2", Some(9), 6))]),
        of(&same[..1]),
        of(&[]),
    ];
    for (n, one) in different.iter().enumerate() {
        assert!(!different[n + 1..].contains(one), "{n}: {different:x?}");
    }
    let [first, second] = same;
    assert_eq!(of(&[second, first]), different[0], "in whatever order");
    assert_eq!(of(&[]), 0);
}

#[test]
fn locks_replies_and_time_count_too() {
    let mut talk = Talk::shard();
    let mut seen = vec![digest(&talk.machine)];
    let mut next = |talk: &Talk, what: &str| {
        let now = digest(&talk.machine);
        assert!(!seen.contains(&now), "{what}");
        seen.push(now);
    };
    talk.ask(first_phase(prepare(attempt(5, 1), "SET a 1")));
    next(&talk, "a lock and an intent");
    talk.parks(run("GET a").numbered(1, 1));
    next(&talk, "a parked request");
    talk.entry(vec![finish(attempt(5, 1), false)]);
    next(&talk, "a finished attempt and a reply");
    talk.now += 1;
    talk.ask(sweep());
    next(&talk, "time");
    let mut log = Talk::new(COORDINATOR);
    let before = digest(&log.machine);
    log.ask(decide(1, commit(attempt(1, 1)), 0));
    assert_ne!(digest(&log.machine), before);
    assert_eq!(digest(&thawed(&log.machine)), digest(&log.machine));
}

#[test]
fn asking_for_a_digest_changes_nothing() {
    for group in [SHARD, COORDINATOR] {
        let mut talk = Talk::new(group);
        talk.ask(sweep());
        let before = digest(&talk.machine);
        assert_eq!(talk.ask(Request::anonymous(Body::Digest)), Response::Done);
        assert_eq!(digest(&talk.machine), before);
    }
}

fn some_command() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["a", "b", "c", "{a}d", "e"]);
    let template = prop::sample::select(vec![
        "SET K 1",
        "SET K text",
        "SET K 5 PX 30",
        "APPEND K x",
        "INCR K",
        "DEL K",
        "PEXPIRE K 20",
        "PERSIST K",
        "GETDEL K",
        "MSET K 1 z 2",
        "RENAME K z",
        "COPY z K",
        "FLUSHALL",
        "SETRANGE K 3 abc",
        "GETEX K PX 15",
    ]);
    (key, template).prop_map(|(key, template)| template.replace('K', key))
}

proptest! {
    #[test]
    fn after_any_commands_it_is_what_a_walk_over_the_state_finds(
        steps in prop::collection::vec((some_command(), 0..8u8, 0..12u64), 1..120)
    ) {
        let mut talk = Talk::shard();
        let mut open = Vec::new();
        for (n, (text, how, later)) in (1..).zip(steps) {
            talk.now += later;
            match how {
                0 => {
                    let told = talk.entry(vec![first_phase(prepare(attempt(n, 1), &text))]);
                    let yes = |(_, response): &(_, Response)| matches!(response, Response::Vote(Vote::Yes(_)));
                    open.extend(told.iter().any(yes).then(|| attempt(n, 1)));
                }
                1 | 2 => drop(open.pop().map(|attempt| talk.entry(vec![finish(attempt, how == 1)]))),
                3 => drop(talk.entry(vec![sweep()])),
                4 => drop(talk.entry(vec![run(&text).numbered(n, n.saturating_sub(3))])),
                _ => drop(talk.entry(vec![run(&text)])),
            }
            let keyspace = talk.state().keyspace();
            prop_assert_eq!(keyspace.digest(), keyspace.digest_by_walk(), "after {}", text);
        }
        assert_right(&talk.machine);
    }
}

/// What the digest adds to a SET: `cargo test --test machine cost -- --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn cost_of_the_digest_at_a_set() {
    const SETS: u32 = 200_000;
    for bytes in [16, 128, 4096] {
        let value = "x".repeat(bytes);
        let requests: Vec<Request> = (0..1000).map(|n| run(&format!("SET key:{n} {value}"))).collect();
        let batches: Vec<_> = (1..=u64::from(SETS / 100))
            .map(|n| {
                let from = (n as usize * 100) % 1000;
                batch(n, 1000, requests[from..from + 100].to_vec())
            })
            .collect();
        let mut machine = Machine::new(SHARD);
        let start = std::time::Instant::now();
        for (index, batch) in (1..).zip(batches) {
            machine.apply(index, batch);
        }
        let apply = start.elapsed() / SETS;
        // A SET takes the old object's share away and adds the new one's.
        let keyspace = machine.as_shard().expect("a shard").keyspace();
        let start = std::time::Instant::now();
        let mut sum = 0;
        for _ in 0..200 {
            sum ^= std::hint::black_box(keyspace.digest_by_walk());
        }
        let share = start.elapsed() / 200 / 1000;
        println!("{bytes} bytes: {apply:?} a SET in apply, of which 2 × {share:?} for the digest ({sum:x})");
    }
}
