//! The coordinator's leader, a participant's, or a gateway dies at a chosen step of a transaction over all shards. The outcome is one
//! on every shard, the locks go, and the client hears that outcome or the id to ask for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use quorate::base::GroupId;

use crate::nodes::{NODES, Nodes, UNPREPARED, one_coordinator};
use crate::wire::{Client, Fate, Reply, words};
use crate::{eventually, now};

pub const COORDINATOR: GroupId = GroupId::Coordinator(0);
/// Until a dead leader's groups have new ones: the promise is under 3 s; the rest is for slow machines.
const ELECTION: Duration = Duration::from_secs(10);
/// Until leadership has gone back to the preferred node.
const HAND_OVER: Duration = Duration::from_secs(30);
const DEATH: Duration = Duration::from_secs(10);

const STREAM_CLIENTS: usize = 4;
const STREAM_ACKS: u64 = 100;
const STREAM_TIME: Duration = Duration::from_secs(30);

/// A transaction that writes a key of every shard, and what shows whether it was done.
struct Attempt {
    keys: Vec<String>,
    /// Raised by the transaction, so that a second execution would show; none with MSET.
    counters: Vec<String>,
}

impl Attempt {
    fn new(nodes: &Nodes, name: &str, counts: bool) -> Attempt {
        let keys = nodes.key_per_shard(name);
        let counters = if counts {
            nodes.key_per_shard(&format!("{name}-count"))
        } else {
            Vec::new()
        };
        Attempt { keys, counters }
    }

    /// One shard at a time, so that no failpoint is met.
    fn set_old(&self, client: &mut Client) {
        for key in &self.keys {
            let reply = client.call(&["SET", key, "old"]).expect("the cluster is up");
            assert!(reply.is_ok(), "{key}: {reply:?}");
        }
    }

    fn send(&self, client: &mut Client) -> Fate {
        if self.counters.is_empty() {
            let mut mset = words(&["MSET"]);
            for key in &self.keys {
                mset.extend(words(&[key, "new"]));
            }
            return Fate::of(client.pipeline(&[mset]).map(|mut replies| replies.remove(0)));
        }
        let sets = self.keys.iter().map(|key| words(&["SET", key, "new"]));
        let counts = self.counters.iter().map(|key| words(&["INCR", key]));
        Fate::of(client.multi(&sets.chain(counts).collect::<Vec<_>>()))
    }

    /// Whether it was done, by plain GETs; anything in between fails.
    fn outcome(&self, client: &mut Client) -> bool {
        // A machine that is busy may take longer than the gateway's patience.
        let begun = now();
        let mut get = |key: &String| loop {
            let reply = client.call(&["GET", key]).expect("the cluster is up");
            if !matches!(reply, Reply::Error(_)) || begun.elapsed() > ELECTION {
                return reply;
            }
        };
        let values: Vec<String> = self.keys.iter().filter_map(|key| get(key).text()).collect();
        let counts: Vec<Reply> = self.counters.iter().map(&mut get).collect();
        let new = values[0] == "new";
        let (value, times) = if new { ("new", 1) } else { ("old", 0) };
        assert_eq!(values, vec![value; self.keys.len()], "half a transaction");
        for count in &counts {
            assert_eq!(
                count.number(),
                Some(times),
                "values are {value}, counters {counts:?}"
            );
        }
        new
    }

    /// Every key can be read and written at once.
    fn touch_all(&self, client: &mut Client) {
        let mut done = |request: &[&str]| {
            let fate = Fate::of(client.call(request));
            assert!(matches!(fate, Fate::Done(_)), "{request:?}: {fate:?}");
        };
        for key in &self.keys {
            done(&["GET", key]);
            done(&["APPEND", key, ""]);
        }
        for key in &self.counters {
            done(&["GET", key]);
            done(&["INCRBY", key, "0"]);
        }
    }
}

pub fn wait_leaders(nodes: &Nodes, at: u64, dead: u64) {
    eventually(
        &format!("all groups have leaders without node {dead}"),
        ELECTION,
        || {
            let status = nodes.status(at)?;
            let mut leaders = status["groups"]
                .as_array()?
                .iter()
                .map(|group| group["leader"].as_u64());
            leaders
                .all(|leader| leader.is_some_and(|leader| leader != dead))
                .then_some(())
        },
    );
}

fn wait_leading(nodes: &Nodes, node: u64, group: GroupId) {
    eventually(&format!("node {node} leads {group}"), HAND_OVER, || {
        (nodes.leader(node, &group.to_string())? == node).then_some(())
    });
}

