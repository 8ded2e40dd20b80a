//! `CLIENT TRACKING` over nodes: whoever keeps copies of what it has read is told when they are not to be relied on any more, whoever
//! writes where, and whatever fails meanwhile.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use quorate::testing::Cluster;

use crate::wait::{eventually, now};
use crate::wire::{Client, Reply, encode};

/// How long a reply, or a word about a copy, may take where nothing fails.
const SOON: Duration = Duration::from_secs(10);
/// After an acknowledged write, until whoever keeps an older copy has been told: half a second between two confirmations, and three
/// for each of two to fail, of which the first had begun before the write; the rest is this machine's.
const STALE_MAX: Duration = Duration::from_secs(8);
/// Between two writes.
const PACE: Duration = Duration::from_millis(7);

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

fn ok() -> Reply {
    Reply::Simple("OK".into())
}

pub fn stale(key: &str) -> Reply {
    Reply::Push(vec![bulk("invalidate"), Reply::Array(vec![bulk(key)])])
}

pub fn all_stale() -> Reply {
    Reply::Push(vec![bulk("invalidate"), Reply::Nil])
}

/// A connection whose replies are taken by a thread of its own, pushes apart.
pub struct Listening {
    sender: TcpStream,
    heard: Receiver<Reply>,
    pushed: Vec<Reply>,
}

impl Listening {
    fn open(address: SocketAddr) -> Option<Listening> {
        let mut client = Client::open_for(address, Duration::from_secs(600)).ok()?;
        let sender = client.sender().ok()?;
        let (tell, heard) = sync_channel(100_000);
        thread::spawn(move || {
            while let Ok(reply) = client.receive() {
                if tell.send(reply).is_err() {
                    return;
                }
            }
        });
        Some(Listening {
            sender,
            heard,
            pushed: Vec::new(),
        })
    }

    /// In RESP3, tracking.
    pub fn tracking(address: SocketAddr, options: &[&str]) -> Listening {
        let mut client = Listening::open(address).expect("the node is up");
        client.call(&["HELLO", "3"]);
        let request = [&["CLIENT", "TRACKING", "ON"], options].concat();
        assert_eq!(client.call(&request), ok());
        client
    }

    fn try_call(&mut self, request: &[&str]) -> Option<Reply> {
        self.sender.write_all(&encode(request)).ok()?;
        self.reply()
    }

    fn reply(&mut self) -> Option<Reply> {
        loop {
            match self.heard.recv_timeout(SOON * 3) {
                Ok(push @ Reply::Push(_)) => self.pushed.push(push),
                Ok(reply) => return Some(reply),
                Err(_) => return None,
            }
        }
    }

    /// Requests in one go, and as many replies.
    pub fn burst(&mut self, requests: &[&[&str]]) -> Vec<Reply> {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| encode(request)).collect();
        self.sender.write_all(&bytes).expect("the node is up");
        requests.iter().map(|_| self.reply().expect("a reply")).collect()
    }

    pub fn call(&mut self, request: &[&str]) -> Reply {
        self.try_call(request).expect("the node is up")
    }

    /// What was pushed until now, and what comes until `time` is over.
    pub fn pushes(&mut self, time: Duration) -> Vec<Reply> {
        let mut pushed = std::mem::take(&mut self.pushed);
        let until = now() + time;
        while let Some(left) = until.checked_duration_since(now()) {
            match self.heard.recv_timeout(left) {
                Ok(reply) => pushed.push(reply),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    // As much as a broken connection tells: nothing it had read may be relied on.
                    pushed.push(all_stale());
                    break;
                }
            }
        }
        pushed
    }

    fn expect(&mut self, pushes: &[Reply]) {
        let mut got = Vec::new();
        let limit = now() + SOON;
        while got.len() < pushes.len() && now() < limit {
            got.extend(self.pushes(Duration::from_millis(20)));
        }
        // One that came too often comes soon after.
        got.extend(self.pushes(Duration::from_millis(50)));
        assert_eq!(got, pushes);
    }
}

pub fn cluster(nodes: u16, shards: u16) -> Cluster {
    Cluster::start_with(nodes, shards, |config| {
        config.cluster.replication = 3;
        config.timeouts.request_ms = 3000;
        config.timeouts.txn_ms = 2000;
    })
    .expect("a cluster starts")
}

