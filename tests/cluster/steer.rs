//! `TXN LIST`, `INFO`, `STATUS`, `WAIT` and `RESOLVE` where somebody needs them: a participant has no quorum, the
//! coordinator's leader has died, or a gateway has died with an id that it alone knew.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::Duration;

use quorate::base::{GroupId, RequestId, gateway_session};

use crate::failpoints::{COORDINATOR, start_with_failing_leader, wait_leaders};
use crate::nodes::{NODES, Nodes, READY, one_coordinator};
use crate::wire::{Client, Fate, Reply, words};
use crate::{eventually, now};

const STARTS: usize = 10;
const SEEN: Duration = Duration::from_secs(3);

type Fields = BTreeMap<String, Reply>;

/// A map as RESP2 has it: names and values in turn.
fn fields(reply: &Reply) -> Fields {
    let Reply::Array(items) = reply else {
        panic!("not a map: {reply:?}");
    };
    let pair = |pair: &[Reply]| (pair[0].text().expect("a name"), pair[1].clone());
    items.chunks(2).map(pair).collect()
}

fn texts(reply: &Reply) -> Vec<String> {
    let Reply::Array(items) = reply else {
        panic!("not an array: {reply:?}");
    };
    items.iter().filter_map(Reply::text).collect()
}

fn rows(reply: &Reply) -> Vec<Fields> {
    let Reply::Array(items) = reply else {
        panic!("not an array: {reply:?}");
    };
    items.iter().map(fields).collect()
}

fn list(client: &mut Client) -> Vec<Fields> {
    rows(&client.call(&["TXN", "LIST"]).expect("the node is up"))
}

fn in_state<'a>(rows: &'a [Fields], state: &str) -> Option<&'a Fields> {
    let state = Reply::Bulk(state.into());
    rows.iter().find(|row| row.get("state") == Some(&state))
}

fn id_of(row: &Fields) -> String {
    row["id"].text().expect("an id")
}

fn waits_for(row: &Fields, what: &str) -> bool {
    texts(&row["waits-for"]).iter().any(|wait| wait.starts_with(what))
}

/// The word that `TXN sub id …` answers; an error counts as its code.
fn word(client: &mut Client, request: &[&str]) -> String {
    let request: Vec<&str> = std::iter::once("TXN").chain(request.iter().copied()).collect();
    match client.call(&request).expect("the node is up") {
        Reply::Error(text) => text.split(' ').next().unwrap_or_default().to_string(),
        reply => reply.text().unwrap_or_else(|| panic!("{request:?}: {reply:?}")),
    }
}

/// `quorate txn …` at a node: exit code and what it wrote.
fn cli(nodes: &Nodes, node: u64, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .arg("txn")
        .args(args)
        .args(["--node", &nodes.address(node).to_string()])
        .output()
        .expect("quorate can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (
        output.status.code(),
        said + &String::from_utf8_lossy(&output.stderr),
    )
}

/// Every group on one node alone, so that a dead node's shards have no quorum and all others have.
fn scattered() -> Nodes {
    for _ in 0..STARTS {
        let mut nodes = Nodes::prepare(|text| {
            let text = text.replace("replication = 3", "replication = 1");
            let text = text.replace("# request_ms = 10000", "request_ms = 4000");
            text.replace("# txn_ms = 5000", "txn_ms = 4000")
        });
        for node in NODES {
            nodes.launch(node, None);
        }
        let joined = |node| {
            let said = nodes.said(node);
            let line = said.lines().find(|line| line.contains("joined"))?;
            Some(line.ends_with("true"))
        };
        let refilling = NODES.map(|node| eventually("a node joins", READY, || joined(node)));
        // A node that came late to the first start waits to be refilled, and here nobody has what it lacks.
        if refilling.contains(&true) {
            continue;
        }
        for node in NODES {
            nodes.wait_ready(node);
            nodes.wait_member(node);
        }
        return nodes;
    }
    panic!("one node or another came late in {STARTS} starts");
}

