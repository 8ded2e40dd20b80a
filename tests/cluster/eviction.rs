//! A full memory: keys go as the policy says, the same on all replicas, whichever node they were read at; without a policy what
//! needs more is refused, whole transactions as wholes; a killed leader changes nothing of it.

use std::time::Duration;

use serde_json::Value;

use crate::eventually;
use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, Reply};

const LIMIT: u64 = 4 << 20;
/// What may be under way beyond the limit: one entry a shard.
const SLACK: u64 = 1 << 20;
/// A value's bytes; a key costs about 1.1 KiB with it, so some 3,700 fit.
const VALUE: usize = 1 << 10;
const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";
/// Until replicas agree, or a leader is there again.
const PATIENCE: Duration = Duration::from_secs(20);

fn start(policy: &str) -> Nodes {
    let limits = format!("maxmemory = {LIMIT}\nmaxmemory_policy = \"{policy}\"");
    Nodes::start(|config| config.replace("# maxmemory = 0", &limits))
}

fn error(text: &str) -> Reply {
    Reply::Error(text.into())
}

fn memory(nodes: &Nodes, node: u64) -> Value {
    nodes.status(node).expect("the node tells its status")["memory"].clone()
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().expect("a number")
}

fn fill(client: &mut Client, name: &str, keys: std::ops::Range<usize>) -> Vec<Reply> {
    let value = "v".repeat(VALUE);
    let mut replies = Vec::new();
    let all: Vec<usize> = keys.collect();
    for some in all.chunks(64) {
        let sets: Vec<Vec<String>> = some
            .iter()
            .map(|n| vec!["SET".into(), format!("{name}{n}"), value.clone()])
            .collect();
        replies.extend(client.pipeline(&sets).expect("the cluster is up"));
    }
    replies
}

/// Digests and key counts of all replicas are the same.
fn assert_equal(nodes: &Nodes) {
    eventually("replicas that are equal", PATIENCE, || {
        let digests: Vec<Option<Reply>> = NODES
            .map(|node| nodes.client(node).call(&["QUORATE", "DIGEST"]).ok())
            .to_vec();
        digests.windows(2).all(|two| two[0] == two[1]).then_some(())
    });
}

#[test]
fn the_least_recently_used_go_wherever_they_were_read() {
    let nodes = start("allkeys-lru");
    let mut clients = NODES.map(|node| nodes.client(node));
    fill(&mut clients[0], "hot", 0..300);
    fill(&mut clients[0], "cold", 0..2000);
    // Times of use are told apart by the second.
    eventually("keys that were not asked for for some seconds", PATIENCE, || {
        let idle = clients[0].call(&["OBJECT", "IDLETIME", "cold1999"]).ok()?;
        idle.number().filter(|idle| *idle >= 2)
    });
    let (mut worst, mut least) = (0, LIMIT);
    for round in 0..60 {
        // Each is read at one node alone, which leads its shard or not.
        for (n, client) in (0..300).zip([0, 1, 2].into_iter().cycle()) {
            let read = clients[client]
                .call(&["GET", &format!("hot{n}")])
                .expect("an answer");
            assert!(
                matches!(read, Reply::Bulk(_)),
                "hot{n} is gone in round {round}: {read:?}"
            );
        }
        let sets = fill(&mut clients[round % 3], "new", round * 100..(round + 1) * 100);
        assert!(sets.iter().all(Reply::is_ok), "{sets:?}");
        let used = NODES.map(|node| number(&memory(&nodes, node), "used"));
        worst = worst.max(used.into_iter().max().unwrap_or(0));
        assert!(worst <= LIMIT + SLACK, "{used:?} bytes are used of {LIMIT}");
        if round > 40 {
            least = least.min(used.into_iter().min().unwrap_or(0));
        }
    }
    let memory = memory(&nodes, 1);
    let evicted = number(&memory, "evicted");
    println!("{evicted} keys evicted, {worst} bytes at the most");
    assert!(
        evicted > 3000,
        "8,300 were written, fewer than 4,000 fit: {memory}"
    );
    assert!(
        least > LIMIT / 10 * 9,
        "{least} bytes are used at the least of {LIMIT}: more goes than has to"
    );
    let is_there = |client: &mut Client, name: &str, n: usize| {
        let there = client
            .call(&["EXISTS", &format!("{name}{n}")])
            .expect("an answer");
        there.number() == Some(1)
    };
    let cold = (0..2000)
        .filter(|n| is_there(&mut clients[1], "cold", *n))
        .count();
    assert!(
        cold < 200,
        "{cold} of 2,000 that nobody has asked for are still there"
    );
    let idle = clients[2]
        .call(&["OBJECT", "IDLETIME", "hot7"])
        .expect("an answer");
    assert!(idle.number().is_some_and(|idle| idle < 30), "{idle:?}");
    assert_equal(&nodes);
}