#[test]
fn who_has_read_a_key_is_told_once_when_it_is_written_by_whatever() {
    let cluster = cluster(3, 4);
    let addrs = cluster.addrs();
    let mut reader = Listening::tracking(addrs[1], &[]);
    let mut writer = Client::open(addrs[2]).expect("the node is up");
    let mut write = |request: &[&str]| {
        let reply = writer.call(request).expect("the node is up");
        assert!(!matches!(reply, Reply::Error(_)), "{request:?}: {reply:?}");
    };
    reader.call(&["GET", "a"]);
    for request in [&["SET", "a", "1"][..], &["SET", "a", "2"], &["SET", "b", "1"]] {
        write(request);
    }
    reader.expect(&[stale("a")]);
    // The reply is the newest there is; what is told after it was written after it.
    assert_eq!(reader.call(&["GET", "a"]), bulk("2"));
    write(&["DEL", "no-such-key", "a"]);
    reader.expect(&[stale("a")]);
    // Several shards in one transaction, of which it has read one.
    reader.call(&["MGET", "b", "c"]);
    write(&["MSET", "b", "x", "c", "y", "d", "z"]);
    let mut both = Vec::new();
    eventually("both are told", SOON, || {
        both.extend(reader.pushes(Duration::from_millis(20)));
        (both.len() == 2).then_some(())
    });
    assert!(both.contains(&stale("b")) && both.contains(&stale("c")));
    // Reads in transactions and scripts, keys included that the script did not name.
    reader.call(&["MULTI"]);
    reader.call(&["GET", "b"]);
    reader.call(&["EXEC"]);
    write(&["RENAME", "b", "e"]);
    reader.expect(&[stale("b")]);
    assert_eq!(
        reader.call(&["EVAL", "return redis.call('get', ARGV[1])", "0", "e"]),
        bulk("x")
    );
    write(&["APPEND", "e", "x"]);
    reader.expect(&[stale("e")]);
    // Its own writes, expiry, and all keys at once.
    reader.call(&["GET", "f"]);
    reader.call(&["SET", "f", "1", "PX", "300"]);
    reader.expect(&[stale("f")]);
    reader.call(&["TTL", "f"]);
    reader.expect(&[stale("f")]);
    reader.call(&["GET", "g"]);
    write(&["FLUSHALL"]);
    reader.expect(&[all_stale()]);
    // A collection that is changed where it lies, and a wait for it.
    write(&["RPUSH", "l", "1"]);
    reader.call(&["LRANGE", "l", "0", "-1"]);
    write(&["RPUSH", "l", "2"]);
    reader.expect(&[stale("l")]);
    // Nobody tracks any more.
    reader.call(&["GET", "a"]);
    reader.call(&["CLIENT", "TRACKING", "OFF"]);
    write(&["SET", "a", "3"]);
    reader.expect(&[]);
}

