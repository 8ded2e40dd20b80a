//! Groups that nobody uses sleep, at peace; a request wakes them, and so does a leader that is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::nodes::{NODES, Nodes, group_of};
use crate::wait::{eventually, within};
use crate::wire::Reply;

const LIMIT: Duration = Duration::from_secs(20);
/// Several times what followers wait for their leaders.
const PEACE: Duration = Duration::from_secs(4);

fn start() -> Nodes {
    Nodes::start(|config| config.replace("# hibernate_ms = 5000", "hibernate_ms = 300"))
}

/// What each node says of each group, if all nodes answer.
fn replicas(nodes: &Nodes) -> Option<Vec<(u64, String, Value)>> {
    let mut all = Vec::new();
    for node in NODES {
        let status = nodes.status(node)?;
        for group in status["groups"].as_array()? {
            all.push((node, group["group"].as_str()?.to_string(), group.clone()));
        }
    }
    Some(all)
}

/// All terms, once all replicas sleep.
fn asleep(nodes: &Nodes) -> BTreeMap<(u64, String), u64> {
    eventually("all groups sleep", LIMIT, || {
        let terms = replicas(nodes)?.into_iter().map(|(node, name, group)| {
            let term = group["term"].as_u64()?;
            (group["asleep"] == true).then_some(((node, name), term))
        });
        terms.collect()
    })
}

#[test]
fn a_group_sleeps_in_peace_until_it_is_used() {
    let nodes = start();
    let terms = asleep(&nodes);
    assert!(terms.len() >= NODES.len() * 4, "{terms:?}");
    let disturbed = within(PEACE, || {
        let changed = |(node, name, group): &(u64, String, Value)| {
            let term = group["term"].as_u64();
            group["asleep"] != true || terms.get(&(*node, name.clone())).copied() != term
        };
        replicas(&nodes)?.into_iter().find(changed)
    });
    assert_eq!(disturbed, None, "nobody has used anything");
    let key = &nodes.key_per_shard("woken")[0];
    let told = nodes
        .client(1)
        .call(&["SET", key, "1"])
        .expect("the cluster is up");
    assert!(told.is_ok(), "{told:?}");
    let awake = replicas(&nodes).expect("all answer").into_iter();
    let awake: Vec<_> = awake.filter(|(_, _, group)| group["asleep"] == false).collect();
    let groups = awake.iter().map(|(_, name, _)| name.as_str());
    assert!(groups.clone().all(|name| name == "shard-0"), "{awake:?}");
    assert!(
        groups.count() >= 2,
        "the leader and who has heard of it: {awake:?}"
    );
    let term = |(node, name, group): &(u64, String, Value)| {
        group["term"].as_u64() == terms.get(&(*node, name.clone())).copied()
    };
    assert!(awake.iter().all(term), "it still leads: {awake:?}");
    asleep(&nodes);
}

/// Of replicas of the first shard on these nodes, once they sleep: bytes of log, and where their snapshots end.
fn at_rest(nodes: &Nodes, on: &[u64]) -> Option<Vec<(u64, u64)>> {
    let kept = on.iter().map(|&node| {
        let status = nodes.status(node)?;
        let group = group_of(&status, "shard-0")?;
        let kept = (group["log_bytes"].as_u64()?, group["snapshot"].as_u64()?);
        (group["asleep"] == true).then_some(kept)
    });
    kept.collect()
}

/// The log of a group that nobody uses is not kept in memory until somebody does.
#[test]
fn a_group_that_falls_asleep_leaves_a_snapshot_in_place_of_its_log() {
    let mut nodes = start();
    let key = nodes.key_per_shard("big").remove(0);
    let write = |nodes: &Nodes, value: &str| {
        let value = value.repeat(120_000);
        let mut client = nodes.client(1);
        for _ in 0..10 {
            let told = client.call(&["SET", &key, &value]);
            assert!(told.as_ref().is_ok_and(Reply::is_ok), "{told:?}");
        }
    };
    let gone = |nodes: &Nodes| {
        // Entries of no account may follow the snapshot.
        eventually("the log goes", LIMIT, || {
            let all = at_rest(nodes, &NODES)?;
            all.iter().all(|&(bytes, _)| bytes < 10_000).then_some(all[0].1)
        })
    };
    write(&nodes, "a");
    let first = gone(&nodes);
    // Who is away may want the log: a tail of it stays.
    nodes.kill(3);
    write(&nodes, "b");
    let kept = eventually("the next snapshot", LIMIT, || {
        let all = at_rest(&nodes, &[1, 2])?;
        all.iter().all(|&(_, snapshot)| snapshot > first).then_some(all)
    });
    assert!(kept.iter().all(|&(bytes, _)| bytes > 500_000), "{kept:?}");
    nodes.start_node(3);
    gone(&nodes);
    let value = nodes.client(3).call(&["GET", &key]).ok();
    assert_eq!(value, Some(Reply::Bulk("b".repeat(120_000).into_bytes())));
}

/// Before anybody asks for anything.
fn another_leads_instead(nodes: &Nodes, gone: u64) {
    eventually("another node leads", LIMIT, || {
        let others = NODES.into_iter().filter(|&node| node != gone);
        let mut leaders = others.map(|node| nodes.leader(node, "shard-0"));
        leaders
            .all(|leader| leader.is_some_and(|leader| leader != gone))
            .then_some(())
    });
    let key = &nodes.key_per_shard("after")[0];
    let other = NODES.into_iter().find(|&node| node != gone).expect("three nodes");
    let mut client = nodes.client(other);
    assert!(client.call(&["SET", key, "1"]).is_ok_and(|told| told.is_ok()));
    assert_eq!(client.call(&["GET", key]).ok(), Some(Reply::Bulk(b"1".to_vec())));
}

#[test]
fn a_sleeping_leader_that_dies_or_stops_loses_its_group() {
    let mut nodes = start();
    asleep(&nodes);
    let leader = nodes.leader(1, "shard-0").expect("a leader");
    nodes.kill(leader);
    another_leads_instead(&nodes, leader);
    nodes.start_node(leader);
    let terms = asleep(&nodes);
    let leader = nodes.leader(1, "shard-0").expect("a leader");
    nodes.signal(leader, "STOP");
    another_leads_instead(&nodes, leader);
    nodes.signal(leader, "CONT");
    let before = terms.get(&(leader, "shard-0".to_string())).copied();
    let status = |node| nodes.status(node);
    eventually("the old leader hears of it", LIMIT, || {
        let now = group_of(&status(leader)?, "shard-0")?["term"].as_u64();
        (now > before).then_some(())
    });
    asleep(&nodes);
}
