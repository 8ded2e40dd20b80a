//! Values of every type, moved from Redis and back.

use quorate::base::Reply as Ours;
use quorate::resp::Protocol;
use quorate::testing::Cluster;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::machine::{Machine, words};
use crate::redis::{Connection, Server};
use crate::resp::{Reply, render};
use crate::values::{KINDS, assert_same, make, whole};

const ROUNDS: u64 = 25;

fn redis() -> Option<Server> {
    let server = Server::start();
    if server.is_none() {
        eprintln!("not run: there is no redis-server 7.0 here");
    }
    server
}

fn bulk(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Bulk(bytes) => bytes,
        other => panic!("no payload: {}", render(&other)),
    }
}

fn restore(key: &str, payload: Vec<u8>) -> Vec<Vec<u8>> {
    let mut args = words(&["RESTORE", key, "0", "", "REPLACE"]);
    args[3] = payload;
    args
}

#[test]
fn random_values_of_every_type_go_from_redis_to_quorate_and_back() {
    let Some(server) = redis() else { return };
    let mut redis = Connection::open(server.addr, Protocol::Resp3);
    // Redis then looks at all of what it is given.
    redis.call(&words(&["CONFIG", "SET", "sanitize-dump-payload", "yes"]));
    let mut quorate = Machine::default();
    for seed in 0..ROUNDS {
        let rng = &mut StdRng::seed_from_u64(seed);
        for kind in KINDS {
            redis.call(&words(&["FLUSHALL"]));
            for command in make(rng, kind, "k") {
                let reply = render(&redis.call(&command));
                assert!(!reply.starts_with("(error)"), "{reply}: {command:?}");
            }
            let there = whole(kind, "k", &mut |args| redis.call(args));
            if matches!(redis.call(&words(&["EXISTS", "k"])), Reply::Integer(0)) {
                continue;
            }
            let theirs = bulk(redis.call(&words(&["DUMP", "k"])));
            assert_eq!(quorate.restore("k", &theirs), Ours::ok(), "{kind}, seed {seed}");
            let here = whole(kind, "k", &mut |args| quorate.call(args));
            assert_same(&here, &there, &format!("{kind}, seed {seed}: from Redis"));
            let ours = quorate.dump("k");
            assert_eq!(quorate.restore("again", &ours), Ours::ok(), "{kind}, seed {seed}");
            let again = whole(kind, "again", &mut |args| quorate.call(args));
            assert_same(&again, &there, &format!("{kind}, seed {seed}: from Quorate"));
            assert_eq!(
                render(&redis.call(&restore("back", ours))),
                "OK",
                "{kind}, seed {seed}"
            );
            let back = whole(kind, "back", &mut |args| redis.call(args));
            assert_same(&back, &there, &format!("{kind}, seed {seed}: back in Redis"));
            let held = |key| words(&["OBJECT", "ENCODING", key]);
            let (here, there) = (quorate.call(&held("again")), redis.call(&held("back")));
            assert_eq!(
                render(&here),
                render(&there),
                "{kind}, seed {seed}: how it is held"
            );
        }
    }
}

#[test]
fn what_is_small_is_dumped_to_the_byte_as_redis_does() {
    let Some(server) = redis() else { return };
    let mut redis = Connection::open(server.addr, Protocol::Resp3);
    let mut quorate = Machine::default();
    let makes: [&[&str]; 14] = [
        &["SET", "k", "7"],
        &["SET", "k", "-129"],
        &["SET", "k", "2147483647"],
        &["SET", "k", "2147483648"],
        &["SET", "k", "-2147483648"],
        &["SET", "k", "007"],
        &["SET", "k", ""],
        &["SET", "k", "a string that is not short"],
        &["RPUSH", "k", "a", "1", "-1", "70000", "x y"],
        &["SADD", "k", "3", "1", "-2"],
        &["SADD", "k", "3", "100000"],
        &["HSET", "k", "f", "v", "n", "12"],
        &["ZADD", "k", "1", "a", "2.5", "b", "-inf", "c", "3e100", "d"],
        &["XADD", "k", "5-1", "f", "v"],
    ];
    for make in makes {
        for call in [words(&["DEL", "k"]), words(make)] {
            redis.call(&call);
            quorate.run(&call);
        }
        let theirs = bulk(redis.call(&words(&["DUMP", "k"])));
        assert_eq!(
            quorate.dump("k").escape_ascii().to_string(),
            theirs.escape_ascii().to_string(),
            "{make:?}"
        );
    }
}

