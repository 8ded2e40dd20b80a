//! What memcached's commands do to the state: unique numbers inside one entry, expiries, what lies beside a string, and that replicas
//! agree on all of it.

use bytes::Bytes;
use quorate::base::Reply;
use quorate::machine::commands::Memcached;
use quorate::machine::commands::memcached::{Delete, Delta, Look, Mode, Store, Word};
use quorate::machine::{Body, Command, Read, ReadOutcome, Request, Response, Seen};

use crate::snapshot::{bytes_of, thaw};
use crate::talk::*;

fn request(command: Memcached) -> Request {
    Request::anonymous(Body::Run {
        commands: vec![Command::Memcached(Box::new(command))],
        conditions: Vec::new(),
        mode: quorate::machine::Mode::Together,
    })
}

fn store(key: &'static str, value: &'static str) -> Store {
    Store {
        key: Bytes::from(key),
        value: Bytes::from(value),
        flags: 0,
        exptime: 0,
        mode: Mode::Set,
        cas: None,
        invalidate: false,
        tell: false,
    }
}

fn look(key: &'static str) -> Look {
    Look {
        key: Bytes::from(key),
        touch: None,
        vivify: None,
        recache: None,
        wins: true,
        cas: true,
        writes: true,
    }
}

fn gets(key: &'static str) -> Memcached {
    Memcached::Get {
        keys: vec![Bytes::from(key)],
        cas: true,
    }
}

fn one(response: &Response) -> Reply {
    match response {
        Response::Replies(replies) => replies[0].clone(),
        other => panic!("{other:?}"),
    }
}

