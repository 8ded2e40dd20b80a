//! Commands that wait: in order over gateways, over shards, through a leader's death, and without a loss when the client dies.

use std::time::Duration;

use crate::eventually;
use crate::nodes::{NODES, Nodes};
use crate::wait::now;
use crate::wire::{Client, Reply, encode, words};

pub const LONG: Duration = Duration::from_secs(30);
/// More than messages of two clients differ by on their ways.
const APART: Duration = Duration::from_millis(20);

/// A line of `INFO` on one node.
fn info(nodes: &Nodes, node: u64, name: &str) -> Option<u64> {
    let text = nodes.client(node).call(&["INFO"]).ok()?.text()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.parse().ok()
}

/// Waits until so many stand in the lines of the nodes that live.
pub fn wait_in_line(nodes: &Nodes, living: &[u64], count: u64) {
    eventually(&format!("{count} in line"), LONG, || {
        let in_line: Option<u64> = living.iter().map(|&node| info(nodes, node, "in_line")).sum();
        (in_line == Some(count)).then_some(())
    });
}

fn start() -> Nodes {
    Nodes::start(|text| text)
}

/// A client that has sent this, and waits.
pub fn waiting(nodes: &Nodes, node: u64, request: &[&str]) -> Client {
    let mut client = nodes.client(node);
    client.wait_for(LONG).expect("a time-out can be set");
    client.send(&encode(request)).expect("the node is up");
    client
}

fn bulks(parts: &[&str]) -> Reply {
    Reply::Array(
        parts
            .iter()
            .map(|part| Reply::Bulk(part.as_bytes().to_vec()))
            .collect(),
    )
}

pub fn answer(client: &mut Client) -> Reply {
    client.receive().expect("an answer")
}

#[test]
fn who_waits_longest_is_served_first_whichever_node_it_asked() {
    let nodes = start();
    let mut clients = Vec::new();
    for n in 0..9_u64 {
        clients.push(waiting(&nodes, NODES[n as usize % 3], &["BLPOP", "queue", "0"]));
        wait_in_line(&nodes, &NODES, n + 1);
    }
    let mut pusher = nodes.client(1);
    for (n, client) in clients[..4].iter_mut().enumerate() {
        let element = format!("element {n}");
        assert_eq!(
            pusher.call(&["RPUSH", "queue", &element]).ok(),
            Some(Reply::Int(1))
        );
        assert_eq!(answer(client), bulks(&["queue", &element]), "client {n}");
    }
    // All at once, and more than wait: the rest stays.
    let many = ["RPUSH", "queue", "a", "b", "c", "d", "e", "f", "g"];
    assert_eq!(pusher.call(&many).ok(), Some(Reply::Int(7)));
    let mut got: Vec<Reply> = clients[4..].iter_mut().map(answer).collect();
    let element = |reply: &Reply| match reply {
        Reply::Array(parts) => parts[1].text(),
        _ => None,
    };
    got.sort_by_key(element);
    let wanted: Vec<Reply> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|e| bulks(&["queue", e]))
        .collect();
    assert_eq!(got, wanted);
    assert_eq!(
        pusher.call(&["LRANGE", "queue", "0", "-1"]).ok(),
        Some(bulks(&["f", "g"]))
    );
    wait_in_line(&nodes, &NODES, 0);
}

#[test]
fn who_leaves_as_soon_as_it_has_come_is_in_no_line() {
    let nodes = start();
    let keys = nodes.key_per_shard("k");
    let wait: Vec<&str> = std::iter::once("BLPOP")
        .chain(keys.iter().map(String::as_str))
        .chain(["0"])
        .collect();
    for _ in 0..100 {
        for node in NODES {
            drop(waiting(&nodes, node, &wait));
        }
    }
    wait_in_line(&nodes, &NODES, 0);
    let mut last = waiting(&nodes, 3, &wait);
    wait_in_line(&nodes, &NODES, keys.len() as u64);
    let mut pusher = nodes.client(1);
    assert_eq!(pusher.call(&["RPUSH", &keys[1], "x"]).ok(), Some(Reply::Int(1)));
    assert_eq!(answer(&mut last), bulks(&[&keys[1], "x"]));
}