/// A node that holds a shard and not the coordinator; the coordinator's; and a shard of the first.
fn victim_of(nodes: &Nodes) -> (u64, u64, u16) {
    let placement = nodes.config.placement();
    let coordinator = placement[&COORDINATOR][0];
    let shards = 0..nodes.config.ring().shards();
    let other = |&shard: &u16| placement[&GroupId::Shard(shard)][0] != coordinator;
    let shard = shards.into_iter().find(other).expect("shards are spread");
    (placement[&GroupId::Shard(shard)][0], coordinator, shard)
}

#[test]
fn a_participant_without_quorum_is_named_and_nothing_is_made_up() {
    let mut nodes = scattered();
    let (victim, gateway, shard) = victim_of(&nodes);
    let keys = nodes.key_per_shard("stuck");
    let here = |key: &&String| {
        let shard = nodes.config.ring().shard_of(key.as_bytes());
        nodes.config.placement()[&GroupId::Shard(shard)][0] == gateway
    };
    let (lost, held) = (
        keys[usize::from(shard)].clone(),
        keys.iter().find(here).expect("shards are spread").clone(),
    );
    let mut client = nodes.client(gateway);
    nodes.kill(victim);
    let mset = || vec![words(&["MSET", &lost, "new", &held, "new"])];
    let (id, fate) = thread::scope(|scope| {
        let [mut one, mut two, mut three] = [(); 3].map(|()| nodes.client(gateway));
        let asking = scope.spawn(move || one.pipeline(&mset()).map(|mut replies| replies.remove(0)));
        let stuck = eventually("a transaction waits for the dead shard's vote", SEEN, || {
            let row = in_state(&list(&mut client), "staged")?.clone();
            waits_for(&row, &format!("vote of shard-{shard}")).then_some(row)
        });
        let id = id_of(&stuck);
        let participants = texts(&stuck["participants"]);
        assert!(participants.contains(&format!("shard-{shard}")), "{stuck:?}");
        assert_eq!(participants.len(), 2, "{stuck:?}");
        assert_eq!(stuck["coordinator"].text(), Some(COORDINATOR.to_string()));
        assert!(
            stuck["age-ms"].number().is_some_and(|age| age < 10_000),
            "{stuck:?}"
        );

        // Behind it: a transaction at the coordinator, a request at the shard.
        scope.spawn(move || two.pipeline(&mset()));
        let parked = held.clone();
        scope.spawn(move || three.call(&["APPEND", &parked, "."]));
        eventually("what is behind it says so", SEEN, || {
            let rows = list(&mut client);
            let queued = in_state(&rows, "queued")?;
            let parked = in_state(&rows, "parked")?;
            let lock = format!("lock on key '{held}' held by {id}");
            (waits_for(queued, &format!("turn after {id}")) && waits_for(parked, &lock)).then_some(())
        });
        let silent: Vec<Fields> = list(&mut client);
        let silent = silent.iter().filter(|row| row.contains_key("error"));
        let silent: Vec<String> = silent.filter_map(|row| row["group"].text()).collect();
        assert!(silent.contains(&format!("shard-{shard}")), "{silent:?}");
        let (code, said) = cli(&nodes, gateway, &["list"]);
        assert_eq!(code, Some(1), "a group did not answer: {said}");
        assert!(
            said.contains(&id) && said.contains(&format!("shard-{shard}: CLUSTERDOWN")),
            "{said}"
        );

        let info = fields(&client.call(&["TXN", "INFO", &id]).expect("the node is up"));
        assert_eq!(info["outcome"].text(), Some("unknown-yet".into()));
        let groups = rows(&info["groups"]);
        assert_eq!(
            in_state(&groups, "prepared")
                .map(|row| row["participants"].clone())
                .map(|p| texts(&p).len()),
            Some(1)
        );
        assert_eq!(word(&mut client, &["STATUS", &id]), "unknown-yet");
        let start = now();
        assert_eq!(word(&mut client, &["WAIT", &id, "6000"]), "unknown-yet");
        let waited = start.elapsed();
        let limits = Duration::from_secs(6)..Duration::from_secs(8);
        assert!(limits.contains(&waited), "it waited {waited:?}");
        (id, asking.join().expect("the client lives"))
    });
    // Without the dead shard's word it may be committed, or not: nobody may say.
    assert_eq!(word(&mut client, &["RESOLVE", &id]), "unknown-yet");
    assert_eq!(
        cli(&nodes, gateway, &["wait", &id, "--ms", "100"]),
        (Some(3), "unknown-yet\n".into())
    );
    assert_eq!(Fate::of(fate), Fate::Open(id.clone()));

    let (outcome, waited) = thread::scope(|scope| {
        let mut waiting = nodes.client(gateway);
        let asked = id.clone();
        let waiting = scope.spawn(move || {
            let start = now();
            (word(&mut waiting, &["WAIT", &asked, "30000"]), start.elapsed())
        });
        nodes.start_node(victim);
        waiting.join().expect("the client lives")
    });
    assert_ne!(outcome, "unknown-yet", "after {waited:?}");
    assert!(waited < Duration::from_secs(30), "it waited on");
    for ask in ["STATUS", "RESOLVE"] {
        assert_eq!(word(&mut client, &[ask, &id]), outcome);
    }
    let value = client.call(&["GET", &lost]).expect("the cluster is up");
    assert_eq!(
        value.text() == Some("new".into()),
        outcome == "committed",
        "{value:?}"
    );
}

