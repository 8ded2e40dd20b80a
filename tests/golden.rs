//! Replays the conversations that `golden/record.py` recorded with Redis 7.0
//! and reports every reply of Quorate that differs. `record.py` describes the
//! scripts. `cN` talks to another node than `cN+1`, and every script starts one
//! node further on, so that most commands are forwarded.
//!
//! With `QUORATE_GOLDEN_ADDR=host:port` the scripts run against that server
//! instead of a cluster of their own. They delete all of its keys.

#[path = "golden/resp.rs"]
mod resp;
#[path = "golden/script.rs"]
mod script;

use std::{
    collections::{BTreeSet, HashMap},
    env,
    io::{self, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use quorate::testing::Cluster;

use resp::{Reply, in_order, malformed, masked, read_reply, render};
use script::{Reading, Script, Step, load, parse_script};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
/// Fewer replies than this mean that scripts have gone missing.
const LEAST_REPLIES: usize = 2000;
const PATIENCE: Duration = Duration::from_secs(30);
const MOST_PAGES: usize = 100_000;

/// One server and one test at a time: the scripts flush everything.
static TURN: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Resp2,
    Resp3,
}

struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    fn open(addr: SocketAddr, protocol: Protocol) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut connection = Connection {
            reader: BufReader::new(stream),
        };
        if protocol == Protocol::Resp3 {
            let reply = connection.call(&[b"HELLO".to_vec(), b"3".to_vec()])?;
            if !matches!(reply, Reply::Map(_)) {
                return Err(malformed("HELLO 3 was refused", render(&reply).as_bytes()));
            }
        }
        Ok(connection)
    }

    fn call(&mut self, args: &[Vec<u8>]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.reader.get_mut().write_all(&request)?;
        loop {
            let reply = read_reply(&mut self.reader)?;
            // Where a node cannot say in time that its copies are good, as on a busy machine, they are all dropped: no reply.
            if render(&reply) != ">[\"invalidate\", (null)]" {
                return Ok(reply);
            }
        }
    }

    /// The reply to one step, in the form in which it is recorded.
    fn answer(&mut self, step: &Step) -> io::Result<String> {
        match &step.reading {
            Reading::Scan => return self.scan(&step.args),
            Reading::Until(wanted) => return self.until(&step.args, wanted),
            _ => {}
        }
        let reply = self.call(&step.args)?;
        Ok(match (&step.reading, reply) {
            (Reading::Any, _) => "*".to_owned(),
            (Reading::Between(low, high), Reply::Integer(n)) if (*low..=*high).contains(&n) => {
                format!("(integer) {low}..{high}")
            }
            (Reading::Sorted, reply) => render(&in_order(reply)),
            (Reading::Mask(keys), reply) => render(&masked(reply, keys)),
            (_, reply) => render(&reply),
        })
    }

    /// The sorted, distinct elements of a whole SCAN iteration.
    fn scan(&mut self, args: &[Vec<u8>]) -> io::Result<String> {
        let mut args = args.to_vec();
        let mut found = BTreeSet::new();
        for _ in 0..MOST_PAGES {
            let reply = self.call(&args)?;
            let Reply::List("", parts) = &reply else {
                return Ok(render(&reply));
            };
            let [Reply::Bulk(cursor), Reply::List("", page)] = parts.as_slice() else {
                return Ok(render(&reply));
            };
            found.extend(page.iter().map(render));
            if cursor == b"0" {
                return Ok(format!("[{}]", found.into_iter().collect::<Vec<_>>().join(", ")));
            }
            args[1].clone_from(cursor);
        }
        Ok(format!("no end of SCAN after {MOST_PAGES} pages"))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the keys of these servers run out by a real clock"
    )]
    fn until(&mut self, args: &[Vec<u8>], wanted: &str) -> io::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = render(&self.call(args)?);
            if reply == wanted || Instant::now() > deadline {
                return Ok(reply);
            }
        }
    }
}