#[test]
fn every_way_in_which_a_key_comes_to_be_is_noticed() {
    let nodes = start();
    let keys = nodes.key_per_shard("k");
    let [here, there] = [keys[0].as_str(), keys[1].as_str()];
    let mut other = nodes.client(2);
    let ways: [(&[&[&str]], Reply); 7] = [
        (&[&["LPUSH", here, "x"]], bulks(&[here, "x"])),
        (
            &[&["RPUSH", "old", "x"], &["RENAME", "old", there]],
            bulks(&[there, "x"]),
        ),
        (
            &[&["RPUSH", "old", "x"], &["LMOVE", "old", here, "LEFT", "LEFT"]],
            bulks(&[here, "x"]),
        ),
        (
            &[&["RPUSH", "old", "x"], &["COPY", "old", there], &["DEL", "old"]],
            bulks(&[there, "x"]),
        ),
        // Another type is none of its business, and what it replaces is gone.
        (
            &[&["SET", here, "x"], &["DEL", here], &["RPUSH", there, "y"]],
            bulks(&[there, "y"]),
        ),
        (
            &[
                &["MULTI"],
                &["SET", "a", "1"],
                &["RPUSH", here, "x"],
                &["SET", "b", "1"],
                &["EXEC"],
            ],
            bulks(&[here, "x"]),
        ),
        // What goes again before the entry ends was never there for anybody.
        (
            &[
                &["MULTI"],
                &["RPUSH", here, "x"],
                &["DEL", here],
                &["EXEC"],
                &["RPUSH", here, "y"],
            ],
            bulks(&[here, "y"]),
        ),
    ];
    for (requests, wanted) in ways {
        let mut client = waiting(&nodes, 1, &["BLPOP", here, there, "0"]);
        wait_in_line(&nodes, &NODES, 2);
        for request in requests {
            let reply = other.call(request).expect("the node is up");
            assert!(!matches!(reply, Reply::Error(_)), "{request:?}: {reply:?}");
        }
        assert_eq!(answer(&mut client), wanted, "{requests:?}");
        wait_in_line(&nodes, &NODES, 0);
        assert_eq!(
            other.call(&["EXISTS", here, there, "old"]).ok(),
            Some(Reply::Int(0)),
            "{requests:?}"
        );
    }
}

#[test]
fn each_command_over_shards_takes_what_comes() {
    let nodes = start();
    let keys = nodes.key_per_shard("k");
    let [one, two] = [keys[0].as_str(), keys[1].as_str()];
    let mut other = nodes.client(3);
    let pair = |key: &str, inner: Reply| Reply::Array(vec![Reply::Bulk(key.as_bytes().to_vec()), inner]);
    let cases: [(&[&str], &[&str], Reply); 8] = [
        (
            &["BRPOP", one, two, "0"],
            &["RPUSH", two, "a"],
            bulks(&[two, "a"]),
        ),
        (
            &["BLMOVE", one, two, "LEFT", "RIGHT", "0"],
            &["RPUSH", one, "a"],
            Reply::Bulk(b"a".to_vec()),
        ),
        (
            &["BRPOPLPUSH", one, two, "0"],
            &["RPUSH", one, "b"],
            Reply::Bulk(b"b".to_vec()),
        ),
        (
            &["BLMPOP", "0", "2", one, "empty", "RIGHT", "COUNT", "2"],
            &["RPUSH", one, "a", "b", "c"],
            pair(one, bulks(&["c", "b"])),
        ),
        (
            &["BZPOPMIN", "z1", "z2", "0"],
            &["ZADD", "z2", "1.5", "m"],
            bulks(&["z2", "m", "1.5"]),
        ),
        (
            &["BZPOPMAX", "z1", "z2", "0"],
            &["ZADD", "z1", "1", "m", "2", "n"],
            bulks(&["z1", "n", "2"]),
        ),
        (
            &["BZMPOP", "0", "2", "z3", "z4", "MAX", "COUNT", "9"],
            &["ZADD", "z4", "1", "m", "2", "n"],
            pair("z4", Reply::Array(vec![bulks(&["n", "2"]), bulks(&["m", "1"])])),
        ),
        (
            &["BLPOP", "empty", one, "0"],
            &["SET", "unrelated", "1"],
            bulks(&[one, "a"]),
        ),
    ];
    for (request, push, wanted) in cases {
        let there = request[0] == "BLPOP";
        let mut client = waiting(&nodes, 2, request);
        if !there {
            eventually("blocked", LONG, || {
                (info(&nodes, 2, "blocked_clients")? == 1).then_some(())
            });
        }
        other.call(push).expect("the node is up");
        assert_eq!(answer(&mut client), wanted, "{request:?}");
    }
    assert_eq!(
        other.call(&["LRANGE", two, "0", "-1"]).ok(),
        Some(bulks(&["b", "a"]))
    );
    wait_in_line(&nodes, &NODES, 0);
}

