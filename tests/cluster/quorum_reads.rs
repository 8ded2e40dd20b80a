//! Five replicas of each group: reads need three of them, whoever answers.

use std::net::SocketAddr;
use std::time::Duration;

use quorate::testing::Cluster;

use crate::wait::eventually;
use crate::wire::{Client, Reply};

const LIMIT: Duration = Duration::from_secs(30);
/// Several times `request_ms` here.
const CALL: Duration = Duration::from_secs(20);

fn told(address: SocketAddr, words: &[&str]) -> Option<Reply> {
    Client::open_for(address, CALL).ok()?.call(words).ok()
}

fn value(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

#[test]
fn three_of_five_answer_reads_and_two_do_not() {
    let mut cluster = Cluster::start_with(5, 2, |config| {
        config.cluster.replication = 5;
        config.timeouts.txn_ms = 1000;
        config.timeouts.request_ms = 2000;
    })
    .expect("five nodes start");
    let all = cluster.addrs();
    let keys = ["a", "b", "c", "d"];
    for key in keys {
        assert!(told(all[0], &["SET", key, "1"]).is_some_and(|told| told.is_ok()));
        for &address in &all {
            assert_eq!(
                told(address, &["GET", key]),
                Some(value("1")),
                "{key} at {address}"
            );
        }
    }
    cluster.kill_node(4);
    cluster.kill_node(5);
    for key in keys {
        eventually("three write", LIMIT, || {
            told(all[1], &["SET", key, "2"])?.is_ok().then_some(())
        });
        for &address in &all[..3] {
            assert_eq!(
                told(address, &["GET", key]),
                Some(value("2")),
                "{key} at {address}"
            );
        }
    }
    cluster.kill_node(3);
    for key in keys {
        for &address in &all[..2] {
            let told = told(address, &["GET", key]).expect("an answer");
            assert!(matches!(told, Reply::Error(_)), "{key} at {address}: {told:?}");
        }
    }
}
