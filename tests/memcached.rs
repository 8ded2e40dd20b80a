//! What memcached clients see, on a real cluster: replies that were recorded from memcached 1.6, what both kinds of clients make of the
//! same keys, what is malformed or too much, and that nothing acknowledged is lost.
#![expect(clippy::panic, reason = "a test fails by panicking")]
#![expect(
    clippy::format_collect,
    clippy::format_push_string,
    reason = "conversations are put together as they read"
)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate::base::limits::{BULK_BYTES_MAX, MEMCACHED_GETS_BYTES_MAX, MEMCACHED_LINE_BYTES_MAX};
use quorate::config::Config;
use quorate::testing::Cluster;

#[path = "memcached/wire.rs"]
mod wire;

use wire::{Client, play, redis};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/memcached");

/// One cluster at a time: the machine is small.
static TURN: Mutex<()> = Mutex::new(());

struct Started {
    cluster: Cluster,
    _turn: MutexGuard<'static, ()>,
}

impl Started {
    fn new() -> Started {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = Cluster::start(3, 4).expect("the cluster starts");
        Started { cluster, _turn: turn }
    }

    /// Items may have as much as anything may.
    fn with_large_items() -> Started {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let large = |config: &mut Config| config.limits.memcached_item_bytes = BULK_BYTES_MAX as u64;
        let cluster = Cluster::start_with(3, 4, large).expect("the cluster starts");
        Started { cluster, _turn: turn }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.cluster.memcached_addrs()
    }

    fn client(&self, node: usize) -> Client {
        Client::open(self.addresses()[node]).expect("the node listens")
    }

    fn redis(&self, command: &str) -> String {
        redis(self.cluster.addrs()[1], command)
    }

    /// Keys on different shards.
    fn keys(&self, prefix: &str, count: usize) -> Vec<String> {
        let ring = self.cluster.config().ring();
        let mut seen = BTreeSet::new();
        let keys = (0..).map(|n| format!("{prefix}{n}"));
        keys.filter(|key| seen.insert(ring.shard_of(key.as_bytes())))
            .take(count)
            .collect()
    }
}

