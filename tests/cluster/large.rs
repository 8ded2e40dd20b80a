//! Values as large as they may be, and what is larger than it may be.

use std::time::Duration;

use quorate::base::limits::{
    BULK_BYTES_MAX, KEY_BYTES_MAX, REPLIES_BYTES_MAX, WATCHED_BYTES_MAX, WORK_BYTES_MAX,
};

use crate::nodes::{NODES, Nodes};
use crate::wait::eventually;
use crate::wire::Reply;

const LIMIT: Duration = Duration::from_secs(60);

/// Not the same everywhere, so that pieces in a wrong order would show.
fn value(seed: usize) -> String {
    let digits = (0..).flat_map(|n: usize| format!("{:x}.", n * 7919 + seed).into_bytes());
    String::from_utf8(digits.take(BULK_BYTES_MAX).collect()).expect("digits")
}

fn is(reply: Option<Reply>, value: &str) -> bool {
    matches!(reply, Some(Reply::Bulk(bytes)) if bytes == value.as_bytes())
}

fn error(reply: &Reply) -> &str {
    match reply {
        Reply::Error(text) => text,
        // Not shown: it may be a large one.
        _ => panic!("a reply where an error was wanted"),
    }
}

#[test]
fn the_largest_values_are_written_read_kept_and_sent_to_who_was_away() {
    let mut nodes = Nodes::start(|config| config);
    let keys = nodes.key_per_shard("large");
    let values = [value(1), value(2)];
    let write = |nodes: &Nodes| {
        for (node, key, value) in [(1, &keys[0], &values[0]), (2, &keys[1], &values[1])] {
            let told = nodes.client(node).call(&["SET", key, value]);
            assert!(told.as_ref().is_ok_and(Reply::is_ok), "{told:?}");
        }
    };
    write(&nodes);
    nodes.kill(3);
    write(&nodes);
    nodes.start_node(3);
    for node in NODES {
        for (key, value) in keys.iter().zip(&values) {
            let read = || is(nodes.client(node).call(&["GET", key]).ok(), value).then_some(());
            eventually("the value is there", LIMIT, read);
        }
    }
    let mut client = nodes.client(2);
    let mut call = |args: &[&str]| client.call(args).expect("it answers");
    call(&["MULTI"]);
    call(&["SET", &keys[0], &values[1]]);
    call(&["SET", &keys[1], "small"]);
    let done = call(&["EXEC"]);
    assert!(
        matches!(&done, Reply::Array(all) if all.iter().all(Reply::is_ok)),
        "{done:?}"
    );
    let thrice = call(&["MGET", &keys[0], &keys[0], &keys[0]]);
    assert!(
        error(&thrice).contains(&REPLIES_BYTES_MAX.to_string()),
        "{thrice:?}"
    );
    // Two copies on other shards are written by one entry or another, which they would not fit into.
    call(&["MULTI"]);
    call(&["COPY", &keys[0], &keys[2]]);
    call(&["COPY", &keys[0], &keys[3]]);
    let copies = call(&["EXEC"]);
    assert!(error(&copies).contains(&WORK_BYTES_MAX.to_string()), "{copies:?}");
    assert_eq!(call(&["EXISTS", &keys[2], &keys[3]]), Reply::Int(0));
    nodes.kill_all();
    nodes.start_all();
    for node in NODES {
        assert!(is(nodes.client(node).call(&["GET", &keys[0]]).ok(), &values[1]));
        assert!(is(nodes.client(node).call(&["GET", &keys[1]]).ok(), "small"));
    }
}

#[test]
fn what_is_too_large_is_refused_with_the_limit() {
    let nodes = Nodes::start(|config| config);
    let mut client = nodes.client(1);
    let mut refused = |args: &[&str], limit: usize| {
        let told = client.call(args).expect("it answers");
        assert!(error(&told).contains(&limit.to_string()), "{told:?}");
    };
    refused(&["SET", &"k".repeat(KEY_BYTES_MAX + 1), "1"], KEY_BYTES_MAX);
    refused(&["WATCH", &"k".repeat(KEY_BYTES_MAX + 1)], KEY_BYTES_MAX);
    let keys: Vec<String> = (0..9)
        .map(|n| format!("{n}{}", "k".repeat(KEY_BYTES_MAX - 1)))
        .collect();
    let many: Vec<&str> = ["WATCH"]
        .into_iter()
        .chain(keys.iter().map(String::as_str))
        .collect();
    refused(&many, WATCHED_BYTES_MAX);
    // What was watched before counts.
    let mut client = nodes.client(1);
    for key in &keys[..8] {
        assert!(client.call(&["WATCH", key]).is_ok_and(|told| told.is_ok()));
    }
    let told = client.call(&["WATCH", &keys[8]]).expect("it answers");
    assert!(error(&told).contains(&WATCHED_BYTES_MAX.to_string()), "{told:?}");
    // It stays usable, and a value beyond the limit ends the connection before any of it was read.
    assert!(client.call(&["SET", "small", "1"]).is_ok_and(|told| told.is_ok()));
    let header = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", BULK_BYTES_MAX + 1);
    client.send(header.as_bytes()).expect("it is sent");
    let told = client.receive().expect("it answers");
    assert!(error(&told).contains(&BULK_BYTES_MAX.to_string()), "{told:?}");
}