/// As tools do that move keys: SCAN, DUMP and PTTL of each, RESTORE.
fn moved(from: &mut Connection, to: &mut Connection) -> usize {
    let mut moved = 0;
    let mut cursor = b"0".to_vec();
    loop {
        let Reply::List(_, mut page) = from.call(&[b"SCAN".to_vec(), cursor]) else {
            panic!("SCAN replies a page");
        };
        let (Some(Reply::List(_, keys)), Some(Reply::Bulk(next))) = (page.pop(), page.pop()) else {
            panic!("a page is a cursor and keys");
        };
        for key in keys {
            let key = bulk(key);
            let payload = bulk(from.call(&[b"DUMP".to_vec(), key.clone()]));
            let left = match from.call(&[b"PTTL".to_vec(), key.clone()]) {
                Reply::Integer(left) => left.max(0),
                other => panic!("PTTL: {}", render(&other)),
            };
            let args = [
                b"RESTORE".to_vec(),
                key,
                left.to_string().into_bytes(),
                payload,
                b"REPLACE".to_vec(),
            ];
            assert_eq!(render(&to.call(&args)), "OK");
            moved += 1;
        }
        if next == b"0" {
            return moved;
        }
        cursor = next;
    }
}

#[test]
fn a_loop_of_dump_and_restore_moves_all_keys_from_redis_to_a_cluster_and_on_to_another_redis() {
    let (Some(old), Some(new)) = (redis(), redis()) else {
        return;
    };
    let cluster = Cluster::start(3, 4).expect("a cluster");
    let mut old = Connection::open(old.addr, Protocol::Resp3);
    let mut new = Connection::open(new.addr, Protocol::Resp3);
    let mut quorate = Connection::open(cluster.addrs()[1], Protocol::Resp3);
    let rng = &mut StdRng::seed_from_u64(7);
    let keys: Vec<(&str, String)> = (0..48).map(|n| (KINDS[n % 6], format!("key:{n}"))).collect();
    for (kind, key) in &keys {
        for command in make(rng, kind, key) {
            old.call(&command);
        }
        old.call(&words(&["PEXPIRE", key, "900000"]));
    }
    let count = match old.call(&words(&["DBSIZE"])) {
        Reply::Integer(count) => usize::try_from(count).expect("a count"),
        other => panic!("{}", render(&other)),
    };
    assert_eq!(moved(&mut old, &mut quorate), count);
    assert_eq!(moved(&mut quorate, &mut new), count);
    for (kind, key) in &keys {
        let there = whole(kind, key, &mut |args| old.call(args));
        assert_same(&whole(kind, key, &mut |args| quorate.call(args)), &there, key);
        assert_same(&whole(kind, key, &mut |args| new.call(args)), &there, key);
        if let Reply::Integer(left) = quorate.call(&words(&["PTTL", key])) {
            assert!(left == -2 || (700_000..=900_000).contains(&left), "{key}: {left}");
        }
    }
}

#[test]
fn a_list_that_is_restored_serves_who_waits_for_one() {
    let cluster = Cluster::start(3, 2).expect("a cluster");
    let open = |node: usize| Connection::open(cluster.addrs()[node], Protocol::Resp3);
    let (mut waiting, mut other) = (open(0), open(1));
    other.call(&words(&["RPUSH", "from", "a", "b"]));
    let payload = bulk(other.call(&words(&["DUMP", "from"])));
    let id = waiting.call(&words(&["CLIENT", "ID"]));
    let waiter = std::thread::spawn(move || render(&waiting.call(&words(&["BLPOP", "to", "20"]))));
    // It waits when its node shows it blocked.
    let mut node = open(0);
    let blocked = |node: &mut Connection| match node.call(&words(&[
        "CLIENT",
        "LIST",
        "ID",
        &render(&id).replace("(integer) ", ""),
    ])) {
        Reply::Bulk(text) => String::from_utf8_lossy(&text).contains("cmd=blpop"),
        other => render(&other).contains("cmd=blpop"),
    };
    while !blocked(&mut node) {
        std::thread::yield_now();
    }
    assert_eq!(render(&other.call(&restore("to", payload))), "OK");
    assert_eq!(waiter.join().expect("it is served"), r#"["to", "a"]"#);
    assert_eq!(
        render(&other.call(&words(&["LRANGE", "to", "0", "-1"]))),
        r#"["b"]"#
    );
}