#[test]
fn clients_choose_what_they_are_told_of_and_where() {
    let cluster = cluster(3, 4);
    let addrs = cluster.addrs();
    let mut writer = Client::open(addrs[2]).expect("the node is up");
    let mut write = |key: &str| {
        let set = writer.call(&["SET", key, "1"]).expect("the node is up");
        assert_eq!(set, ok(), "{key}");
    };
    // By what is said before a command, or a transaction.
    let mut chosen = Listening::tracking(addrs[0], &["OPTIN"]);
    chosen.call(&["GET", "a"]);
    chosen.call(&["CLIENT", "CACHING", "YES"]);
    chosen.call(&["GET", "b"]);
    chosen.call(&["GET", "c"]);
    chosen.call(&["CLIENT", "CACHING", "YES"]);
    for request in [
        &["MULTI"][..],
        &["GET", "d"],
        &["GET", "e"],
        &["EXEC"],
        &["GET", "f"],
    ] {
        chosen.call(request);
    }
    let mut others = Listening::tracking(addrs[0], &["OPTOUT", "NOLOOP"]);
    others.call(&["GET", "a"]);
    others.call(&["CLIENT", "CACHING", "NO"]);
    others.call(&["GET", "b"]);
    for key in ["a", "b", "c", "d", "e", "f"] {
        write(key);
    }
    let mut told = Vec::new();
    eventually("all three are told", SOON, || {
        told.extend(chosen.pushes(Duration::from_millis(20)));
        (told.len() == 3).then_some(())
    });
    assert!(["b", "d", "e"].iter().all(|key| told.contains(&stale(key))));
    others.expect(&[stale("a")]);
    // Its own writes are not told, in transactions over shards neither.
    for request in [
        &["MGET", "a", "b", "x", "y"][..],
        &["SET", "a", "2"],
        &["MSET", "b", "3", "x", "1", "y", "1"],
    ] {
        others.call(request);
    }
    others.expect(&[]);
    others.call(&["GET", "a"]);
    write("a");
    others.expect(&[stale("a")]);
    // By prefix, read or not.
    let mut by_prefix = Listening::tracking(addrs[1], &["BCAST", "PREFIX", "user:", "PREFIX", "post:"]);
    let mut rest = Listening::tracking(addrs[1], &["BCAST"]);
    write("other");
    write("user:1");
    by_prefix.expect(&[stale("user:1")]);
    let mut got = Vec::new();
    eventually("all keys", SOON, || {
        got.extend(rest.pushes(Duration::from_millis(20)));
        let text = format!("{got:?}");
        let has = |key: &str| text.contains(&format!("{:?}", bulk(key)));
        (has("other") && has("user:1")).then_some(())
    });
    // On another connection, which speaks RESP2.
    let mut listener = Listening::open(addrs[0]).expect("the node is up");
    let Reply::Int(id) = listener.call(&["CLIENT", "ID"]) else {
        panic!("an id")
    };
    listener.call(&["SUBSCRIBE", "__redis__:invalidate"]);
    let mut redirects = Listening::tracking(addrs[0], &["REDIRECT", &id.to_string()]);
    assert_eq!(redirects.call(&["CLIENT", "GETREDIR"]), Reply::Int(id));
    redirects.call(&["GET", "r"]);
    write("r");
    let message = Reply::Array(vec![
        bulk("message"),
        bulk("__redis__:invalidate"),
        Reply::Array(vec![bulk("r")]),
    ]);
    listener.expect(&[message]);
    redirects.expect(&[]);
    drop(listener.sender.shutdown(std::net::Shutdown::Both));
    eventually("it is told that nobody listens", SOON, || {
        redirects.call(&["GET", "r"]);
        write("r");
        let pushes = redirects.pushes(Duration::from_millis(100));
        let gone = Reply::Push(vec![bulk("tracking-redir-broken"), Reply::Int(id)]);
        pushes.contains(&gone).then_some(())
    });
}

/// What has been acknowledged of each key: the value, and when.
type Acknowledged = Arc<Mutex<BTreeMap<String, Vec<(i64, Instant)>>>>;

/// A client that keeps copies of counters while others write them: how old any of its copies ever was.
struct Copies {
    acknowledged: Acknowledged,
    stop: Arc<AtomicBool>,
    hits: Arc<AtomicU64>,
    flushes: Arc<AtomicU64>,
}

impl Copies {
    /// A copy older than a write that was acknowledged so long ago that the client had to be told.
    fn check(&self, copies: &BTreeMap<String, i64>) -> Result<(), String> {
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, &value) in copies {
            let writes = acknowledged.get(key).map_or(&[][..], Vec::as_slice);
            let newer = writes.iter().find(|(written, _)| *written > value);
            if let Some((written, at)) = newer.filter(|(_, at)| at.elapsed() > STALE_MAX) {
                return Err(format!(
                    "{key}: the copy is {value}, {written} was acknowledged {:?} ago",
                    at.elapsed()
                ));
            }
        }
        Ok(())
    }

    fn run(self, address: SocketAddr, keys: &[String]) -> Result<(), String> {
        let mut copies: BTreeMap<String, i64> = BTreeMap::new();
        let mut client = Listening::tracking(address, &[]);
        while !self.stop.load(Ordering::Relaxed) {
            for key in keys {
                if copies.contains_key(key) {
                    self.hits.fetch_add(1, Ordering::Relaxed);
                } else {
                    let before = client.pushed.len();
                    let reply = client.try_call(&["GET", key]);
                    assert!(reply.is_some(), "the node is up");
                    // Told of while the reply was on its way: before it, and so of an older copy.
                    let told = client.pushed.split_off(before);
                    self.drop_copies(&mut copies, told);
                    if let Some(value) = reply.as_ref().and_then(Reply::number) {
                        copies.insert(key.clone(), value);
                    }
                }
                let told = client.pushes(Duration::from_millis(1));
                self.drop_copies(&mut copies, told);
                self.check(&copies)?;
            }
        }
        Ok(())
    }

    fn drop_copies(&self, copies: &mut BTreeMap<String, i64>, told: Vec<Reply>) {
        for push in told {
            let Reply::Push(parts) = push else { continue };
            match parts.get(1) {
                Some(Reply::Array(keys)) => {
                    for key in keys.iter().filter_map(Reply::text) {
                        copies.remove(&key);
                    }
                }
                _ => {
                    self.flushes.fetch_add(1, Ordering::Relaxed);
                    copies.clear();
                }
            }
        }
    }
}