#[test]
fn every_recorded_reply_is_given() {
    let started = Started::new();
    let mut paths: Vec<_> = std::fs::read_dir(SCRIPTS)
        .expect("there are scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "script"))
        .collect();
    paths.sort();
    let (mut wrong, mut steps) = (Vec::new(), 0);
    for (first, path) in paths.iter().enumerate() {
        let script = std::fs::read_to_string(path).expect("a script is text");
        let (differ, played) = play(&script, &started.addresses(), first);
        wrong.extend(
            differ
                .into_iter()
                .map(|what| format!("{}\n{what}", path.display())),
        );
        steps += played;
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(steps > 150, "{steps} steps: scripts have gone missing");
}

#[test]
fn both_kinds_of_clients_see_the_same_strings() {
    let started = Started::new();
    let mut client = started.client(0);
    assert_eq!(started.redis("SET a redis"), "+OK\r\n");
    assert_eq!(client.call("get a\r\n"), "VALUE a 0 5\r\nredis\r\nEND\r\n");
    assert_eq!(client.call("set a 42 100 3\r\nabc\r\n"), "STORED\r\n");
    assert_eq!(started.redis("GET a"), "$3\r\nabc\r\n");
    assert_eq!(started.redis("TYPE a"), "+string\r\n");
    assert_eq!(started.redis("OBJECT ENCODING a"), "$6\r\nembstr\r\n");
    assert_eq!(started.redis("GETRANGE a 1 -1"), "$2\r\nbc\r\n");
    assert_eq!(started.redis("TTL a"), ":100\r\n");
    // What does not write the string keeps what lies beside it, on whichever shard it comes to lie.
    for (n, to) in started.keys("to", 4).iter().enumerate() {
        let from = if n == 0 {
            "a".into()
        } else {
            started.keys("to", 4)[n - 1].clone()
        };
        assert_eq!(started.redis(&format!("RENAME {from} {to}")), "+OK\r\n");
        let got = client.call(&format!("get {to}\r\n"));
        assert_eq!(got, format!("VALUE {to} 42 3\r\nabc\r\nEND\r\n"));
    }
    let key = &started.keys("to", 4)[3];
    assert_eq!(started.redis(&format!("COPY {key} b")), ":1\r\n");
    assert_eq!(started.redis("PEXPIRE b 50000"), ":1\r\n");
    assert_eq!(client.call("mg b t f v\r\n"), "VA 3 t50 f42\r\nabc\r\n");
    assert_eq!(started.redis("PERSIST b"), ":1\r\n");
    assert_eq!(client.call("mg b t f\r\n"), "HD t-1 f42\r\n");
    // What writes it makes it Redis's.
    assert_eq!(started.redis("APPEND b d"), ":4\r\n");
    assert_eq!(client.call("get b\r\n"), "VALUE b 0 4\r\nabcd\r\nEND\r\n");
    assert_eq!(client.call("set n 7 0 2\r\n10\r\n"), "STORED\r\n");
    assert_eq!(started.redis("INCR n"), ":11\r\n");
    assert_eq!(
        client.call("incr n 1\r\nget n\r\n"),
        "12\r\nVALUE n 0 2\r\n12\r\nEND\r\n"
    );
    assert_eq!(client.call("add m 0 -1 1\r\nx\r\nget m\r\n"), "STORED\r\nEND\r\n");
    assert_eq!(started.redis("EXISTS m"), ":0\r\n");
    assert_eq!(client.call("set w 1 0 1\r\n5\r\n"), "STORED\r\n");
    assert_eq!(
        started.redis("EVAL \"return redis.call('get', KEYS[1])\" 1 w"),
        "$1\r\n5\r\n"
    );
    assert_eq!(client.call("flush_all\r\n"), "OK\r\n");
    assert_eq!(started.redis("DBSIZE"), ":0\r\n");
    assert!(client.call("stats\r\n").contains("STAT curr_items 0\r\n"));
}

#[test]
fn what_is_no_string_is_named_and_left_alone() {
    let started = Started::new();
    let mut client = started.client(2);
    started.redis("RPUSH l x");
    started.redis("SET s 1");
    let why = "SERVER_ERROR WRONGTYPE the key holds a list, which memcached clients cannot use\r\n";
    for request in [
        "get l",
        "gets s l",
        "gat 0 l",
        "touch l 1",
        "delete l",
        "incr l 1",
        "mg l v",
        "mg l N3",
        "md l",
        "ma l",
        "me l",
        "set l 0 0 1\r\nx",
        "add l 0 0 1\r\nx",
        "append l 0 0 1\r\nx",
        "cas l 0 0 1 1\r\nx",
        "ms l 1\r\nx",
        "ms l 1 q\r\nx",
    ] {
        assert_eq!(client.call(&format!("{request}\r\n")), why, "{request}");
    }
    assert_eq!(
        client.call("gat 0 s l\r\n"),
        why.replace("\r\n", " (1 other keys were touched)\r\n")
    );
    assert_eq!(client.call("set l 0 0 1 noreply\r\nx\r\n"), "");
    assert_eq!(started.redis("LLEN l"), ":1\r\n");
}

#[test]
fn many_keys_over_shards_are_read_at_one_moment_and_in_their_order() {
    let started = Started::new();
    let mut client = started.client(1);
    let many: Vec<String> = (0..5000).map(|n| format!("many:{n}")).collect();
    let sets: String = many
        .iter()
        .map(|key| format!("set {key} 1 0 1 noreply\r\nx\r\n"))
        .collect();
    assert_eq!(client.call(&sets), "");
    let request = format!("get {} none\r\n", many.join(" "));
    assert!(request.len() > 32 << 10, "longer than any other line");
    let wanted: String = many
        .iter()
        .map(|key| format!("VALUE {key} 1 1\r\nx\r\n"))
        .collect();
    assert_eq!(client.call(&request), wanted + "END\r\n");
    // Two keys that always change together.
    let pair = started.keys("pair", 2);
    let (done, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    started.redis(&format!("MSET {} 0 {} 0", pair[0], pair[1]));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=100 {
                started.redis(&format!("MSET {} {n} {} {n}", pair[0], pair[1]));
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            let got = client.call(&format!("get {} {}\r\n", pair[0], pair[1]));
            let values: Vec<&str> = got.lines().skip(1).step_by(2).take(2).collect();
            assert_eq!(values[0], values[1], "{got}");
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert!(seen.into_inner() > 0);
}

#[test]
fn a_pipeline_is_answered_in_order_and_what_is_quiet_is_not() {
    let started = Started::new();
    let mut client = started.client(0);
    let (mut request, mut wanted) = (String::new(), String::new());
    for n in 0..400 {
        request.push_str(&format!(
            "set p{n} {n} 0 3\r\nabc\r\nset q{n} 0 0 1 noreply\r\nx\r\nmg p{n} f k\r\n"
        ));
        request.push_str(&format!(
            "ms p{n} 1 q\r\n{}\r\nget p{n} q{n}\r\nmd none{n} q\r\nmg none{n} q\r\nincr p{n} 1\r\n",
            n % 9
        ));
        request.push_str(&format!("version{n}\r\ndelete q{n} noreply\r\ntouch q{n} 5\r\n"));
        wanted.push_str(&format!(
            "STORED\r\nHD f{n} kp{n}\r\nVALUE p{n} 0 1\r\n{}\r\nVALUE q{n} 0 1\r\nx\r\nEND\r\nNF\r\n",
            n % 9
        ));
        wanted.push_str(&format!("{}\r\nERROR\r\nNOT_FOUND\r\n", n % 9 + 1));
    }
    let got = client.call(&request);
    for (line, (got, wanted)) in got.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(got, wanted, "line {line}");
    }
    assert_eq!(got.len(), wanted.len());
    // A look that finds out of date is a write: what is sent behind it comes behind it.
    client.call("ms s 3\r\nold\r\nmd s I\r\n");
    let got = client.call(
        "mg s v\r\nmg s v\r\nms s 3 q\r\nnew\r\nmg s v\r\nmg fresh N9\r\nmg fresh\r\nflush_all\r\nmg s v\r\n",
    );
    assert_eq!(
        got,
        "VA 3 X W\r\nold\r\nVA 3 Z X\r\nold\r\nVA 3\r\nnew\r\nHD W\r\nHD Z\r\nOK\r\nEN\r\n"
    );
}

#[test]
fn what_is_malformed_or_too_much_hangs_nothing_and_is_not_kept() {
    let started = Started::with_large_items();
    let mut client = started.client(0);
    assert_eq!(
        client.call("set a 0 0 1\r\nx\r\nset b 0 0 1\r\nx\r\n"),
        "STORED\r\nSTORED\r\n"
    );
    // 65 MiB: swallowed as they come; what was there is gone, unless it was to stay.
    let long = 65 << 20;
    let data = vec![b'd'; 1 << 20];
    for (request, still) in [
        (format!("add a 0 0 {long}\r\n"), "VALUE a 0 1\r\nx\r\nEND\r\n"),
        (format!("set a 0 0 {long} noreply\r\n"), "END\r\n"),
        (format!("ms b {long} q\r\n"), "END\r\n"),
    ] {
        let stream = client.stream();
        stream.write_all(request.as_bytes()).expect("it is taken");
        (0..65).for_each(|_| stream.write_all(&data).expect("it is taken"));
        stream.write_all(b"\r\n").expect("it is taken");
        let error = if request.contains("noreply") {
            ""
        } else {
            "SERVER_ERROR object too large for cache\r\n"
        };
        let key = request.split(' ').nth(1).expect("a key");
        assert_eq!(
            client.call(&format!("get {key}\r\n")),
            format!("{error}{still}"),
            "{request}"
        );
    }
    let big = "v".repeat(3 << 20);
    assert_eq!(
        client.call(&format!("set big 1 0 {}\r\n{big}\r\n", big.len())),
        "STORED\r\n"
    );
    assert_eq!(
        client.call("get big\r\n"),
        format!("VALUE big 1 {}\r\n{big}\r\nEND\r\n", big.len())
    );
    for (request, said) in [
        (
            b"\x80\x00\x00\x00".to_vec(),
            "CLIENT_ERROR the binary protocol is not spoken here\r\n",
        ),
        // A byte more than there may be: all is taken before the connection is closed, so what is said arrives.
        (
            vec![b'x'; MEMCACHED_LINE_BYTES_MAX + 1],
            "CLIENT_ERROR line too long\r\n",
        ),
        (
            [b"get ", &vec![b'x'; MEMCACHED_GETS_BYTES_MAX - 3][..]].concat(),
            "CLIENT_ERROR line too long\r\n",
        ),
    ] {
        let mut other = started.client(1);
        let stream = other.stream();
        stream.write_all(&request).expect("it is taken");
        let mut seen = Vec::new();
        stream.read_to_end(&mut seen).expect("it is answered and closed");
        assert_eq!(String::from_utf8_lossy(&seen), said);
    }
    for key in ["a\tb", "a\u{1}", "a\u{7f}", "a\0b"] {
        let got = client.call(&format!("get {key}\r\nset {key} 0 0 1\r\n"));
        assert_eq!(got, "CLIENT_ERROR bad command line format\r\n".repeat(2));
    }
    assert_eq!(
        client.call("flush_all 10\r\nget big2\r\n"),
        "SERVER_ERROR flush_all with a delay is not supported: nothing was flushed\r\nEND\r\n"
    );
    garbage(&started);
    assert!(
        client.call("get big\r\n").starts_with("VALUE big"),
        "the node is well"
    );
}

/// Words and bytes at random, from a fixed seed: each is answered, and the connection ends when the client has said all.
fn garbage(started: &Started) {
    const WORDS: [&str; 22] = [
        "get", "set", "cas", "ms", "mg", "ma", "md", "me", "incr", "k", "0", "1", "-1", "b", "v", "q", "T0",
        "N1", "\r\n", "\n", "99999", "noreply",
    ];
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("it fits") % below
    };
    let mut answered = 0;
    for round in 0..300 {
        let mut request = Vec::new();
        for _ in 0..random(30) {
            match random(12) {
                0 => request.push(u8::try_from(random(256)).expect("a byte")),
                _ => request.extend_from_slice(WORDS[random(WORDS.len())].as_bytes()),
            }
            if random(10) > 0 {
                request.push(b' ');
            }
        }
        let mut client = started.client(round % 3);
        let stream = client.stream();
        stream.write_all(&request).expect("it is taken");
        // Whatever is waited for will not come.
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("it is connected");
        let mut said = Vec::new();
        let ended = stream.read_to_end(&mut said);
        ended.unwrap_or_else(|e| panic!("{}: {e}", request.escape_ascii()));
        // What is said where a reply was not of a kind that the request can have.
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("unexpected"), "{}: {said}", request.escape_ascii());
        assert!(
            said.is_empty() || said.ends_with("\r\n"),
            "{}: {said}",
            request.escape_ascii()
        );
        answered += usize::from(!said.is_empty());
    }
    assert!(answered > 100, "{answered} of 300: hardly anything was asked for");
}

/// What comes of memcached's commands is told to Redis's clients.
#[test]
fn writes_make_the_events_of_redis_and_a_pause_holds_them_up() {
    let started = Started::new();
    let said = started.redis("CONFIG SET notify-keyspace-events KEAn");
    assert_eq!(said, "+OK\r\n");
    let mut listener = Client::open(started.cluster.addrs()[1]).expect("the node listens");
    let heard = |listener: &mut Client| {
        // *4 pmessage pattern channel text
        let lines: Vec<String> = (0..9)
            .map(|_| listener.next_line().expect("it is told"))
            .collect();
        let event = lines[6].trim_start_matches("__keyevent@0__:").to_string();
        format!("{event} {}", lines[8])
    };
    listener
        .stream()
        .write_all(b"PSUBSCRIBE __keyevent@0__:*\r\n")
        .expect("it is taken");
    (0..6).for_each(|_| drop(listener.next_line().expect("it is subscribed")));
    let mut client = started.client(0);
    for (request, events) in [
        ("set k 5 0 1\r\n1", &["new k", "set k"][..]),
        ("set k 5 100 1\r\n1", &["set k", "expire k"]),
        ("incr k 1", &["incrby k"]),
        ("append k 0 0 1\r\n1", &["append k"]),
        ("touch k 0", &["expire k"]),
        ("gat 100 k", &["expire k"]),
        ("md k I", &["set k"]),
        ("delete k", &["del k"]),
        ("mg k N30", &["new k", "set k"]),
        ("add k 0 0 1\r\n1", &[]),
        ("delete k", &["del k"]),
    ] {
        client.call(&format!("{request}\r\n"));
        let got: Vec<String> = events.iter().map(|_| heard(&mut listener)).collect();
        assert_eq!(got, events, "{request}");
    }
    started.redis("PUBLISH __keyevent@0__:end end");
    assert_eq!(heard(&mut listener), "end end", "no more than that");
    // Writes wait, reads do not.
    assert_eq!(
        redis(started.cluster.addrs()[0], "CLIENT PAUSE 60000 WRITE"),
        "+OK\r\n"
    );
    assert_eq!(client.call("get k\r\n"), "END\r\n");
    let mut writer = started.client(0);
    let stream = writer.stream();
    stream.write_all(b"set k 0 0 1\r\nx\r\n").expect("it is taken");
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("it can be set");
    assert!(stream.read(&mut [0]).is_err(), "it is held up");
    assert_eq!(client.call("get k\r\n"), "END\r\n");
    assert_eq!(redis(started.cluster.addrs()[0], "CLIENT UNPAUSE"), "+OK\r\n");
    stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    let mut said = [0; 8];
    stream.read_exact(&mut said).expect("it goes on");
    assert_eq!(&said, b"STORED\r\n");
}

#[test]
fn who_pauses_waits_for_what_memcached_clients_write() {
    let mut started = Started::new();
    let address = started.cluster.addrs()[0];
    let mut client = started.client(0);
    assert_eq!(client.call("set k 0 0 1\r\nx\r\n"), "STORED\r\n");
    // Without a majority it stays under way.
    started.cluster.kill_node(2);
    started.cluster.kill_node(3);
    let write = b"set k 0 0 1\r\ny\r\n";
    client.stream().write_all(write).expect("it is taken");
    let is_answered = || {
        let mut stream = TcpStream::connect(address).expect("the node listens");
        let pause = b"CLIENT PAUSE 60000 WRITE\r\n";
        stream.write_all(pause).expect("it is taken");
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .expect("it can be set");
        let answered = stream.read(&mut [0; 8]).is_ok();
        // Held up, if it came after the pause: then it is under way from now on.
        assert_eq!(redis(address, "CLIENT UNPAUSE"), "+OK\r\n");
        answered
    };
    let waits = (0..20).any(|_| !is_answered());
    assert!(waits, "answered, and the write may still be done");
}

#[test]
fn no_update_is_lost_to_writers_that_compare() {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 60;
    let started = Started::new();
    started.client(0).call("set n 3 0 1\r\n0\r\nset m 3 0 1\r\n0\r\n");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let started = &started;
            scope.spawn(move || {
                let mut client = started.client(writer % 3);
                // Classic: read, compare and set.
                for _ in 0..ROUNDS {
                    loop {
                        let got = client.call("gets n\r\n");
                        let (number, cas) = number_and_cas(&got);
                        let next = (number + 1).to_string();
                        let said = client.call(&format!("cas n 3 0 {} {cas}\r\n{next}\r\n", next.len()));
                        match said.as_str() {
                            "STORED\r\n" => break,
                            "EXISTS\r\n" => {}
                            other => panic!("{other}"),
                        }
                    }
                }
                // Meta: the number that a write tells is the next one's condition, without a look in between.
                for _ in 0..ROUNDS {
                    let counted = client.call("ma m v c\r\n");
                    let cas = counted
                        .lines()
                        .next()
                        .and_then(|line| line.rsplit_once(" c"))
                        .expect("it is told")
                        .1;
                    let number: u64 = counted
                        .lines()
                        .nth(1)
                        .and_then(|n| n.trim().parse().ok())
                        .expect("a number");
                    let same = number.to_string();
                    let said = client.call(&format!("ms m {} C{cas}\r\n{same}\r\n", same.len()));
                    assert!(said == "HD\r\n" || said == "EX\r\n", "{said}");
                }
            });
        }
    });
    let got = started.client(1).call("get n\r\n");
    let all = (WRITERS * ROUNDS).to_string();
    assert_eq!(got, format!("VALUE n 3 {}\r\n{all}\r\nEND\r\n", all.len()));
    let got = started.client(1).call("mg m v\r\n");
    assert_eq!(
        got,
        format!("VA {}\r\n{all}\r\n", all.len()),
        "a number was set over a later one"
    );
}

