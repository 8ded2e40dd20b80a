//! `CLIENT PAUSE`, and what is kept of requests: nothing runs while it is held up, whatever becomes of its client, and nothing waits that
//! need not; secrets are shown to nobody.

use std::time::Duration;

use crate::eventually;
use crate::nodes::Nodes;
use crate::wire::{Client, PATIENCE, Reply, encode};

fn call(client: &mut Client, request: &[&str]) -> Reply {
    client.call(request).expect("the node is up")
}

fn ok(client: &mut Client, request: &[&str]) {
    let reply = call(client, request);
    assert!(reply.is_ok(), "{request:?}: {reply:?}");
}

fn text(client: &mut Client, request: &[&str]) -> String {
    call(client, request).text().expect("a text")
}

#[test]
fn paused_clients_wait_and_are_let_go() {
    let nodes = Nodes::start(|text| text);
    let (mut me, mut writer, mut reader) = (nodes.client(1), nodes.client(1), nodes.client(1));
    ok(&mut me, &["SET", "k", "1"]);
    ok(&mut me, &["CLIENT", "PAUSE", "600000", "WRITE"]);
    writer.send(&encode(&["SET", "k", "2"])).expect("sent");
    // What came after the write at the same node is answered, and the write is not there.
    for _ in 0..20 {
        assert_eq!(call(&mut reader, &["GET", "k"]).text().as_deref(), Some("1"));
    }
    ok(&mut me, &["CLIENT", "UNPAUSE"]);
    assert!(writer.receive().expect("answered").is_ok());
    assert_eq!(call(&mut reader, &["GET", "k"]).text().as_deref(), Some("2"));
    // A pause ends by itself.
    ok(&mut me, &["CLIENT", "PAUSE", "50"]);
    assert_eq!(call(&mut reader, &["GET", "k"]).text().as_deref(), Some("2"));
}

#[test]
fn who_goes_while_it_is_held_up_has_asked_for_nothing() {
    let nodes = Nodes::start(|text| text);
    let mut me = nodes.client(1);
    ok(&mut me, &["MSET", "killed", "old", "gone", "old"]);
    let (mut killed, mut gone) = (nodes.client(1), nodes.client(1));
    let id = call(&mut killed, &["CLIENT", "ID"])
        .number()
        .expect("a number")
        .to_string();
    let other = call(&mut gone, &["CLIENT", "ID"])
        .number()
        .expect("a number")
        .to_string();
    ok(&mut me, &["CLIENT", "PAUSE", "600000", "WRITE"]);
    for (client, key) in [(&mut killed, "killed"), (&mut gone, "gone")] {
        // What came before it is answered meanwhile.
        client
            .send(
                &[
                    encode(&["GET", key]),
                    encode(&["SET", key, "new"]),
                    encode(&["SET", key, "newer"]),
                ]
                .concat(),
            )
            .expect("sent");
        assert_eq!(
            client.receive().expect("it is answered").text().as_deref(),
            Some("old")
        );
    }
    let is_there = |me: &mut Client, id: &str| text(me, &["CLIENT", "LIST", "ID", id]).contains(id);
    assert_eq!(call(&mut me, &["CLIENT", "KILL", "ID", &id]).number(), Some(1));
    drop(gone);
    eventually("both are gone", PATIENCE, || {
        (!is_there(&mut me, &id) && !is_there(&mut me, &other)).then_some(())
    });
    ok(&mut me, &["CLIENT", "UNPAUSE"]);
    ok(&mut me, &["SET", "behind", "1"]);
    for key in ["killed", "gone"] {
        assert_eq!(text(&mut me, &["GET", key]), "old");
    }
}

