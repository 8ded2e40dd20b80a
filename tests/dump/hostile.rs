//! Payloads that lie, under a right checksum: refused, or values like any other.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use quorate::machine::rdb::{self, Refused, trailer};
use quorate::machine::values::{Kind, Value, set};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::forms;
use crate::machine::{Machine, words};
use crate::values::{KINDS, make};

/// Bodies without trailers: what Quorate writes, and what others do.
fn bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = forms::all().into_iter().map(|(_, body, _)| body).collect();
    let mut machine = Machine::default();
    for seed in 0..8 {
        let rng = &mut StdRng::seed_from_u64(seed);
        for kind in KINDS {
            machine.run(&words(&["DEL", "k"]));
            for command in make(rng, kind, "k") {
                machine.run(&command);
            }
            let payload = machine.dump("k");
            bodies.push(payload[..payload.len() - 10].to_vec());
        }
    }
    bodies.retain(|body| body.len() < 20_000);
    bodies
}

#[derive(Debug, Clone)]
enum Lie {
    Set(Index, u8),
    Flip(Index, u8),
    Cut(Index),
    Drop(Index),
    Insert(Index, u8),
    /// Bytes that read as a huge length wherever one is read.
    Huge(Index, usize),
    Swap(Index, Index),
}

fn lie() -> impl Strategy<Value = Lie> {
    let at = any::<Index>;
    prop_oneof![
        (
            at(),
            prop_oneof![
                any::<u8>(),
                Just(0xff),
                Just(0xf0),
                Just(0x80),
                Just(0x81),
                Just(0xc3)
            ]
        )
            .prop_map(|(at, byte)| Lie::Set(at, byte)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Lie::Flip(at, bit)),
        at().prop_map(Lie::Cut),
        at().prop_map(Lie::Drop),
        (at(), any::<u8>()).prop_map(|(at, byte)| Lie::Insert(at, byte)),
        (at(), 0..HUGE.len()).prop_map(|(at, which)| Lie::Huge(at, which)),
        (at(), at()).prop_map(|(a, b)| Lie::Swap(a, b)),
    ]
}

const HUGE: [&[u8]; 5] = [
    b"\x81\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x80\xff\xff\xff\xff",
    b"\x81\x00\x00\x00\x7f\xff\xff\xff\xff",
    b"\xf0\xff\xff\xff\xff",
    b"\xf4\x00\x00\x00\x00\x00\x00\x00\x80",
];

fn tell(body: &mut Vec<u8>, lie: &Lie) {
    if body.is_empty() {
        return;
    }
    let len = body.len();
    match lie {
        Lie::Set(at, byte) => body[at.index(len)] = *byte,
        Lie::Flip(at, bit) => body[at.index(len)] ^= 1 << bit,
        Lie::Cut(at) => body.truncate(at.index(len)),
        Lie::Drop(at) => drop(body.remove(at.index(len))),
        Lie::Insert(at, byte) => body.insert(at.index(len), *byte),
        Lie::Huge(at, which) => {
            let at = at.index(len);
            let end = (at + HUGE[*which].len()).min(len);
            body.splice(at..end, HUGE[*which].iter().copied());
        }
        Lie::Swap(a, b) => body.swap(a.index(len), b.index(len)),
    }
}

#[test]
fn a_payload_that_lies_is_refused_or_is_a_value_like_any_other() {
    let bodies = bodies();
    let strategy = (any::<Index>(), prop::collection::vec(lie(), 1..4));
    let (mut taken, mut refused) = (0_u32, 0_u32);
    let config = Config {
        cases: 15_000,
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&strategy, |(which, lies)| {
        let mut body = which.get(&bodies).clone();
        for lie in &lies {
            tell(&mut body, lie);
        }
        if let Ok(value) = rdb::load(&trailer::seal(body.clone())) {
            prop_assert_eq!(value.hash(), value.hash_by_bytes());
            prop_assert!(!value.is_empty());
            let again = rdb::dump(&value).and_then(|payload| rdb::load(&payload));
            match again {
                Ok(again) => prop_assert_eq!(in_order(again), in_order(value)),
                Err(Refused::TooLarge(_)) => {}
                Err(other) => prop_assert!(false, "{} of what was taken", other),
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
    for body in &bodies {
        for cut in (0..body.len()).step_by(1 + body.len() / 200) {
            match rdb::load(&trailer::seal(body[..cut].to_vec())) {
                Ok(_) => taken += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(
        taken == 0 && refused > 1000,
        "cut short: {taken} taken, {refused} refused"
    );
}

/// A small set has its members in the order in which they came, and numbers move in theirs.
fn in_order(value: Value) -> Value {
    if value.kind() != Some(Kind::Set) {
        return value;
    }
    let mut members: Vec<_> = set::iter(&value).map(|member| member.to_vec()).collect();
    members.sort();
    set::of(members.iter().map(|member| &member[..]))
}

/// `STRING` of `whole` bytes in LZF that copies its first byte over and over.
fn bomb(whole: u32, literal: u8) -> Vec<u8> {
    let mut packed = vec![0, literal];
    let mut left = whole as usize - 1;
    while left > 0 {
        let run = left.clamp(3, 264);
        packed.extend([0xe0, (run - 9).min(255) as u8, 0]);
        left = left.saturating_sub(run);
    }
    let mut body = vec![0xc3, 0x80];
    body.extend_from_slice(&u32::try_from(packed.len()).expect("short").to_be_bytes());
    body.push(0x80);
    body.extend_from_slice(&whole.to_be_bytes());
    body.extend(packed);
    body
}

#[test]
fn what_unpacks_to_more_than_fits_is_refused_by_name_of_the_limit() {
    let whole = 1 + 264 * 1000;
    let mut string = vec![0];
    string.extend(bomb(whole, b'x'));
    let value = rdb::load(&trailer::seal(string)).expect("it unpacks");
    assert_eq!(value.weight(), whole as usize);
    // Hundreds of strings of millions of bytes in one list of some megabytes.
    let mut list = vec![1, 0x80, 0, 0, 1, 0];
    let element = bomb(1 + 264 * 10_000, b'x');
    (0..256).for_each(|_| list.extend_from_slice(&element));
    assert!(matches!(
        rdb::load(&trailer::seal(list)),
        Err(Refused::TooLarge(_))
    ));
    // One that says it unpacks to more than its bytes can.
    let lying = b"\x00\xc3\x02\x80\x40\x00\x00\x00\x00x".to_vec();
    assert_eq!(rdb::load(&trailer::seal(lying)), Err(Refused::Format));
    // One field name of a megabyte, and entries of some bytes each that share it.
    let shared = |nodes| rdb::load(&trailer::seal(forms::shared_field(1 << 20, nodes)));
    assert_eq!(shared(1).map(|value| value.len()), Ok(60));
    assert!(matches!(shared(5), Err(Refused::TooLarge(_))));
}

#[test]
fn what_no_redis_writes_is_refused() {
    for (what, body) in forms::wrong() {
        assert_eq!(rdb::load(&trailer::seal(body)), Err(Refused::Format), "{what}");
    }
}
