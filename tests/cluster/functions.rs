//! Functions on a real cluster: libraries outlive nodes, leaders, snapshots and disks; a call runs the code that was last loaded when
//! it began; calls over shards are whole; names are given once.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::bank::{Counts, count, keep_busy, under_kills};
use crate::eventually;
use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, Fate, PATIENCE, Reply, encode};

const ACCOUNTS: usize = 8;
const OPENING: i64 = 100;
/// Until what was asked for at once is there at all nodes.
const SETTLED: Duration = Duration::from_secs(60);

const BANK: &str = "#!lua name=bank
local function balance(key)
    return tonumber(redis.call('get', key))
end
redis.register_function('move', function(keys, args)
    local amount = tonumber(args[1])
    if balance(keys[1]) < amount then
        return 0
    end
    redis.call('decrby', keys[1], amount)
    redis.call('incrby', keys[2], amount)
    redis.call('incr', 'moves')
    return 1
end)
redis.register_function{function_name = 'total', flags = {'no-writes'}, callback = function(keys)
    local total = 0
    for _, key in ipairs(keys) do
        total = total + balance(key)
    end
    return {total, tonumber(redis.call('get', 'moves') or 0)}
end}";

fn account(n: usize) -> String {
    format!("account:{n}")
}

fn call(client: &mut Client, request: &[&str]) -> Reply {
    client.call(request).expect("the node is up")
}

fn error(reply: &Reply) -> &str {
    match reply {
        Reply::Error(text) => text,
        other => panic!("no error: {other:?}"),
    }
}

/// Its texts and numbers.
fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => other.text().unwrap_or_else(|| format!("{other:?}")),
    }
}

/// A library with one function that replies this number.
fn numbered(library: &str, function: &str, number: u64) -> String {
    format!("#!lua name={library}\nredis.register_function('{function}', function() return {number} end)")
}

fn total(client: &mut Client) -> io::Result<Reply> {
    let accounts: Vec<String> = (0..ACCOUNTS).map(account).collect();
    let count = accounts.len().to_string();
    let mut request = vec!["FCALL_RO", "total", &count];
    request.extend(accounts.iter().map(String::as_str));
    client.call(&request)
}

fn work(client: &mut Client, worker: usize, turn: &mut u64, counts: &Counts) -> io::Result<()> {
    *turn = turn
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(worker as u64 * 2 + 1);
    let pick = |shift: u32| usize::try_from(*turn >> shift).unwrap_or(0) % ACCOUNTS;
    let (from, step) = (pick(33), 1 + pick(41) % (ACCOUNTS - 1));
    let (from, to) = (account(from), account((from + step) % ACCOUNTS));
    let amount = (*turn >> 20 & 15).to_string();
    let reply = client.call(&["FCALL", "move", "2", &from, &to, &amount]);
    let lost = reply.as_ref().err().map(|e| io::Error::from(e.kind()));
    match Fate::of(reply) {
        Fate::Done(Reply::Int(1)) => count(&counts.transfers),
        Fate::Done(_) => 0,
        Fate::Conflict => count(&counts.conflicts),
        Fate::Refused(_) => count(&counts.refused),
        Fate::Open(_) | Fate::Lost(_) => count(&counts.unknown),
    };
    lost.map_or(Ok(()), Err)
}

