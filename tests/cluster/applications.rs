//! Typical application work by the `redis` crate while nodes that lead shards are killed in turn: sessions, leaderboards, a rate
//! limiter by script, a job queue by BLMOVE, a stream with a consumer group, a lock. What must always hold is looked at as it
//! happens; in the end every node shows what was acknowledged, nothing that was refused, and of what is unknown each as a whole or
//! not at all. `tests/clients/applications.py` does the same by other libraries.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::nodes::{NODES, Nodes, READY};
use crate::within;
use crate::{bank, eventually, now};
use attempts::Client;

#[path = "applications/attempts.rs"]
mod attempts;
#[path = "applications/boards.rs"]
mod boards;
#[path = "applications/jobs.rs"]
mod jobs;
#[path = "applications/limiter.rs"]
mod limiter;
#[path = "applications/locks.rs"]
mod locks;
#[path = "applications/sessions.rs"]
mod sessions;
#[path = "applications/stream.rs"]
mod stream;

/// What each application has to do before a node is killed, while it is dead, and when all are back.
const STEP: [(&str, u64); 8] = [
    ("sessions", 20),
    ("reads", 20),
    ("points", 20),
    ("looks", 10),
    ("grants", 20),
    ("jobs", 10),
    ("events", 10),
    ("locks", 5),
];
/// How long that may take, on two cores that other tests share; and how long what is left when nothing new comes.
const STEP_LIMIT: Duration = Duration::from_secs(60);
const REST_LIMIT: Duration = Duration::from_secs(60);
/// Jobs and events that are not done yet: so few that workers wait.
const BACKLOG: usize = 6;

type Counts = Mutex<BTreeMap<&'static str, u64>>;

/// What all workers share.
struct Run {
    addresses: Vec<SocketAddr>,
    /// What was acknowledged, by application.
    work: Counts,
    /// What became of requests.
    outcomes: Counts,
    /// When nothing new was to be begun any more.
    stopped: Mutex<Option<Instant>>,
    /// A worker has panicked.
    failed: AtomicBool,
    sessions: sessions::Told,
    boards: boards::Told,
    limiter: limiter::Told,
    jobs: jobs::Told,
    stream: stream::Told,
    locks: locks::Told,
}

impl Run {
    fn new(addresses: Vec<SocketAddr>) -> Run {
        Run {
            addresses,
            work: Counts::default(),
            outcomes: Counts::default(),
            stopped: Mutex::default(),
            failed: AtomicBool::default(),
            sessions: sessions::Told::default(),
            boards: boards::Told::default(),
            limiter: limiter::Told::default(),
            jobs: jobs::Told::default(),
            stream: stream::Told::default(),
            locks: locks::Told::default(),
        }
    }

    fn did(&self, what: &'static str) {
        *self.work.lock().entry(what).or_default() += 1;
    }

    fn note(&self, outcome: &'static str) {
        *self.outcomes.lock().entry(outcome).or_default() += 1;
    }

    fn failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Whether to go on with what would never end.
    fn goes_on(&self) -> bool {
        !self.failed() && self.stopped.lock().is_none()
    }

    /// Waits until so little is left to be done that more may come.
    fn wait_for_room(&self, backlog: impl Fn() -> usize) {
        let enough = || (!self.goes_on() || backlog() < BACKLOG).then_some(());
        while within(REST_LIMIT, enough).is_none() {}
    }

    /// Whether to go on with what has to be brought to an end.
    fn may_finish(&self) -> bool {
        let late = self.stopped.lock().is_some_and(|at| at.elapsed() > REST_LIMIT);
        assert!(!late, "what is left is not done after {REST_LIMIT:?}");
        !self.failed()
    }

    fn count_of(&self, outcome: &str) -> u64 {
        self.outcomes.lock().get(outcome).copied().unwrap_or_default()
    }
}

/// So that nobody works on when a worker has panicked, and the panic is what is shown.
struct TellsFailure<'a>(&'a Run);

impl Drop for TellsFailure<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Ordering::SeqCst);
        }
    }
}

type Worker = fn(&Run, &mut Client, usize);

const WORKERS: [(Worker, usize); 10] = [
    (sessions::store, 2),
    (sessions::read, 1),
    (boards::play, 2),
    (boards::watch, 1),
    (limiter::ask, 2),
    (jobs::push, 1),
    (jobs::work_off, 2),
    (stream::add, 1),
    (stream::consume, 2),
    (locks::take_turns, 3),
];

