//! A job queue: BLMOVE into the worker's own list, and LREM in a transaction that counts the job when it is done. What a worker has
//! left in its list, it finds there when it begins again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redis::{Commands, Direction};

use super::Run;
use super::attempts::{Client, Fate};

const DIES_EVERY: u64 = 9;
const WAIT_SECONDS: f64 = 0.2;

#[derive(Debug, Default)]
struct Jobs {
    pushed: BTreeSet<String>,
    open: BTreeSet<String>,
    /// How often each was worked on.
    ran: BTreeMap<String, u64>,
    /// Whose end may have been counted, or not.
    unsure: BTreeSet<String>,
}

#[derive(Default)]
pub struct Told {
    jobs: Mutex<Jobs>,
    no_more: AtomicBool,
}

impl Told {
    fn backlog(&self) -> usize {
        let jobs = self.jobs.lock();
        jobs.pushed.len().saturating_sub(jobs.ran.len())
    }
}

pub fn push(run: &Run, client: &mut Client, _: usize) {
    for n in 0.. {
        run.wait_for_room(|| run.jobs.backlog());
        if !run.goes_on() {
            break;
        }
        let job = format!("job:{n}");
        match client.attempt(|c| c.rpush::<_, _, ()>("jobs:queue", &job)) {
            Fate::Done(()) => run.jobs.jobs.lock().pushed.insert(job),
            Fate::Unknown => run.jobs.jobs.lock().open.insert(job),
            Fate::Refused => false,
        };
    }
    run.jobs.no_more.store(true, Ordering::SeqCst);
}

/// Ends when nothing is left, neither in the queue nor in its own list.
pub fn work_off(run: &Run, client: &mut Client, n: usize) {
    let own = format!("jobs:doing:{n}");
    let (mut left, mut taken): (Vec<String>, u64) = (Vec::new(), 0);
    // Whoever begins looks first for what it has left behind.
    let mut recovers = true;
    while run.may_finish() {
        if recovers {
            left = client.until_done(|c| c.lrange(&own, 0, -1)).unwrap_or_default();
            recovers = false;
        } else if let Some(job) = left.pop() {
            recovers = !finish(run, client, &own, job);
        } else {
            let last = run.jobs.no_more.load(Ordering::SeqCst);
            let (from, to) = (Direction::Left, Direction::Right);
            let moved = client
                .attempt(|c| c.blmove::<_, _, Option<String>>("jobs:queue", &own, from, to, WAIT_SECONDS));
            match moved {
                Fate::Done(None) if last => {
                    // An earlier move whose fate was unknown may have happened since.
                    left = client.until_done(|c| c.lrange(&own, 0, -1)).unwrap_or_default();
                    if left.is_empty() {
                        return;
                    }
                }
                Fate::Done(None) | Fate::Refused => {}
                // A job may have been moved that this worker was not told of.
                Fate::Unknown => recovers = true,
                Fate::Done(Some(job)) => {
                    taken += 1;
                    if taken.is_multiple_of(DIES_EVERY) {
                        // As a worker that dies with a job in its hands, and is started again.
                        client.next_node();
                        recovers = true;
                    } else {
                        left = vec![job];
                    }
                }
            }
        }
    }
}

/// Takes a job off the list and counts it, once; whether that is certain. The WATCH that `redis::transaction` sends is for an
/// earlier try whose fate is unknown: if that happens after all, only one of them does.
fn finish(run: &Run, client: &mut Client, own: &str, job: String) -> bool {
    *run.jobs.jobs.lock().ran.entry(job.clone()).or_default() += 1;
    let fate = client.attempt(|c| {
        redis::transaction(c, &[own], |c, pipe| {
            let doing: Vec<String> = c.lrange(own, 0, -1)?;
            if !doing.contains(&job) {
                return Ok(Some(None));
            }
            pipe.lrem(own, 1, &job);
            pipe.incr("jobs:done", 1).hincr("jobs:runs", &job, 1);
            let replies: Option<(u64, u64, u64)> = pipe.query(c)?;
            Ok(replies.map(Some))
        })
    });
    match fate {
        Fate::Done(Some((removed, _, runs))) => {
            assert_eq!((removed, runs), (1, 1), "{job} was finished twice");
            run.did("jobs");
        }
        Fate::Done(None) => assert!(
            run.jobs.jobs.lock().unsure.contains(&job),
            "{job} is not in {own}, and nobody has finished it"
        ),
        Fate::Refused => return false,
        Fate::Unknown => {
            run.jobs.jobs.lock().unsure.insert(job);
            return false;
        }
    }
    true
}

pub fn check(run: &Run, client: &mut Client) {
    let jobs = run.jobs.jobs.lock();
    let mut left: Vec<String> = client.look(|c| c.lrange("jobs:queue", 0, -1));
    let lists: Vec<String> = client.look(|c| c.keys("jobs:doing:*"));
    for own in lists {
        left.extend(client.look(|c| c.lrange::<_, Vec<String>>(&own, 0, -1)));
    }
    // An unknown push may happen when everybody has gone home.
    assert!(
        left.iter().all(|job| jobs.open.contains(job)),
        "left behind: {left:?}"
    );
    let runs: BTreeMap<String, u64> = client.look(|c| c.hgetall("jobs:runs"));
    let lost: Vec<&String> = jobs
        .pushed
        .iter()
        .filter(|job| !runs.contains_key(*job))
        .collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    for (job, count) in &runs {
        assert_eq!(*count, 1, "{job} was finished so often");
        assert!(
            jobs.pushed.contains(job) || jobs.open.contains(job),
            "nobody has pushed {job}"
        );
        assert!(jobs.ran.contains_key(job), "nobody has worked on {job}");
    }
    let done: usize = client.look(|c| c.get("jobs:done"));
    assert_eq!(done, runs.len(), "the counter and the jobs were written together");
    let again = jobs.ran.values().filter(|&&count| count > 1).count();
    println!("{} jobs, {again} worked on more than once", jobs.pushed.len());
}
