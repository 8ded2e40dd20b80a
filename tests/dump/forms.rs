//! Values in the forms of other versions of Redis than 7.0, put together by hand.

use quorate::base::Reply as Ours;
use quorate::machine::rdb::{self, trailer};
use quorate::machine::values::{Blob, Flagged, Value};
use quorate::resp::Protocol;

use crate::machine::{Machine, words};
use crate::redis::{Connection, Server};
use crate::resp::render;
use crate::values::whole;

fn short(len: usize) -> u8 {
    u8::try_from(len).expect("short")
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = match bytes.len() {
        len @ 0..64 => vec![short(len)],
        len => [&[0x80][..], &u32::try_from(len).expect("short").to_be_bytes()].concat(),
    };
    out.extend_from_slice(bytes);
    out
}

fn strings(all: &[&str]) -> Vec<u8> {
    all.iter().flat_map(|one| string(one.as_bytes())).collect()
}

/// A ziplist of short strings.
fn ziplist(all: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    let (mut before, mut tail) = (0, 10);
    for one in all {
        tail = 10 + body.len();
        body.extend([before, short(one.len())]);
        body.extend_from_slice(one.as_bytes());
        before = short(2 + one.len());
    }
    let mut blob = u32::try_from(body.len() + 11)
        .expect("short")
        .to_le_bytes()
        .to_vec();
    blob.extend_from_slice(&u32::try_from(tail).expect("short").to_le_bytes());
    blob.extend_from_slice(&u16::try_from(all.len()).expect("few").to_le_bytes());
    blob.extend(body);
    blob.push(0xff);
    blob
}

enum Item<'a> {
    N(u8),
    S(&'a [u8]),
}

