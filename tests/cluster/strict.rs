//! `MULTI STRICT` as a client sees it, on one shard and over several: any error of EXEC undoes all of it.

use crate::nodes::Nodes;
use crate::wire::{Client, Reply, words};

const NOT_A_NUMBER: &str = "ERR value is not an integer or out of range";

/// `MULTI STRICT` (or what `open` says), the commands, EXEC; EXEC's reply.
fn exec(client: &mut Client, open: &[&str], commands: &[&[&str]]) -> Reply {
    let mut requests = vec![words(open)];
    requests.extend(commands.iter().map(|command| words(command)));
    requests.push(words(&["EXEC"]));
    let mut replies = client.pipeline(&requests).expect("the cluster is up");
    replies.pop().expect("EXEC is answered")
}

fn rolled_back(place: usize, name: &str, why: &str) -> Reply {
    Reply::Error(format!(
        "EXECABORT Transaction rolled back because of command {place} ('{name}'): {why}"
    ))
}

fn get(client: &mut Client, key: &str) -> Option<String> {
    client.call(&["GET", key]).expect("the cluster is up").text()
}

fn call(client: &mut Client, request: &[&str]) -> Reply {
    client.call(request).expect("the cluster is up")
}

const STRICT: &[&str] = &["MULTI", "STRICT"];

/// All commands concern these two keys, which are on one shard or on two.
fn undoes_everything(nodes: &Nodes, number: &str, text: &str) {
    let client = &mut nodes.client(2);
    let watcher = &mut nodes.client(3);
    assert!(call(client, &["SET", number, "1"]).is_ok());
    assert!(call(client, &["SET", text, "text", "PX", "3600000"]).is_ok());
    assert!(call(watcher, &["WATCH", number, text]).is_ok());

    let failing: &[&[&str]] = &[
        &["SET", number, "2"],
        &["PING"],
        &["PERSIST", text],
        &["incr", text],
    ];
    assert_eq!(
        exec(client, STRICT, failing),
        rolled_back(4, "incr", NOT_A_NUMBER)
    );
    assert_eq!(get(client, number).as_deref(), Some("1"));
    assert!(
        call(client, &["PTTL", text]).number() > Some(0),
        "the expiry stays"
    );
    let untouched = exec(watcher, &["MULTI"], &[&["GET", number]]);
    assert_eq!(
        untouched,
        Reply::Array(vec![Reply::Bulk(b"1".into())]),
        "who watches sees no change"
    );

    // Reads alone, what cannot be parsed, and what the gateway answers itself.
    let reads: &[&[&str]] = &[&["GET", number], &["GETEX", text, "EX", "x"]];
    assert_eq!(exec(client, STRICT, reads), rolled_back(2, "getex", NOT_A_NUMBER));
    let unparsed: &[&[&str]] = &[&["SET", number, "3"], &["SET", text, "x", "EX", "x"]];
    assert_eq!(
        exec(client, STRICT, unparsed),
        rolled_back(2, "set", NOT_A_NUMBER)
    );
    let own: &[&[&str]] = &[
        &["SET", number, "3"],
        &["CLIENT", "SETNAME", "me"],
        &["SELECT", "99"],
    ];
    assert!(matches!(exec(client, STRICT, own), Reply::Error(why) if why.contains("command 3 ('select')")));
    assert_eq!(
        call(client, &["CLIENT", "GETNAME"]).text().unwrap_or_default(),
        ""
    );
    assert_eq!(get(client, number).as_deref(), Some("1"));

    // Without an error, and without STRICT.
    let fine: &[&[&str]] = &[&["INCR", number], &["PING"], &["APPEND", text, "s"]];
    let replies = vec![Reply::Int(2), Reply::Simple("PONG".into()), Reply::Int(5)];
    assert_eq!(exec(client, STRICT, fine), Reply::Array(replies));
    let replies = vec![Reply::Int(3), Reply::Error(NOT_A_NUMBER.into())];
    let plain: &[&[&str]] = &[&["INCR", number], &["INCR", text]];
    assert_eq!(exec(client, &["MULTI"], plain), Reply::Array(replies));
    assert_eq!(get(client, number).as_deref(), Some("3"));
}