/// The unique number that a reply tells.
fn told(reply: &Reply) -> u64 {
    let number = match reply {
        Reply::Int(cas) => *cas,
        Reply::Array(parts) => match parts.as_slice() {
            [item @ Reply::Array(_)] => return told(item),
            // An item that was read or looked at; a number that was counted.
            [_, _, Reply::Int(cas)] | [_, _, Reply::Int(cas), _, _, _] | [_, Reply::Int(cas), _, _] => *cas,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    u64::try_from(number).expect("it is positive")
}

fn read(talk: &Talk, command: Memcached) -> Reply {
    let read = Read::Run {
        commands: vec![Command::Memcached(Box::new(command))],
        conditions: Vec::new(),
        seed: 0,
        versions: false,
        misses: false,
    };
    match talk.machine.read(&read, talk.now, u64::MAX) {
        ReadOutcome::Ready(Seen::Run { replies, .. }) => replies[0].clone(),
        other => panic!("{other:?}"),
    }
}

fn cas(key: &'static str, cas: u64) -> Request {
    request(Memcached::Store(Store {
        cas: Some(cas),
        ..store(key, "later")
    }))
}

/// The story would be: two clients' commands share a log entry, the first is told a number, the second changes the key, and the first
/// writes over it, since a number that is the entry's index alone is still right.
#[test]
fn a_number_told_inside_an_entry_is_not_that_of_a_later_change_in_it() {
    let tell = || {
        request(Memcached::Store(Store {
            tell: true,
            ..store("k", "one")
        }))
    };
    let set = || request(Memcached::Store(store("k", "two")));
    let flush_and_set = || run("FLUSHALL; SET k two");
    let counts = || {
        request(Memcached::Delta(Delta {
            key: Bytes::from("k"),
            decr: false,
            delta: 1,
            cas: None,
            initial: Some((0, 1)),
            exptime: None,
            tell: true,
        }))
    };
    let counts_silently = || {
        request(Memcached::Delta(Delta {
            key: Bytes::from("k"),
            decr: false,
            delta: 1,
            cas: None,
            initial: None,
            exptime: None,
            tell: false,
        }))
    };
    let invalidates = || {
        request(Memcached::Delete(Delete {
            key: Bytes::from("k"),
            cas: None,
            invalidate: true,
            exptime: None,
        }))
    };
    let touches = || {
        request(Memcached::Touch {
            key: Bytes::from("k"),
            exptime: 100,
        })
    };
    // Each with the place of who is told.
    let entries = [
        (0, vec![counts(), counts_silently()]),
        (0, vec![tell(), invalidates()]),
        (0, vec![tell(), touches()]),
        (0, vec![tell(), set()]),
        (0, vec![tell(), tell()]),
        (0, vec![tell(), run("SET k two")]),
        (0, vec![tell(), flush_and_set()]),
        (0, vec![tell(), run("FLUSHALL"), tell()]),
        (1, vec![run("SET k one"), request(gets("k")), run("SET k two")]),
        (
            1,
            vec![run("SET k one"), request(gets("k")), request(gets("k")), set()],
        ),
        (
            1,
            vec![run("SET k one"), request(Memcached::Look(look("k"))), set()],
        ),
        (1, vec![run("SET k 1"), counts(), run("SET k two")]),
    ];
    for (n, (at, entry)) in entries.into_iter().enumerate() {
        let mut talk = Talk::shard();
        let answers = talk.entry(entry);
        let number = told(&one(&answers[at].1));
        assert_eq!(
            one(&talk.ask(cas("k", number))),
            Reply::Simple("EXISTS".into()),
            "{n}"
        );
        // What is read between entries is right, until something changes.
        let now = told(&read(&talk, gets("k")));
        assert_eq!(
            one(&talk.ask(cas("k", now))),
            Reply::Simple("STORED".into()),
            "{n}"
        );
        assert_eq!(
            one(&talk.ask(cas("k", now))),
            Reply::Simple("EXISTS".into()),
            "{n}"
        );
    }
}

#[test]
fn a_number_told_is_right_as_long_as_nothing_changes() {
    for entry in [
        vec![run("SET k one"), request(gets("k"))],
        vec![
            run("SET k one"),
            request(gets("k")),
            request(gets("k")),
            run("GET k"),
        ],
        vec![
            run("SET k one"),
            request(Memcached::Look(look("k"))),
            request(gets("k")),
        ],
        vec![request(Memcached::Store(Store {
            tell: true,
            ..store("k", "one")
        }))],
    ] {
        let mut talk = Talk::shard();
        let answers = talk.entry(entry);
        let numbers: Vec<u64> = answers
            .iter()
            .filter(|(_, response)| matches!(one(response), Reply::Array(_) | Reply::Int(_)))
            .map(|(_, response)| told(&one(response)))
            .collect();
        assert!(numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
        assert_eq!(told(&read(&talk, gets("k"))), numbers[0]);
        assert_eq!(
            one(&talk.ask(cas("k", numbers[0]))),
            Reply::Simple("STORED".into())
        );
    }
}

#[test]
fn times_are_replicated_ones() {
    let month: i64 = 60 * 60 * 24 * 30;
    for (exptime, expires) in [
        (0, None),
        (10, Some(11_000)),
        (month, Some(1000 + month.unsigned_abs() * 1000)),
        (month + 1, Some((month.unsigned_abs() + 1) * 1000)),
        (i64::MAX, Some(u64::MAX)),
    ] {
        let mut talk = Talk::shard();
        talk.ask(request(Memcached::Store(Store {
            exptime,
            ..store("k", "x")
        })));
        let object = talk.state().keyspace().get(b"k").expect("it is there");
        assert_eq!(object.expires(), expires, "{exptime}");
    }
    let mut talk = Talk::shard();
    talk.run("SET k x");
    talk.ask(request(Memcached::Touch {
        key: Bytes::from("k"),
        exptime: -1,
    }));
    assert_eq!(talk.get("k"), None);
    talk.now = 500;
    talk.ask(request(Memcached::Store(Store {
        exptime: 1,
        ..store("k", "x")
    })));
    talk.now = 2000;
    assert_eq!(read(&talk, gets("other")), Reply::Array(vec![Reply::Nil]));
    let expired = Read::Run {
        commands: vec![Command::Memcached(Box::new(gets("k")))],
        conditions: Vec::new(),
        seed: 0,
        versions: false,
        misses: false,
    };
    assert_eq!(
        talk.machine.read(&expired, talk.now, u64::MAX),
        ReadOutcome::Expired,
        "replicated time is 1000: the expiry is logged first"
    );
}

#[test]
fn a_look_that_reads_says_where_it_would_have_to_write() {
    let mut talk = Talk::shard();
    let reads = |look: Look| {
        Memcached::Look(Look {
            writes: false,
            ..look
        })
    };
    let writes = Reply::Simple(Word::Writes.text().into());
    let vivify = Look {
        vivify: Some(10),
        ..look("k")
    };
    assert_eq!(read(&talk, reads(look("k"))), Reply::Nil);
    assert_eq!(read(&talk, reads(vivify.clone())), writes);
    assert_eq!(
        one(&talk.ask(request(reads(vivify.clone())))),
        writes,
        "in the log, too"
    );
    assert_eq!(talk.get("k"), None);
    talk.ask(request(Memcached::Look(vivify.clone())));
    assert_eq!(talk.get("k").as_deref(), Some(""));
    assert!(
        matches!(read(&talk, reads(vivify)), Reply::Array(_)),
        "one has won already"
    );
    talk.ask(request(Memcached::Delete(Delete {
        key: Bytes::from("k"),
        cas: None,
        invalidate: true,
        exptime: None,
    })));
    assert_eq!(
        read(&talk, reads(look("k"))),
        writes,
        "the first to see that it is stale wins"
    );
}

#[test]
fn what_lies_beside_a_string_goes_through_snapshots_and_counts_in_digests() {
    let flagged = |flags, mark: bool| {
        let mut talk = Talk::shard();
        talk.ask(request(Memcached::Store(Store {
            flags,
            tell: mark,
            exptime: 100,
            ..store("k", "x")
        })));
        talk
    };
    let plain = flagged(0, false);
    let talks = [plain, flagged(1, false), flagged(2, false), flagged(0, true)];
    let digests: Vec<_> = talks
        .iter()
        .map(|talk| talk.state().keyspace().digest())
        .collect();
    for (n, digest) in digests.iter().enumerate() {
        assert!(!digests[n + 1..].contains(digest), "{n}");
    }
    // Also by which number was told.
    let tell = || {
        request(Memcached::Store(Store {
            tell: true,
            ..store("k", "x")
        }))
    };
    let after = |entry: Vec<Request>| {
        let mut talk = Talk::shard();
        talk.entry(entry);
        talk.state().keyspace().digest()
    };
    assert_ne!(after(vec![tell()]), after(vec![tell(), tell()]));
    for mut talk in talks {
        for further in ["SET other 1", "EXPIRE k 50", "RENAME k k2", "COPY k2 k"] {
            talk.run(further);
        }
        talk.ask(request(Memcached::Look(Look {
            touch: Some(7),
            ..look("k2")
        })));
        let copy = thaw(&bytes_of(&talk.machine.freeze()));
        assert_eq!(copy.digest().ok(), talk.machine.digest().ok());
        let keyspace = copy.as_shard().expect("a shard").keyspace();
        assert_eq!(keyspace.digest(), keyspace.digest_by_walk());
        assert_eq!(keyspace.digest(), talk.state().keyspace().digest());
    }
}
