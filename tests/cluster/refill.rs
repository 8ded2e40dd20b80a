//! A node that has lost its disk gets everything back by snapshots, and counts again as a replica.

use std::fs;
use std::time::Duration;

use crate::eventually;
use crate::nodes::{NODES, Nodes, group_of};
use crate::wire::{Client, words};

const KEYS: usize = 4000;
const VALUE_BYTES: usize = 200;
/// Keys of one pipeline. Small ones make many log entries: more than a group keeps behind its snapshot.
const WRITE_CHUNK: usize = 4;
const READ_CHUNK: usize = 500;
const REFILL: Duration = Duration::from_secs(60);
const WIPED: u64 = 2;

fn key(i: usize) -> String {
    format!("refill:{i}")
}

/// Differs per key and round, and has `VALUE_BYTES` bytes.
fn value(i: usize, round: usize) -> String {
    format!("{:>VALUE_BYTES$}", format!("{i}/{round}"))
}

fn write_all(client: &mut Client, round: usize) {
    for from in (0..KEYS).step_by(WRITE_CHUNK) {
        let sets: Vec<_> = (from..from + WRITE_CHUNK)
            .map(|i| words(&["SET", &key(i), &value(i, round)]))
            .collect();
        let replies = client.pipeline(&sets).expect("the cluster is up");
        let failed = replies.iter().find(|reply| !reply.is_ok());
        assert!(failed.is_none(), "{failed:?}");
    }
}

fn read_all(client: &mut Client, round: usize) {
    for from in (0..KEYS).step_by(READ_CHUNK) {
        let gets: Vec<_> = (from..from + READ_CHUNK)
            .map(|i| words(&["GET", &key(i)]))
            .collect();
        let replies = client.pipeline(&gets).expect("the cluster is up");
        for (i, reply) in (from..).zip(replies) {
            assert_eq!(reply.text(), Some(value(i, round)), "{}", key(i));
        }
    }
}

/// The log index that each group's replica here has applied.
fn applied(nodes: &Nodes, node: u64) -> Option<Vec<(String, u64)>> {
    let status = nodes.status(node)?;
    let groups = status["groups"].as_array()?.iter();
    groups
        .map(|group| Some((group["group"].as_str()?.to_string(), group["applied"].as_u64()?)))
        .collect()
}

fn wait_refilled(nodes: &Nodes, node: u64) {
    let goals = applied(nodes, node % 3 + 1).expect("the other nodes are up");
    eventually(&format!("node {node} is refilled"), REFILL, || {
        let status = nodes.status(node)?;
        (status["refilling"] == false).then_some(())
    });
    eventually(&format!("node {node} has applied {goals:?}"), REFILL, || {
        let status = nodes.status(node)?;
        let reached = |(group, goal): &(String, u64)| {
            group_of(&status, group)?["applied"]
                .as_u64()
                .map(|at| at >= *goal)
        };
        goals.iter().all(|goal| reached(goal) == Some(true)).then_some(())
    });
}

#[test]
fn a_wiped_node_is_refilled_by_snapshots() {
    let mut nodes = Nodes::start(|text| {
        let small = text.replace("# snapshot_log_bytes = 16777216", "snapshot_log_bytes = 65536");
        assert_ne!(small, text, "the shipped config has another default");
        small
    });
    let mut client = nodes.client(1);
    for round in 0..2 {
        write_all(&mut client, round);
    }
    nodes.kill(WIPED);
    // Without the dead node, so that a majority of what follows is on the other two.
    write_all(&mut nodes.client(1), 2);
    let status = eventually("all shards' logs are cut behind snapshots", REFILL, || {
        let status = nodes.status(1)?;
        let shards = status["groups"].as_array()?.iter();
        let mut shards = shards.filter(|group| {
            group["group"]
                .as_str()
                .is_some_and(|name| name.starts_with("shard"))
        });
        shards
            .all(|group| group["snapshot"].as_u64().is_some_and(|at| at > 0))
            .then_some(status.clone())
    });
    fs::remove_dir_all(nodes.node_dir(WIPED)).expect("a dead node's data can be removed");
    nodes.start_node(WIPED);
    wait_refilled(&nodes, WIPED);
    println!("refilled from {}", status["groups"]);
    let took = nodes.status(WIPED).expect("it is up");
    for shard in 0..nodes.config.cluster.shards {
        let at = group_of(&took, &format!("shard-{shard}")).map(|group| group["snapshot"].as_u64());
        assert!(
            at.flatten().is_some_and(|at| at > 0),
            "shard {shard} was not refilled by a snapshot: {at:?}"
        );
    }
    read_all(&mut nodes.client(WIPED), 2);

    // What the wiped node acknowledges counts again: with it, one more may die.
    let victim = WIPED % 3 + 1;
    nodes.kill(victim);
    for node in NODES.into_iter().filter(|&node| node != victim) {
        read_all(&mut nodes.client(node), 2);
    }
    write_all(&mut nodes.client(WIPED), 3);
    nodes.start_node(victim);
    nodes.kill(6 - WIPED - victim);
    read_all(&mut nodes.client(victim), 3);
}