/// Loaded once, at one node; that each node finds them after each kill is what keeps the bank open.
#[test]
fn calls_over_shards_are_whole_and_find_their_library_while_nodes_are_killed_in_turn() {
    let mut nodes = Nodes::start(|text| text);
    let mut client = nodes.client(1);
    for n in 0..ACCOUNTS {
        assert!(call(&mut client, &["SET", &account(n), &OPENING.to_string()]).is_ok());
    }
    assert_eq!(
        call(&mut client, &["FUNCTION", "LOAD", BANK]).text(),
        Some("bank".into())
    );
    let counts = Counts::default();
    let sum = i64::try_from(ACCOUNTS).expect("few") * OPENING;
    let worker = |n: usize| {
        let (counts, mut turn) = (&counts, n as u64);
        move |client: &mut Client| work(client, n, &mut turn, counts)
    };
    let watch = |addresses: &[SocketAddr]| {
        keep_busy(addresses, 0, &counts.stop, |client| {
            match Fate::of(total(client)) {
                Fate::Done(Reply::Array(seen)) => {
                    assert_eq!(seen[0], Reply::Int(sum), "money is made or lost");
                    count(&counts.reads);
                }
                Fate::Lost(why) => return Err(io::Error::other(why)),
                Fate::Refused(_) => {}
                other => panic!("the total: {other:?}"),
            }
            Ok(())
        });
    };
    let kills = under_kills(&mut nodes, &counts, 4, worker, watch);
    let (done, unknown) = (
        counts.transfers.load(Ordering::SeqCst),
        counts.unknown.load(Ordering::SeqCst),
    );
    println!(
        "{kills} kills, {done} moves, {unknown} unknown, {:?} reads",
        counts.reads
    );
    for node in NODES {
        let mut client = nodes.client(node);
        let seen = eventually("all is read", PATIENCE, || match total(&mut client) {
            Ok(Reply::Array(seen)) => Some(seen),
            _ => None,
        });
        assert_eq!(seen[0], Reply::Int(sum), "at node {node}");
        let moves = seen[1].number().and_then(|moves| u64::try_from(moves).ok());
        assert!(
            moves.is_some_and(|moves| (done..=done + unknown).contains(&moves)),
            "{moves:?} moves; {done} were acknowledged, {unknown} are unknown"
        );
    }
}

/// One loads ever higher numbers, three call: a call that begins when a number was acknowledged replies that or a higher one.
#[test]
fn a_call_runs_what_was_loaded_before_it_began() {
    let mut nodes = Nodes::start(|text| text);
    let counts = Counts::default();
    let loaded = AtomicU64::new(0);
    let addresses = nodes.addresses();
    let load = |client: &mut Client, next: u64| {
        Fate::of(client.call(&["FUNCTION", "LOAD", "REPLACE", &numbered("n", "number", next)]))
    };
    assert!(matches!(
        load(&mut nodes.client(2), 0),
        Fate::Done(Reply::Bulk(_))
    ));
    let next = AtomicU64::new(1);
    let worker = |_: usize| {
        let (counts, loaded) = (&counts, &loaded);
        move |client: &mut Client| {
            let least = loaded.load(Ordering::SeqCst);
            match Fate::of(client.call(&["FCALL", "number", "0"])) {
                Fate::Done(Reply::Int(seen)) => {
                    let seen = u64::try_from(seen).expect("it was loaded");
                    assert!(seen >= least, "{seen}, after {least} was loaded");
                    count(&counts.transfers);
                }
                Fate::Lost(why) => return Err(io::Error::other(why)),
                Fate::Refused(_) => {}
                other => panic!("a call: {other:?}"),
            }
            Ok(())
        }
    };
    let watch = |_: &[SocketAddr]| {
        keep_busy(&addresses, 1, &counts.stop, |client| {
            // Also after an unknown outcome a number is not used again.
            let number = next.fetch_add(1, Ordering::SeqCst);
            match load(client, number) {
                Fate::Done(Reply::Bulk(_)) => {
                    loaded.store(number, Ordering::SeqCst);
                    count(&counts.reads);
                    Ok(())
                }
                Fate::Refused(_) | Fate::Open(_) => Ok(()),
                Fate::Lost(why) => Err(io::Error::other(why)),
                other => panic!("a load: {other:?}"),
            }
        });
    };
    let kills = under_kills(&mut nodes, &counts, 3, worker, watch);
    println!(
        "{kills} kills, {:?} calls, {:?} loads",
        counts.transfers, counts.reads
    );
}

