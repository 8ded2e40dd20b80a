//! What one has dumped the other restores: libraries of functions in both directions.

use quorate::resp::Protocol;
use quorate::testing::Cluster;

use crate::redis::{Connection, Server};
use crate::resp::{Reply, render};

fn call(connection: &mut Connection, words: &[&str]) -> Reply {
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    connection.call(&words)
}

/// Libraries of sizes whose lengths are written in different ways, and that Redis compresses or not.
fn load_all(connection: &mut Connection) {
    for (n, blanks) in [0, 30, 300, 20_000].into_iter().enumerate() {
        let code = format!(
            "#!lua name=lib{n}\nredis.register_function{{function_name='f{n}', callback=function(keys, args) return \
             args[1] .. '{n}' end, flags={{'no-writes'}}, description='number {n}'}}{}",
            " ".repeat(blanks)
        );
        let loaded = call(connection, &["FUNCTION", "LOAD", &code]);
        assert_eq!(render(&loaded), format!("\"lib{n}\""));
    }
}

fn listed(connection: &mut Connection) -> Vec<String> {
    let Reply::List(_, libraries) = call(connection, &["FUNCTION", "LIST", "WITHCODE"]) else {
        return Vec::new();
    };
    let mut libraries: Vec<String> = libraries.iter().map(render).collect();
    libraries.sort();
    libraries
}

fn dumped(connection: &mut Connection) -> Vec<u8> {
    match call(connection, &["FUNCTION", "DUMP"]) {
        Reply::Bulk(bytes) => bytes,
        other => unreachable!("a dump: {}", render(&other)),
    }
}

#[test]
fn functions_move_between_redis_and_quorate_both_ways() {
    let Some(server) = Server::start() else {
        println!("SKIPPED: there is no redis-server 7.0 here");
        return;
    };
    let cluster = Cluster::start(3, 2).expect("a cluster starts");
    let mut redis = Connection::open(server.addr, Protocol::Resp3);
    let mut ours = Connection::open(cluster.addrs()[0], Protocol::Resp3);
    let mut other = Connection::open(cluster.addrs()[1], Protocol::Resp3);
    load_all(&mut redis);
    let wanted = listed(&mut redis);
    assert_eq!(wanted.len(), 4);
    let theirs = dumped(&mut redis);
    let restored = ours.call(&[b"FUNCTION".to_vec(), b"RESTORE".to_vec(), theirs]);
    assert_eq!(render(&restored), "OK");
    assert_eq!(listed(&mut other), wanted);
    let called = call(&mut other, &["FCALL_RO", "f3", "0", "x"]);
    assert_eq!(render(&called), "\"x3\"");

    let back = dumped(&mut other);
    assert_eq!(render(&call(&mut redis, &["FUNCTION", "FLUSH"])), "OK");
    let restored = redis.call(&[b"FUNCTION".to_vec(), b"RESTORE".to_vec(), back]);
    assert_eq!(render(&restored), "OK");
    assert_eq!(listed(&mut redis), wanted);
    let called = call(&mut redis, &["FCALL", "f2", "0", "y"]);
    assert_eq!(render(&called), "\"y2\"");
}
