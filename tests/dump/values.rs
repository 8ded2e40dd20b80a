//! Commands that make random values of every type and size, and commands that read all of them.

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use crate::machine::words;
use crate::resp::{Reply, masked, render};

pub type Command = Vec<Vec<u8>>;

pub const KINDS: [&str; 6] = ["string", "list", "set", "zset", "hash", "stream"];

/// Numbers around the widths of integers, short and long strings, some that compress and some that do not.
pub fn element(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..10) {
        0..3 => {
            let bits = rng.random_range(0..64);
            let number = (rng.random::<i64>() >> bits).wrapping_add(rng.random_range(-2..3));
            number.to_string().into_bytes()
        }
        3..6 => format!("item:{}", rng.random_range(0..1000)).into_bytes(),
        6 => vec![rng.random_range(b'a'..=b'c'); rng.random_range(0..300)],
        7 => {
            let mut noise = vec![0; rng.random_range(0..80)];
            rng.fill_bytes(&mut noise);
            noise
        }
        8 => format!("{:05}", rng.random_range(0..100)).into_bytes(),
        _ => {
            let len = [62, 63, 64, 65, 126, 127, 128, 4000, 9000, 20_000][rng.random_range(0..10)];
            (0..len).map(|at: u32| (at % 7 * (at % 11)) as u8).collect()
        }
    }
}

/// Few mostly, some about the sizes at which Redis changes its forms.
fn count(rng: &mut StdRng) -> usize {
    match rng.random_range(0..6) {
        0..3 => rng.random_range(1..10),
        3 => rng.random_range(120..135),
        4 => rng.random_range(505..520),
        _ => rng.random_range(1..1500),
    }
}

fn score(rng: &mut StdRng) -> String {
    match rng.random_range(0..6) {
        0 => "inf".into(),
        1 => "-inf".into(),
        2 => rng.random_range(-5..6_000_000_000_i64).to_string(),
        3 => format!("{:e}", f64::from_bits(rng.random::<u64>() & !(1 << 62))),
        _ => format!("{}", f64::from(rng.random_range(-10_000..10_000)) / 64.0),
    }
}

/// Commands that make `key` a value of this kind.
pub fn make(rng: &mut StdRng, kind: &str, key: &str) -> Vec<Command> {
    let count = count(rng);
    let small = rng.random_bool(0.5);
    let each = |rng: &mut StdRng| match kind {
        "set" if small => rng.random_range(-40_000..40_000).to_string().into_bytes(),
        _ if small => format!("e{}", rng.random_range(0..10_000)).into_bytes(),
        _ => element(rng),
    };
    let mut command = words(&["", key]);
    command[0] = match kind {
        "string" => {
            let value = element(rng);
            return vec![vec![b"SET".to_vec(), key.into(), value]];
        }
        "list" => b"RPUSH".to_vec(),
        "set" => b"SADD".to_vec(),
        "zset" => b"ZADD".to_vec(),
        "hash" => b"HSET".to_vec(),
        _ => return stream(rng, key, count.min(400)),
    };
    for _ in 0..count {
        if kind == "zset" {
            command.push(score(rng).into_bytes());
        }
        command.push(each(rng));
        if kind == "hash" {
            command.push(each(rng));
        }
    }
    vec![command]
}

fn stream(rng: &mut StdRng, key: &str, count: usize) -> Vec<Command> {
    let mut all = Vec::new();
    let (mut ms, mut seq) = (rng.random_range(1..5_u64), 0);
    let mut ids = Vec::new();
    for _ in 0..count {
        match rng.random_range(0..4) {
            0 => seq += rng.random_range(1..3),
            1 => seq += u64::MAX / 1000,
            _ => (ms, seq) = (ms + rng.random_range(1..1 << 30), rng.random_range(0..100)),
        }
        ids.push(format!("{ms}-{seq}"));
        let mut add = words(&["XADD", key, ids.last().expect("one")]);
        match rng.random_range(0..4) {
            0 => (0..rng.random_range(1..4)).for_each(|_| add.extend([element(rng), element(rng)])),
            1 => add.extend(words(&["field", "value"])),
            _ => add.extend([b"a".to_vec(), element(rng), b"b".to_vec(), element(rng)]),
        }
        all.push(add);
    }
    for id in ids.iter().filter(|_| rng.random_bool(0.1)) {
        all.push(words(&["XDEL", key, id]));
    }
    for group in 0..rng.random_range(0..3) {
        let group = format!("g{group}");
        let from = if rng.random_bool(0.3) { "$" } else { "0" };
        all.push(words(&["XGROUP", "CREATE", key, &group, from]));
        all.push(words(&["XGROUP", "CREATECONSUMER", key, &group, "idle"]));
        for consumer in ["alice", "bob"] {
            let most = rng.random_range(1..40).to_string();
            all.push(words(&[
                "XREADGROUP",
                "GROUP",
                &group,
                consumer,
                "COUNT",
                &most,
                "STREAMS",
                key,
                ">",
            ]));
        }
        for id in ids.iter().filter(|_| rng.random_bool(0.2)) {
            all.push(words(&["XACK", key, &group, id]));
        }
        for id in ids.iter().filter(|_| rng.random_bool(0.05)) {
            all.push(words(&[
                "XCLAIM",
                key,
                &group,
                "carol",
                "0",
                id,
                "TIME",
                "1700000000123",
                "RETRYCOUNT",
                "70000",
            ]));
        }
    }
    if rng.random_bool(0.3) {
        all.push(words(&[
            "XTRIM",
            key,
            "MAXLEN",
            &rng.random_range(0..count).to_string(),
        ]));
    }
    all
}

/// All that a key of this kind holds, as it is compared.
pub fn whole(kind: &str, key: &str, call: &mut dyn FnMut(&[Vec<u8>]) -> Reply) -> String {
    let read: &[&str] = match kind {
        "string" => &["GET", key],
        "list" => &["LRANGE", key, "0", "-1"],
        "set" => &["SMEMBERS", key],
        "zset" => &["ZRANGE", key, "0", "-1", "WITHSCORES"],
        "hash" => &["HGETALL", key],
        _ => &["XINFO", "STREAM", key, "FULL", "COUNT", "0"],
    };
    let hidden = ["radix-tree-keys".to_owned(), "radix-tree-nodes".to_owned()];
    let mut reply = masked(call(&words(read)), &hidden);
    match &mut reply {
        Reply::List("~", items) => items.sort_by_key(render),
        Reply::Map(pairs) if kind == "hash" => pairs.sort_by_key(|(key, _)| render(key)),
        _ => {}
    }
    render(&reply)
}

/// Shows where they begin to differ, not all of both.
pub fn assert_same(ours: &str, theirs: &str, what: &str) {
    let same = ours
        .bytes()
        .zip(theirs.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let near = |text: &str| text[same.saturating_sub(60)..text.len().min(same + 120)].to_owned();
    assert!(
        ours == theirs,
        "{what}\n  ours:   … {}\n  theirs: … {}",
        near(ours),
        near(theirs)
    );
}