#[test]
fn libraries_outlive_all_nodes_and_come_with_a_snapshot_to_one_that_has_lost_its_disk() {
    let mut nodes = Nodes::start(|text| {
        let small = text.replace("# snapshot_log_bytes = 16777216", "snapshot_log_bytes = 65536");
        assert_ne!(small, text, "the shipped config has another default");
        small
    });
    let mut client = nodes.client(1);
    for n in 1..=3 {
        let library = numbered(&format!("lib{n}"), &format!("f{n}"), n);
        assert!(
            call(&mut client, &["FUNCTION", "LOAD", &library])
                .text()
                .is_some()
        );
    }
    assert!(call(&mut nodes.client(2), &["FUNCTION", "DELETE", "lib2"]).is_ok());
    let listed = call(&mut client, &["FUNCTION", "LIST", "WITHCODE"]);
    let check = |nodes: &Nodes, node: u64| {
        let mut client = nodes.client(node);
        let seen = eventually("libraries are listed", SETTLED, || {
            let seen = client.call(&["FUNCTION", "LIST", "WITHCODE"]).ok()?;
            (!matches!(seen, Reply::Error(_))).then_some(seen)
        });
        assert_eq!(seen, listed, "at node {node}");
        assert_eq!(call(&mut client, &["FCALL", "f3", "0"]), Reply::Int(3));
        let gone = call(&mut client, &["FCALL", "f2", "0"]);
        assert_eq!(error(&gone), "ERR Function not found");
    };
    nodes.kill_all();
    nodes.start_all();
    for node in NODES {
        check(&nodes, node);
    }

    // Behind a snapshot the log knows nothing of them.
    let big = "x".repeat(30_000);
    let key = nodes.key_per_shard("k:").remove(0);
    let mut client = nodes.client(1);
    eventually("the first shard's log is cut behind a snapshot", SETTLED, || {
        assert!(call(&mut client, &["SET", &key, &big]).is_ok());
        let status = nodes.status(1)?;
        let mut shards = status["groups"].as_array()?.iter();
        let first = shards.find(|group| group["group"] == "shard-0")?;
        first["snapshot"].as_u64().filter(|&at| at > 30)
    });
    nodes.kill(3);
    fs::remove_dir_all(nodes.node_dir(3)).expect("a dead node's data can be removed");
    nodes.start_node(3);
    eventually("node 3 is refilled", SETTLED, || {
        (nodes.status(3)?["refilling"] == false).then_some(())
    });
    check(&nodes, 3);
    // It counts: with it, another may die.
    nodes.kill(1);
    check(&nodes, 3);
    assert!(call(&mut nodes.client(3), &["FUNCTION", "FLUSH"]).is_ok());
    nodes.start_node(1);
    eventually("all three are equal", SETTLED, || {
        let digest = |node| nodes.client(node).call(&["QUORATE", "DIGEST"]).ok();
        let all = NODES.map(digest);
        (all[0].is_some() && all.iter().all(|one| *one == all[0])).then_some(())
    });
    let gone = call(&mut nodes.client(1), &["FCALL", "f3", "0"]);
    assert_eq!(error(&gone), "ERR Function not found");
}

#[test]
fn a_name_is_given_once_whoever_asks_first() {
    let nodes = Nodes::start(|text| text);
    let addresses = nodes.addresses();
    for round in 0..10 {
        let taken = AtomicU64::new(0);
        thread::scope(|scope| {
            for (n, &address) in addresses.iter().enumerate() {
                let taken = &taken;
                scope.spawn(move || {
                    let mut client = Client::open(address).expect("the node is up");
                    let library = numbered(&format!("r{round}n{n}"), &format!("round{round}"), n as u64);
                    let reply = call(&mut client, &["FUNCTION", "LOAD", &library]);
                    match reply {
                        Reply::Bulk(_) => drop(taken.fetch_add(1, Ordering::SeqCst)),
                        other => {
                            assert_eq!(error(&other), format!("ERR Function round{round} already exists"));
                        }
                    }
                });
            }
        });
        assert_eq!(taken.load(Ordering::SeqCst), 1, "round {round}");
    }
    let stats = call(&mut nodes.client(2), &["FUNCTION", "STATS"]);
    assert!(format!("{stats:?}").contains("Int(10)"), "{stats:?}");
}

