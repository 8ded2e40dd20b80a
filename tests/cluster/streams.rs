//! Streams over shards: readers that wait, groups whose streams lie on several shards, and a job queue by a consumer group while
//! nodes are killed: each job that was added is done once, whoever died with it in hand.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use crate::bank::{Counts, count, keep_busy, under_kills};
use crate::blocking::{LONG, answer, wait_in_line, waiting};
use crate::eventually;
use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, Fate, Reply};

const WORKERS: usize = 4;
/// The producer waits for the workers beyond.
const JOBS_MAX: i64 = 100;
/// Who has not acknowledged a job after so many milliseconds loses it to another.
const IDLE_MS: &str = "300";

/// Acknowledges a job and does it, or neither, if somebody else has done it.
const DO: &str = "if redis.call('XACK', KEYS[1], 'g', ARGV[1]) == 0 then return 0 end \
                  redis.call('XDEL', KEYS[1], ARGV[1]) \
                  return redis.call('INCR', KEYS[2])";

fn start() -> Nodes {
    Nodes::start(|text| text)
}

/// All strings of a reply, in order.
fn texts(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Array(items) => items.iter().flat_map(texts).collect(),
        other => other.text().into_iter().collect(),
    }
}

fn call(client: &mut Client, request: &str) -> Reply {
    let request: Vec<&str> = request.split(' ').collect();
    client.call(&request).expect("the node is up")
}

#[test]
fn every_reader_hears_what_comes_after_it_began_to_wait_on_whichever_shard() {
    let nodes = start();
    let keys = nodes.key_per_shard("stream");
    let [here, there] = [keys[0].as_str(), keys[1].as_str()];
    let mut other = nodes.client(2);
    for key in [here, there] {
        call(&mut other, &format!("XADD {key} 1 old 1"));
    }
    let request = [
        "XREAD", "BLOCK", "0", "STREAMS", here, there, "none", "$", "$", "$",
    ];
    let mut readers: Vec<Client> = NODES
        .iter()
        .map(|&node| waiting(&nodes, node, &request))
        .collect();
    let mut late = waiting(&nodes, 1, &["XREAD", "BLOCK", "0", "STREAMS", here, "5"]);
    // Keys of one shard are waited for in one line.
    let ring = nodes.config.ring();
    let shards: std::collections::BTreeSet<u16> = [here, there, "none"]
        .iter()
        .map(|key| ring.shard_of(key.as_bytes()))
        .collect();
    wait_in_line(&nodes, &NODES, 3 * shards.len() as u64 + 1);
    call(&mut other, &format!("XADD {there} 2 new 1"));
    for reader in &mut readers {
        assert_eq!(texts(&answer(reader)), [there, "2-0", "new", "1"]);
    }
    wait_in_line(&nodes, &NODES, 1);
    for id in [3, 5, 6] {
        call(&mut other, &format!("XADD {here} {id} new 1"));
    }
    assert_eq!(texts(&answer(&mut late)), [here, "6-0", "new", "1"]);
    let whole = call(&mut other, &format!("XREAD COUNT 2 STREAMS {there} {here} 0 1"));
    let wanted = [
        there, "1-0", "old", "1", "2-0", "new", "1", here, "3-0", "new", "1", "5-0", "new", "1",
    ];
    assert_eq!(texts(&whole), wanted, "in the order of the request");
}

#[test]
fn consumers_that_wait_are_served_in_order_and_told_when_their_group_goes() {
    let nodes = start();
    let keys = nodes.key_per_shard("stream");
    let [here, there] = [keys[0].as_str(), keys[1].as_str()];
    let mut other = nodes.client(2);
    for key in [here, there] {
        assert!(call(&mut other, &format!("XGROUP CREATE {key} g $ MKSTREAM")).is_ok());
    }
    let mut consumers: Vec<Client> = Vec::new();
    for n in 0..6_u64 {
        let name = format!("c{n}");
        let request = [
            "XREADGROUP",
            "GROUP",
            "g",
            &name,
            "COUNT",
            "1",
            "BLOCK",
            "0",
            "STREAMS",
            here,
            there,
            ">",
            ">",
        ];
        consumers.push(waiting(&nodes, NODES[n as usize % 3], &request));
        wait_in_line(&nodes, &NODES, 2 * (n + 1));
    }
    for (n, consumer) in consumers[..3].iter_mut().enumerate() {
        call(&mut other, &format!("XADD {there} {} job {n}", n + 1));
        assert_eq!(
            texts(&answer(consumer)),
            [
                there.to_string(),
                format!("{}-0", n + 1),
                "job".into(),
                n.to_string()
            ]
        );
    }
    let pending = call(&mut other, &format!("XPENDING {there} g"));
    assert_eq!(texts(&pending)[..2], ["1-0", "3-0"]);
    let ends = [format!("XGROUP DESTROY {here} g"), format!("DEL {there}")];
    for (end, consumers) in ends.iter().zip(consumers[3..].chunks_mut(2)) {
        call(&mut other, end);
        for consumer in consumers {
            let told = answer(consumer);
            let Reply::Error(text) = &told else {
                panic!("{end}: {told:?}")
            };
            assert!(text.starts_with("NOGROUP"), "{end}: {text}");
        }
    }
}

