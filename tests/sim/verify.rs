//! The last questions, asked when everything works again.

use std::time::Duration;

use quorate::base::{GroupId, RequestId, gateway_session};
use quorate::checker::list_append::{Op, Outcome, Txn};
use redis_protocol::resp2::types::BytesFrame as Frame;
use serde_json::Value;

use crate::client::{Client, Sent, Verdict, command, number, text, verdict};
use crate::history::Shared;
use crate::tokens::{PLACES, TOKENS, tokens};
use crate::workload::{ACCOUNTS, OPENING, parse_list};
use crate::world::gateways;

/// A transaction may stay undecided this long with all nodes there.
const RESOLVED: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks again and again, in simulated time, until `look` finds something. For how long, says `look`, or the run's own limit.
pub async fn until<T>(every: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(every).await;
    }
}

/// Asks until there is an answer.
async fn ask(client: &mut Client, words: &[&str]) -> Frame {
    until(LOOK_EVERY, async || match client.send(&[command(words)]).await {
        Sent::Replied(replies) => match verdict(&replies[0]) {
            Verdict::Done(reply) => Some(reply),
            _ => None,
        },
        _ => None,
    })
    .await
}

/// Pays into all accounts, once the cluster is there.
pub async fn open_accounts(seed: u64, history: &Shared) {
    let nodes = gateways();
    let at = usize::try_from(seed % nodes.len() as u64).expect("few nodes");
    let mut client = Client::new(nodes[at]);
    for account in 0..ACCOUNTS {
        ask(
            &mut client,
            &["SET", &format!("a:{account}"), &OPENING.to_string(), "NX"],
        )
        .await;
    }
    // As often as it is asked, once.
    let once = "if redis.call('setnx', 'q:laid', 1) == 1 then redis.call('rpush', KEYS[1], unpack(ARGV)) end return 1";
    let mut words = vec!["EVAL", once, "1", "q:0"];
    words.extend(TOKENS);
    ask(&mut client, &words).await;
    history.tell(|| "accounts are open".into());
}

pub async fn everything(history: &Shared) {
    no_locks().await;
    unheard().await;
    for node in gateways() {
        let mut client = Client::new(node);
        lists(&mut client, history).await;
        money(&mut client).await;
        places(&mut client).await;
        marks(&mut client, history).await;
        doomed(&mut client, history).await;
        counters(&mut client, history).await;
        statuses(&mut client, history).await;
    }
}

/// Each token lies in one place.
async fn places(client: &mut Client) {
    let mut lists = Vec::new();
    for place in 0..PLACES {
        lists.push(ask(client, &["LRANGE", &format!("q:{place}"), "0", "-1"]).await);
    }
    assert_eq!(tokens(&lists), TOKENS, "a token is lost or doubled");
}

/// Nothing is left of what was rolled back.
async fn doomed(client: &mut Client, history: &Shared) {
    let elements = history.doomed.borrow().clone();
    for element in elements {
        let words = ["EXISTS", &format!("u:{element}"), &format!("m:{element}")];
        let there = number(&ask(client, &words).await);
        assert_eq!(
            there,
            Some(0),
            "element {element} of a strict transaction that failed"
        );
    }
}

/// No shard holds a prepared transaction any more.
async fn no_locks() {
    let start = tokio::time::Instant::now();
    for node in gateways() {
        let mut client = Client::new(node);
        until(LOOK_EVERY, async || {
            let status = text(&ask(&mut client, &["QUORATE", "STATUS"]).await).expect("a text");
            let status: Value = serde_json::from_str(&status).expect("JSON");
            let shards = status["ring"].as_array().expect("shards");
            let free = shards.iter().all(|shard| shard["prepared"] == 0);
            assert!(free || start.elapsed() < RESOLVED, "keys stay locked: {status}");
            free.then_some(())
        })
        .await;
    }
}