#[test]
fn small_keys_by_the_thousand_are_bounded_too() {
    let nodes = start("allkeys-random");
    let mut clients = NODES.map(|node| nodes.client(node));
    let mut worst = 0;
    for round in 0..80 {
        let sets: Vec<Vec<String>> = if round % 2 == 0 {
            let set = |n| vec!["SET".into(), format!("k{round}:{n}"), "x".into()];
            (0..1000).map(set).collect()
        } else {
            // In one entry of one shard, whose keys take ten times what the command has.
            let pairs = (0..2000).flat_map(|n| [format!("{{x}}{round}:{n}"), "x".into()]);
            vec![std::iter::once("MSET".to_string()).chain(pairs).collect()]
        };
        let replies = clients[round % 3].pipeline(&sets).expect("the cluster is up");
        assert!(replies.iter().all(Reply::is_ok), "round {round}: {replies:?}");
        let used = NODES.map(|node| number(&memory(&nodes, node), "used"));
        worst = worst.max(used.into_iter().max().unwrap_or(0));
    }
    let memory = memory(&nodes, 1);
    println!("{memory}, {worst} bytes at the most");
    assert!(worst <= LIMIT + SLACK / 16, "{worst} bytes are used of {LIMIT}");
    // The last entry made room for two thousand keys as if each were to expire, and other nodes' entries at the same moment.
    assert!(number(&memory, "used") > LIMIT / 20 * 17, "{memory}");
    assert_equal(&nodes);
}

#[test]
fn without_a_policy_what_needs_more_is_refused_until_there_is_room() {
    let nodes = start("noeviction");
    let mut client = nodes.client(2);
    let replies = fill(&mut client, "k", 0..6000);
    let refused = replies.iter().filter(|reply| !reply.is_ok()).collect::<Vec<_>>();
    assert!(
        refused.len() > 1500 && refused.len() < 3500,
        "{} of 6,000",
        refused.len()
    );
    assert!(
        refused.iter().all(|reply| **reply == error(OOM)),
        "{:?}",
        refused[0]
    );
    let call = |client: &mut Client, request: &[&str]| client.call(request).expect("an answer");
    // Both shares or none; and reading, deleting, popping go on.
    let there = |client: &mut Client, key: &str| call(client, &["EXISTS", key]).number();
    let keys = nodes.key_per_shard("over:");
    let mset = call(
        &mut client,
        &["MSET", &keys[0], "1", &keys[1], "1", &keys[2], "1"],
    );
    assert_eq!(mset, error(OOM));
    call(&mut client, &["MULTI"]);
    call(&mut client, &["DEL", "k0"]);
    call(&mut client, &["SET", &keys[1], "1"]);
    let exec = call(&mut client, &["EXEC"]);
    assert_eq!(
        exec,
        error(&format!("EXECABORT Transaction discarded because of: {OOM}"))
    );
    assert_eq!(there(&mut client, "k0"), Some(1), "nothing of it has happened");
    assert!(keys.iter().all(|key| there(&mut client, key) == Some(0)));
    for n in 0..1500 {
        assert!(call(&mut client, &["DEL", &format!("k{n}")]).number().is_some());
    }
    let set = call(&mut client, &["SET", &keys[0], "1"]);
    assert!(set.is_ok(), "there is room again: {set:?}");
    assert_equal(&nodes);
}

#[test]
fn only_keys_that_expire_go_and_when_there_are_none_it_is_refused() {
    let mut nodes = start("volatile-ttl");
    let mut client = nodes.client(1);
    assert!(fill(&mut client, "lasting", 0..2000).iter().all(Reply::is_ok));
    let value = "v".repeat(VALUE);
    for n in 0..1000 {
        let key = format!("passing{n}");
        let set = client.call(&["SET", &key, &value, "EX", &(10_000 + n).to_string()]);
        assert!(set.expect("an answer").is_ok());
    }
    let refused = |replies: Vec<Reply>| replies.iter().filter(|reply| !reply.is_ok()).count();
    assert_eq!(refused(fill(&mut client, "more", 0..1000)), 0);
    let left = |client: &mut Client| {
        let there = |n: &u32| {
            let there = client.call(&["EXISTS", &format!("passing{n}")]);
            there.expect("an answer").number() == Some(1)
        };
        (0..1000).filter(there).collect::<Vec<u32>>()
    };
    let some = left(&mut client);
    assert!(some.len() < 900, "{} of 1,000", some.len());
    let middle = some.iter().filter(|n| **n < 500).count() * 2;
    assert!(
        middle < some.len(),
        "those that expire soonest go first: {some:?}"
    );
    // The leader of a shard dies, and the next one keeps to the limit as well.
    let leader = nodes.leader(2, "shard-0").expect("it has one");
    nodes.kill(leader);
    let other = NODES
        .into_iter()
        .find(|node| *node != leader)
        .expect("three nodes");
    let mut client = nodes.client(other);
    eventually("leaders", PATIENCE, || {
        let set = client
            .call(&["MSET", "a", "1", "b", "1", "c", "1", "d", "1", "e", "1"])
            .ok()?;
        set.is_ok().then_some(())
    });
    let refused = refused(fill(&mut client, "yet", 0..3000));
    assert!(
        refused > 1000,
        "all that expires is gone, so {refused} of 3,000 were refused"
    );
    assert_eq!(left(&mut client), Vec::<u32>::new());
    let used = number(&memory(&nodes, other), "used");
    assert!(used <= LIMIT + SLACK, "{used} bytes are used of {LIMIT}");
    let lasting = (0..2000).filter(|n| {
        let there = client.call(&["EXISTS", &format!("lasting{n}")]);
        there.expect("an answer").number() == Some(1)
    });
    assert_eq!(lasting.count(), 2000);
    nodes.start_node(leader);
    assert_equal(&nodes);
}