fn number_and_cas(got: &str) -> (u64, &str) {
    let mut lines = got.lines();
    let head = lines.next().expect("VALUE");
    let number = lines.next().expect("the data");
    let cas = head.rsplit(' ').next().expect("the unique number");
    (number.parse().unwrap_or_else(|_| panic!("{got}")), cas)
}

#[test]
fn nothing_acknowledged_is_lost_while_nodes_are_killed_and_all_is_kept_over_a_restart() {
    let mut started = Started::new();
    let address = started.addresses()[0];
    let keys = started.keys("count", 4);
    let mut client = started.client(0);
    for key in &keys {
        client.call(&format!("set {key} 99 0 1\r\n0\r\nset {key}:log 5 0 0\r\n\r\n"));
    }
    client.call("set stale 1 0 3\r\nold\r\nmd stale I\r\n");
    let stop = AtomicBool::new(false);
    let (done, counts) = sync_channel(COUNTS);
    let counted = std::thread::scope(|scope| {
        let writers: Vec<_> = keys
            .iter()
            .map(|key| scope.spawn(|| count(address, key, &stop, &done)))
            .collect();
        for node in [2, 3] {
            started.cluster.kill_node(node);
            counts.try_iter().for_each(drop);
            for _ in 0..COUNTS {
                counts.recv_timeout(PATIENCE).expect("somebody counts");
            }
            started.cluster.start_node(node).expect("it starts again");
            started.cluster.wait_ready().expect("it catches up");
        }
        stop.store(true, Ordering::SeqCst);
        let join = |writer: std::thread::ScopedJoinHandle<'_, (u64, u64)>| writer.join().expect("it counts");
        writers.into_iter().map(join).collect::<Vec<_>>()
    });
    for node in [1, 2, 3] {
        started.cluster.kill_node(node);
    }
    for node in [1, 2, 3] {
        started.cluster.start_node(node).expect("it starts again");
    }
    started.cluster.wait_ready().expect("they elect");
    let mut client = started.client(2);
    for (key, (acknowledged, unknown)) in keys.iter().zip(counted) {
        let got = client.call(&format!("get {key}\r\n"));
        assert!(got.starts_with(&format!("VALUE {key} 99 ")), "{got}");
        let number: u64 = got.lines().nth(1).and_then(|n| n.parse().ok()).expect("a number");
        assert!(
            (acknowledged..=acknowledged + unknown).contains(&number),
            "{key}: {number}, of {acknowledged} acknowledged and {unknown} unknown"
        );
        assert!(acknowledged > 0);
    }
    assert_eq!(client.call("mg stale v f\r\n"), "VA 3 f1 X W\r\nold\r\n");
}