#[test]
fn a_client_that_dies_takes_nothing_and_others_can_end_a_wait() {
    let nodes = start();
    let mut other = nodes.client(1);
    for node in NODES {
        drop(waiting(&nodes, node, &["BLPOP", "queue", "0"]));
    }
    let gone = waiting(&nodes, 2, &["BLPOP", "queue", "0"]);
    let mut told = waiting(&nodes, 3, &["CLIENT", "ID"]);
    let id = answer(&mut told).number().expect("an id").to_string();
    told.send(&encode(&["BLMOVE", "queue", "other", "LEFT", "LEFT", "0"]))
        .expect("the node is up");
    wait_in_line(&nodes, &NODES, 2);
    drop(gone);
    wait_in_line(&nodes, &NODES, 1);
    let mut third = nodes.client(3);
    assert_eq!(third.call(&["CLIENT", "UNBLOCK", &id]).ok(), Some(Reply::Int(1)));
    assert_eq!(answer(&mut told), Reply::NilArray);
    assert_eq!(
        third.call(&["CLIENT", "UNBLOCK", &id]).ok(),
        Some(Reply::Int(0)),
        "it waits no more"
    );
    told.send(&encode(&["BLPOP", "queue", "0"]))
        .expect("the node is up");
    wait_in_line(&nodes, &NODES, 1);
    assert_eq!(
        third.call(&["CLIENT", "UNBLOCK", &id, "ERROR"]).ok(),
        Some(Reply::Int(1))
    );
    assert!(matches!(answer(&mut told), Reply::Error(text) if text.starts_with("UNBLOCKED")));
    told.send(&encode(&["BLPOP", "queue", "0"]))
        .expect("the node is up");
    wait_in_line(&nodes, &NODES, 1);
    assert_eq!(
        third.call(&["CLIENT", "KILL", "ID", &id]).ok(),
        Some(Reply::Int(1))
    );
    assert!(told.receive().is_err(), "it was killed");
    wait_in_line(&nodes, &NODES, 0);
    assert_eq!(other.call(&["RPUSH", "queue", "x"]).ok(), Some(Reply::Int(1)));
    assert_eq!(
        other.call(&["LRANGE", "queue", "0", "-1"]).ok(),
        Some(bulks(&["x"]))
    );
}

