//! A job queue over shards while nodes are killed: workers take jobs from one list into their own by `LMOVE` and give them back in a
//! transaction that counts the run. No job is lost, none is there twice, and every read sees all of them. With fewer jobs than workers,
//! these wait for them by `BLMOVE`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::bank::{Counts, count, keep_busy, under_kills};
use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, Fate, Reply, words};

const JOBS: usize = 500;
const WORKERS: usize = 4;
/// So few that somebody always waits.
const FEW: usize = 2;

fn own_list(worker: usize) -> String {
    format!("doing:{worker}")
}

fn job(n: usize) -> String {
    format!("job:{n:06}")
}

/// Counts what has become of a request; an error if the connection is gone.
fn note(counts: &Counts, reply: io::Result<Reply>) -> io::Result<Option<Reply>> {
    let lost = reply.as_ref().err().map(|e| io::Error::from(e.kind()));
    match Fate::of(reply) {
        Fate::Done(reply) => return Ok(Some(reply)),
        Fate::Conflict => count(&counts.conflicts),
        Fate::Refused(_) => count(&counts.refused),
        Fate::Open(_) | Fate::Lost(_) => count(&counts.unknown),
    };
    lost.map_or(Ok(None), Err)
}

/// Takes a job if this worker has none; else gives the one that it has back, and counts its run.
fn work(client: &mut Client, worker: usize, waits: bool, counts: &Counts) -> io::Result<()> {
    let own = own_list(worker);
    let looked = client.pipeline(&[words(&["WATCH", &own]), words(&["LINDEX", &own, "0"])])?;
    match &looked[1] {
        Reply::Nil => {
            let end = if worker.is_multiple_of(2) { "LEFT" } else { "RIGHT" };
            // A watch that stays would fail the transaction that gives the job back.
            client.call(&["UNWATCH"])?;
            let taken = if waits {
                client.call(&["BLMOVE", "todo", &own, end, "RIGHT", "1"])
            } else {
                client.call(&["LMOVE", "todo", &own, end, "RIGHT"])
            };
            note(counts, taken).map(drop)
        }
        Reply::Bulk(job) => {
            let job = String::from_utf8_lossy(job);
            let reply = client.multi(&[
                words(&["LREM", &own, "1", &job]),
                words(&["RPUSH", "todo", &job]),
                words(&["HINCRBY", "runs", &job, "1"]),
                words(&["ZINCRBY", "ranks", "1", &job]),
                words(&["SADD", "seen", &job]),
            ]);
            if let Some(Reply::Array(replies)) = note(counts, reply)? {
                assert_eq!(
                    replies[0],
                    Reply::Int(1),
                    "{job} was not where it had been looked at"
                );
                count(&counts.transfers);
            }
            Ok(())
        }
        _ => client.call(&["UNWATCH"]).map(drop),
    }
}

/// Every job, wherever it is, at one moment.
fn all_jobs(client: &mut Client) -> io::Result<Option<Vec<String>>> {
    let mut looks = vec![words(&["LRANGE", "todo", "0", "-1"])];
    looks.extend((0..WORKERS).map(|worker| words(&["LRANGE", &own_list(worker), "0", "-1"])));
    let reply = client.multi(&looks)?;
    let Fate::Done(Reply::Array(lists)) = Fate::of(Ok(reply)) else {
        return Ok(None);
    };
    let mut jobs = Vec::new();
    for list in lists {
        let Reply::Array(items) = list else {
            return Ok(None);
        };
        jobs.extend(items.iter().filter_map(Reply::text));
    }
    jobs.sort();
    Ok(Some(jobs))
}

fn expected(jobs: usize) -> Vec<String> {
    (0..jobs).map(job).collect()
}

fn watch(addresses: &[SocketAddr], jobs_in_all: usize, counts: &Counts) {
    keep_busy(addresses, 0, &counts.stop, |client| {
        if let Some(jobs) = all_jobs(client)? {
            assert_eq!(jobs, expected(jobs_in_all), "a job is lost or doubled");
            count(&counts.reads);
        }
        Ok(())
    });
}

/// The runs of each job, as three types have counted them.
fn check_runs(client: &mut Client, counts: &Counts) {
    let runs = client.call(&["HGETALL", "runs"]).expect("the cluster is up");
    let Reply::Array(items) = runs else {
        panic!("no fields: {runs:?}")
    };
    let runs: BTreeMap<String, i64> = items
        .chunks_exact(2)
        .map(|pair| {
            (
                pair[0].text().expect("a field"),
                pair[1].number().expect("a count"),
            )
        })
        .collect();
    let ranks = client.call(&["ZRANGE", "ranks", "0", "-1", "WITHSCORES"]);
    let Ok(Reply::Array(items)) = ranks else {
        panic!("no ranks: {ranks:?}")
    };
    let ranks: BTreeMap<String, i64> = items
        .chunks_exact(2)
        .map(|pair| {
            (
                pair[0].text().expect("a member"),
                pair[1].number().expect("a score"),
            )
        })
        .collect();
    assert_eq!(runs, ranks, "the hash and the sorted set were written together");
    let seen = client.call(&["SCARD", "seen"]).ok();
    assert_eq!(seen, i64::try_from(runs.len()).ok().map(Reply::Int));
    let total = u64::try_from(runs.values().sum::<i64>()).expect("counts");
    let (done, unknown) = (
        counts.transfers.load(Ordering::SeqCst),
        counts.unknown.load(Ordering::SeqCst),
    );
    assert!(
        (done..=done + unknown).contains(&total),
        "{total} runs; {done} were acknowledged, {unknown} are unknown"
    );
}

#[test]
fn no_job_is_lost_or_doubled_while_nodes_are_killed_in_turn() {
    run(JOBS, false);
}

#[test]
fn no_job_is_lost_or_doubled_that_workers_wait_for_while_nodes_are_killed_in_turn() {
    run(FEW, true);
}

fn run(jobs_in_all: usize, waits: bool) {
    let mut nodes = Nodes::start(|text| text);
    let mut push = words(&["RPUSH", "todo"]);
    push.extend(expected(jobs_in_all));
    let pushed = nodes.client(1).pipeline(&[push]).expect("the cluster is up");
    assert_eq!(
        pushed,
        [Reply::Int(i64::try_from(jobs_in_all).expect("it is small"))]
    );
    let ring = nodes.config.ring();
    let own: Vec<u16> = (0..WORKERS)
        .map(|worker| ring.shard_of(own_list(worker).as_bytes()))
        .collect();
    assert!(
        own.iter().any(|shard| *shard != ring.shard_of(b"todo")),
        "all lists lie on one shard"
    );

    let counts = Counts::default();
    let worker = |n: usize| {
        let counts = &counts;
        move |client: &mut Client| work(client, n, waits, counts)
    };
    let watch = |addresses: &[SocketAddr]| watch(addresses, jobs_in_all, &counts);
    let kills = under_kills(&mut nodes, &counts, WORKERS, worker, watch);
    println!(
        "{kills} kills, {:?} runs, {:?} conflicts, {:?} refused, {:?} unknown, {:?} reads",
        counts.transfers, counts.conflicts, counts.refused, counts.unknown, counts.reads
    );
    for node in NODES {
        let mut client = nodes.client(node);
        let jobs = crate::eventually("all jobs are read", crate::wire::PATIENCE, || {
            all_jobs(&mut client).ok().flatten()
        });
        assert_eq!(jobs, expected(jobs_in_all), "at node {node}");
    }
    check_runs(&mut nodes.client(1), &counts);
}