/// Runs one script and returns its differences. A connection that fails ends
/// the script: what comes after it would only be noise.
fn replay(script: &Script, addrs: &[SocketAddr], first: usize, protocol: Protocol) -> Vec<String> {
    let mut connections = HashMap::new();
    let mut differences = Vec::new();
    for step in &script.steps {
        let place = format!("tests/golden/{}:{}: {}", script.name, step.line, step.text);
        let addr = addrs[(first + step.connection) % addrs.len()];
        let opened = match connections.remove(&step.connection) {
            Some(connection) => Ok(connection),
            None => Connection::open(addr, protocol),
        };
        let answered = opened.and_then(|mut connection| {
            let answer = connection.answer(step)?;
            connections.insert(step.connection, connection);
            Ok(answer)
        });
        let expected = step.expected[protocol as usize].as_deref().unwrap_or_default();
        match answered {
            Ok(actual) if actual == expected => {}
            Ok(actual) => {
                differences.push(format!(
                    "{place}\n    expected: {expected}\n    actual:   {actual}"
                ));
            }
            Err(error) => {
                differences.push(format!(
                    "{place}\n    {addr}: {error}; rest of the script skipped"
                ));
                break;
            }
        }
    }
    differences
}

/// Where Quorate answers otherwise than Redis 7.0, knowingly. Each must differ: a stale line here is a failure.
const KNOWN: &[(&str, &str)] = &[
    (
        "errors.script:30:",
        "error lines are text: bytes that are not UTF-8 show as U+FFFD",
    ),
    (
        "transactions.script:293:",
        "SCAN goes shard by shard: an empty page may come with a cursor",
    ),
    (
        "watch_aborts.script:118:",
        "a watched key that was absent and is absent again counts as unchanged",
    ),
    ("watch_aborts.script:121:", "follows from the line before"),
];

/// Takes the known differences out; says which known ones did not show.
fn unknown(differences: Vec<String>) -> Vec<String> {
    let is =
        |difference: &String, place: &str| difference.lines().next().is_some_and(|line| line.contains(place));
    let stale = KNOWN
        .iter()
        .filter(|(place, _)| !differences.iter().any(|difference| is(difference, place)))
        .map(|(place, why)| format!("{place} is no difference any more ({why}): take it off the list"));
    let stale: Vec<String> = stale.collect();
    let new = differences
        .into_iter()
        .filter(|difference| !KNOWN.iter().any(|(place, _)| is(difference, place)));
    new.chain(stale).collect()
}

fn replay_all(protocol: Protocol) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let scripts = load(Path::new(SCRIPTS)).expect("the golden scripts can be read");
    let replies: usize = scripts.iter().map(|script| script.steps.len()).sum();
    assert!(replies >= LEAST_REPLIES, "only {replies} replies in {SCRIPTS}");
    let cluster;
    let addrs: Vec<SocketAddr> = if let Ok(addr) = env::var("QUORATE_GOLDEN_ADDR") {
        addr.to_socket_addrs()
            .expect("QUORATE_GOLDEN_ADDR is host:port")
            .collect()
    } else {
        cluster = Cluster::start(3, 4).expect("cluster starts");
        cluster.addrs()
    };
    assert!(!addrs.is_empty(), "no server to talk to");
    let mut differences = Vec::new();
    for (index, script) in scripts.iter().enumerate() {
        differences.extend(replay(script, &addrs, index, protocol));
    }
    if env::var("QUORATE_GOLDEN_ADDR").is_err() {
        differences = unknown(differences);
    }
    let count = differences.len();
    assert!(
        count == 0,
        "{}\n\n{count} differences, {replies} replies",
        differences.join("\n")
    );
}

#[test]
fn replies_in_resp2_are_those_of_redis() {
    replay_all(Protocol::Resp2);
}

#[test]
fn replies_in_resp3_are_those_of_redis() {
    replay_all(Protocol::Resp3);
}