/// Counts that are waited for after a node is killed, and for how long each.
const COUNTS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts until it is told to stop: how many were acknowledged, and of how many nobody said what became.
fn count(address: SocketAddr, key: &str, stop: &AtomicBool, done: &SyncSender<()>) -> (u64, u64) {
    let mut client = Client::open(address).expect("the node listens");
    let (mut acknowledged, mut unknown) = (0, 0);
    while !stop.load(Ordering::SeqCst) {
        let said = client.line(&format!("incr {key} 1\r\n")).expect("node 1 lives");
        if said.parse::<u64>().is_ok() {
            acknowledged += 1;
            // Where as many as are wanted wait to be looked at, more need not.
            let _ = done.try_send(());
        } else if said.starts_with("SERVER_ERROR UNKNOWN ") {
            unknown += 1;
        } else {
            let definite = ["SERVER_ERROR TRYAGAIN ", "SERVER_ERROR CLUSTERDOWN "];
            assert!(definite.iter().any(|start| said.starts_with(start)), "{said}");
        }
    }
    (acknowledged, unknown)
}

#[test]
fn statistics_and_versions_are_as_clients_read_them() {
    let started = Started::new();
    let mut client = started.client(0);
    assert!(client.call("version\r\n").starts_with("VERSION 1.6.18 (quorate "));
    client.call("stats reset\r\nset a 0 0 1\r\nx\r\nget a b\r\nincr a 1\r\ndelete a\r\ndelete a\r\ncas a 0 0 1 9\r\nx\r\n");
    client.call("set b 0 0 1\r\nx\r\n");
    let stats = client.call("stats\r\n");
    for wanted in [
        "cmd_get 2",
        "cmd_set 3",
        "get_hits 1",
        "get_misses 1",
        "delete_hits 1",
        "delete_misses 1",
        "cas_misses 1",
        "curr_items 1",
        "curr_connections 1",
        "version 1.6.18",
        "limit_maxbytes 0",
    ] {
        assert!(
            stats.contains(&format!("STAT {wanted}\r\n")),
            "{wanted} is not in {stats}"
        );
    }
    assert!(stats.ends_with("\r\nEND\r\n"));
    let settings = client.call("stats settings\r\n");
    assert!(settings.contains("STAT item_size_max 1048576\r\n"), "{settings}");
    let stored = |client: &mut Client, bytes: usize| {
        client.call(&format!("set big 0 0 {bytes}\r\n{}\r\n", "v".repeat(bytes)))
    };
    assert_eq!(stored(&mut client, 1 << 20), "STORED\r\n");
    let too_large = "SERVER_ERROR object too large for cache\r\n";
    assert_eq!(stored(&mut client, (1 << 20) + 1), too_large);
    assert_eq!(client.call("get big\r\n"), "END\r\n");
    assert_eq!(
        client.call("stats items\r\nstats cachedump 1 1\r\n"),
        "END\r\nEND\r\n"
    );
    let listed = redis(started.cluster.addrs()[0], "CLIENT LIST");
    assert!(listed.contains(" lib-name=memcached "), "{listed}");
}
