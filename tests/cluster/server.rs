//! Commands about the server, on real nodes: settings that reach all of them, what `INFO` counts, who is held up, who waits for what,
//! how a node is told to stop.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use crate::eventually;
use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, PATIENCE, Reply, encode, words};

fn call(client: &mut Client, request: &[&str]) -> Reply {
    client.call(request).expect("the node is up")
}

fn ok(client: &mut Client, request: &[&str]) {
    let reply = call(client, request);
    assert!(reply.is_ok(), "{request:?}: {reply:?}");
}

fn setting(client: &mut Client, name: &str) -> String {
    match call(client, &["CONFIG", "GET", name]) {
        Reply::Array(pair) => pair[1].text().expect("a text"),
        other => panic!("{other:?}"),
    }
}

fn info(client: &mut Client, section: &str) -> BTreeMap<String, String> {
    let text = call(client, &["INFO", section]).text().expect("a text");
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.into(), value.into())).collect()
}

fn number(client: &mut Client, section: &str, field: &str) -> i64 {
    let fields = info(client, section);
    let value = fields
        .get(field)
        .unwrap_or_else(|| panic!("{field} is not in {section}"));
    value.parse().unwrap_or_else(|_| panic!("{field}: {value}"))
}

fn int(reply: &Reply) -> i64 {
    match reply {
        Reply::Int(n) => *n,
        other => panic!("not a number: {other:?}"),
    }
}

/// The node closes the connection, and says nothing.
fn assert_ended(client: &mut Client) {
    let error = client
        .receive()
        .expect_err("the connection is closed without a word");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
}

#[test]
fn settings_reach_all_nodes_and_a_restart_begins_with_the_file() {
    let mut nodes = Nodes::start(|text| {
        text.replace("# maxmemory = 0", "maxmemory = \"64mb\"").replace(
            "# maxmemory_policy = \"noeviction\"",
            "maxmemory_policy = \"volatile-ttl\"",
        )
    });
    for node in NODES {
        let mut client = nodes.client(node);
        assert_eq!(setting(&mut client, "maxmemory"), (64 << 20).to_string());
        assert_eq!(setting(&mut client, "maxmemory-policy"), "volatile-ttl");
    }
    let mut first = nodes.client(1);
    ok(
        &mut first,
        &[
            "CONFIG",
            "SET",
            "maxmemory",
            "100mb",
            "maxmemory-policy",
            "allkeys-lru",
        ],
    );
    for node in NODES {
        let mut client = nodes.client(node);
        assert_eq!(
            setting(&mut client, "maxmemory"),
            (100 << 20).to_string(),
            "node {node}"
        );
        let memory = info(&mut client, "memory");
        assert_eq!(memory["maxmemory_policy"], "allkeys-lru", "node {node}");
    }
    nodes.kill(2);
    nodes.start_node(2);
    assert_eq!(setting(&mut nodes.client(2), "maxmemory"), (64 << 20).to_string());
    let reply = call(&mut first, &["CONFIG", "REWRITE"]);
    assert!(
        matches!(&reply, Reply::Error(why) if why.contains("operator")),
        "{reply:?}"
    );
}