fn progress(run: &Run, when: &str) {
    let before = run.work.lock().clone();
    let what = format!("progress {when} (before: {before:?})");
    eventually(&what, STEP_LIMIT, || {
        let (work, of) = (run.work.lock(), |what, counts: &BTreeMap<_, u64>| {
            counts.get(what).copied().unwrap_or_default()
        });
        let moved = |(what, step)| of(what, &work) >= of(what, &before) + step;
        (run.failed() || STEP.into_iter().all(moved)).then_some(())
    });
}

/// Kills each node in turn while it leads a shard, at least once each, until the time is over; says how often.
fn kill_leaders(nodes: &mut Nodes, run: &Run) -> u64 {
    let end = now() + Duration::from_secs(bank::seconds());
    let mut kills = 0;
    for node in NODES.into_iter().cycle() {
        if run.failed() || kills >= 3 && now() >= end {
            break;
        }
        progress(run, &format!("before node {node} is killed"));
        wait_leads(nodes, node);
        nodes.kill(node);
        progress(run, &format!("without node {node}"));
        nodes.start_node(node);
        kills += 1;
    }
    progress(run, "with all nodes");
    without_majority(nodes, run);
    kills
}

fn wait_leads(nodes: &Nodes, node: u64) {
    eventually(&format!("node {node} leads a shard"), READY, || {
        let mut shards = (0..nodes.config.ring().shards()).map(|shard| format!("shard-{shard}"));
        shards
            .any(|shard| nodes.leader(node, &shard) == Some(node))
            .then_some(())
    });
}

/// Kills two nodes at once, so that requests fail, and some of them stay open until the two are back.
fn without_majority(nodes: &mut Nodes, run: &Run) {
    wait_leads(nodes, 3);
    let errors = || {
        let [unknown, down, again] = ["UNKNOWN", "CLUSTERDOWN", "TRYAGAIN"].map(|word| run.count_of(word));
        (unknown, down + again)
    };
    let before = errors();
    nodes.kill(1);
    nodes.kill(2);
    eventually("requests fail for want of a majority", STEP_LIMIT, || {
        let now = errors();
        (run.failed() || now.0 > before.0 && now.1 > before.1).then_some(())
    });
    for node in [1, 2] {
        nodes.launch(node, None);
    }
    for node in [1, 2] {
        nodes.wait_ready(node);
    }
    progress(run, "after a majority was gone");
}

/// A gateway gives up so soon that clients hear its errors; the shipped limits outlast an election.
fn impatient(text: String) -> String {
    let changes = [
        ("# request_ms = 10000", "request_ms = 1500"),
        ("# txn_ms = 5000", "txn_ms = 1500"),
    ];
    changes.into_iter().fold(text, |text, (shipped, wanted)| {
        assert!(text.contains(shipped), "{shipped} is not in the shipped config");
        text.replace(shipped, wanted)
    })
}

fn prepare(run: &Run) {
    let mut client = Client::new(run, 0);
    stream::prepare(&mut client);
}

#[test]
fn applications_lose_nothing_and_are_granted_nothing_twice_while_leaders_are_killed() {
    let mut nodes = Nodes::start(impatient);
    assert_eq!(nodes.config.ring().shards(), 4);
    let run = Run::new(nodes.addresses());
    prepare(&run);
    let kills = thread::scope(|scope| {
        let run = &run;
        for (worker, count) in WORKERS {
            for n in 0..count {
                scope.spawn(move || {
                    let _tells = TellsFailure(run);
                    worker(run, &mut Client::new(run, n), n);
                });
            }
        }
        let _tells = TellsFailure(run);
        let kills = kill_leaders(&mut nodes, run);
        *run.stopped.lock() = Some(now());
        kills
    });
    println!(
        "{kills} kills; {:?}; requests: {:?}",
        run.work.lock(),
        run.outcomes.lock()
    );
    // Kills that no request notices show nothing; nor does a lock that nobody has too long.
    assert!(
        run.count_of("broken") > 0,
        "no request was open when its node was killed"
    );
    assert!(
        run.work.lock().contains_key("overstays"),
        "nobody had a lock too long"
    );
    for node in NODES {
        println!("what node {node} shows");
        let mut client = Client::new(&run, usize::try_from(node).expect("it is small") - 1);
        sessions::check(&run, &mut client);
        boards::check(&run, &mut client);
        limiter::check(&run, &mut client);
        jobs::check(&run, &mut client);
        stream::check(&run, &mut client);
    }
}
