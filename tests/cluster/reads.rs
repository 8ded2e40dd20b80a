//! Reads over all shards at one moment: without log entries where nobody writes, and to an end where everybody does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::bank::StopAtEnd;
use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, Fate, Reply, words};

const QUIET_READS: usize = 50;
const WRITERS: usize = 6;
const READS: usize = 60;

/// Entries in all groups' logs together.
fn logs(nodes: &Nodes) -> u64 {
    let status = nodes.status(1).expect("a status");
    let groups = status["groups"].as_array().expect("groups");
    let last = |group: &serde_json::Value| group["last_log"].as_u64().expect("an index");
    groups.iter().map(last).sum()
}

fn read_in_multi(client: &mut Client, keys: &[String]) -> Vec<Reply> {
    let gets: Vec<_> = keys.iter().map(|key| words(&["GET", key])).collect();
    match Fate::of(client.multi(&gets)) {
        Fate::Done(Reply::Array(values)) => values,
        other => panic!("a read-only transaction got {other:?}"),
    }
}

fn read_at_once(client: &mut Client, keys: &[String]) -> Vec<Reply> {
    let mut mget = vec!["MGET"];
    mget.extend(keys.iter().map(String::as_str));
    match client.call(&mget) {
        Ok(Reply::Array(values)) => values,
        other => panic!("MGET got {other:?}"),
    }
}

fn write(client: &mut Client, keys: &[String], value: &str) {
    let mut mset = words(&["MSET"]);
    for key in keys {
        mset.extend(words(&[key, value]));
    }
    let told = client.pipeline(&[mset]).expect("the cluster is up");
    assert!(told[0].is_ok(), "MSET got {told:?}");
}

/// One value everywhere: what one MSET has written.
fn is_one_moment(values: &[Reply]) {
    assert!(
        values.iter().all(|value| *value == values[0]),
        "halves: {values:?}"
    );
}

fn reads_over_shards(reads: &str) {
    let nodes = Nodes::start(|text| text.replace("# reads = \"index\"", &format!("reads = \"{reads}\"")));
    let keys = nodes.key_per_shard("read");
    let mut clients: Vec<Client> = NODES.into_iter().map(|node| nodes.client(node)).collect();
    write(&mut clients[0], &keys, "first");
    for node in NODES {
        nodes.wait_unprepared(node);
    }
    let before = logs(&nodes);
    for n in 0..QUIET_READS {
        let client = &mut clients[n % NODES.len()];
        is_one_moment(&read_in_multi(client, &keys));
        is_one_moment(&read_at_once(client, &keys));
    }
    // What is behind the write's answer, and elections, may come to a few; a read under locks makes one in each log.
    let entries = logs(&nodes) - before;
    assert!(
        entries < QUIET_READS as u64,
        "{entries} entries for {} reads",
        2 * QUIET_READS
    );

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (mut client, keys, stop) = (nodes.client(NODES[writer % NODES.len()]), &keys, &stop);
            scope.spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    write(&mut client, keys, &format!("{writer}:{n}"));
                }
            });
        }
        let _stopper = StopAtEnd(&stop);
        for n in 0..READS {
            let client = &mut clients[n % NODES.len()];
            is_one_moment(&read_in_multi(client, &keys));
            is_one_moment(&read_at_once(client, &keys));
        }
    });
}

#[test]
fn reads_by_index_see_one_moment_of_all_shards() {
    reads_over_shards("index");
}

#[test]
fn reads_by_lease_see_one_moment_of_all_shards() {
    reads_over_shards("lease");
}