/// The client's word against what the keys show.
fn compare(fate: &Fate, done: bool, client: &mut Client) {
    match fate {
        Fate::Done(reply) => {
            let fine = match reply {
                Reply::Array(items) => items.iter().all(|item| item.is_ok() || *item == Reply::Int(1)),
                reply => reply.is_ok(),
            };
            assert!(fine, "the client was told {reply:?}");
            assert!(done, "acknowledged, and not done");
        }
        Fate::Refused(why) => assert!(!done, "done, although the client was told {why:?}"),
        Fate::Open(id) => {
            let status = eventually(
                &format!("TXN STATUS {id} says more than unknown"),
                UNPREPARED,
                || {
                    let status = client.call(&["TXN", "STATUS", id]).ok()?.text()?;
                    (status != "unknown-yet").then_some(status)
                },
            );
            assert_eq!(
                status,
                if done { "committed" } else { "aborted" },
                "TXN STATUS {id}"
            );
        }
        fate => panic!("the gateway lives, yet the client got {fate:?}"),
    }
}

/// The leader of a group that takes part dies at `point`; `must_commit`: the decision was in the log by then.
fn die_at(nodes: &mut Nodes, leader: u64, point: &str, attempt: &Attempt, must_commit: bool) {
    let gateway = leader % 3 + 1;
    attempt.set_old(&mut nodes.client(gateway));
    let mut client = nodes.client(gateway);
    let (fate, done) = thread::scope(|scope| {
        let asking = scope.spawn(move || (attempt.send(&mut client), client));
        let status = nodes.wait_end(leader, DEATH);
        assert!(!status.success(), "node {leader} ended with {status}");
        wait_leaders(nodes, gateway, leader);
        let elected = now();
        let mut other = nodes.client(gateway);
        attempt.touch_all(&mut other);
        assert!(
            elected.elapsed() < UNPREPARED,
            "keys stayed locked for {:?}",
            elected.elapsed()
        );
        for node in NODES.into_iter().filter(|&node| node != leader) {
            nodes.wait_unprepared(node);
        }
        // The gateway may have started an aborted transaction anew: it is over when the client has its answer.
        let (fate, mut client) = asking
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let done = attempt.outcome(&mut client);
        compare(&fate, done, &mut client);
        (fate, done)
    });
    println!("{point}: the client got {fate:?}, done: {done}");
    assert!(
        done || !must_commit,
        "the decision was in the log, and the transaction was not done"
    );
    nodes.start_node(leader);
    for node in NODES {
        assert_eq!(attempt.outcome(&mut nodes.client(node)), done, "at node {node}");
        nodes.wait_unprepared(node);
    }
}

/// Starts a cluster in which `node` dies at `point`.
fn start_with_failpoint(nodes: &mut Nodes, node: u64, point: &str) {
    for each in NODES {
        nodes.launch(each, (each == node).then_some(point));
    }
    for each in NODES {
        nodes.wait_ready(each);
        nodes.wait_member(each);
    }
}

/// Who leads a group when all is well.
fn preferred(nodes: &Nodes, group: GroupId) -> u64 {
    nodes.config.placement()[&group][0]
}

/// The same, where the leader of `group` dies; says which node that is.
pub fn start_with_failing_leader(nodes: &mut Nodes, group: GroupId, point: &str) -> u64 {
    let leader = preferred(nodes, group);
    start_with_failpoint(nodes, leader, point);
    wait_leading(nodes, leader, group);
    leader
}

/// MSET on a fresh cluster, then MULTI after leadership has come back to the restarted node.
fn leader_dies_at(group: GroupId, point: &str, must_commit: bool) {
    let mut nodes = Nodes::prepare(one_coordinator);
    let leader = start_with_failing_leader(&mut nodes, group, point);
    let attempt = Attempt::new(&nodes, "mset", false);
    die_at(&mut nodes, leader, point, &attempt, must_commit);

    nodes.kill(leader);
    nodes.launch(leader, Some(point));
    nodes.wait_ready(leader);
    wait_leading(&nodes, leader, group);
    let attempt = Attempt::new(&nodes, "multi", true);
    die_at(&mut nodes, leader, point, &attempt, must_commit);
}

fn coordinator_dies_at(point: &str, must_commit: bool) {
    leader_dies_at(COORDINATOR, point, must_commit);
}

/// The leader of a shard that does not lead the coordinator as well.
fn participant_dies_at(point: &str, must_commit: bool) {
    let placement = Nodes::prepare(one_coordinator).config.placement();
    let led_by = |group: &GroupId| placement[group][0];
    let mut shards = placement
        .keys()
        .filter(|group| matches!(group, GroupId::Shard(_)));
    let shard = shards.find(|shard| led_by(shard) != led_by(&COORDINATOR));
    leader_dies_at(*shard.expect("leaders are spread"), point, must_commit);
}