/// Ids that a gateway gave just before it died, and that no group has heard of, are settled by asking for them.
async fn unheard() {
    let start = tokio::time::Instant::now();
    let groups = [GroupId::Coordinator(0), GroupId::Shard(0)];
    // Boots are chosen by chance: 0 and 1 are nobody's.
    let sessions = groups.map(|group| gateway_session(1, group, 0));
    for (seq, session) in (1..).zip(sessions.into_iter().chain([1])) {
        let id = RequestId { session, seq }.to_string();
        for node in gateways() {
            let mut client = Client::new(node);
            until(LOOK_EVERY, async || {
                let status = text(&ask(&mut client, &["TXN", "STATUS", &id]).await).expect("a word");
                let aborted = status == "aborted";
                assert!(
                    aborted || start.elapsed() < RESOLVED,
                    "{id}, which nobody knows, is {status}"
                );
                aborted.then_some(())
            })
            .await;
        }
    }
}

/// Reads all lists in one transaction, which joins the history.
async fn lists(client: &mut Client, history: &Shared) {
    let keys: Vec<u64> = (0..6).collect();
    let names: Vec<String> = keys.iter().map(|key| format!("l:{key}")).collect();
    let mut words = vec!["MGET"];
    words.extend(names.iter().map(String::as_str));
    let invoked = history.now();
    let Frame::Array(replies) = ask(client, &words).await else {
        panic!("MGET answers an array");
    };
    let ops = keys.iter().zip(&replies).map(|(&key, reply)| Op::Read {
        key,
        list: Some(parse_list(reply)),
    });
    let ops = ops.collect();
    let at = history.now();
    let outcome = Outcome::Committed { at };
    history.txns.borrow_mut().push(Txn {
        client: 0,
        invoked,
        outcome,
        ops,
    });
}

async fn money(client: &mut Client) {
    let mut total = 0;
    for account in 0..ACCOUNTS {
        let balance = ask(client, &["GET", &format!("a:{account}")]).await;
        total += number(&balance).expect("an account");
    }
    assert_eq!(total, OPENING * ACCOUNTS.cast_signed(), "money was made or lost");
}

/// What was acknowledged is there, whole; what is unknown is whole or not there.
async fn marks(client: &mut Client, history: &Shared) {
    let (acked, open) = (history.acked.borrow().clone(), history.open.borrow().clone());
    for element in acked.iter().chain(&open) {
        let words = ["MGET", &format!("u:{element}"), &format!("m:{element}")];
        let Frame::Array(pair) = ask(client, &words).await else {
            panic!("MGET answers an array");
        };
        assert_eq!(pair[0], pair[1], "half of transaction {element} is there");
        let there = pair[0] != Frame::Null;
        assert!(
            there || open.contains(element),
            "acknowledged element {element} is lost"
        );
    }
}

async fn counters(client: &mut Client, history: &Shared) {
    let counts = history.counts.borrow().clone();
    for (key, (acked, unknown)) in counts {
        let count = number(&ask(client, &["GET", &key]).await).unwrap_or(0);
        let count = u64::try_from(count).expect("it only grows");
        assert!(
            (acked..=acked + unknown).contains(&count),
            "{key} is {count}, with {acked} increments acknowledged and {unknown} unknown"
        );
    }
}

/// Every id that was given with an unknown outcome has one now, and the effects say the same.
async fn statuses(client: &mut Client, history: &Shared) {
    let unknown = history.unknown.borrow().clone();
    for (id, at) in unknown {
        let start = tokio::time::Instant::now();
        // The teller may have died before it could have anything settled.
        let teller = u64::from_str_radix(&id[..16], 16).expect("a session begins with its node");
        if history.crashed.borrow().contains(&teller) {
            history.count("unknown outcomes told by a gateway that has died");
        }
        let committed = until(LOOK_EVERY, async || {
            let status = text(&ask(client, &["TXN", "STATUS", &id]).await).expect("a word");
            let open = status != "committed" && status != "aborted";
            assert!(!open || start.elapsed() < RESOLVED * 2, "{id} is still {status}");
            (!open).then_some(status == "committed")
        })
        .await;
        history.count("unknown outcomes resolved");
        // From here on the checker knows, too.
        let at_now = history.now();
        let txn = &mut history.txns.borrow_mut()[at];
        let reads = txn.ops.iter().any(|op| matches!(op, Op::Read { .. }));
        if !committed {
            txn.outcome = Outcome::Aborted { at: at_now };
        } else if !reads {
            txn.outcome = Outcome::Committed { at: at_now };
        }
    }
}
