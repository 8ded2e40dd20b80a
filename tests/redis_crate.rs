//! The `redis` crate, unmodified and not in cluster mode, on an embedded cluster of three nodes and four shards.

use std::sync::LazyLock;

use quorate::testing::Cluster;
use redis::{Commands, ConnectionLike, RedisResult};

const THREADS: usize = 4;
const ROUNDS: usize = 25;

static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| Cluster::start(3, 4).expect("the cluster starts"));

fn connect(node: usize, resp3: bool) -> redis::Connection {
    let address = CLUSTER.addrs()[node];
    let url = format!("redis://{address}/{}", if resp3 { "?protocol=resp3" } else { "" });
    let client = redis::Client::open(url).expect("a valid address");
    client.get_connection().expect("connects")
}

fn everywhere(test: impl Fn(&mut redis::Connection, &str)) {
    for node in 0..3 {
        for resp3 in [false, true] {
            test(&mut connect(node, resp3), &format!("{node}:{resp3}"));
        }
    }
}

#[test]
fn plain_commands_on_any_node() {
    everywhere(|c, tag| {
        let key = format!("plain:{tag}");
        let () = c.set(&key, "v").expect("SET");
        assert_eq!(
            c.get::<_, Option<String>>(&key).expect("GET").as_deref(),
            Some("v")
        );
        assert_eq!(c.append::<_, _, usize>(&key, "w").expect("APPEND"), 2);
        assert_eq!(c.del::<_, usize>(&key).expect("DEL"), 1);
        assert_eq!(c.get::<_, Option<String>>(&key).expect("GET"), None);
        assert!(c.check_connection());
    });
}

#[test]
fn pipelines_keep_their_order() {
    everywhere(|c, tag| {
        let mut pipe = redis::pipe();
        for i in 0..500 {
            pipe.set(format!("pipe:{tag}:{}", i % 7), i).ignore();
            pipe.get(format!("pipe:{tag}:{}", i % 7));
        }
        let read: Vec<i64> = pipe.query(c).expect("the pipeline runs");
        assert_eq!(
            read,
            (0..500).collect::<Vec<_>>(),
            "each GET sees the SET before it"
        );
    });
}

#[test]
fn atomic_pipelines_span_shards() {
    everywhere(|c, tag| {
        let keys: Vec<String> = (0..12).map(|i| format!("atomic:{tag}:{i}")).collect();
        let mut pipe = redis::pipe();
        pipe.atomic();
        for key in &keys {
            pipe.incr(key, 1).ignore();
        }
        pipe.mget(&keys);
        let (seen,): (Vec<i64>,) = pipe.query(c).expect("EXEC");
        assert_eq!(seen, vec![1; 12]);
    });
}

#[test]
fn watched_transactions_with_a_retry_loop_lose_nothing() {
    let (from, to) = ("loop:from", "loop:to");
    let () = connect(0, false).mset(&[(from, 1000), (to, 0)]).expect("MSET");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut c = connect(thread % 3, thread % 2 == 0);
                for _ in 0..ROUNDS {
                    let moved: RedisResult<(i64, i64)> =
                        redis::transaction(&mut c, &[from, to], |c, pipe| {
                            let (a, b): (i64, i64) = c.mget(&[from, to])?;
                            assert_eq!(a + b, 1000, "never half of a transaction");
                            pipe.set(from, a - 1)
                                .ignore()
                                .set(to, b + 1)
                                .ignore()
                                .get(from)
                                .get(to)
                                .query(c)
                        });
                    moved.expect("the transaction commits in the end");
                }
            });
        }
    });
    let moved = i64::try_from(THREADS * ROUNDS).expect("small");
    let end: (i64, i64) = connect(2, true).mget(&[from, to]).expect("MGET");
    assert_eq!(end, (1000 - moved, moved));
}

#[test]
fn a_changed_watched_key_makes_exec_null() {
    let (mut c, mut other) = (connect(0, true), connect(1, false));
    let () = c.set("watch:a", 1).expect("SET");
    let () = redis::cmd("WATCH").arg("watch:a").query(&mut c).expect("WATCH");
    let () = other.set("watch:a", 2).expect("SET");
    let mut pipe = redis::pipe();
    let result: Option<()> = pipe
        .atomic()
        .set("watch:b", 1)
        .ignore()
        .query(&mut c)
        .expect("EXEC answers");
    assert_eq!(result, None);
    assert!(!c.exists::<_, bool>("watch:b").expect("EXISTS"));
}

#[test]
fn scan_finds_every_key_once() {
    let mut c = connect(1, true);
    let keys: Vec<(String, usize)> = (0..300).map(|i| (format!("scan:{i:03}"), i)).collect();
    let () = c.mset(&keys).expect("MSET");
    let mut found: Vec<String> = c.scan_match("scan:*").expect("SCAN").collect();
    found.sort();
    assert_eq!(found, keys.into_iter().map(|(key, _)| key).collect::<Vec<_>>());
}