/// RENAME over shards runs at the gateway; so does all that stands beside it.
fn undoes_what_runs_at_the_gateway(nodes: &Nodes, number: &str, text: &str, free: &str) {
    let client = &mut nodes.client(1);
    call(client, &["SET", number, "1"]);
    call(client, &["SET", text, "text"]);
    let failing: &[&[&str]] = &[&["RENAME", number, free], &["INCR", text]];
    assert_eq!(
        exec(client, STRICT, failing),
        rolled_back(2, "incr", NOT_A_NUMBER)
    );
    assert_eq!(get(client, number).as_deref(), Some("1"));
    assert_eq!(get(client, free), None);
    let missing: &[&[&str]] = &[&["SET", text, "new"], &["RENAME", free, number]];
    assert_eq!(
        exec(client, STRICT, missing),
        rolled_back(2, "rename", "ERR no such key")
    );
    assert_eq!(get(client, text).as_deref(), Some("text"));
    let fine: &[&[&str]] = &[&["RENAME", number, free], &["INCR", free]];
    let done = vec![Reply::Simple("OK".into()), Reply::Int(2)];
    assert_eq!(exec(client, STRICT, fine), Reply::Array(done));
}

/// Under the client's own number: what was rolled back stays so, also when it would go well now.
fn stays_undone_under_its_number(nodes: &Nodes, number: &str, text: &str, session: &str) {
    let client = &mut nodes.client(1);
    call(client, &["SET", number, "1"]);
    call(client, &["SET", text, "text"]);
    let commands: &[&[&str]] = &[&["INCR", number], &["INCR", text]];
    let again = |node: u64| {
        let client = &mut nodes.client(node);
        assert!(call(client, &["QUORATE", "ONCE", session, "1", "1"]).is_ok());
        exec(client, STRICT, commands)
    };
    assert_eq!(again(1), rolled_back(2, "incr", NOT_A_NUMBER));
    call(client, &["SET", text, "7"]);
    for node in [1, 2, 3] {
        let told = again(node);
        assert!(matches!(told, Reply::Error(_)), "node {node} answers {told:?}");
    }
    let id = format!("{session:0>32}-1");
    assert_eq!(
        call(client, &["TXN", "STATUS", &id]).text().as_deref(),
        Some("aborted")
    );
    assert_eq!(get(client, number).as_deref(), Some("1"));
    assert_eq!(get(client, text).as_deref(), Some("7"));
}

#[test]
fn any_error_of_a_strict_transaction_undoes_all_of_it() {
    let nodes = Nodes::start(|config| config);
    let keys = nodes.key_per_shard("strict");
    undoes_everything(&nodes, "{one}n", "{one}t");
    undoes_everything(&nodes, &keys[0], &keys[1]);
    let keys = nodes.key_per_shard("renamed");
    undoes_what_runs_at_the_gateway(&nodes, &keys[0], &keys[1], &keys[2]);
    let keys = nodes.key_per_shard("numbered");
    stays_undone_under_its_number(&nodes, "{two}n", "{two}t", "abc");
    stays_undone_under_its_number(&nodes, &keys[0], &keys[1], "def");

    let client = &mut nodes.client(1);
    let arity = Reply::Error("ERR wrong number of arguments for 'multi' command".into());
    assert_eq!(call(client, &["MULTI", "foo"]), arity);
    assert_eq!(call(client, &["MULTI", "STRICT", "foo"]), arity);
    let spoilt = Reply::Error("EXECABORT Transaction discarded because of previous errors.".into());
    assert_eq!(exec(client, STRICT, &[&["SET", "a"]]), spoilt);
}
