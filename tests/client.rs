//! The client library, and promises that need a whole cluster: exactly once over failovers, expiry by replicated time,
//! equal replicas.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use quorate::client::{Client, Error, Frame};
use quorate::testing::Cluster;

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(test)
}

/// Asks until `check` is satisfied; the last answer if it never is.
async fn until<T: Clone + std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> T,
    check: impl Fn(&T) -> bool,
) -> T {
    let mut last = ask().await;
    for _ in 0..200 {
        if check(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        last = ask().await;
    }
    panic!("{what}: still {last:?}");
}

/// P4: the story is a counter that was incremented twice, since the leader died after the commit and before the reply.
#[test]
fn increments_count_once_while_each_node_dies_in_turn() {
    let mut cluster = Cluster::start(3, 4).expect("the cluster starts");
    let addresses = cluster.addrs();
    let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(0);
    let (went, goes) = std::sync::mpsc::sync_channel::<()>(1);
    let counting = std::thread::spawn(move || {
        run(async {
            let client = Client::connect(&addresses).await.expect("connects");
            let (mut done, mut unknown) = (0, 0);
            let over = || {
                matches!(
                    stopped.try_recv(),
                    Err(std::sync::mpsc::TryRecvError::Disconnected)
                )
            };
            while !over() {
                let key = format!("count:{}", done % 8);
                match client.incr_by(&key, 1).await {
                    Ok(_) => {
                        done += 1;
                        // Full: nobody has waited for progress since the last one.
                        let _ = went.try_send(());
                    }
                    Err(Error::Unknown { .. }) => unknown += 1,
                    Err(Error::Unavailable(_) | Error::Retry(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            (done, unknown)
        })
    });
    for node in [1, 2, 3, 1] {
        cluster.kill_node(node);
        cluster.wait_ready().expect("the others go on");
        cluster.start_node(node).expect("it comes back");
        cluster.wait_ready().expect("all are there");
        // The first may have been from before; the others came after the restart.
        for _ in 0..10 {
            goes.recv_timeout(Duration::from_secs(60))
                .expect("increments go on");
        }
    }
    drop(stop);
    let (done, unknown) = counting.join().expect("the counting goes well");
    let sum = run(async {
        let client = Client::connect(&cluster.addrs()).await.expect("connects");
        let mut sum = 0;
        for i in 0..8 {
            sum += client.incr_by(format!("count:{i}"), 0).await.expect("reads");
        }
        sum
    });
    assert!(
        sum >= done && sum <= done + unknown,
        "{done} acknowledged, {unknown} unknown, {sum} counted"
    );
}

#[test]
fn a_number_sent_again_is_answered_again_and_not_executed() {
    let cluster = Cluster::start(3, 4).expect("the cluster starts");
    run(async {
        let nodes = cluster.addrs();
        for (seq, request) in [
            (1, vec!["INCR", "once"]),
            (2, vec!["MSET", "a", "1", "b", "2", "c", "3", "d", "4"]),
        ] {
            let mut answers = Vec::new();
            for node in &nodes {
                let client = Client::connect(&[node]).await.expect("connects");
                let number = [
                    "QUORATE".into(),
                    "ONCE".into(),
                    "abc".into(),
                    seq.to_string(),
                    "1".into(),
                ];
                client.command(&number, false).await.expect("numbered");
                answers.push(client.command(&request, false).await.expect("answers"));
            }
            assert!(
                answers.iter().all(|answer| *answer == answers[0]),
                "{request:?}: {answers:?}"
            );
        }
        let client = Client::connect(&nodes).await.expect("connects");
        assert_eq!(
            client.get("once").await.expect("reads").as_deref(),
            Some(&b"1"[..])
        );
    });
}

#[test]
fn a_transaction_runs_again_on_a_conflict_and_gives_up_at_the_bound() {
    let cluster = Cluster::start(3, 4).expect("the cluster starts");
    run(async {
        let client = Client::connect(&cluster.addrs()).await.expect("connects");
        let other = Client::connect(&cluster.addrs()).await.expect("connects");
        let (mut runs, fresh) = (0, &other);
        let value = client
            .transaction(|mut tx| {
                runs += 1;
                async move {
                    let seen = tx.get_int("contended").await?.unwrap_or(0);
                    if seen < 3 {
                        fresh.incr_by("contended", 1).await?;
                    }
                    tx.set("contended", (seen + 100).to_string());
                    assert_eq!(
                        tx.get_int("contended").await?,
                        Some(seen + 100),
                        "reads its own write"
                    );
                    tx.set("elsewhere", "x");
                    tx.commit(seen)
                }
            })
            .await;
        assert_eq!((value, runs), (Ok(3), 4));
        let refused = client.transaction(|tx| async move { tx.abort::<()>("no") }).await;
        assert_eq!(refused, Err(Error::Aborted("no".into())));
        let hopeless = client
            .transaction(|mut tx| async move {
                let seen = tx.get_int("contended").await?.unwrap_or(0);
                fresh.incr_by("contended", 1).await?;
                tx.set("contended", seen.to_string());
                tx.commit(())
            })
            .await;
        assert!(matches!(hopeless, Err(Error::Aborted(_))), "{hopeless:?}");
    });
}

/// P6: a key that was seen as expired came back, since the next leader's clock was behind.
#[test]
fn an_expired_key_stays_expired_when_clocks_go_back_and_leaders_change() {
    let mut cluster = Cluster::start(3, 4).expect("the cluster starts");
    run(async {
        let client = Client::connect(&cluster.addrs()).await.expect("connects");
        client
            .set_for("lease", "held", Duration::from_secs(60))
            .await
            .expect("sets");
        assert_eq!(client.exists(&["lease"]).await, Ok(1));
        cluster.skew_clocks(120_000);
        assert_eq!(
            client.exists(&["lease"]).await,
            Ok(0),
            "two minutes later it is gone"
        );
        cluster.skew_clocks(-120_000);
        assert_eq!(
            client.exists(&["lease"]).await,
            Ok(0),
            "and stays gone when clocks go back"
        );
        for node in 1..=3 {
            cluster.kill_node(node);
            cluster.wait_ready().expect("the others go on");
            assert_eq!(client.exists(&["lease"]).await, Ok(0), "also without node {node}");
            cluster.start_node(node).expect("it comes back");
            cluster.wait_ready().expect("all are there");
        }
        client
            .set_for("lease", "new", Duration::from_millis(1))
            .await
            .expect("sets");
        cluster.skew_clocks(240_000);
        assert_eq!(client.get("lease").await.expect("reads"), None);
    });
}

#[test]
fn a_watched_key_that_expires_makes_exec_null() {
    let cluster = Cluster::start(3, 4).expect("the cluster starts");
    run(async {
        let client = Client::connect(&cluster.addrs()).await.expect("connects");
        client
            .set_for("watched", "1", Duration::from_secs(30))
            .await
            .expect("sets");
        client
            .command(&["WATCH", "watched"], false)
            .await
            .expect("watches");
        cluster.skew_clocks(60_000);
        client.command(&["MULTI"], false).await.expect("begins");
        client
            .command(&["SET", "other", "1"], false)
            .await
            .expect("queues");
        assert_eq!(client.command(&["EXEC"], false).await, Ok(Frame::Null));
    });
}

/// P8, after all kinds of writes, transactions, expiries and a restart from snapshots.
#[test]
fn replicas_are_equal_at_equal_indexes() {
    let mut cluster = Cluster::start_with(3, 4, |config| config.limits.snapshot_log_bytes = 1 << 16)
        .expect("the cluster starts");
    run(async {
        let client = Client::connect(&cluster.addrs()).await.expect("connects");
        for round in 0..40 {
            let pairs: Vec<(String, String)> = (0..50)
                .map(|i| (format!("k:{round}:{i}"), "x".repeat(100)))
                .collect();
            client.mset(&pairs).await.expect("writes");
            client
                .expire(format!("k:{round}:0"), Duration::from_millis(round * 50))
                .await
                .expect("expires");
            client
                .command(
                    &["RENAME", &format!("k:{round}:1"), &format!("renamed:{round}")],
                    true,
                )
                .await
                .expect("renames");
        }
        cluster.stop_node(2).expect("stops");
        cluster.start_node(2).expect("starts");
        cluster.wait_ready().expect("all are there");
        let nodes = cluster.addrs();
        let ask = async || {
            let mut all = Vec::new();
            for node in &nodes {
                let client = Client::connect(&[node]).await.expect("connects");
                all.push(
                    client
                        .command(&["QUORATE", "DIGEST"], false)
                        .await
                        .expect("answers"),
                );
            }
            all
        };
        let all = until("digests of the three nodes", ask, |all| {
            all.iter().all(|one| *one == all[0])
        })
        .await;
        assert!(
            matches!(&all[0], Frame::Array { data, .. } if data.len() == 4 + 3),
            "four shards and three coordinators"
        );
    });
}

#[test]
fn a_strict_transaction_is_undone_by_an_error_and_not_tried_again() {
    let cluster = Cluster::start(3, 4).expect("the cluster starts");
    run(async {
        let client = Client::connect(&cluster.addrs()).await.expect("connects");
        client.set("text", "no number").await.expect("writes");
        let mut runs = 0;
        let ended = client
            .transaction(|mut tx| {
                runs += 1;
                async move {
                    tx.strict();
                    tx.set("number", "1");
                    tx.command(["INCR", "text"]);
                    tx.commit(())
                }
            })
            .await;
        let why = "Transaction rolled back because of command 2 ('incr'): ERR value is not an integer or out of range";
        assert_eq!(ended, Err(Error::Aborted(why.into())));
        assert_eq!(runs, 1);
        assert_eq!(client.get("number").await, Ok(None));
    });
}