#[test]
fn the_coordinator_dies_before_the_attempt_is_staged() {
    coordinator_dies_at("txn-unstaged", false);
}

/// Nobody has heard a vote; and yet it is committed, if all have prepared and it was staged by then.
#[test]
fn the_coordinator_dies_when_prepares_are_sent() {
    coordinator_dies_at("txn-prepares-sent", false);
}

#[test]
fn the_coordinator_dies_when_all_have_voted() {
    coordinator_dies_at("txn-all-voted", true);
}

#[test]
fn the_coordinator_dies_when_the_decision_is_logged() {
    coordinator_dies_at("txn-decision-logged", true);
}

#[test]
fn the_coordinator_dies_when_one_participant_is_told() {
    coordinator_dies_at("txn-half-told", true);
}

#[test]
fn the_coordinator_dies_when_all_are_told_and_nothing_is_recorded() {
    coordinator_dies_at("txn-unrecorded", true);
}

#[test]
fn a_participant_dies_when_it_is_asked_to_prepare() {
    participant_dies_at("shard-prepare-asked", false);
}

#[test]
fn a_participant_dies_when_it_has_prepared() {
    participant_dies_at("shard-prepared", false);
}

#[test]
fn a_participant_dies_when_it_is_told_to_commit() {
    participant_dies_at("shard-commit-asked", true);
}

#[test]
fn a_participant_dies_when_it_has_committed() {
    participant_dies_at("shard-committed", true);
}

/// `must`: what has to come of it, where that is certain.
fn gateway_dies_at(point: &str, must: Option<bool>) {
    let mut nodes = Nodes::prepare(one_coordinator);
    let coordinating = preferred(&nodes, COORDINATOR);
    let (gateway, other) = (coordinating % 3 + 1, (coordinating + 1) % 3 + 1);
    start_with_failpoint(&mut nodes, gateway, point);
    let attempt = Attempt::new(&nodes, "gateway", true);
    attempt.set_old(&mut nodes.client(other));
    let fate = attempt.send(&mut nodes.client(gateway));
    assert!(matches!(fate, Fate::Lost(_)), "{point}: the client got {fate:?}");
    nodes.wait_end(gateway, DEATH);
    wait_leaders(&nodes, other, gateway);
    let elected = now();
    let mut client = nodes.client(other);
    attempt.touch_all(&mut client);
    for node in [coordinating, other] {
        nodes.wait_unprepared(node);
    }
    assert!(
        elected.elapsed() < UNPREPARED,
        "locked for {:?}",
        elected.elapsed()
    );
    let done = attempt.outcome(&mut client);
    println!("{point}: done: {done}");
    assert!(must.is_none_or(|must| done == must), "{point}: done: {done}");
    nodes.start_node(gateway);
    for node in NODES {
        assert_eq!(attempt.outcome(&mut nodes.client(node)), done, "at node {node}");
    }
}

#[test]
fn a_gateway_dies_when_it_has_taken_a_transaction() {
    gateway_dies_at("gateway-taken", Some(false));
}

/// It may die with the request still in its queue.
#[test]
fn a_gateway_dies_when_it_has_handed_a_transaction_over() {
    gateway_dies_at("gateway-handed-over", None);
}

#[test]
fn a_gateway_dies_when_it_has_the_answer() {
    gateway_dies_at("gateway-answered", Some(true));
}

/// The gateway gives up before there is a new leader: the client gets an id, and the id tells what became of it.
fn outcome_is_asked_for(point: &str, commits: bool) {
    let mut nodes = Nodes::prepare(|text| {
        let text = one_coordinator(text).replace("# request_ms = 10000", "request_ms = 1000");
        text.replace("# txn_ms = 5000", "txn_ms = 1000")
    });
    assert_eq!(
        nodes.config.timeouts.request_ms, 1000,
        "the shipped config has another default"
    );
    let leader = start_with_failing_leader(&mut nodes, COORDINATOR, point);
    let gateway = leader % 3 + 1;
    let mut client = nodes.client(gateway);
    let attempt = Attempt::new(&nodes, "asked", true);
    attempt.set_old(&mut client);
    let fate = attempt.send(&mut client);
    assert!(matches!(fate, Fate::Open(_)), "{point}: the client got {fate:?}");
    nodes.wait_end(leader, DEATH);
    wait_leaders(&nodes, gateway, leader);
    for node in NODES.into_iter().filter(|&node| node != leader) {
        nodes.wait_unprepared(node);
    }
    let done = attempt.outcome(&mut client);
    assert_eq!(done, commits, "{point}");
    // Any node can be asked.
    for node in NODES.into_iter().filter(|&node| node != leader) {
        compare(&fate, done, &mut nodes.client(node));
    }
}

