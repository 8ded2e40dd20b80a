//! Scripts over shards: whole or not at all while nodes are killed, known by their names at every node, and bounded.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::bank::{Counts, count, keep_busy, under_kills};
use crate::eventually;
use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, Fate, PATIENCE, Reply, encode};

const WORKERS: usize = 4;
const ACCOUNTS: usize = 8;
const OPENING: i64 = 100;

/// Moves ARGV[1] from KEYS[1] to KEYS[2] if it is there, notes it in a list whose name no key says, and frees the lock that it
/// was run under.
const MOVE: &str = "
    if redis.call('get', KEYS[3]) ~= ARGV[2] then return redis.error_reply('LOST the lock') end
    local amount = tonumber(ARGV[1])
    local moved = tonumber(redis.call('get', KEYS[1])) >= amount
    if moved then
        redis.call('decrby', KEYS[1], amount)
        redis.call('incrby', KEYS[2], amount)
        redis.call('rpush', 'moves:' .. (amount % 3), cjson.encode({KEYS[1], KEYS[2], amount}))
    end
    redis.call('del', KEYS[3])
    return moved and 1 or 0";
const TOTAL: &str = "
    local total = 0
    for _, key in ipairs(KEYS) do total = total + redis.call('get', key) end
    return {total, redis.call('llen', 'moves:0') + redis.call('llen', 'moves:1') + redis.call('llen', 'moves:2')}";

fn account(n: usize) -> String {
    format!("account:{n}")
}

/// The sum of all accounts, and how many moves have been noted, at one moment.
fn total(client: &mut Client) -> io::Result<Reply> {
    let accounts: Vec<String> = (0..ACCOUNTS).map(account).collect();
    let count = accounts.len().to_string();
    let mut request = vec!["EVAL_RO", TOTAL, &count];
    request.extend(accounts.iter().map(String::as_str));
    client.call(&request)
}

/// Takes one of two locks, and moves something under it: nobody else can have taken it meanwhile.
fn work(client: &mut Client, worker: usize, turn: &mut u64, counts: &Counts) -> io::Result<()> {
    *turn = turn
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(worker as u64 * 2 + 1);
    let pick = |shift: u32| usize::try_from(*turn >> shift).unwrap_or(0) % ACCOUNTS;
    let (from, to) = (
        account(pick(33)),
        account((pick(33) + 1 + pick(41) % (ACCOUNTS - 1)) % ACCOUNTS),
    );
    let lock = format!("lock:{}", *turn >> 60 & 1);
    let token = format!("{worker}:{turn}");
    let taken = client.call(&["SET", &lock, &token, "NX", "PX", "2000"])?;
    if !taken.is_ok() {
        if let Reply::Error(_) = taken {
            count(&counts.refused);
        }
        return Ok(());
    }
    let amount = (*turn >> 20 & 15).to_string();
    let reply = client.call(&["EVAL", MOVE, "3", &from, &to, &lock, &amount, &token]);
    let lost = reply.as_ref().err().map(|e| io::Error::from(e.kind()));
    match Fate::of(reply) {
        Fate::Done(Reply::Int(1)) => count(&counts.transfers),
        Fate::Done(_) => 0,
        Fate::Conflict => count(&counts.conflicts),
        // The lock has expired while nobody could write.
        Fate::Refused(_) => count(&counts.refused),
        Fate::Open(_) | Fate::Lost(_) => count(&counts.unknown),
    };
    lost.map_or(Ok(()), Err)
}