/// Writes counters through one node, reads them with copies through another, while `fails` does something to the cluster.
fn keep_copies(
    cluster: &mut Cluster,
    reader: usize,
    writer: usize,
    fails: impl FnOnce(&mut Cluster, &dyn Fn(Duration)),
) -> (u64, u64) {
    let addrs = cluster.addrs();
    let keys: Vec<String> = (0..12).map(|n| format!("counter-{n}")).collect();
    let acknowledged = Acknowledged::default();
    let stop = Arc::<AtomicBool>::default();
    let (hits, flushes) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let copies = Copies {
        acknowledged: Arc::clone(&acknowledged),
        stop: Arc::clone(&stop),
        hits: Arc::clone(&hits),
        flushes: Arc::clone(&flushes),
    };
    let read_keys = keys.clone();
    let (at, address) = (addrs[reader], addrs[writer]);
    let (ends, ended) = sync_channel(1);
    let reads = thread::spawn(move || {
        let read = copies.run(at, &read_keys);
        drop(ends);
        read
    });
    let stopped = Arc::clone(&stop);
    let writes = thread::spawn(move || {
        let mut client = Client::open_for(address, SOON).ok();
        let mut number = 0;
        for key in keys.iter().cycle() {
            if stopped.load(Ordering::Relaxed) {
                return number;
            }
            number += 1;
            let value = number.to_string();
            match client.as_mut().map(|client| client.call(&["SET", key, &value])) {
                Some(Ok(reply)) if reply.is_ok() => {
                    let mut acknowledged = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
                    acknowledged.entry(key.clone()).or_default().push((number, now()));
                }
                Some(Ok(_)) => {}
                _ => client = Client::open_for(address, SOON).ok(),
            }
            // No faster than this, or a copy would hardly ever be found again.
            thread::sleep(PACE);
        }
        number
    });
    let go_on = |time| {
        // What the load goes on for; less, if the reader has found something.
        let _: Result<(), _> = ended.recv_timeout(time);
    };
    fails(cluster, &go_on);
    go_on(STALE_MAX + Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    let read = reads.join().expect("the reader has not panicked");
    writes.join().expect("the writer has not panicked");
    assert_eq!(read, Ok(()));
    (hits.load(Ordering::Relaxed), flushes.load(Ordering::Relaxed))
}

#[test]
fn no_copy_stays_stale_while_leaders_are_killed() {
    let mut cluster = cluster(3, 4);
    let (hits, _) = keep_copies(&mut cluster, 1, 2, |cluster, go_on| {
        for _ in 0..2 {
            go_on(Duration::from_secs(2));
            cluster.kill_node(1);
            go_on(Duration::from_secs(3));
            cluster.start_node(1).expect("the node starts");
            cluster.wait_ready().expect("it comes back");
        }
        go_on(Duration::from_secs(4));
    });
    assert!(hits > 500, "copies are of use: {hits}");
}

#[test]
fn who_is_cut_off_is_told_to_rely_on_no_copy() {
    let mut cluster = cluster(3, 4);
    let (hits, flushes) = keep_copies(&mut cluster, 1, 2, |cluster, go_on| {
        go_on(Duration::from_secs(2));
        cluster.cut_off(2, true);
        go_on(STALE_MAX * 2);
        cluster.cut_off(2, false);
        go_on(Duration::from_secs(4));
    });
    assert!(hits > 500, "copies are of use: {hits}");
    assert!(
        flushes > 0,
        "the node cannot have known of writes while it was cut off"
    );
}

#[test]
fn a_gateway_without_replicas_hears_from_others_and_from_the_next_when_one_dies() {
    let mut cluster = cluster(5, 10);
    let (hits, flushes) = keep_copies(&mut cluster, 4, 3, |cluster, go_on| {
        for node in [1, 2, 3] {
            go_on(Duration::from_secs(2));
            cluster.kill_node(node);
            go_on(Duration::from_secs(3));
            cluster.start_node(node).expect("the node starts");
            cluster.wait_ready().expect("it comes back");
        }
    });
    assert!(hits > 500, "copies are of use: {hits}");
    assert!(flushes > 0, "whoever told of writes was killed");
}
