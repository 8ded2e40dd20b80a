//! Channels over nodes: each message once to each listener, in its publisher's order, whichever node either is at.

use std::thread;
use std::time::Duration;

use crate::eventually;
use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, PATIENCE, Reply, encode, words};

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

fn array(parts: &[&str]) -> Reply {
    Reply::Array(parts.iter().map(|part| bulk(part)).collect())
}

fn call(client: &mut Client, request: &[&str]) -> Reply {
    client.call(request).expect("the node is up")
}

fn next(client: &mut Client) -> Reply {
    client.receive().expect("a message")
}

fn listener(nodes: &Nodes, node: u64, request: &[&str]) -> Client {
    let mut client = nodes.client(node);
    client.send(&encode(request)).expect("the node is up");
    for (n, name) in request[1..].iter().enumerate() {
        let count = Reply::Int(i64::try_from(n + 1).expect("few"));
        let word = request[0].to_ascii_lowercase();
        assert_eq!(
            next(&mut client),
            Reply::Array(vec![bulk(&word), bulk(name), count])
        );
    }
    client
}

#[test]
fn a_message_reaches_every_listener_at_every_node_in_order() {
    let mut nodes = Nodes::start(|text| text);
    let mut direct: Vec<Client> = NODES
        .iter()
        .map(|&node| listener(&nodes, node, &["SUBSCRIBE", "news", "other"]))
        .collect();
    let mut by_pattern: Vec<Client> = NODES
        .iter()
        .map(|&node| listener(&nodes, node, &["PSUBSCRIBE", "n?ws*"]))
        .collect();
    let mut shard = listener(&nodes, 2, &["SSUBSCRIBE", "news"]);
    let mut publisher = nodes.client(3);
    assert_eq!(
        call(&mut publisher, &["PUBSUB", "NUMSUB", "news", "none"]),
        Reply::Array(vec![bulk("news"), Reply::Int(3), bulk("none"), Reply::Int(0)])
    );
    assert_eq!(
        call(&mut publisher, &["PUBSUB", "CHANNELS", "n*"]),
        array(&["news"])
    );
    assert_eq!(call(&mut publisher, &["PUBSUB", "NUMPAT"]), Reply::Int(1));
    let many: Vec<Vec<String>> = (0..200)
        .map(|n| words(&["PUBLISH", "news", &n.to_string()]))
        .collect();
    let counts = publisher.pipeline(&many).expect("the node is up");
    assert!(counts.iter().all(|count| *count == Reply::Int(6)), "{counts:?}");
    assert_eq!(
        call(&mut publisher, &["SPUBLISH", "news", "apart"]),
        Reply::Int(1)
    );
    for n in 0..200 {
        let text = n.to_string();
        for client in &mut direct {
            assert_eq!(next(client), array(&["message", "news", &text]));
        }
        for client in &mut by_pattern {
            assert_eq!(next(client), array(&["pmessage", "n?ws*", "news", &text]));
        }
    }
    assert_eq!(next(&mut shard), array(&["smessage", "news", "apart"]));
    // In RESP2 a listener may do nothing else; it stops, and may again.
    let refused = call(&mut direct[0], &["GET", "x"]);
    assert!(matches!(refused, Reply::Error(text) if text.starts_with("ERR Can't execute 'get'")));
    assert_eq!(call(&mut direct[0], &["PING"]), array(&["pong", ""]));
    direct[0].send(&encode(&["UNSUBSCRIBE"])).expect("the node is up");
    for (name, left) in [("news", 1), ("other", 0)] {
        assert_eq!(
            next(&mut direct[0]),
            Reply::Array(vec![bulk("unsubscribe"), bulk(name), Reply::Int(left)])
        );
    }
    assert_eq!(call(&mut direct[0], &["GET", "x"]), Reply::Nil);
    assert_eq!(call(&mut publisher, &["PUBLISH", "news", "later"]), Reply::Int(5));
    drop(by_pattern);
    eventually("they are gone", PATIENCE, || {
        (call(&mut publisher, &["PUBSUB", "NUMPAT"]) == Reply::Int(0)).then_some(())
    });
    nodes.kill(1);
    assert_eq!(next(&mut direct[1]), array(&["message", "news", "later"]));
    eventually("the others hear", PATIENCE, || {
        (call(&mut publisher, &["PUBLISH", "news", "without node 1"]) == Reply::Int(2)).then_some(())
    });
}