#[test]
fn scripts_over_shards_are_whole_while_nodes_are_killed_in_turn() {
    let mut nodes = Nodes::start(|text| text);
    for n in 0..ACCOUNTS {
        let opened = nodes.client(1).call(&["SET", &account(n), &OPENING.to_string()]);
        assert!(opened.is_ok_and(|reply| reply.is_ok()));
    }
    let counts = Counts::default();
    let sum = i64::try_from(ACCOUNTS).expect("few") * OPENING;
    let worker = |n: usize| {
        let (counts, mut turn) = (&counts, n as u64);
        move |client: &mut Client| work(client, n, &mut turn, counts)
    };
    let watch = |addresses: &[SocketAddr]| {
        keep_busy(addresses, 0, &counts.stop, |client| {
            if let Reply::Array(seen) = total(client)? {
                assert_eq!(seen[0], Reply::Int(sum), "money is made or lost");
                count(&counts.reads);
            }
            Ok(())
        });
    };
    let kills = under_kills(&mut nodes, &counts, WORKERS, worker, watch);
    println!(
        "{kills} kills, {:?} moves, {:?} refused, {:?} unknown, {:?} reads",
        counts.transfers, counts.refused, counts.unknown, counts.reads
    );
    let (done, unknown) = (
        counts.transfers.load(Ordering::SeqCst),
        counts.unknown.load(Ordering::SeqCst),
    );
    for node in NODES {
        let mut client = nodes.client(node);
        let seen = eventually("all is read", PATIENCE, || match total(&mut client) {
            Ok(Reply::Array(seen)) => Some(seen),
            _ => None,
        });
        assert_eq!(seen[0], Reply::Int(sum), "at node {node}");
        let moves = seen[1]
            .number()
            .and_then(|moves| u64::try_from(moves).ok())
            .expect("a count");
        assert!(
            (done..=done + unknown).contains(&moves),
            "{moves} moves; {done} were acknowledged, {unknown} are unknown"
        );
    }
}

/// Calls with a long time-out.
fn call(client: &mut Client, request: &[&str]) -> Reply {
    client
        .wait_for(Duration::from_secs(60))
        .expect("a time-out can be set");
    client.call(request).expect("the node is up")
}

fn error(reply: &Reply) -> &str {
    match reply {
        Reply::Error(text) => text,
        other => panic!("no error: {other:?}"),
    }
}