#[test]
fn functions_are_bounded_shown_and_killed_and_leave_nothing_in_their_library() {
    let nodes = Nodes::start(|text| text);
    let mut client = nodes.client(1);
    client.wait_for(SETTLED).expect("a time-out can be set");
    let library = "#!lua name=l
local calls = 0
redis.register_function('count', function() calls = calls + 1 return calls end)
redis.register_function('endless', function(keys)
    redis.call('set', keys[1], 'x')
    while true do pcall(function() while true do end end) end
end)
redis.register_function('inside', function()
    while true do pcall(coroutine.wrap(function() while true do pcall(function() while true do end end) end end)) end
end)";
    assert!(call(&mut client, &["FUNCTION", "LOAD", library]).text().is_some());
    // Each call finds its library as it was loaded: runs may be repeated, and be anywhere.
    for _ in 0..3 {
        assert_eq!(call(&mut client, &["FCALL", "count", "0"]), Reply::Int(1));
    }
    let mut other = nodes.client(1);
    for (function, request) in [
        ("endless", &["FCALL", "endless", "1", "k", "a"][..]),
        ("inside", &["FCALL", "inside", "0"]),
    ] {
        client.send(&encode(request)).expect("the node is up");
        let stats = eventually("a function runs", PATIENCE, || {
            let stats = shown(&other.call(&["FUNCTION", "STATS"]).ok()?);
            stats.contains("duration_ms").then_some(stats)
        });
        let command = format!("name {function} command {}", request.join(" "));
        assert!(stats.contains(&command), "{stats}");
        // One kills scripts, the other functions.
        let reply = call(&mut other, &["SCRIPT", "KILL"]);
        assert!(error(&reply).starts_with("NOTBUSY"), "{reply:?}");
        assert!(call(&mut other, &["FUNCTION", "KILL"]).is_ok());
        let reply = client.receive().expect("an answer");
        assert!(error(&reply).contains("was killed"), "{reply:?}");
    }
    let reply = call(&mut client, &["FCALL", "inside", "0"]);
    assert!(error(&reply).contains("5000 ms"), "{reply:?}");
    assert_eq!(call(&mut client, &["EXISTS", "k"]), Reply::Int(0));
    let endless = "#!lua name=e\nwhile true do end";
    let reply = call(&mut client, &["FUNCTION", "LOAD", endless]);
    assert_eq!(
        error(&reply),
        "ERR Error registering functions: ERR FUNCTION LOAD timeout"
    );
    // The interpreters are as they should be.
    for _ in 0..9 {
        assert_eq!(call(&mut client, &["FCALL", "count", "0"]), Reply::Int(1));
        assert_eq!(
            call(&mut client, &["EVAL", "return type(redis.call)", "0"]),
            Reply::Bulk("function".into())
        );
    }
}

#[test]
fn a_strict_transaction_takes_calls_back_and_no_changes_of_libraries() {
    let nodes = Nodes::start(|text| text);
    let mut client = nodes.client(1);
    let library = "#!lua name=l
redis.register_function('put', function(keys, args) return redis.call('set', keys[1], args[1]) end)
redis.register_function('fail', function(keys) redis.call('set', keys[1], 'x') error('no') end)";
    assert!(call(&mut client, &["FUNCTION", "LOAD", library]).text().is_some());
    let mut strict = |commands: &[&[&str]]| {
        assert!(call(&mut client, &["MULTI", "STRICT"]).is_ok());
        for command in commands {
            call(&mut client, command);
        }
        call(&mut client, &["EXEC"])
    };
    let put = |key| ["FCALL", "put", "1", key, "v"];
    let done = strict(&[&put("a"), &put("b")]);
    assert_eq!(done, Reply::Array(vec![Reply::Simple("OK".into()); 2]));
    let failed = strict(&[&put("c"), &["FCALL", "fail", "1", "d"]]);
    assert!(error(&failed).starts_with("EXECABORT"), "{failed:?}");
    let failed = strict(&[&put("c"), &["FCALL", "nosuch", "0"]]);
    assert!(error(&failed).contains("Function not found"), "{failed:?}");
    let failed = strict(&[&put("c"), &["FUNCTION", "FLUSH"]]);
    assert!(error(&failed).contains("cannot be rolled back"), "{failed:?}");
    let listed = strict(&[&put("e"), &["FUNCTION", "LIST"]]);
    assert!(matches!(listed, Reply::Array(_)), "{listed:?}");
    let keys = call(&mut nodes.client(2), &["EXISTS", "a", "b", "c", "d", "e"]);
    assert_eq!(keys, Reply::Int(3));
}
