//! Collections of a million elements, and values that are larger than one payload.

use std::time::{Duration, Instant};

use quorate::base::Reply;
use quorate::base::limits::BULK_BYTES_MAX;
use quorate::machine::rdb::{self, Refused};
use quorate::machine::values::list::{self, End};
use quorate::machine::values::zset::Score;
use quorate::machine::values::{Kind, Value, hash, set, zset};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::machine::{Machine, words};

fn of(kind: Kind, count: u32) -> Value {
    let mut value = Value::empty(kind);
    for n in 0..count {
        let name = format!("member:{n}");
        let name = name.as_bytes();
        match kind {
            Kind::List => list::push(&mut value, End::Right, name),
            Kind::Set => drop(set::insert(&mut value, name)),
            Kind::Hash => drop(hash::insert(&mut value, name, name)),
            _ => drop(zset::insert(
                &mut value,
                name,
                Score::new(f64::from(n)).expect("a number"),
            )),
        }
    }
    value
}

#[test]
fn a_million_elements_are_dumped_and_restored() {
    for kind in [Kind::List, Kind::Set, Kind::Hash, Kind::Zset] {
        let value = of(kind, 1_000_000);
        let begin = Instant::now();
        let payload = rdb::dump(&value).expect("it fits");
        let dumped = begin.elapsed();
        let again = rdb::load(&payload).expect("it is a payload");
        eprintln!(
            "{kind:?}: {} bytes, dumped in {dumped:?}, restored in {:?}",
            payload.len(),
            begin.elapsed().saturating_sub(dumped)
        );
        assert!(again.hash() == value.hash() && again.len() == 1_000_000);
        // Quadratic would be hours.
        assert!(begin.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn a_value_that_is_larger_than_a_payload_is_refused_by_name_of_the_limit() {
    let mut machine = Machine::default();
    let mut noise = vec![0; 1 << 20];
    StdRng::seed_from_u64(1).fill_bytes(&mut noise);
    for _ in 0..80 {
        machine.run(&[b"RPUSH".to_vec(), b"k".to_vec(), noise.clone()]);
    }
    let Reply::Error(text) = machine.run(&words(&["DUMP", "k"])) else {
        panic!("80 MiB came through");
    };
    assert!(
        text.contains("too large") && text.contains(&BULK_BYTES_MAX.to_string()),
        "{text}"
    );
    let many = of(Kind::List, 6_000_000);
    assert!(matches!(rdb::dump(&many), Err(Refused::TooLarge(_))));
}