#[test]
fn a_script_is_bounded_can_be_killed_and_leaves_nothing_then() {
    let nodes = Nodes::start(|text| text);
    let mut client = nodes.client(1);
    let endless = "redis.call('set', KEYS[1], 'x') while true do pcall(function() while true do end end) end";
    let mut other = nodes.client(1);
    client
        .send(&encode(&["EVAL", endless, "1", "k"]))
        .expect("the node is up");
    let killed = eventually("a script runs", PATIENCE, || {
        // The node serves others meanwhile.
        other.call(&["SCRIPT", "KILL"]).ok().filter(Reply::is_ok)
    });
    assert!(killed.is_ok());
    let reply = client.receive().expect("an answer");
    assert!(error(&reply).contains("was killed"), "{reply:?}");
    let reply = call(&mut client, &["EVAL", endless, "1", "k"]);
    assert!(error(&reply).contains("5000 ms"), "{reply:?}");
    assert_eq!(
        call(&mut other, &["EXISTS", "k"]),
        Reply::Int(0),
        "a write of a script that did not end"
    );
    let hungry = "local t = {} while true do t[#t + 1] = string.rep('x', 1000000) .. #t end";
    let reply = call(&mut client, &["EVAL", hungry, "0"]);
    assert!(error(&reply).contains("not enough memory"), "{reply:?}");
    let writes =
        "local x = string.rep('x', 1000000) for i = 1, 1000 do redis.call('setrange', KEYS[1], 0, x) end";
    let reply = call(&mut client, &["EVAL", writes, "1", "k"]);
    assert!(error(&reply).contains("write and publish"), "{reply:?}");
    let says = "local x = string.rep('x', 1000000) for i = 1, 1000 do redis.call('publish', 'c', x) end";
    let reply = call(&mut client, &["EVAL", says, "0"]);
    assert!(error(&reply).contains("write and publish"), "{reply:?}");
    // Values that lie in each other, as deep as it gets.
    for deep in [
        "local t = {} for i = 1, 100000 do t = {t} end return pcall(cjson.encode, t)",
        "local t = {} for i = 1, 999 do t = {t} end return #cjson.encode(t)",
        "local t = {} for i = 1, 100000 do t = {t} end return t",
        "local t = {} for i = 1, 100000 do t = {t} end return #cmsgpack.pack(t)",
        r"return pcall(cmsgpack.unpack, string.rep('\145', 100000) .. '\1')",
        "return pcall(cjson.decode, string.rep('[', 100000) .. string.rep(']', 100000))",
        "local function f(n) return 1 + f(n) end return pcall(f, 1)",
        "local t = {} for i = 1, 999 do t = {t} end local function f(n) return (string.gsub('a', 'a', function() return n > 0 and f(n - 1) \
         or #cjson.encode(t) end)) end return f(190)",
        "local function f(n) return coroutine.wrap(function() return (string.gsub('a', 'a', function() return f(n + 1) end)) end)() end \
         return pcall(f, 1)",
    ] {
        call(&mut client, &["EVAL", deep, "0"]);
    }
    for (function, repeats) in [
        ("find", "*"),
        ("match", "?"),
        ("gmatch", "-"),
        ("gfind", "+"),
        ("gsub", "?"),
    ] {
        let script = |times: &str| {
            format!(
                "local f = string.{function}(string.rep('a', 1000), string.rep('a{repeats}', {times}), '1') return type(f)"
            )
        };
        let reply = call(&mut client, &["EVAL", &script("1000"), "0"]);
        assert!(!matches!(reply, Reply::Error(_)), "{function}: {reply:?}");
        let reply = call(&mut client, &["EVAL", &script("300000"), "0"]);
        assert!(
            error(&reply).contains("user_script:1: pattern too complex"),
            "{function}: {reply:?}"
        );
    }
    // The next one finds the interpreter as it should be, whatever these leave behind.
    for script in [
        "local mt = getmetatable('') mt.__index = function() return 1 end",
        "for k in pairs(_G) do rawset(_G, k, nil) end",
        "rawset(string, 'rep', nil)",
        "setmetatable(_G, nil)",
        "table.insert = nil",
        "return loadstring('\\27Lua')",
        "math.randomseed(7)",
    ] {
        call(&mut client, &["EVAL", script, "0"]);
        let fine = "return {('x'):rep(2), type(table.insert), tostring(redis.sha1hex('')):sub(1, 4)}";
        let wanted = ["xx", "function", "da39"].map(|text| Reply::Bulk(text.into()));
        for _ in 0..3 {
            assert_eq!(
                call(&mut client, &["EVAL", fine, "0"]),
                Reply::Array(wanted.to_vec()),
                "after {script}"
            );
        }
    }
    let reply = call(&mut client, &["EVAL", "return redis.call('keys', '*')", "0"]);
    assert!(
        error(&reply).contains("works on the whole key space"),
        "{reply:?}"
    );
    let many = "for i = 1, 1000 do redis.call('get', 'unnamed:' .. i) end";
    let reply = call(&mut client, &["EVAL", many, "0"]);
    assert!(error(&reply).contains("name them as its keys"), "{reply:?}");
}

#[test]
fn every_node_knows_a_script_by_its_name_also_after_the_one_that_was_told_it_has_died() {
    let mut nodes = Nodes::start(|text| text);
    let name = call(&mut nodes.client(1), &["SCRIPT", "LOAD", "return ARGV[1]"])
        .text()
        .expect("a name");
    // Not loaded, but seen by one node.
    let seen = call(&mut nodes.client(2), &["EVAL", "return 'seen'", "0"]);
    assert_eq!(seen, Reply::Bulk("seen".into()));
    let seen_name = "62e31ee14b2b4a8f0734968e384e01092c74c697";
    nodes.kill(1);
    for node in [2, 3] {
        let mut client = nodes.client(node);
        assert_eq!(
            call(&mut client, &["EVALSHA", &name, "0", "x"]),
            Reply::Bulk("x".into())
        );
        let by_name = call(&mut client, &["SCRIPT", "EXISTS", &name, seen_name]);
        assert!(by_name == Reply::Array(vec![Reply::Int(1); 2]), "{by_name:?}");
    }
    nodes.start_node(1);
    nodes.wait_ready(1);
    assert_eq!(
        call(&mut nodes.client(1), &["EVALSHA", &name, "0", "y"]),
        Reply::Bulk("y".into()),
        "it asks the others"
    );
    assert!(call(&mut nodes.client(3), &["SCRIPT", "FLUSH"]).is_ok());
    for node in NODES {
        let reply = call(&mut nodes.client(node), &["EVALSHA", &name, "0", "z"]);
        assert!(error(&reply).starts_with("NOSCRIPT"), "{reply:?}");
    }
}

