//! Endless overwrites do not fill the disk: logs are purged behind snapshots.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::eventually;
use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, words};

const KEYS: usize = 200;
const VALUE_BYTES: usize = 1024;
/// 300 × 200 × 1 KiB: 60 MB of writes over 200 KB of data.
const ROUNDS: usize = 300;
/// What one node's directory may take up at any time.
const BOUND: u64 = 60 << 20;

fn value(i: usize, round: usize) -> String {
    format!("{:>VALUE_BYTES$}", format!("{i}/{round}"))
}

/// Blocks that a directory takes up, as `du` counts them. What goes while we look counts as gone.
fn disk_use(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_use(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

fn overwrite(client: &mut Client, round: usize) {
    let sets: Vec<_> = (0..KEYS)
        .map(|i| words(&["SET", &format!("disk:{i}"), &value(i, round)]))
        .collect();
    let replies = client.pipeline(&sets).expect("the cluster is up");
    let failed = replies.iter().find(|reply| !reply.is_ok());
    assert!(failed.is_none(), "round {round}: {failed:?}");
}

fn check(client: &mut Client) {
    let gets: Vec<_> = (0..KEYS).map(|i| words(&["GET", &format!("disk:{i}")])).collect();
    let replies = client.pipeline(&gets).expect("the cluster is up");
    for (i, reply) in replies.iter().enumerate() {
        assert_eq!(reply.text(), Some(value(i, ROUNDS - 1)), "disk:{i}");
    }
}

#[test]
fn disk_use_stays_bounded_under_overwrites() {
    let mut nodes = Nodes::start(|text| {
        let small = text.replace("# snapshot_log_bytes = 16777216", "snapshot_log_bytes = 1048576");
        assert_ne!(small, text, "the shipped config has another default");
        small
    });
    let mut most = [0; 3];
    let mut client = nodes.client(1);
    for round in 0..ROUNDS {
        overwrite(&mut client, round);
        if round % 10 == 9 {
            for (node, most) in NODES.into_iter().zip(&mut most) {
                *most = disk_use(&nodes.node_dir(node)).max(*most);
            }
        }
    }
    println!("most bytes on disk, by node: {most:?}");
    assert!(
        most.iter().all(|&bytes| bytes < BOUND),
        "{most:?} bytes on disk, {BOUND} are allowed"
    );
    assert!(
        most.iter().all(|&bytes| bytes > 0),
        "{most:?}: nothing was measured"
    );
    check(&mut client);
    nodes.kill_all();
    nodes.start_all();
    for node in NODES {
        check(&mut nodes.client(node));
    }
    eventually(
        "disk use is bounded after a restart",
        Duration::from_secs(10),
        || {
            NODES
                .into_iter()
                .all(|node| disk_use(&nodes.node_dir(node)) < BOUND)
                .then_some(())
        },
    );
}
