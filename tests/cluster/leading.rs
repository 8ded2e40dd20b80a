//! Where a shard is led: where its writes come from, unless the config says otherwise. Nothing is lost on the way, and nobody hears
//! an error.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::bank::StopAtEnd;
use crate::nodes::{NODES, Nodes};
use crate::wait::{eventually, within};
use crate::wire::Reply;

const SHARD: &str = "shard-0";
/// Clients that write at once: some hundred a second even where other tests take the processor.
const CLIENTS: usize = 12;
const FOLLOWS: Duration = Duration::from_secs(60);
/// Several looks at who writes.
const STAYS: Duration = Duration::from_secs(9);

fn start(leaders: &str) -> Nodes {
    let config = |text: String| {
        let text = text.replace("\nshards = 4\n", "\nshards = 1\n");
        text.replace("leaders = \"spread\"", &format!("leaders = \"{leaders}\""))
    };
    Nodes::start(config)
}

fn led_at(nodes: &Nodes, node: u64) -> bool {
    NODES.iter().all(|&each| nodes.leader(each, SHARD) == Some(node))
}

/// Counts through a node while `body` runs; says what each counter has to be then.
fn while_counting(nodes: &Nodes, node: u64, round: usize, body: impl FnOnce()) -> Vec<(String, i64)> {
    let over = AtomicBool::new(false);
    let count = |key: &str| {
        let mut client = nodes.client(node);
        let mut counted = 0;
        while !over.load(Ordering::Relaxed) {
            let reply = client.call(&["INCR", key]).expect("the node is there");
            counted += 1;
            assert_eq!(reply, Reply::Int(counted), "{key} through node {node}");
        }
        counted
    };
    thread::scope(|scope| {
        let keys = (0..CLIENTS).map(|at| format!("counter:{round}:{at}"));
        let counting: Vec<_> = keys
            .map(|key| scope.spawn(move || (key.clone(), count(&key))))
            .collect();
        {
            let _end = StopAtEnd(&over);
            body();
        }
        let join =
            |counting: thread::ScopedJoinHandle<'_, _>| counting.join().expect("every count was answered");
        counting.into_iter().map(join).collect()
    })
}

#[test]
fn a_shard_is_led_where_its_writes_come_from() {
    let nodes = start("near");
    let mut counters = Vec::new();
    for (round, node) in [2, 3, 1, 2].into_iter().enumerate() {
        counters.extend(while_counting(&nodes, node, round, || {
            eventually(&format!("node {node} leads"), FOLLOWS, || {
                led_at(&nodes, node).then_some(())
            });
        }));
    }
    let mut client = nodes.client(3);
    for (key, counted) in counters {
        let found = client.call(&["GET", &key]).expect("the node is there").text();
        assert_eq!(found, Some(counted.to_string()), "{key}");
    }
}

#[test]
fn leaders_stay_spread_where_the_config_says_so() {
    let nodes = start("spread");
    let preferred = nodes.config.placement()[&quorate::base::GroupId::Shard(0)][0];
    eventually("it is led at home", FOLLOWS, || {
        led_at(&nodes, preferred).then_some(())
    });
    let other = NODES
        .into_iter()
        .find(|&node| node != preferred)
        .expect("there are three");
    while_counting(&nodes, other, 0, || {
        let went = within(STAYS, || led_at(&nodes, other).then_some(()));
        assert_eq!(went, None, "node {other} leads");
    });
    assert!(led_at(&nodes, preferred));
}
