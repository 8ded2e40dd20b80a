//! Collections, small and large, through snapshots, copies and prepares.

use quorate::base::limits::SNAPSHOT_SECTION_BYTES;
use quorate::machine::Frozen;
use quorate::machine::keyspace::Keyspace;

use crate::snapshot::{bytes_of, thaw};
use crate::talk::*;

/// Elements that make more than two sections.
const MANY: usize = 25_000;

fn filled(many: usize) -> Talk {
    let mut talk = Talk::shard();
    for from in (0..many).step_by(500) {
        let numbers = from..many.min(from + 500);
        let all = |one: &dyn Fn(usize) -> String| numbers.clone().map(one).collect::<Vec<_>>().join(" ");
        let long = |n: usize| format!("{n}-{}", "x".repeat(100));
        talk.run(&format!("HSET hash {}", all(&|n| format!("{n} {}", long(n)))));
        talk.run(&format!("SADD set {}", all(&long)));
        talk.run(&format!(
            "ZADD zset {}",
            all(&|n| format!("{} {}", n % 77, long(n)))
        ));
        talk.run(&format!("RPUSH list {}", all(&long)));
        talk.run(&format!("LPUSH list {}", all(&|n| format!("left{n}"))));
    }
    talk.run("PEXPIRE zset 100000");
    talk
}

/// What shows the state, and changes it further.
const FURTHER: &str = "HLEN hash; HGET hash 7; HDEL hash 7; HSET hash 8 eight; SCARD set; SREM set 9; ZRANK zset none; \
    ZRANGE zset 0 3 WITHSCORES; ZREMRANGEBYRANK zset 0 9; ZADD zset 5 new; ZCOUNT zset 5 5; LLEN list; LINDEX list 100; \
    LPOP list 3; RPOP list 2; LSET list 5 five; LRANGE list 0 9; SPOP set 3; HRANDFIELD hash 4; SRANDMEMBER set; PTTL zset";

fn other_of(talk: &Talk, frozen: &Frozen) -> Talk {
    Talk {
        machine: thaw(&bytes_of(frozen)),
        index: talk.index,
        now: talk.now,
    }
}

fn keyspace(talk: &Talk) -> &Keyspace {
    talk.state().keyspace()
}

#[test]
fn small_and_large_ones_come_back_from_a_snapshot_and_go_on_the_same() {
    for many in [3, MANY] {
        let mut talk = filled(many);
        let frozen = talk.machine.freeze();
        let mut other = other_of(&talk, &frozen);
        assert_eq!(other.digest(), talk.digest());
        assert_eq!(keyspace(&other).digest(), keyspace(&talk).digest());
        assert_eq!(talk.run(FURTHER), other.run(FURTHER), "with {many}");
        assert_eq!(other.digest(), talk.digest());
        for talk in [&talk, &other] {
            assert_eq!(keyspace(talk).digest(), keyspace(talk).digest_by_walk());
        }
        assert_ne!(
            thaw(&bytes_of(&frozen)).digest().ok(),
            Some(talk.digest()),
            "what was frozen does not change"
        );
    }
}

#[test]
fn a_large_one_is_written_in_pieces() {
    let talk = filled(MANY);
    let (mut sections, mut longest) = (0, 0);
    let put = |section: &[u8]| {
        sections += 1;
        longest = longest.max(section.len());
        Ok::<(), quorate::base::codec::CodecError>(())
    };
    talk.machine.freeze().sections(put).expect("a state is encoded");
    assert!(
        longest < 2 * SNAPSHOT_SECTION_BYTES,
        "a section of {longest} bytes"
    );
    assert!(sections > 4 * 2, "{sections} sections");
}

#[test]
fn a_large_one_that_goes_is_left_to_be_freed_elsewhere() {
    let mut talk = filled(MANY);
    drop(talk.machine.take_garbage());
    talk.run("HSET small a 1; DEL small; HSET small a 1; HDEL small a; SET text 1; DEL text");
    assert!(
        talk.machine.take_garbage().is_empty(),
        "what is small is freed at once"
    );
    for gone in ["DEL hash", "SET set 1", "RENAME zset list", "FLUSHALL"] {
        talk.run(gone);
        assert!(!talk.machine.take_garbage().is_empty(), "{gone}");
    }
}