/// A listpack of numbers below 128 and strings.
fn listpack(all: &[Item<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for item in all {
        let start = body.len();
        match item {
            Item::N(number) => body.push(*number),
            Item::S(bytes) if bytes.len() < 64 => {
                body.push(0x80 | short(bytes.len()));
                body.extend_from_slice(bytes);
            }
            Item::S(bytes) => {
                body.push(0xf0);
                body.extend_from_slice(&u32::try_from(bytes.len()).expect("short").to_le_bytes());
                body.extend_from_slice(bytes);
            }
        }
        let len = body.len() - start;
        match len {
            0..128 => body.push(short(len)),
            _ => body.extend([
                short(len >> 14),
                0x80 | (len >> 7 & 0x7f) as u8,
                0x80 | (len & 0x7f) as u8,
            ]),
        }
    }
    let mut blob = u32::try_from(body.len() + 7)
        .expect("short")
        .to_le_bytes()
        .to_vec();
    blob.extend_from_slice(&u16::try_from(all.len()).unwrap_or(u16::MAX).to_le_bytes());
    blob.extend(body);
    blob.push(0xff);
    blob
}

/// A stream's one node, from 5-0 on: 5-0 deleted, 5-1 with the same fields, 6-0 with others.
fn node() -> Vec<u8> {
    use Item::{N, S};
    let blob = listpack(&[
        N(2),
        N(1),
        N(1),
        S(b"f"),
        N(0), //
        N(3),
        N(0),
        N(0),
        S(b"gone"),
        N(4), //
        N(2),
        N(0),
        N(1),
        S(b"v"),
        N(4), //
        N(0),
        N(1),
        N(0),
        N(2),
        S(b"a"),
        N(1),
        S(b"b"),
        N(2),
        N(8),
    ]);
    let key = [5_u64.to_be_bytes(), 0_u64.to_be_bytes()].concat();
    [string(&key), string(&blob)].concat()
}

/// A stream of so many nodes, each of entries that share one field of so many bytes.
pub fn shared_field(bytes: usize, nodes: u8) -> Vec<u8> {
    use Item::{N, S};
    const ENTRIES: u8 = 60;
    let field = vec![b'f'; bytes];
    let mut items = vec![N(ENTRIES), N(0), N(1), S(&field), N(0)];
    for seq in 1..=ENTRIES {
        items.extend([N(2), N(0), N(seq), N(7), N(4)]);
    }
    let blob = string(&listpack(&items));
    let mut body = vec![19, nodes];
    for ms in 1..=nodes {
        body.extend(string(
            &[u64::from(ms).to_be_bytes(), 0_u64.to_be_bytes()].concat(),
        ));
        body.extend_from_slice(&blob);
    }
    // Entries, the last id, the first, none deleted, added, no groups.
    let all = u16::from(nodes) * u16::from(ENTRIES);
    body.extend((0x4000 | all).to_be_bytes());
    body.extend([nodes, ENTRIES, 1, 1, 0, 0]);
    body.extend((0x4000 | all).to_be_bytes());
    body.push(0);
    body
}

/// Groups with one consumer that has 5-1 pending; `version` as the stream's form.
fn groups(version: u8) -> Vec<u8> {
    let id = [5_u64.to_be_bytes(), 1_u64.to_be_bytes()].concat();
    let time = 1_700_000_000_000_u64.to_le_bytes();
    let mut out = vec![1];
    out.extend(string(b"g"));
    out.extend([5, 1]);
    if version > 1 {
        out.push(2);
    }
    out.push(1);
    out.extend_from_slice(&id);
    out.extend_from_slice(&time);
    out.push(3);
    out.push(1);
    out.extend(string(b"c"));
    out.extend_from_slice(&time);
    if version > 2 {
        out.extend_from_slice(&time);
    }
    out.push(1);
    out.extend_from_slice(&id);
    out
}

fn stream(form: u8, version: u8) -> Vec<u8> {
    let mut out = vec![form, 1];
    out.extend(node());
    out.extend([2, 6, 0]);
    if version > 1 {
        out.extend([5, 1, 5, 0, 3]);
    }
    out.extend(groups(version));
    out
}

/// Bodies that no Redis writes, each with what is wrong.
pub fn wrong() -> Vec<(&'static str, Vec<u8>)> {
    use Item::{N, S};
    let intset = |numbers: &[i16]| {
        let mut blob = [&2_u32.to_le_bytes()[..], &[short(numbers.len()), 0, 0, 0]].concat();
        blob.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        [&[11][..], &string(&blob)].concat()
    };
    let packed = |form: u8, items: &[Item<'_>]| [&[form][..], &string(&listpack(items))].concat();
    let edited = |at: usize, byte: u8| {
        let mut body = stream(19, 2);
        assert_ne!(std::mem::replace(&mut body[at], byte), byte);
        body
    };
    // Behind the nodes: entries, the last id, the first, the largest deleted, added, groups.
    let head = 2 + node().len();
    let consumer_pending = stream(19, 2).len() - 17;
    vec![
        ("numbers out of order", intset(&[2, 1])),
        ("a number twice", intset(&[1, 1])),
        ("no numbers", intset(&[])),
        ("a member twice", [&[2, 2][..], &strings(&["a", "a"])].concat()),
        ("a member twice, packed", packed(20, &[N(1), N(1)])),
        ("a field twice", packed(16, &[S(b"f"), N(1), S(b"f"), N(2)])),
        ("a field without a value", packed(16, &[S(b"f"), N(1), S(b"g")])),
        (
            "a scored member twice",
            packed(17, &[S(b"m"), N(1), S(b"m"), N(2)]),
        ),
        ("a score that is no number", packed(17, &[S(b"m"), S(b"nan")])),
        (
            "a score that is no number, alone",
            [&[5, 1, 1, b'm'][..], &f64::NAN.to_le_bytes()].concat(),
        ),
        ("an empty list", vec![1, 0]),
        (
            "an empty node",
            [&[18, 1, 2][..], &string(&listpack(&[]))].concat(),
        ),
        ("a node of no kind", [&[18, 1, 3][..], &string(b"x")].concat()),
        ("bytes behind the value", vec![0, 1, b'x', 0]),
        (
            "entries out of order",
            [&[19, 2][..], &node(), &node(), &[4, 6, 0, 5, 1, 0, 0, 4, 0]].concat(),
        ),
        ("another number of entries", edited(head, 3)),
        ("a last id before the last entry", edited(head + 1, 5)),
        ("nobody's pending entry", {
            let mut body = stream(19, 2);
            body.truncate(consumer_pending);
            body.push(0);
            body
        }),
        (
            "a consumer's entry that is not pending",
            edited(stream(19, 2).len() - 1, 9),
        ),
    ]
}

/// Kind, body, and the version of Redis's format that first has it.
pub fn all() -> Vec<(&'static str, Vec<u8>, u16)> {
    use Item::{N, S};
    let quicklist = |nodes: &[Vec<u8>]| {
        let mut out = vec![14, short(nodes.len())];
        out.extend(nodes.iter().flat_map(|node| string(node)));
        out
    };
    let mixed = [
        &[18, 2, 1][..],
        &string(b"a plain node"),
        &[2],
        &string(&listpack(&[S(b"x"), N(5)])),
    ]
    .concat();
    let words = [3, 2, 1, b'a', 3, b'1', b'.', b'5', 1, b'b', 255].to_vec();
    vec![
        ("string", vec![0, 0xc1, 0x00, 0x80], 1),
        ("list", [&[1, 3][..], &strings(&["a", "", "c"])].concat(), 1),
        (
            "list",
            [&[10][..], &string(&ziplist(&["a", "b", "77"]))].concat(),
            4,
        ),
        ("list", quicklist(&[ziplist(&["a", "b"]), ziplist(&["c"])]), 7),
        ("list", mixed, 10),
        ("set", [&[2, 2][..], &strings(&["a", "b"])].concat(), 1),
        (
            "set",
            [&[20][..], &string(&listpack(&[S(b"a"), N(7)]))].concat(),
            11,
        ),
        ("hash", [&[4, 1][..], &strings(&["f", "v"])].concat(), 1),
        (
            "hash",
            [&[13][..], &string(&ziplist(&["f", "v", "g", "8"]))].concat(),
            4,
        ),
        ("zset", words, 1),
        (
            "zset",
            [&[12][..], &string(&ziplist(&["a", "1", "b", "2.5"]))].concat(),
            4,
        ),
        (
            "zset",
            [&[5, 1, 1, b'm'][..], &f64::NEG_INFINITY.to_le_bytes()].concat(),
            8,
        ),
        ("stream", stream(15, 1), 9),
        ("stream", stream(19, 2), 10),
        ("stream", stream(21, 3), 11),
    ]
}

fn read(machine: &mut Machine, kind: &str, body: &[u8]) -> String {
    assert_eq!(
        machine.restore("k", &trailer::seal(body.to_vec())),
        Ours::ok(),
        "{kind}: {}",
        body.escape_ascii()
    );
    whole(kind, "k", &mut |args| machine.call(args))
}

#[test]
fn forms_of_older_versions_are_what_redis_takes_them_for() {
    let Some(server) = Server::start() else {
        eprintln!("not run: there is no redis-server 7.0 here");
        return;
    };
    let mut redis = Connection::open(server.addr, Protocol::Resp3);
    let mut machine = Machine::default();
    for (kind, body, _) in all().into_iter().filter(|(.., version)| *version <= 10) {
        let mut args = words(&["RESTORE", "k", "0", "", "REPLACE"]);
        args[3] = trailer::seal(body.clone());
        assert_eq!(
            render(&redis.call(&args)),
            "OK",
            "{kind}: {}",
            body.escape_ascii()
        );
        let there = whole(kind, "k", &mut |args| redis.call(args));
        assert_eq!(
            read(&mut machine, kind, &body),
            there,
            "{kind}: {}",
            body.escape_ascii()
        );
    }
}

#[test]
fn forms_of_redis_7_2_are_read() {
    let mut machine = Machine::default();
    let read: Vec<String> = all()
        .into_iter()
        .filter(|(.., version)| *version > 10)
        .map(|(kind, body, _)| read(&mut machine, kind, &body))
        .collect();
    assert_eq!(read[0], r#"~["7", "a"]"#);
    let older = stream(19, 2);
    assert_eq!(read[1], self::read(&mut machine, "stream", &older));
    assert_eq!(read.len(), 2);
}

#[test]
fn what_a_memcached_client_has_stored_is_dumped_as_the_string_that_it_is() {
    let stored = Value::Flagged(Box::new(Flagged {
        data: Blob::from(&b"seven"[..]),
        flags: 7,
        stale: false,
        won: false,
        told: 0,
    }));
    let plain = Value::Str(Blob::from(&b"seven"[..]));
    assert_eq!(rdb::dump(&stored), rdb::dump(&plain));
    assert_eq!(rdb::load(&rdb::dump(&stored).expect("it fits")), Ok(plain));
}