#[test]
fn info_counts_what_has_happened() {
    let nodes = Nodes::start(|text| text);
    let mut clients: Vec<Client> = NODES.iter().map(|&node| nodes.client(node)).collect();
    let keys = nodes.key_per_shard("k");
    let sum = |clients: &mut [Client], field: &str| -> i64 {
        clients
            .iter_mut()
            .map(|client| number(client, "stats", field))
            .sum()
    };
    let (hits, misses) = (
        sum(&mut clients, "keyspace_hits"),
        sum(&mut clients, "keyspace_misses"),
    );
    let me = &mut clients[0];
    for key in &keys {
        ok(me, &["SET", key, "v"]);
    }
    ok(me, &["SET", "short", "v", "PX", "20"]);
    ok(me, &["SET", "long", "v", "EX", "1000"]);
    eventually("the short key is gone", PATIENCE, || {
        (call(me, &["DBSIZE"]) == Reply::Int(5)).then_some(())
    });
    let keyspace = info(me, "keyspace");
    let (counts, ttl) = keyspace["db0"].split_once(",avg_ttl=").expect("an average");
    assert_eq!(counts, "keys=5,expires=1");
    let ttl: u64 = ttl.parse().expect("a number");
    assert!((900_000..=1_000_000).contains(&ttl), "{ttl}");
    for key in &keys {
        call(me, &["GET", key]);
        call(me, &["GET", "absent"]);
    }
    assert!(matches!(call(me, &["LPUSH", &keys[0], "x"]), Reply::Error(_)));
    assert!(matches!(call(me, &["GET"]), Reply::Error(_)));
    let commands = info(me, "commandstats");
    assert!(
        commands["cmdstat_get"].starts_with("calls=8,"),
        "{}",
        commands["cmdstat_get"]
    );
    assert!(commands["cmdstat_get"].ends_with("rejected_calls=1,failed_calls=0"));
    assert!(commands["cmdstat_lpush"].ends_with("rejected_calls=0,failed_calls=1"));
    assert_eq!(commands.get("cmdstat_config|get"), None);
    let errors = info(me, "errorstats");
    assert_eq!(errors["errorstat_WRONGTYPE"], "count=1");
    assert_eq!(errors["errorstat_ERR"], "count=1");
    let latencies = info(me, "latencystats");
    assert!(latencies["latency_percentiles_usec_get"].starts_with("p50="));
    assert!(number(me, "stats", "total_net_input_bytes") > 500);
    assert!(number(me, "memory", "used_memory") > 5 * 96);
    assert!(number(me, "memory", "used_memory_rss") > 1 << 20);
    assert_eq!(sum(&mut clients, "keyspace_hits") - hits, 4);
    assert_eq!(sum(&mut clients, "keyspace_misses") - misses, 4);
    assert!(sum(&mut clients, "expired_keys") >= 1);
    let me = &mut clients[0];
    ok(me, &["CONFIG", "RESETSTAT"]);
    assert_eq!(number(me, "stats", "keyspace_hits"), 0);
    let commands = info(me, "commandstats");
    assert_eq!(commands.get("cmdstat_get"), None);
    assert!(commands["cmdstat_config|resetstat"].starts_with("calls=1,"));
    let all = call(me, &["INFO", "everything"]).text().expect("a text");
    let default = call(me, &["INFO"]).text().expect("a text");
    for (section, by_default) in [
        ("Server", true),
        ("Commandstats", false),
        ("Quorate", true),
        ("CPU", true),
    ] {
        let title = format!("# {section}\r\n");
        assert!(all.contains(&title), "{section}");
        assert_eq!(default.contains(&title), by_default, "{section}");
    }
    let two = call(me, &["INFO", "cpu", "clients"]).text().expect("a text");
    assert!(two.starts_with("# Clients\r\n") && two.contains("# CPU\r\n") && !two.contains("# Server"));
}