#[test]
fn what_a_prepare_has_changed_shows_at_the_commit_and_not_before() {
    for many in [3, MANY] {
        for commit in [true, false] {
            let mut talk = filled(many);
            let before = talk.run("HLEN hash; LLEN list; ZCARD zset; SCARD set");
            let changes =
                "HSET hash more 1; LPUSH list more; ZADD zset 1 more; SREM set 0; SADD set more; DEL none";
            talk.ask(first_phase(prepare(attempt(5, 1), changes)));
            let digest = keyspace(&talk).digest();
            let mut other = other_of(&talk, &talk.machine.freeze());
            assert_eq!(keyspace(&other).digest(), digest);
            for talk in [&mut talk, &mut other] {
                talk.ask(finish(attempt(5, 1), commit));
                let after = talk.run("HLEN hash; LLEN list; ZCARD zset; SCARD set");
                assert_eq!(after == before, !commit, "{after:?}");
                assert_eq!(keyspace(talk).digest(), keyspace(talk).digest_by_walk());
            }
            assert_eq!(other.digest(), talk.digest());
        }
    }
}

/// The log index of the entry that last changed a key.
fn version(talk: &Talk, key: &str) -> Option<u64> {
    keyspace(talk).get(key.as_bytes()).map(|object| object.version)
}

#[test]
fn a_version_moves_with_each_change_and_with_nothing_else() {
    // As in Redis, LTRIM counts as a change whatever it trims; so does setting a field to what it was.
    let changes = "HSET hash 1 one; HDEL hash 1; HSETNX hash fresh 1; HINCRBY hash count 1; SADD set fresh; SREM set fresh; \
        SPOP set; ZADD zset 3 fresh; ZADD zset XX 4 fresh; ZINCRBY zset 1 fresh; ZREM zset fresh; ZPOPMIN zset; LPUSH list fresh; \
        LPOP list; LSET list 0 fresh; LINSERT list BEFORE fresh fresher; LREM list 1 fresh; LTRIM list 0 -1; RPOP list";
    let none = "HDEL hash none; HSETNX hash 2 two; HGET hash 2; HINCRBY hash 2 x; SADD set kept; SREM set none; SPOP set 0; \
        SRANDMEMBER set 2; ZADD zset NX 9 kept; ZADD zset 1 kept; ZADD zset XX 1 none; ZREM zset none; ZPOPMIN zset 0; \
        ZREMRANGEBYSCORE zset (1e9 inf; LPUSHX none 1; LPOP list 0; LINSERT list BEFORE none x; LREM list 0 none; LSET list 99999999 x; \
        SADD hash 1; LPUSH set 1; ZADD list 1 1; HSET zset 1 1";
    for (many, buffered) in [(3, false), (3, true), (MANY, false), (MANY, true)] {
        let mut talk = filled(many);
        for (commands, moves) in [(changes, true), (none, false)] {
            talk.run("SADD set kept; ZADD zset 1 kept; HSET hash 2 two");
            for command in commands.split(';').map(str::trim) {
                let key = command.split(' ').nth(1).expect("a key");
                let versions = |talk: &Talk| ["hash", "set", "zset", "list"].map(|key| version(talk, key));
                let (before, mine) = (versions(&talk), version(&talk, key));
                if buffered {
                    let attempt = attempt(talk.index + 1000, 1);
                    talk.ask(first_phase(prepare(attempt, command)));
                    talk.ask(finish(attempt, true));
                } else {
                    talk.run(command);
                }
                let what = format!("{command}, buffered {buffered}, of {many}");
                assert_eq!(version(&talk, key) != mine, moves, "{what}");
                assert_eq!(versions(&talk) != before, moves, "{what}: another key");
            }
        }
    }
}
