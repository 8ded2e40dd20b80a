//! Snapshots and replicas: the same entries make the same state, and a state that went through bytes is the same one.

use quorate::base::Millis;
use quorate::base::limits::{BULK_BYTES_MAX, FRAME_BYTES_MAX, SNAPSHOT_SECTION_BYTES};
use quorate::machine::{Decision, Frozen, Machine, Request, Response, Thaw, Ticket};

use crate::talk::*;

pub fn bytes_of(frozen: &Frozen) -> Vec<u8> {
    let mut bytes = Vec::new();
    let put = |section: &[u8]| {
        bytes.extend_from_slice(section);
        Ok::<(), quorate::base::codec::CodecError>(())
    };
    frozen.sections(put).expect("a state is encoded");
    bytes
}

/// Takes the bytes in pieces of uneven sizes.
pub fn thaw(bytes: &[u8]) -> Machine {
    let mut thaw = Thaw::default();
    let (mut rest, mut piece) = (bytes, 1);
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(piece.min(rest.len()));
        thaw.take(head).expect("a piece is taken");
        (rest, piece) = (tail, piece * 7 % 61 + 1);
    }
    thaw.finish().expect("all pieces are in")
}

/// A shard with everything in it: prepared, parked (with copies), refused, finished, replies, expiring keys.
fn busy_shard() -> Talk {
    let mut talk = Talk::shard();
    for n in 0..300 {
        talk.run(&format!("SET key{n} {n}"));
    }
    talk.run("SET soon 1 PX 50; SET later 1 PX 5000");
    talk.ask(run("INCR n").numbered(1, 1));
    talk.ask(run("INCR n").numbered(2, 1));
    talk.ask(first_phase(prepare(attempt(5, 1), "SET key1 five; INCR n")));
    talk.ask(first_phase(prepare(attempt(6, 1), "DEL key2; SET brand new")));
    talk.ask(first_phase(prepare(attempt(7, 1), "SET key1 seven")));
    talk.ask(finish(attempt(8, 1), false));
    talk.parks(run("INCR n").numbered(3, 1).until(1300));
    talk.parks(run("INCR n").numbered(3, 1).until(1300));
    talk.parks(run("SET key2 parked").numbered(4, 1).until(1100));
    talk.parks(first_phase(prepare(attempt(2, 1), "GET key1; SET key3 two")));
    talk.parks(run("DBSIZE"));
    talk
}

/// What may come next, touching all that was left open.
fn further_entries() -> Vec<(Millis, Vec<Request>)> {
    vec![
        (1010, vec![run("INCR n").numbered(1, 1), run("SET key9 x")]),
        (1060, vec![sweep()]),
        (
            1070,
            vec![first_phase(prepare(attempt(5, 1), "SET key1 five; INCR n"))],
        ),
        (1080, vec![first_phase(prepare(attempt(7, 1), "SET key1 seven"))]),
        (1081, vec![first_phase(prepare(attempt(8, 1), "SET free 1"))]),
        (
            1090,
            vec![first_phase(prepare(attempt(2, 1), "GET key1; SET key3 two"))],
        ),
        (1101, vec![sweep(), run("GET key2").numbered(4, 1)]),
        (
            1000,
            vec![finish(attempt(5, 1), true), run("INCR n").numbered(3, 1)],
        ),
        (1110, vec![finish(attempt(6, 1), false)]),
        (
            1120,
            vec![
                run_if("SET key4 if", &[at_version("key4", 5)]),
                finish(attempt(2, 1), true),
            ],
        ),
        (
            6000,
            vec![run("DBSIZE"), sweep(), run("DBSIZE"), run("RANDOMKEY")],
        ),
        (
            6010,
            vec![
                finish(attempt(5, 1), true),
                run("INCR n").numbered(9, 9),
                run("INCR n").numbered(2, 1),
            ],
        ),
    ]
}

type Answers = Vec<(Ticket, Response)>;

fn go_on(talk: &mut Talk) -> Vec<(Answers, u32)> {
    let step = |(now, requests)| {
        talk.now = now;
        (talk.entry(requests), talk.digest())
    };
    further_entries().into_iter().map(step).collect()
}

#[test]
fn a_state_that_went_through_bytes_goes_on_as_the_same_one() {
    let mut talk = busy_shard();
    assert!(talk.state().prepared().count() == 2 && talk.state().parked() == 4);
    let bytes = bytes_of(&talk.machine.freeze());
    let mut other = Talk {
        machine: thaw(&bytes),
        index: talk.index,
        now: talk.now,
    };
    assert_eq!(other.digest(), talk.digest());
    assert_eq!(other.state().keyspace().len(), talk.state().keyspace().len());
    let (one, two) = (go_on(&mut talk), go_on(&mut other));
    for (at, (one, two)) in one.iter().zip(&two).enumerate() {
        assert_eq!(one, two, "further entry {at}");
    }
    talk.assert_idle();
}

