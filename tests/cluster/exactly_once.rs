//! A request that is sent again under its number gets its first reply: from any node, after its leaders have died, and after
//! all nodes have.

use std::time::Duration;

use quorate::base::GroupId;

use crate::eventually;
use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, Fate, Reply, words};

const SESSION: &str = "5e5510";
const AGAIN: Duration = Duration::from_secs(20);

/// A command, or several in a MULTI.
type Request = Vec<Vec<String>>;

/// Sends `request` as the session's `seq`; none of the numbers is finished.
fn send(client: &mut Client, seq: usize, request: &Request) -> Fate {
    let mut requests = vec![words(&["QUORATE", "ONCE", SESSION, &seq.to_string(), "1"])];
    match &request[..] {
        [only] => requests.push(only.clone()),
        several => {
            requests.push(words(&["MULTI"]));
            requests.extend_from_slice(several);
            requests.push(words(&["EXEC"]));
        }
    }
    let replies = client.pipeline(&requests);
    Fate::of(replies.map(|mut replies| replies.pop().expect("the last is answered")))
}

fn requests(nodes: &Nodes) -> (Vec<String>, Vec<Request>) {
    let counters = nodes.key_per_shard("counted");
    let ends = nodes.key_per_shard("renamed");
    nodes
        .client(1)
        .call(&["SET", &ends[0], "x"])
        .expect("the cluster is up");
    let incr = |key: &String| words(&["INCR", key]);
    let on_one_shard = vec![incr(&counters[0])];
    let on_all = counters.iter().map(incr).collect();
    // Executed again it would find nothing to rename.
    let over_two = vec![words(&["RENAME", &ends[0], &ends[1]])];
    let in_multi = vec![incr(&counters[0]), words(&["GET", &counters[0]])];
    (counters, vec![on_one_shard, on_all, over_two, in_multi])
}

fn first_replies_come_again(nodes: &Nodes, alive: &[u64], requests: &[Request], first: &[Reply]) {
    for &node in alive {
        for (seq, request) in (1..).zip(requests) {
            let again = eventually(
                &format!("request {seq} is answered at node {node}"),
                AGAIN,
                || match send(&mut nodes.client(node), seq, request) {
                    Fate::Done(reply) => Some(reply),
                    Fate::Refused(_) | Fate::Open(_) | Fate::Lost(_) => None,
                    Fate::Conflict => panic!("nothing was watched"),
                },
            );
            assert_eq!(again, first[seq - 1], "request {seq} again, at node {node}");
        }
    }
}

#[test]
fn a_number_sent_again_after_failover_and_full_restart_has_its_first_reply() {
    let mut nodes = Nodes::start(|text| text);
    let (counters, requests) = requests(&nodes);
    let mut client = nodes.client(2);
    let first: Vec<Reply> = (1..)
        .zip(&requests)
        .map(|(seq, request)| match send(&mut client, seq, request) {
            Fate::Done(reply) => reply,
            other => panic!("request {seq} got {other:?}"),
        })
        .collect();
    first_replies_come_again(&nodes, &NODES, &requests, &first);

    let coordinator = nodes
        .leader(1, &GroupId::Coordinator(0).to_string())
        .expect("there is a leader");
    nodes.kill(coordinator);
    let alive: Vec<u64> = NODES.into_iter().filter(|&node| node != coordinator).collect();
    first_replies_come_again(&nodes, &alive, &requests, &first);

    nodes.kill_all();
    nodes.start_all();
    first_replies_come_again(&nodes, &NODES, &requests, &first);

    let mut client = nodes.client(1);
    let counted: Vec<Option<i64>> = counters
        .iter()
        .map(|key| client.call(&["GET", key]).expect("the cluster is up").number())
        .collect();
    assert_eq!(counted, [3, 1, 1, 1].map(Some), "each was executed once");
}