#[test]
fn transactions_and_scripts_publish_when_they_have_happened_and_not_else() {
    let nodes = Nodes::start(|text| text);
    let mut heard = listener(&nodes, 2, &["SUBSCRIBE", "c"]);
    let mut client = nodes.client(1);
    let keys = nodes.key_per_shard("k");
    assert_eq!(
        call(&mut client, &["MULTI", "STRICT"]),
        Reply::Simple("OK".into())
    );
    for request in [
        &["PUBLISH", "c", "rolled back"][..],
        &["SET", &keys[0], "x"],
        &["INCR", &keys[0]],
    ] {
        assert_eq!(call(&mut client, request), Reply::Simple("QUEUED".into()));
    }
    assert!(matches!(call(&mut client, &["EXEC"]), Reply::Error(_)));
    call(&mut client, &["WATCH", &keys[0]]);
    call(&mut nodes.client(3), &["SET", &keys[0], "changed"]);
    let conflict = client.multi(&[
        words(&["PUBLISH", "c", "conflict"]),
        words(&["SET", &keys[1], "x"]),
    ]);
    assert_eq!(conflict.ok(), Some(Reply::NilArray));
    let strict = [
        words(&["SET", &keys[1], "x"]),
        words(&["PUBLISH", "c", "from strict"]),
    ];
    call(&mut client, &["MULTI", "STRICT"]);
    for request in &strict {
        client
            .call(&request.iter().map(String::as_str).collect::<Vec<_>>())
            .expect("the node is up");
    }
    assert_eq!(
        call(&mut client, &["EXEC"]),
        Reply::Array(vec![Reply::Simple("OK".into()), Reply::Int(1)])
    );
    // It runs twice, since it comes upon a key that it did not name, and says it once.
    let script = "redis.call('publish', 'c', 'from a script') redis.call('set', ARGV[1], 1) redis.call('get', ARGV[2]) return 1";
    assert_eq!(
        call(&mut client, &["EVAL", script, "0", &keys[0], &keys[1]]),
        Reply::Int(1)
    );
    for text in ["from strict", "from a script"] {
        assert_eq!(next(&mut heard), array(&["message", "c", text]));
    }
    assert_eq!(call(&mut client, &["PUBLISH", "c", "last"]), Reply::Int(1));
    assert_eq!(
        next(&mut heard),
        array(&["message", "c", "last"]),
        "and nothing else"
    );
}

#[test]
fn who_takes_its_messages_too_slowly_is_disconnected_and_holds_nobody_up() {
    let nodes = Nodes::start(|text| text);
    let slow = listener(&nodes, 1, &["SUBSCRIBE", "c"]);
    let fast = listener(&nodes, 1, &["SUBSCRIBE", "c"]);
    let reading = thread::spawn(move || {
        let mut fast = fast;
        fast.wait_for(Duration::from_secs(60))
            .expect("a time-out can be set");
        let mut count = 0;
        while matches!(next(&mut fast), Reply::Array(parts) if parts[2] != bulk("end")) {
            count += 1;
        }
        count
    });
    let mut publisher = nodes.client(2);
    let large = "x".repeat(256 << 10);
    let (mut sent, mut heard) = (0, 0);
    // The system's own buffers take some, and the listener's 32 MiB.
    eventually("the slow one is gone", Duration::from_secs(60), || {
        let told = call(&mut publisher, &["PUBLISH", "c", &large]);
        sent += 1;
        // Nobody, it says, if the link to the listeners' node broke meanwhile: on a machine as busy as this one it may.
        heard += i32::from(told != Reply::Int(0));
        (told == Reply::Int(1)).then_some(())
    });
    assert!(sent > 32 * 4, "disconnected after {sent} messages of 256 KiB");
    assert_eq!(call(&mut publisher, &["PUBLISH", "c", "end"]), Reply::Int(1));
    let read = reading.join().expect("it reads");
    assert!(
        (heard..=sent).contains(&read),
        "{read} of {sent}, and {heard} were told of"
    );
    assert!(sent - heard <= 2, "{heard} of {sent} were told of");
    // It has read nothing all the time, and is cut off none the less.
    eventually("its connection is gone", PATIENCE, || {
        let list = call(&mut nodes.client(1), &["CLIENT", "LIST", "TYPE", "pubsub"]);
        (list.text().map(|list| list.lines().count()) == Some(0)).then_some(())
    });
    drop(slow);
}