#[test]
fn nothing_waits_inside_multi_and_what_is_sent_ahead_waits_its_turn() {
    let nodes = start();
    let mut client = nodes.client(1);
    let reply = client.multi(&[
        words(&["BLPOP", "q", "0"]),
        words(&["BLMOVE", "q", "r", "LEFT", "LEFT", "0"]),
    ]);
    assert_eq!(reply.ok(), Some(Reply::Array(vec![Reply::NilArray, Reply::Nil])));
    let ahead = [
        &["SET", "before", "1"][..],
        &["BLPOP", "q", "0"],
        &["GET", "after"],
        &["BLPOP", "q", "0.05"],
    ];
    let bytes: Vec<u8> = ahead.iter().flat_map(|request| encode(request)).collect();
    client.send(&bytes).expect("the node is up");
    assert!(answer(&mut client).is_ok(), "what comes before does not wait");
    wait_in_line(&nodes, &NODES, 1);
    let mut other = nodes.client(2);
    assert!(
        other
            .call(&["SET", "after", "set meanwhile"])
            .is_ok_and(|reply| reply.is_ok())
    );
    assert_eq!(other.call(&["RPUSH", "q", "x"]).ok(), Some(Reply::Int(1)));
    assert_eq!(answer(&mut client), bulks(&["q", "x"]));
    assert_eq!(answer(&mut client), Reply::Bulk(b"set meanwhile".to_vec()));
    assert_eq!(answer(&mut client), Reply::NilArray, "its time has passed");
    for (request, error) in [
        (
            &["BLPOP", "q", "soon"][..],
            "ERR timeout is not a float or out of range",
        ),
        (&["BLPOP", "q", "-1"], "ERR timeout is negative"),
        (&["BLMOVE", "q", "r", "UP", "LEFT", "0"], "ERR syntax error"),
        (
            &["BLPOP", "before", "0"],
            "WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
    ] {
        assert_eq!(
            client.call(request).ok(),
            Some(Reply::Error(error.into())),
            "{request:?}"
        );
    }
}

#[test]
fn waits_go_on_at_the_next_leader_in_the_same_order() {
    let mut nodes = start();
    let key = nodes.key_per_shard("k").remove(0);
    let leader = nodes.leader(1, "shard-0").expect("a leader");
    let living: Vec<u64> = NODES.into_iter().filter(|&node| node != leader).collect();
    let mut clients = Vec::new();
    for n in 0..6_u64 {
        clients.push(waiting(&nodes, living[n as usize % 2], &["BLPOP", &key, "0"]));
        wait_in_line(&nodes, &NODES, n + 1);
        // They come one after another, or the next leader could not tell who has waited longer.
        let came = now();
        eventually("it has waited longer than the next", LONG, || {
            (came.elapsed() >= APART).then_some(())
        });
    }
    let lost = waiting(&nodes, leader, &["BLPOP", &key, "0"]);
    wait_in_line(&nodes, &NODES, 7);
    nodes.kill(leader);
    drop(lost);
    wait_in_line(&nodes, &living, 6);
    let mut pusher = nodes.client(living[0]);
    for (n, client) in clients.iter_mut().enumerate() {
        let element = n.to_string();
        let pushed = eventually("pushed", LONG, || {
            pusher.call(&["RPUSH", &key, &element]).ok()?.number()
        });
        assert_eq!(pushed, 1);
        assert_eq!(answer(client), bulks(&[&key, &element]), "client {n}");
    }
}

#[test]
fn who_waited_at_a_node_that_died_is_in_nobodys_way() {
    let mut nodes = start();
    let key = nodes.key_per_shard("k").remove(0);
    let leader = nodes.leader(1, "shard-0").expect("a leader");
    let others: Vec<u64> = NODES.into_iter().filter(|&node| node != leader).collect();
    let first = waiting(&nodes, others[0], &["BLPOP", &key, "0"]);
    wait_in_line(&nodes, &NODES, 1);
    let mut second = waiting(&nodes, others[1], &["BLPOP", &key, "0"]);
    wait_in_line(&nodes, &NODES, 2);
    nodes.kill(others[0]);
    drop(first);
    wait_in_line(&nodes, &[leader, others[1]], 1);
    assert_eq!(
        nodes.client(leader).call(&["RPUSH", &key, "x"]).ok(),
        Some(Reply::Int(1))
    );
    assert_eq!(answer(&mut second), bulks(&[&key, "x"]));
}