#[test]
fn slow_commands_are_noted_with_what_ran_beside_them() {
    let nodes = Nodes::start(|text| text);
    let mut me = nodes.client(1);
    ok(&mut me, &["CLIENT", "SETNAME", "me"]);
    ok(&mut me, &["SLOWLOG", "RESET"]);
    ok(
        &mut me,
        &[
            "CONFIG",
            "SET",
            "slowlog-log-slower-than",
            "0",
            "latency-monitor-threshold",
            "1",
        ],
    );
    let burst: Vec<Vec<String>> = (0..5).map(|_| words(&["SET", "{k}", "v"])).collect();
    me.pipeline(&burst).expect("the node is up");
    ok(&mut me, &["CONFIG", "SET", "slowlog-log-slower-than", "-1"]);
    let Reply::Array(entries) = call(&mut me, &["SLOWLOG", "GET", "-1"]) else {
        panic!("no array");
    };
    let args = |entry: &Reply| match entry {
        Reply::Array(fields) => match (&fields[3], fields[5].text()) {
            (Reply::Array(args), Some(name)) => {
                assert_eq!(name, "me");
                args.iter().filter_map(Reply::text).collect::<Vec<_>>().join(" ")
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let shown: Vec<String> = entries.iter().map(args).collect();
    assert!(
        shown
            .iter()
            .any(|line| line == "SET {k} v ... (4 more commands that ran with it)"),
        "{shown:?}"
    );
    let count = int(&call(&mut me, &["SLOWLOG", "LEN"]));
    assert_eq!(count, i64::try_from(entries.len()).expect("few"));
    ok(&mut me, &["SLOWLOG", "RESET"]);
    assert_eq!(call(&mut me, &["SLOWLOG", "LEN"]), Reply::Int(0));
    // A command that is held up takes long.
    let mut other = nodes.client(1);
    ok(&mut other, &["SAVE"]);
    eventually("something took a millisecond", PATIENCE, || {
        call(&mut other, &["SAVE"]);
        call(&mut other, &["SET", "k", "v"]);
        let latest = call(&mut me, &["LATENCY", "LATEST"]);
        matches!(latest, Reply::Array(rows) if !rows.is_empty()).then_some(())
    });
    assert!(
        matches!(call(&mut me, &["LATENCY", "HISTORY", "command"]), Reply::Array(rows) if !rows.is_empty())
    );
    assert_eq!(call(&mut me, &["LATENCY", "RESET"]), Reply::Int(1));
    let Reply::Array(histogram) = call(&mut me, &["LATENCY", "HISTOGRAM", "set"]) else {
        panic!("no array");
    };
    assert_eq!(histogram[0].text().as_deref(), Some("set"));
}

#[test]
fn who_monitors_sees_each_request_of_its_node() {
    let nodes = Nodes::start(|text| text);
    let mut watcher = nodes.client(1);
    ok(&mut watcher, &["MONITOR"]);
    let (mut here, mut there) = (nodes.client(1), nodes.client(2));
    ok(&mut there, &["SET", "elsewhere", "v"]);
    ok(&mut here, &["CONFIG", "SET", "timeout", "0"]);
    let burst = [words(&["SET", "k", "a b\n"]), words(&["GET", "k"])];
    here.pipeline(&burst).expect("the node is up");
    let mut line = || match watcher.receive().expect("a line") {
        Reply::Simple(line) => line,
        other => panic!("{other:?}"),
    };
    let first = line();
    assert!(
        first.contains(" [0 127.0.0.1:") && first.ends_with("] \"SET\" \"k\" \"a b\\n\""),
        "{first}"
    );
    assert!(line().ends_with("] \"GET\" \"k\""));
    let listed = call(&mut here, &["CLIENT", "LIST"]).text().expect("a text");
    assert!(listed.lines().any(|line| line.contains(" flags=O ")), "{listed}");
    assert!(line().ends_with("] \"CLIENT\" \"LIST\""));
    // With its end nobody is watched any more.
    drop(watcher);
    eventually("nobody watches", PATIENCE, || {
        let listed = call(&mut here, &["CLIENT", "LIST"]).text()?;
        (!listed.contains(" flags=O ")).then_some(())
    });
}

#[test]
fn replies_are_switched_off_and_skipped() {
    let nodes = Nodes::start(|text| text);
    let mut me = nodes.client(1);
    let send = |me: &mut Client, requests: &[&[&str]]| {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| encode(request)).collect();
        me.send(&bytes).expect("sent");
    };
    send(
        &mut me,
        &[&["CLIENT", "REPLY", "SKIP"], &["SET", "k", "1"], &["GET", "k"]],
    );
    assert_eq!(me.receive().expect("a reply").text().as_deref(), Some("1"));
    send(
        &mut me,
        &[
            &["CLIENT", "REPLY", "OFF"],
            &["SET", "k", "2"],
            &["GET", "k"],
            &["CLIENT", "REPLY", "ON"],
            &["GET", "k"],
        ],
    );
    assert!(me.receive().expect("a reply").is_ok());
    assert_eq!(me.receive().expect("a reply").text().as_deref(), Some("2"));
    // That it listens is confirmed in any case, and was the one to skip.
    send(
        &mut me,
        &[&["CLIENT", "REPLY", "SKIP"], &["SUBSCRIBE", "a", "b"], &["PING"]],
    );
    for name in ["a", "b"] {
        let confirmed = me.receive().expect("a reply");
        assert!(
            matches!(&confirmed, Reply::Array(parts) if parts[1].text().as_deref() == Some(name)),
            "{confirmed:?}"
        );
    }
    assert!(
        matches!(me.receive().expect("a reply"), Reply::Array(pong) if pong[0].text().as_deref() == Some("pong"))
    );
}

#[test]
fn wait_tells_how_many_replicas_have_what_was_written() {
    let mut nodes = Nodes::start(|text| text);
    let mut me = nodes.client(1);
    ok(&mut me, &["SET", "k", "v"]);
    assert_eq!(call(&mut me, &["WAIT", "2", "20000"]), Reply::Int(2));
    nodes.kill(3);
    eventually("a write without node 3", PATIENCE, || {
        call(&mut me, &["SET", "k", "w"]).is_ok().then_some(())
    });
    assert_eq!(call(&mut me, &["WAIT", "2", "300"]), Reply::Int(1));
    nodes.start_node(3);
    assert_eq!(call(&mut me, &["WAIT", "2", "20000"]), Reply::Int(2));
}

#[test]
fn snapshots_are_written_when_they_are_asked_for_and_a_node_stops_when_it_is_told() {
    let mut nodes = Nodes::start(|text| text);
    let mut me = nodes.client(2);
    for n in 0..50 {
        ok(&mut me, &["SET", &format!("k{n}"), "v"]);
    }
    assert!(number(&mut me, "persistence", "rdb_changes_since_last_save") > 0);
    let before = int(&call(&mut me, &["LASTSAVE"]));
    eventually("the clock goes on", PATIENCE, || {
        let Reply::Array(time) = call(&mut me, &["TIME"]) else {
            return None;
        };
        (time[0].number()? > before).then_some(())
    });
    ok(&mut me, &["SAVE"]);
    assert!(int(&call(&mut me, &["LASTSAVE"])) > before);
    let status = nodes.status(2).expect("it answers");
    let groups = status["groups"].as_array().expect("groups");
    assert!(
        groups.iter().all(|group| group["snapshot"].as_u64() > Some(0)),
        "{groups:?}"
    );
    assert_eq!(
        call(&mut me, &["BGSAVE"]),
        Reply::Simple("Background saving started".into())
    );
    me.send(&encode(&["SHUTDOWN"])).expect("sent");
    assert_ended(&mut me);
    let ended = nodes.wait_end(2, Duration::from_secs(20));
    assert_eq!(ended.code(), Some(0), "{}", nodes.said(2));
    nodes.start_node(2);
    assert_eq!(call(&mut nodes.client(2), &["DBSIZE"]), Reply::Int(50));
}

#[test]
fn debug_digests_depend_on_content_alone() {
    let nodes = Nodes::start(|text| text.replace("# debug_commands = false", "debug_commands = true"));
    let (mut me, mut other) = (nodes.client(1), nodes.client(2));
    let digest = |client: &mut Client| match call(client, &["DEBUG", "DIGEST"]) {
        Reply::Simple(digest) => digest,
        other => panic!("{other:?}"),
    };
    assert_eq!(digest(&mut me), "0".repeat(40));
    for request in [
        ["SADD", "s", "a", "b"],
        ["RPUSH", "l", "a", "b"],
        ["HSET", "h", "a", "b"],
    ] {
        call(&mut me, &request);
    }
    let before = digest(&mut me);
    assert_eq!(digest(&mut other), before);
    call(&mut me, &["SADD", "s", "c"]);
    assert_ne!(digest(&mut me), before);
    call(&mut me, &["SREM", "s", "c"]);
    call(&mut me, &["DEL", "h"]);
    call(&mut me, &["HSET", "h", "a", "b"]);
    assert_eq!(digest(&mut other), before);
    let object = call(&mut me, &["DEBUG", "OBJECT", "s"]);
    assert!(
        matches!(&object, Reply::Simple(line) if line.contains(" encoding:hashtable ")),
        "{object:?}"
    );
    // Keys that have expired stay until somebody looks.
    ok(&mut me, &["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    ok(&mut me, &["SET", "short", "v", "PX", "1"]);
    ok(&mut me, &["DEBUG", "SLEEP", "0.5"]);
    let keys = |client: &mut Client| {
        info(client, "keyspace")["db0"]
            .split(',')
            .next()
            .map(str::to_owned)
    };
    assert_eq!(keys(&mut other).as_deref(), Some("keys=4"));
    ok(&mut me, &["DEBUG", "SET-ACTIVE-EXPIRE", "1"]);
    eventually("it is gone", PATIENCE, || {
        (keys(&mut other).as_deref() == Some("keys=3")).then_some(())
    });
}

#[test]
fn idle_clients_are_disconnected_where_a_timeout_is_set() {
    let nodes = Nodes::start(|text| text);
    let (mut idle, mut listens, mut me) = (nodes.client(2), nodes.client(2), nodes.client(1));
    listens.send(&encode(&["SUBSCRIBE", "c"])).expect("sent");
    listens.receive().expect("subscribed");
    ok(&mut me, &["CONFIG", "SET", "timeout", "1"]);
    // Nor is who waits for an answer.
    let mut waits = nodes.client(2);
    waits.send(&encode(&["WAIT", "5", "2500"])).expect("sent");
    assert_ended(&mut idle);
    assert!(int(&waits.receive().expect("it is answered")) < 5);
    assert!(matches!(call(&mut waits, &["PING"]), Reply::Simple(_)));
    let mut again = nodes.client(2);
    assert_eq!(call(&mut again, &["PUBLISH", "c", "m"]), Reply::Int(1));
    listens.receive().expect("who listens is not idle");
}