#[test]
fn the_id_of_an_unknown_outcome_tells_that_it_was_aborted() {
    outcome_is_asked_for("txn-unstaged", false);
}

#[test]
fn the_id_of_an_unknown_outcome_tells_that_it_was_committed() {
    outcome_is_asked_for("txn-all-voted", true);
}

/// What one client of the dying gateway knows.
#[derive(Default)]
struct Streamed {
    acked: i64,
    unknown: i64,
}

/// INCR of all keys in one MULTI, again and again until the connection breaks.
fn stream(mut client: Client, keys: &[String], acked: &AtomicU64) -> Streamed {
    let incrs: Vec<_> = keys.iter().map(|key| words(&["INCR", key])).collect();
    let mut known = Streamed::default();
    loop {
        match Fate::of(client.multi(&incrs)) {
            Fate::Done(_) => {
                known.acked += 1;
                acked.fetch_add(1, Ordering::SeqCst);
            }
            Fate::Open(_) => known.unknown += 1,
            Fate::Lost(_) => {
                known.unknown += 1;
                return known;
            }
            Fate::Refused(_) | Fate::Conflict => {}
        }
    }
}

#[test]
fn a_gateway_dies_amid_transactions() {
    let mut nodes = Nodes::start(one_coordinator);
    let coordinator = nodes
        .leader(1, &COORDINATOR.to_string())
        .expect("there is a leader");
    let (gateway, other) = (coordinator % 3 + 1, (coordinator + 1) % 3 + 1);
    let all = nodes.key_per_shard("streamed");
    // All clients share the first key, so that some transactions wait for others.
    let keys_of = |client: usize| -> Vec<String> {
        let own = nodes.key_per_shard(&format!("streamed-{client}"));
        std::iter::once(all[0].clone())
            .chain(own[1..].iter().cloned())
            .collect()
    };
    let keys: Vec<Vec<String>> = (0..STREAM_CLIENTS).map(keys_of).collect();
    let acked = AtomicU64::new(0);
    let known: Vec<Streamed> = thread::scope(|scope| {
        let clients: Vec<_> = keys
            .iter()
            .map(|keys| {
                let (client, acked) = (nodes.client(gateway), &acked);
                scope.spawn(move || stream(client, keys, acked))
            })
            .collect();
        eventually(&format!("{STREAM_ACKS} transactions"), STREAM_TIME, || {
            (acked.load(Ordering::SeqCst) >= STREAM_ACKS).then_some(())
        });
        nodes.kill(gateway);
        let join = |client: thread::ScopedJoinHandle<'_, Streamed>| {
            client
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        clients.into_iter().map(join).collect()
    });
    wait_leaders(&nodes, other, gateway);
    let elected = now();
    let mut client = nodes.client(other);
    // The coordinator goes on with what the dead gateway had handed over: one moment of all keys is compared.
    let mut gets = vec![words(&["GET", &all[0]])];
    gets.extend(
        keys.iter()
            .flat_map(|keys| &keys[1..])
            .map(|key| words(&["GET", key])),
    );
    let Fate::Done(Reply::Array(seen)) = Fate::of(client.multi(&gets)) else {
        panic!("the counters cannot be read");
    };
    let counts: Vec<i64> = seen.iter().filter_map(Reply::number).collect();
    let per_client = counts[1..].chunks(all.len() - 1);
    let sum: i64 = per_client.clone().map(|counts| counts[0]).sum();
    assert_eq!(counts[0], sum, "the key that all transactions share: {counts:?}");
    for (counts, known) in per_client.zip(&known) {
        assert!(
            counts.iter().all(|&count| count == counts[0]),
            "half a transaction: {counts:?}"
        );
        let possible = known.acked..=known.acked + known.unknown;
        assert!(possible.contains(&counts[0]), "{} not in {possible:?}", counts[0]);
    }
    for key in keys.iter().flatten() {
        let free = Fate::of(client.call(&["SET", key, "0"]));
        assert!(matches!(free, Fate::Done(_)), "{key}: {free:?}");
    }
    assert!(
        elected.elapsed() < UNPREPARED,
        "keys stayed locked for {:?}",
        elected.elapsed()
    );
    for node in [coordinator, other] {
        nodes.wait_unprepared(node);
    }
}