/// Beyond so many bytes commands are committed in place of values.
const LARGE: usize = 4 << 10;

#[test]
fn what_a_script_makes_of_large_values_is_what_it_has_seen_of_them() {
    let nodes = Nodes::start(|text| text);
    let mut client = nodes.client(1);
    // Weights by which it sorts, on all shards; none of them is named.
    let elements: Vec<String> = (0..120).map(|n| format!("{n:0>60}")).collect();
    assert!(elements.concat().len() > LARGE);
    let mut push = vec!["RPUSH", "{x}list"];
    push.extend(elements.iter().map(String::as_str));
    assert!(call(&mut client, &push).number().is_some());
    for (n, element) in elements.iter().enumerate() {
        let weight = (n * 47 % elements.len()).to_string();
        assert!(call(&mut client, &["SET", &format!("w_{element}"), &weight]).is_ok());
    }
    let sort = "return redis.call('sort', KEYS[1], 'by', 'w_*', 'store', KEYS[2])";
    let sorted = call(&mut client, &["EVAL", sort, "2", "{x}list", "{x}sorted"]);
    assert_eq!(sorted.number(), Some(120), "{sorted:?}");
    let mut wanted: Vec<(usize, Reply)> = elements
        .iter()
        .enumerate()
        .map(|(n, element)| (n * 47 % elements.len(), Reply::Bulk(element.clone().into())))
        .collect();
    wanted.sort_by_key(|(weight, _)| *weight);
    let wanted = wanted.into_iter().map(|(_, element)| element).collect();
    let got = call(&mut nodes.client(2), &["LRANGE", "{x}sorted", "0", "-1"]);
    assert_eq!(got, Reply::Array(wanted), "sorted by what lies on other shards");
    // Dice and clocks: what the script was told is what has come of it.
    let draws = "
        for n = 1, 300 do redis.call('sadd', KEYS[1], n .. string.rep('m', 40)) end
        local id = redis.call('xadd', KEYS[2], '*', 'f', string.rep('v', 5000))
        redis.call('set', KEYS[3], string.rep('s', 5000), 'px', 100000)
        return {id, unpack(redis.call('spop', KEYS[1], 20))}";
    let drawn = call(&mut client, &["EVAL", draws, "3", "set", "stream", "string"]);
    let Reply::Array(drawn) = drawn else {
        panic!("{drawn:?}")
    };
    let drawn: Vec<String> = drawn.iter().filter_map(Reply::text).collect();
    assert_eq!(drawn.len(), 21);
    for node in NODES {
        let mut client = nodes.client(node);
        let mut ask = vec!["SMISMEMBER", "set"];
        ask.extend(drawn[1..].iter().map(String::as_str));
        assert_eq!(call(&mut client, &ask), Reply::Array(vec![Reply::Int(0); 20]));
        assert_eq!(call(&mut client, &["SCARD", "set"]).number(), Some(280));
        let entry = call(&mut client, &["XRANGE", "stream", &drawn[0], &drawn[0]]);
        assert!(
            matches!(&entry, Reply::Array(entries) if entries.len() == 1),
            "{entry:?}"
        );
        assert_eq!(call(&mut client, &["STRLEN", "string"]).number(), Some(5000));
    }
    // Of replicas that have come equally far.
    eventually("replicas that are equal", PATIENCE, || {
        let digests = NODES.map(|node| call(&mut nodes.client(node), &["QUORATE", "DIGEST"]));
        digests.windows(2).all(|two| two[0] == two[1]).then_some(())
    });
}
