//! Keyspace events (`notify-keyspace-events`): those of `events.script`, which Redis has made, command by command; in one shard in
//! Redis's order, over several shards the same ones; and each once, whichever node is listened to.

use std::time::Duration;

use quorate::testing::Cluster;

use crate::wait::eventually;
use crate::wire::{Client, Reply, encode};

const SCRIPT: &str = include_str!("events.script");
/// How long an event may take.
const SOON: Duration = Duration::from_secs(10);

/// A command and its events.
struct Step {
    request: Vec<String>,
    events: Vec<String>,
}

/// Words, of which some are in double quotes.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for letter in line.chars() {
        match letter {
            '"' => (quoted, begun) = (!quoted, true),
            ' ' if !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            letter => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in SCRIPT
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        match line.strip_prefix("> ") {
            // Here it may have come before the reply.
            Some(request) if request.starts_with("@wait ") => {}
            Some(request) => steps.push(Step {
                request: split(request),
                events: Vec::new(),
            }),
            None => steps
                .last_mut()
                .expect("a command first")
                .events
                .push(line.into()),
        }
    }
    steps
}

fn call(client: &mut Client, request: &[&str]) -> Reply {
    client.call(request).expect("the node is up")
}

struct Listener {
    client: Client,
}

impl Listener {
    fn open(cluster: &Cluster, node: usize, patterns: &[&str]) -> Listener {
        let mut client = Client::open(cluster.addrs()[node]).expect("the node is up");
        for pattern in patterns {
            call(&mut client, &["PSUBSCRIBE", pattern]);
        }
        Listener { client }
    }

    /// The next message's channel and text; `None`: none within `patience`.
    fn next(&mut self, patience: Duration) -> Option<(String, String)> {
        self.client.wait_for(patience).expect("a time-out can be set");
        match self.client.receive() {
            Ok(Reply::Array(parts)) => Some((parts[2].text()?, parts[3].text()?)),
            Ok(other) => panic!("not a message: {other:?}"),
            Err(_) => None,
        }
    }

    /// So many events, as `event key`.
    fn events(&mut self, count: usize) -> Vec<String> {
        let next = |_| {
            let (channel, key) = self.next(SOON)?;
            let event = channel.strip_prefix("__keyevent@0__:")?;
            Some(format!("{event} {key}"))
        };
        (0..count).map_while(next).collect()
    }
}

/// The commands, and how the events of some differ from Redis's.
fn replay(shards: u16, listens_at: usize) -> Vec<String> {
    let cluster = Cluster::start(3, shards).expect("a cluster starts");
    let mut client = Client::open(cluster.addrs()[0]).expect("the node is up");
    let set = call(&mut client, &["CONFIG", "SET", "notify-keyspace-events", "KEAmn"]);
    assert!(set.is_ok(), "{set:?}");
    // Not the one that may be inside of MULTI.
    let mut publisher = Client::open(cluster.addrs()[0]).expect("the node is up");
    let mut listener = Listener::open(&cluster, listens_at, &["__keyevent@0__:*"]);
    let mut differences = Vec::new();
    for (at, step) in steps().into_iter().enumerate() {
        client.send(&encode(&step.request)).expect("the node is up");
        client.receive().expect("a reply");
        // Whatever comes too much shows behind what all listeners hear.
        let end = format!("end-{at}");
        let mut expected = step.events;
        let mut got = listener.events(expected.len());
        if shards > 1 {
            expected.sort();
            got.sort();
        }
        eventually("the end is heard", SOON, || {
            call(&mut publisher, &["PUBLISH", "__keyevent@0__:end", &end]);
            loop {
                let (_, key) = listener.next(SOON)?;
                if key == end {
                    return Some(());
                }
                if !key.starts_with("end-") {
                    got.push(format!("too much: {key}"));
                }
            }
        });
        if got != expected {
            differences.push(format!(
                "{:?}: {got:?}, and by Redis {expected:?}",
                step.request.join(" ")
            ));
        }
    }
    differences
}

#[test]
fn events_are_those_of_redis_in_its_order() {
    let differences = replay(1, 1);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn over_shards_the_same_events_are_told() {
    let differences = replay(4, 2);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn only_what_is_wanted_is_told_by_either_name_and_once_at_every_node() {
    let mut cluster = Cluster::start(3, 4).expect("a cluster starts");
    let mut client = Client::open(cluster.addrs()[0]).expect("the node is up");
    let mut listeners: Vec<Listener> = (1..3)
        .map(|node| Listener::open(&cluster, node, &["__key*__:*"]))
        .collect();
    call(&mut client, &["SET", "a", "1"]);
    call(&mut client, &["CONFIG", "SET", "notify-keyspace-events", "K$x"]);
    call(&mut client, &["SET", "a", "1"]);
    call(&mut client, &["DEL", "a"]);
    call(&mut client, &["SET", "a", "1", "PX", "50"]);
    let pair = |channel: &str, text: &str| (channel.to_string(), text.to_string());
    for listener in &mut listeners {
        let mut heard = || listener.next(SOON);
        assert_eq!(heard(), Some(pair("__keyspace@0__:a", "set")));
        assert_eq!(heard(), Some(pair("__keyspace@0__:a", "set")));
        assert_eq!(heard(), Some(pair("__keyspace@0__:a", "expired")));
    }
    call(&mut client, &["CONFIG", "SET", "notify-keyspace-events", "KE$x"]);
    call(&mut client, &["MSET", "a", "1", "b", "1", "c", "1", "d", "1"]);
    for listener in &mut listeners {
        let mut heard: Vec<_> = (0..8).map_while(|_| listener.next(SOON)).collect();
        heard.sort();
        let mut expected: Vec<_> = ["a", "b", "c", "d"]
            .iter()
            .flat_map(|key| {
                [
                    pair(&format!("__keyspace@0__:{key}"), "set"),
                    pair("__keyevent@0__:set", key),
                ]
            })
            .collect();
        expected.sort();
        assert_eq!(heard, expected);
        assert_eq!(listener.next(Duration::from_millis(300)), None, "each once");
    }
    // Leaders go; whoever leads then tells.
    cluster.kill_node(1);
    let mut client = Client::open(cluster.addrs()[2]).expect("the node is up");
    for key in ["a", "b", "c", "d"] {
        eventually("it is written", SOON * 3, || {
            call(&mut client, &["SET", key, "2"]).is_ok().then_some(())
        });
    }
    for listener in &mut listeners {
        // More, if one of the writes was tried twice.
        let heard: Vec<_> = (0..8).map_while(|_| listener.next(SOON)).collect();
        assert_eq!(heard.len(), 8, "{heard:?}");
    }
    call(&mut client, &["CONFIG", "SET", "notify-keyspace-events", ""]);
    while listeners[0].next(Duration::from_millis(300)).is_some() {}
    call(&mut client, &["SET", "a", "3"]);
    assert_eq!(listeners[0].next(Duration::from_millis(300)), None);
}