#[test]
fn who_pauses_is_answered_when_no_write_is_under_way_any_more() {
    let mut nodes = Nodes::start(|text| text);
    let (mut me, mut other, mut writer) = (nodes.client(1), nodes.client(1), nodes.client(1));
    ok(&mut me, &["SET", "k", "1"]);
    let id = call(&mut writer, &["CLIENT", "ID"])
        .number()
        .expect("a number")
        .to_string();
    // Without a majority it stays under way.
    nodes.signal(2, "STOP");
    nodes.signal(3, "STOP");
    writer.send(&encode(&["SET", "k", "2"])).expect("sent");
    eventually("the write has begun", PATIENCE, || {
        text(&mut me, &["CLIENT", "LIST", "ID", &id])
            .contains("cmd=set")
            .then_some(())
    });
    // Who waits for that does not wait for who does so, too.
    for asks in [&mut me, &mut other] {
        asks.send(&encode(&["CLIENT", "PAUSE", "600000", "WRITE"]))
            .expect("sent");
        asks.wait_for(Duration::from_millis(200))
            .expect("a time-out can be set");
        assert!(
            asks.receive().is_err(),
            "answered, and the write may still be done"
        );
        asks.wait_for(PATIENCE).expect("a time-out can be set");
    }
    nodes.signal(2, "CONT");
    nodes.signal(3, "CONT");
    writer.receive().expect("answered");
    for asks in [&mut me, &mut other] {
        assert!(asks.receive().expect("answered").is_ok());
    }
    // Nor for who waits for replicas that there are not.
    let mut waits = nodes.client(1);
    waits.send(&encode(&["WAIT", "9", "0"])).expect("sent");
    eventually("it waits", PATIENCE, || {
        text(&mut me, &["CLIENT", "LIST"])
            .contains("cmd=wait")
            .then_some(())
    });
    ok(&mut me, &["CLIENT", "PAUSE", "600000", "WRITE"]);
    ok(&mut me, &["CLIENT", "UNPAUSE"]);
}

#[test]
fn what_may_write_waits_and_what_only_reads_does_not() {
    let nodes = Nodes::start(|text| text);
    let (mut me, mut other) = (nodes.client(1), nodes.client(1));
    ok(&mut me, &["SET", "k", "1"]);
    let library = "#!lua name=a\nredis.register_function('a', function() return 1 end)";
    let mut queued = nodes.client(1);
    ok(&mut queued, &["MULTI"]);
    call(&mut queued, &["FUNCTION", "LOAD", library]);
    ok(&mut me, &["CLIENT", "PAUSE", "600000", "WRITE"]);
    queued.send(&encode(&["EXEC"])).expect("sent");
    queued
        .wait_for(Duration::from_millis(200))
        .expect("a time-out can be set");
    assert!(
        queued.receive().is_err(),
        "EXEC of what changes functions does not wait"
    );
    ok(&mut other, &["MULTI"]);
    call(&mut other, &["GET", "k"]);
    let read = call(&mut other, &["EXEC"]);
    assert!(matches!(read, Reply::Array(values) if values[0].text().as_deref() == Some("1")));
    assert!(matches!(call(&mut other, &["FUNCTION", "LIST"]), Reply::Array(_)));
    for request in [
        &["FUNCTION", "LOAD", library][..],
        &["PUBLISH", "c", "m"],
        &["EVAL", "return 1", "0"],
        &["FCALL", "a", "0"],
    ] {
        let mut waits = nodes.client(1);
        waits.send(&encode(request)).expect("sent");
        waits
            .wait_for(Duration::from_millis(200))
            .expect("a time-out can be set");
        assert!(waits.receive().is_err(), "{request:?} does not wait");
    }
    ok(&mut me, &["CLIENT", "UNPAUSE"]);
}

#[test]
fn secrets_and_whatever_errors_begin_with_are_not_kept() {
    let nodes = Nodes::start(|text| text);
    let (mut me, mut other) = (nodes.client(1), nodes.client(1));
    ok(&mut me, &["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    let mut watches = nodes.client(1);
    ok(&mut watches, &["MONITOR"]);
    call(&mut other, &["AUTH", "default", "hunter2"]);
    call(
        &mut other,
        &["HELLO", "2", "AUTH", "default", "hunter2", "SETNAME", "me"],
    );
    call(
        &mut other,
        &["MIGRATE", "h", "1", "k", "0", "10", "AUTH", "hunter2"],
    );
    call(&mut other, &["SET", "seen", "1"]);
    let slow = format!("{:?}", call(&mut me, &["SLOWLOG", "GET", "-1"]));
    let hunter = format!("{:?}", Reply::Bulk("hunter2".into()));
    let redacted = format!("{:?}", Reply::Bulk("(redacted)".into()));
    assert!(!slow.contains(&hunter) && slow.contains(&redacted), "{slow}");
    loop {
        let Ok(Reply::Simple(line)) = watches.receive() else {
            panic!("no line")
        };
        assert!(!line.contains("hunter2"), "{line}");
        if line.contains("seen") {
            break;
        }
    }
    let long = format!("return redis.error_reply('{}')", "x".repeat(5000));
    call(&mut other, &["EVAL", &long, "0"]);
    let errors = text(&mut me, &["INFO", "errorstats"]);
    assert!(
        errors.contains("errorstat_ERR:") && errors.len() < 1000,
        "{errors}"
    );
}