#[test]
fn replicas_are_equal_after_every_index_and_a_snapshot_at_any_of_them_joins_in() {
    let (mut one, mut two) = (busy_shard(), busy_shard());
    assert_eq!(one.digest(), two.digest());
    for (now, requests) in further_entries() {
        (one.now, two.now) = (now, now);
        assert_eq!(one.entry(requests.clone()), two.entry(requests));
        assert_eq!(one.digest(), two.digest(), "after index {}", one.index);
        two.machine = thaw(&bytes_of(&two.machine.freeze()));
        assert_eq!(
            one.digest(),
            two.digest(),
            "after the snapshot at index {}",
            one.index
        );
    }
}

#[test]
fn a_digest_shows_every_difference() {
    let talk = busy_shard();
    let changes = [
        run("SET key1x 1"),
        run("SET key7 8"),
        run("PEXPIRE key7 10000"),
        run("GET key7").numbered(11, 1),
        first_phase(prepare(attempt(20, 1), "GET key7")),
        finish(attempt(21, 1), false),
        run("GET key1"),
        run("SET key7 7"),
    ];
    for change in changes {
        let mut other = busy_shard();
        other.entry(vec![change.clone()]);
        assert_ne!(talk.digest(), other.digest(), "{change:?}");
    }
}

#[test]
fn what_was_frozen_does_not_change_any_more() {
    let mut talk = busy_shard();
    let (frozen, before) = (talk.machine.freeze(), bytes_of(&talk.machine.freeze()));
    let digest = talk.digest();
    go_on(&mut talk);
    talk.run("FLUSHALL");
    talk.run("SET key1 after");
    assert_eq!(bytes_of(&frozen), before);
    let old = thaw(&before);
    assert_eq!(old.digest().expect("a state is encoded"), digest);
    assert_ne!(talk.digest(), digest);
}

#[test]
fn a_coordinators_state_goes_through_bytes_as_well() {
    let mut talk = Talk::new(COORDINATOR);
    talk.ask(decide(1, commit(attempt(1, 1)), 0));
    talk.ask(decide(2, Decision::Abort, 0));
    talk.ask(decide(3, commit(attempt(3, 1)), 2));
    talk.ask(retire(3));
    let mut other = Talk {
        machine: thaw(&bytes_of(&talk.machine.freeze())),
        index: talk.index,
        now: talk.now,
    };
    assert_eq!(other.digest(), talk.digest());
    let further = [
        decide(1, Decision::Abort, 0),
        decide(2, commit(attempt(2, 1)), 0),
        decide(3, Decision::Abort, 0),
        retire(1),
        decide(4, commit(attempt(4, 1)), 4),
        decide(2, commit(attempt(2, 9)), 0),
    ];
    for request in further {
        assert_eq!(talk.ask(request.clone()), other.ask(request));
        assert_eq!(talk.digest(), other.digest());
    }
}

#[test]
fn a_stream_that_ends_early_or_is_of_another_format_is_no_state() {
    let bytes = bytes_of(&busy_shard().machine.freeze());
    let mut cut = Thaw::default();
    cut.take(&bytes[..bytes.len() - 1]).expect("a piece is taken");
    assert!(cut.finish().is_err());
    assert!(Thaw::default().finish().is_err());
    let mut wrong = Thaw::default();
    let mut other = bytes.clone();
    // The first section: eight bytes of length, the kind, the format's number.
    other[9] ^= 0x7f;
    assert!(wrong.take(&other).is_err());
}

fn sections_of(machine: &Machine) -> Vec<Vec<u8>> {
    let mut sections = Vec::new();
    let put = |section: &[u8]| {
        sections.push(section.to_vec());
        Ok::<(), quorate::base::codec::CodecError>(())
    };
    machine.freeze().sections(put).expect("a state is encoded");
    sections
}

pub fn thaw_sections(sections: &[Vec<u8>]) -> Machine {
    let mut thaw = Thaw::default();
    for section in sections {
        thaw.take(section).expect("a section is taken");
    }
    thaw.finish().expect("it is whole")
}

/// All keys with one tag are in one slot, and there may be millions of them.
#[test]
fn a_large_slot_is_written_in_pieces() {
    let mut talk = Talk::shard();
    let value = "x".repeat(10_000);
    for n in 0..500 {
        talk.run(&format!("SET {{tag}}{n} {value}"));
    }
    let sections = sections_of(&talk.machine);
    let largest = sections.iter().map(Vec::len).max();
    assert!(
        sections.len() > 5 && largest.is_some_and(|bytes| bytes < SNAPSHOT_SECTION_BYTES + 20_000),
        "{} sections, of {largest:?} bytes",
        sections.len()
    );
    let other = thaw_sections(&sections);
    assert_eq!(other.digest().ok(), talk.machine.digest().ok());
    assert_eq!(other.running_digest().ok(), talk.machine.running_digest().ok());
}

/// What a reply table holds may be more than any message between nodes may.
#[test]
fn a_head_beyond_any_message_is_read_back() {
    let mut talk = Talk::shard();
    let value = "x".repeat(BULK_BYTES_MAX);
    talk.run(&format!("SET big {value}"));
    for session in 1..=4 {
        talk.ask(run("GET big").numbered(session, 1));
    }
    let sections = sections_of(&talk.machine);
    assert!(sections.iter().any(|section| section.len() > FRAME_BYTES_MAX));
    let other = thaw_sections(&sections);
    assert_eq!(other.digest().ok(), talk.machine.digest().ok());
}