/// Sends the next write under this id.
fn once(client: &mut Client, id: RequestId, request: &[&str]) -> Fate {
    let (session, seq) = (format!("{:x}", id.session), id.seq.to_string());
    let numbered = client.call(&["QUORATE", "ONCE", &session, &seq, "0"]);
    assert!(numbered.as_ref().is_ok_and(Reply::is_ok), "{numbered:?}");
    Fate::of(client.call(request))
}

fn outcome_in_info(client: &mut Client, id: RequestId) -> Option<String> {
    let info = client
        .call(&["TXN", "INFO", &id.to_string()])
        .expect("the node is up");
    fields(&info)["outcome"].text()
}

fn clients_id(session: u128) -> RequestId {
    RequestId { session, seq: 5 }
}

#[test]
fn an_id_that_no_group_has_heard_of_is_refused_from_then_on() {
    let nodes = scattered();
    let mut client = nodes.client(1);
    for group in [COORDINATOR, GroupId::Shard(0), GroupId::Shard(3)] {
        let session = gateway_session(2, group, 77);
        let id = RequestId { session, seq: 5 };
        for _ in 0..2 {
            assert_eq!(
                outcome_in_info(&mut client, id),
                Some("unknown-yet".into()),
                "INFO decides nothing"
            );
        }
        assert_eq!(
            cli(&nodes, 1, &["status", &id.to_string()]),
            (Some(0), "aborted\n".into())
        );
        let taken = client.call(&["QUORATE", "ONCE", &format!("{session:x}"), "5", "0"]);
        assert!(
            matches!(taken, Ok(Reply::Error(_))),
            "a gateway's own session: {taken:?}"
        );
    }
    let mut other = nodes.client(3);
    let keys = nodes.key_per_shard("late");
    let late = |at: usize, client: &mut Client, request: &[&str]| {
        let id = clients_id(0xabc0 + at as u128);
        assert_eq!(outcome_in_info(client, id), Some("unknown-yet".into()));
        assert_eq!(word(client, &["STATUS", &id.to_string()]), "aborted");
        let fate = once(client, id, request);
        assert!(
            matches!(fate, Fate::Refused(_)),
            "{request:?} came late: {fate:?}"
        );
        assert_eq!(word(client, &["STATUS", &id.to_string()]), "aborted");
        assert_eq!(outcome_in_info(client, id), Some("aborted".into()));
    };
    for (at, key) in keys.iter().enumerate() {
        late(at, &mut other, &["SET", key, "late"]);
    }
    let mut mset = vec!["MSET"];
    mset.extend(keys.iter().flat_map(|key| [key.as_str(), "late"]));
    late(keys.len(), &mut other, &mset);
    for key in &keys {
        assert_eq!(
            client.call(&["GET", key]).ok(),
            Some(Reply::Nil),
            "{key} was written"
        );
    }
    // What was executed is told, whoever asks for what.
    for (at, request) in [vec!["SET", &keys[0], "1"], mset].iter().enumerate() {
        let id = clients_id(0xdef0 + at as u128);
        assert!(matches!(once(&mut other, id, request), Fate::Done(_)));
        for ask in ["RESOLVE", "STATUS"] {
            assert_eq!(
                word(&mut client, &[ask, &id.to_string()]),
                "committed",
                "{request:?}"
            );
        }
    }
    let id = clients_id(1).to_string();
    for wrong in [
        vec!["WAIT", &id, "60001"],
        vec!["WAIT", &id, "-1"],
        vec!["LIST", &id],
        vec!["STATUS", "1-1"],
    ] {
        assert_eq!(word(&mut client, &wrong), "ERR", "{wrong:?}");
    }
}

