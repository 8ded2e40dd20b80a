//! P8 in production: a replica that has lost a write that the others have (a failpoint skips it there) stops its node and
//! says why, whether it leads or follows; the other two go on.

use std::time::Duration;

use crate::eventually;
use crate::nodes::{Launch, NODES, Nodes};
use crate::wire::{Client, Reply};

/// `digest_ms` is 300: noticed within a second; the rest is for slow machines.
const NOTICED: Duration = Duration::from_secs(15);
/// Until groups have leaders after a node has gone.
const ELECTION: Duration = Duration::from_secs(15);

fn start(broken: u64) -> Nodes {
    let mut nodes = Nodes::prepare(|config| config.replace("# digest_ms = 5000", "digest_ms = 300"));
    assert_eq!(nodes.config.timeouts.digest_ms, 300);
    let lossy = Launch {
        env: vec![("FAILPOINTS".into(), "apply-loses-writes=return(lost:)".into())],
        ..Launch::default()
    };
    nodes.launches.insert(broken, lossy);
    nodes.start_all();
    nodes
}

/// A key that the broken node will lose, on a shard that it leads or does not.
fn key_for(nodes: &Nodes, broken: u64, leads: bool) -> (String, String) {
    eventually("a shard led as wanted", ELECTION, || {
        let keys = nodes.key_per_shard("lost:");
        let mut shards = (0..).zip(keys).map(|(n, key)| (format!("shard-{n}"), key));
        shards.find(|(shard, _)| {
            let leader = nodes.leader(broken, shard);
            leader.is_some_and(|leader| (leader == broken) == leads)
        })
    })
}

fn set(client: &mut Client, key: &str, value: &str) -> Option<()> {
    client.call(&["SET", key, value]).ok()?.is_ok().then_some(())
}

fn stops_and_the_others_go_on(broken: u64, leads: bool) {
    let mut nodes = start(broken);
    let gateway = broken % 3 + 1;
    let (shard, key) = key_for(&nodes, broken, leads);
    let mut client = nodes.client(gateway);
    // Its own reply is lost with the write when it leads.
    let reply = client.call(&["SET", &key, "kept"]).expect("the cluster is up");
    assert!(leads || reply.is_ok(), "{reply:?}");

    let status = nodes.wait_end(broken, NOTICED);
    assert!(!status.success(), "node {broken} ended with {status}");
    let said = nodes.said(broken);
    let why = said.lines().rev().find(|line| line.starts_with("quorate: node"));
    let why = why.expect("it says why it ends").to_string();
    println!("{why}");
    assert!(
        why.contains(&shard) && why.contains("differs from the others at index "),
        "{why}"
    );

    eventually("the others have leaders", ELECTION, || {
        set(&mut client, &key, "again").and_then(|()| set(&mut client, "after", "1"))
    });
    assert_eq!(
        client.call(&["GET", &key]).ok(),
        Some(Reply::Bulk(b"again".into()))
    );
    for node in NODES.into_iter().filter(|&node| node != broken) {
        assert!(nodes.try_end(node).is_none(), "node {node} goes on");
    }

    // What was wrong in memory alone is right again after a start.
    nodes.launches.clear();
    nodes.start_node(broken);
    eventually("all three are equal", NOTICED, || {
        let digest = |node| nodes.client(node).call(&["QUORATE", "DIGEST"]).ok();
        let all = NODES.map(digest);
        (all[0].is_some() && all.iter().all(|one| *one == all[0])).then_some(())
    });
}

#[test]
fn a_follower_that_differs_stops() {
    stops_and_the_others_go_on(2, false);
}

#[test]
fn a_leader_that_differs_stops() {
    stops_and_the_others_go_on(1, true);
}

/// Nothing is logged while nothing changes.
#[test]
fn an_idle_cluster_stays_idle() {
    let nodes = Nodes::start(|config| config.replace("# digest_ms = 5000", "digest_ms = 100"));
    let mut client = nodes.client(1);
    assert!(set(&mut client, "a", "1").is_some());
    let logged = |nodes: &Nodes| -> Option<Vec<u64>> {
        let status = nodes.status(1)?;
        let groups = status["groups"].as_array()?.iter();
        groups.map(|group| group["last_log"].as_u64()).collect()
    };
    // A second of the same, which is ten digests' time.
    let mut still = (Vec::new(), crate::now());
    eventually("the logs stand still", NOTICED, || {
        let now = logged(&nodes)?;
        if now != still.0 {
            still = (now, crate::now());
        }
        (still.1.elapsed() > Duration::from_secs(1)).then_some(())
    });
}