/// What a server that only ever answers `answer` gets reported for `script`.
fn replay_against(answer: &'static [u8], script: &str) -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("a bound socket has an address");
    let server = thread::spawn(move || -> io::Result<()> {
        let (mut client, _) = listener.accept()?;
        let mut request = [0; 1024];
        while client.read(&mut request)? > 0 {
            client.write_all(answer)?;
        }
        Ok(())
    });
    let steps = parse_script(script).expect("the script parses");
    let script = Script {
        name: "fake.script".to_owned(),
        steps,
    };
    let differences = replay(&script, &[addr], 0, Protocol::Resp2);
    server
        .join()
        .expect("the fake server does not panic")
        .expect("the client stays connected");
    differences
}

#[test]
fn differences_are_reported() {
    let differences = replay_against(b"+OK\r\n", "c1> FLUSHALL\nOK\nc1> PING\nPONG\nc1> GET k\nOK\n");
    let place = "tests/golden/fake.script:3: c1> PING";
    assert_eq!(
        differences,
        [format!("{place}\n    expected: PONG\n    actual:   OK")]
    );
    let differences = replay_against(b":7\r\n", "c1> FLUSHALL\n2: (integer) 7\n3: OK\n");
    assert_eq!(differences, Vec::<String>::new());
    let limits = "c1> FLUSHALL\n(integer) 7\n# between 8 9\nc1> TTL k\n(integer) 8..9\n";
    assert_eq!(replay_against(b":7\r\n", limits).len(), 1);
    for garbage in [
        "OK\r\n",
        "+OK\n",
        "$2\r\nOK--",
        "*1\r\n?\r\n",
        ":x\r\n",
        "$-2\r\n",
    ] {
        let differences = replay_against(garbage.as_bytes(), "c1> FLUSHALL\nOK\nc1> PING\nPONG\n");
        assert_eq!(differences.len(), 1, "{garbage}: {differences:?}");
        assert!(
            differences[0].contains("rest of the script skipped"),
            "{differences:?}"
        );
    }
}

#[test]
fn broken_scripts_are_refused() {
    let broken = [
        ("", "does not begin with"),
        ("c1> PING\nPONG\n", "does not begin with"),
        ("c1> FLUSHALL\n", "1: a command without its reply"),
        (
            "c1> FLUSHALL\nOK\nc1> PING\nc1> PING\nPONG\n",
            "3: a command without its reply",
        ),
        ("c1> FLUSHALL\n2: OK\n", "1: a command without its reply"),
        ("c1> FLUSHALL\nOK\nOK\n", "3: a second reply"),
        ("c1> FLUSHALL\nOK\n3: OK\n", "3: a second reply"),
        ("OK\n", "1: a reply without a command"),
        ("# frobnicate\nc1> FLUSHALL\nOK\n", "1: unknown directive"),
        ("# between 1\nc1> FLUSHALL\nOK\n", "1: unknown directive"),
        ("# between 1 x\nc1> FLUSHALL\nOK\n", "1: x: invalid digit"),
        ("# any\n# any\nc1> FLUSHALL\nOK\n", "2: two directives"),
        ("c1> FLUSHALL\nOK\n# any\n", "3: a directive without a command"),
        ("#no blank\nc1> FLUSHALL\nOK\n", "1: a reply without a command"),
        ("# scan\nc1> FLUSHALL\nOK\n", "2: scan without a cursor"),
        ("c1> GET \"a\n(nil)\n", "1: unbalanced quotes"),
        ("c1> GET \"a\"b\n(nil)\n", "1: text right after"),
        ("c1> GET a\"b\"\n(nil)\n", "1: a quote inside"),
        ("c1> \nOK\n", "1: an empty command"),
        ("c1> GET \"\\x0g\"\nOK\n", "1: \\x without two"),
    ];
    for (text, reason) in broken {
        let error = parse_script(text).expect_err(text);
        assert!(error.contains(reason), "{text:?}: {error}");
    }
    let nothing = load(&Path::new(SCRIPTS).join("..")).expect_err("no scripts in tests/");
    assert!(nothing.contains("no scripts"), "{nothing}");
    load(&Path::new(SCRIPTS).join("missing")).expect_err("no such directory");
}