/// The groups that could be asked have refused it. The one that could not be has not, and executes it later.
#[test]
fn while_a_group_does_not_answer_nobody_says_aborted() {
    let mut nodes = scattered();
    let (victim, gateway, shard) = victim_of(&nodes);
    let key = nodes.key_per_shard("open")[usize::from(shard)].clone();
    let mut client = nodes.client(gateway);
    let id = clients_id(0xabc);
    nodes.kill(victim);
    assert_eq!(word(&mut client, &["RESOLVE", &id.to_string()]), "unknown-yet");
    assert_eq!(word(&mut client, &["STATUS", &id.to_string()]), "CLUSTERDOWN");
    assert_eq!(
        word(&mut client, &["WAIT", &id.to_string(), "100"]),
        "unknown-yet"
    );
    assert_eq!(outcome_in_info(&mut client, id), Some("unknown-yet".into()));
    nodes.start_node(victim);
    let fate = once(&mut client, id, &["INCR", &key]);
    assert_eq!(fate, Fate::Done(Reply::Int(1)));
    for ask in ["STATUS", "RESOLVE"] {
        assert_eq!(word(&mut client, &[ask, &id.to_string()]), "committed");
    }
}

/// The dead leader's attempt is prepared and holds the keys that the next leader's attempt of the same transaction wants.
/// The participants would not ask for 20 s.
#[test]
fn resolve_has_what_is_prepared_finished_at_once() {
    const PATIENCE: Duration = Duration::from_secs(20);
    let mut nodes = Nodes::prepare(|text| {
        let text = one_coordinator(text).replace("# request_ms = 10000", "request_ms = 20000");
        let text = text.replace("# txn_ms = 5000", "txn_ms = 20000");
        text.replace("# recovery_ms = 1000", "recovery_ms = 20000")
    });
    assert_eq!(Duration::from_millis(nodes.config.timeouts.recovery_ms), PATIENCE);
    let leader = start_with_failing_leader(&mut nodes, COORDINATOR, "txn-unstaged");
    let gateway = leader % 3 + 1;
    let keys = nodes.key_per_shard("held");
    let mut mset = words(&["MSET"]);
    mset.extend(keys.iter().flat_map(|key| words(&[key, "new"])));
    let start = now();
    thread::scope(|scope| {
        let mut asking = nodes.client(gateway);
        let asking = scope.spawn(move || asking.pipeline(&[mset]).map(|mut replies| replies.remove(0)));
        let mut client = nodes.client(gateway);
        wait_leaders(&nodes, gateway, leader);
        let row = eventually("it waits for the lock of its own dead attempt", 3 * SEEN, || {
            let rows = list(&mut client);
            let row = rows
                .iter()
                .find(|row| row.contains_key("id") && waits_for(row, "lock on key"))?;
            let held = format!("held by {}/", id_of(row));
            let own = texts(&row["waits-for"]).iter().any(|wait| wait.contains(&held));
            own.then(|| row.clone())
        });
        let id = id_of(&row);
        assert_eq!(texts(&row["participants"]).len(), keys.len(), "{row:?}");
        let info = fields(&client.call(&["TXN", "INFO", &id]).expect("the node is up"));
        assert!(in_state(&rows(&info["groups"]), "prepared").is_some(), "{info:?}");
        assert_eq!(
            cli(&nodes, gateway, &["resolve", &id]),
            (Some(0), "aborted\n".into())
        );
        // The gateway starts it anew, under another id, and finds the keys free.
        let fate = Fate::of(asking.join().expect("the client lives"));
        assert!(matches!(fate, Fate::Done(_)), "{fate:?}");
        assert!(
            start.elapsed() < PATIENCE,
            "nothing was resolved: {:?}",
            start.elapsed()
        );
    });
    for node in NODES.into_iter().filter(|&node| node != leader) {
        nodes.wait_unprepared(node);
    }
}