#[test]
fn a_group_that_is_missing_on_one_shard_delivers_nothing_on_any() {
    let nodes = start();
    let keys = nodes.key_per_shard("stream");
    let mut client = nodes.client(1);
    for key in &keys {
        call(&mut client, &format!("XADD {key} 1 a 1"));
    }
    let all = keys.join(" ");
    let ids = vec![">"; keys.len()].join(" ");
    let request = format!("XREADGROUP GROUP g c STREAMS {all} {ids}");
    for key in &keys {
        let refused = call(&mut client, &request);
        let Reply::Error(text) = &refused else {
            panic!("{refused:?}")
        };
        assert!(text.starts_with("NOGROUP"), "{text}");
        call(&mut client, &format!("XGROUP CREATE {key} g 0"));
    }
    for key in &keys {
        assert_eq!(
            texts(&call(&mut client, &format!("XPENDING {key} g"))),
            Vec::<String>::new()
        );
    }
    let found = texts(&call(&mut client, &request));
    let wanted: Vec<String> = keys
        .iter()
        .flat_map(|key| [key.clone(), "1-0".into(), "a".into(), "1".into()])
        .collect();
    assert_eq!(found, wanted);
}

/// Takes a job, its own or one that another has left, and does it.
fn work(client: &mut Client, name: &str, counts: &Counts) -> io::Result<()> {
    let read = [
        "XREADGROUP",
        "GROUP",
        "g",
        name,
        "COUNT",
        "1",
        "BLOCK",
        "100",
        "STREAMS",
        "jobs",
        ">",
    ];
    let mut found = texts(&client.call(&read)?);
    if found.first().is_some_and(|first| first == "jobs") {
        found.remove(0);
    } else {
        let claim = ["XAUTOCLAIM", "jobs", "g", name, IDLE_MS, "0", "COUNT", "1"];
        found = texts(&client.call(&claim)?);
        // The cursor comes first.
        found.drain(..found.len().min(1));
    }
    let Some(id) = found.first().filter(|id| id.contains('-')) else {
        return Ok(());
    };
    let done = client.call(&["EVAL", DO, "2", "jobs", &format!("done:{id}"), id]);
    let lost = done.as_ref().err().map(|error| io::Error::from(error.kind()));
    match Fate::of(done) {
        Fate::Done(reply) => {
            assert!(
                matches!(reply, Reply::Int(0 | 1)),
                "{id} is done twice: {reply:?}"
            );
            count(if reply == Reply::Int(1) {
                &counts.transfers
            } else {
                &counts.conflicts
            });
        }
        Fate::Conflict | Fate::Refused(_) => drop(count(&counts.refused)),
        Fate::Open(_) | Fate::Lost(_) => drop(count(&counts.unknown)),
    }
    lost.map_or(Ok(()), Err)
}

fn produce(addresses: &[SocketAddr], added: &Mutex<Vec<String>>, counts: &Counts) {
    keep_busy(addresses, 0, &counts.stop, |client| {
        let waiting = client.call(&["XLEN", "jobs"])?.number().unwrap_or(JOBS_MAX);
        if waiting < JOBS_MAX
            && let Fate::Done(Reply::Bulk(id)) = Fate::of(client.call(&["XADD", "jobs", "*", "job", "x"]))
        {
            let mut added = added.lock().expect("nobody has panicked");
            added.push(String::from_utf8_lossy(&id).into_owned());
        }
        count(&counts.reads);
        Ok(())
    });
}

#[test]
fn each_job_of_a_stream_is_done_once_while_nodes_are_killed_in_turn() {
    let mut nodes = start();
    assert!(call(&mut nodes.client(1), "XGROUP CREATE jobs g $ MKSTREAM").is_ok());
    let (counts, added) = (Counts::default(), Mutex::new(Vec::new()));
    let worker = |n: usize| {
        let counts = &counts;
        move |client: &mut Client| work(client, &format!("worker{n}"), counts)
    };
    let watch = |addresses: &[SocketAddr]| produce(addresses, &added, &counts);
    let kills = under_kills(&mut nodes, &counts, WORKERS, worker, watch);
    let mut client = nodes.client(1);
    eventually("all jobs are done", LONG, || {
        work(&mut client, "last", &counts).ok()?;
        (client.call(&["XLEN", "jobs"]).ok()? == Reply::Int(0)).then_some(())
    });
    let added = added.into_inner().expect("nobody has panicked");
    println!(
        "{kills} kills, {} jobs, {:?} done, {:?} done by others, {:?} refused, {:?} unknown",
        added.len(),
        counts.transfers,
        counts.conflicts,
        counts.refused,
        counts.unknown
    );
    let keys = texts(&call(&mut client, "KEYS done:*"));
    for key in &keys {
        assert_eq!(texts(&call(&mut client, &format!("GET {key}"))), ["1"], "{key}");
    }
    for id in &added {
        assert!(keys.contains(&format!("done:{id}")), "{id} is lost");
    }
    let done = counts.transfers.load(Ordering::SeqCst);
    assert!(done > 0 && keys.len() as u64 >= done, "{} of {done}", keys.len());
    let pending = call(&mut client, "XPENDING jobs g");
    assert_eq!(texts(&pending), Vec::<String>::new());
}
