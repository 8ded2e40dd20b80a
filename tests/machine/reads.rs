//! What a read waits for, and what a read of several shards takes for unchanged. Both were found by trying: a cluster whose
//! writers never rest starved readers (`tests/cluster/reads.rs`), and a reader of the code saw that a key may come and go
//! between two looks (mutant `absent-is-unchanged`).

use quorate::base::Reply;
use quorate::machine::{Condition, Read, ReadOutcome, Seen};

use crate::talk::{Talk, attempt, commands_of, finish, first_phase, prepare, run, sweep, yes};

fn read_at(talk: &Talk, asked: u64) -> ReadOutcome {
    let read = Read::Run {
        commands: commands_of("GET a"),
        conditions: Vec::new(),
        seed: 0,
        versions: true,
        misses: false,
    };
    talk.machine.read(&read, talk.now, asked)
}

fn saw(outcome: ReadOutcome) -> Vec<Reply> {
    match outcome {
        ReadOutcome::Ready(Seen::Run { replies, .. }) => replies,
        other => panic!("a read saw {other:?}"),
    }
}

#[test]
fn a_read_waits_for_what_was_prepared_before_it_and_for_nothing_later() {
    let mut talk = Talk::shard();
    talk.run("SET a 1");
    let [first, second] = [attempt(1, 1), attempt(2, 1)];
    assert_eq!(
        talk.ask(first_phase(prepare(first, "SET a 2"))),
        yes(&[Reply::ok()])
    );
    let asked = talk.index;
    assert_eq!(read_at(&talk, asked), ReadOutcome::Locked);
    assert_eq!(
        saw(read_at(&talk, asked - 1)),
        [Reply::bulk("1")],
        "it may come before it"
    );
    // The next is prepared in the entry that ends the first.
    talk.entry(vec![finish(first, true), first_phase(prepare(second, "SET a 3"))]);
    assert_eq!(
        saw(read_at(&talk, asked)),
        [Reply::bulk("2")],
        "the one it waited for is decided"
    );
    assert_eq!(
        read_at(&talk, talk.index),
        ReadOutcome::Locked,
        "a new one waits for the next"
    );
}

/// One that was parked when the read began, and prepared later, was acknowledged to nobody before that.
#[test]
fn a_prepare_counts_from_when_it_has_its_locks() {
    let mut talk = Talk::shard();
    talk.run("SET a 1");
    let [older, younger] = [attempt(1, 1), attempt(2, 1)];
    talk.ask(first_phase(prepare(younger, "SET a 2")));
    talk.parks(first_phase(prepare(older, "SET a 3")));
    let asked = talk.index;
    talk.entry(vec![finish(younger, false)]);
    assert_eq!(saw(read_at(&talk, asked)), [Reply::bulk("1")]);
    assert_eq!(read_at(&talk, talk.index), ReadOutcome::Locked);
}

/// What a read of `a` says has to be so for nothing to have changed.
fn touched(talk: &Talk) -> Vec<Condition> {
    match talk.read("GET a", &[]) {
        ReadOutcome::Ready(Seen::Run { touched, .. }) => touched,
        other => panic!("a read saw {other:?}"),
    }
}

fn is_unchanged(talk: &Talk, touched: &[Condition]) -> bool {
    talk.read("GET a", touched) != ReadOutcome::Ready(Seen::Conflict)
}

#[test]
fn an_absent_key_that_came_and_went_has_changed() {
    let mut talk = Talk::shard();
    let never = touched(&talk);
    assert!(is_unchanged(&talk, &never));
    talk.run("SET other 1");
    assert!(is_unchanged(&talk, &never), "another key came");
    talk.entry(vec![run("SET a 1"), run("DEL a")]);
    assert!(!is_unchanged(&talk, &never), "in one entry");
    let gone = touched(&talk);
    talk.run("SET a 2");
    assert!(!is_unchanged(&talk, &gone));
    talk.run("FLUSHALL");
    assert!(!is_unchanged(&talk, &gone), "gone again, with everything");
    assert!(is_unchanged(&talk, &touched(&talk)));
}

#[test]
fn an_absent_key_that_came_and_expired_has_changed() {
    let mut talk = Talk::shard();
    let never = touched(&talk);
    talk.run("SET a 1 PX 10");
    talk.now += 20;
    // Time passes by an entry of its own, which removes nothing yet.
    talk.run("SET other 1");
    let expired = touched(&talk);
    assert!(
        !is_unchanged(&talk, &never),
        "it has expired, and is not removed yet"
    );
    assert!(is_unchanged(&talk, &expired));
    talk.ask(sweep());
    assert!(!is_unchanged(&talk, &never), "and now it is");
}

/// At a commit all conditions are looked at under locks: there it is enough that the key is absent then.
#[test]
fn a_commit_wants_an_absent_key_absent_and_no_more() {
    let mut talk = Talk::shard();
    let watched: Vec<_> = touched(&talk).into_iter().map(Condition::for_commit).collect();
    talk.entry(vec![run("SET a 1"), run("DEL a")]);
    assert!(is_unchanged(&talk, &watched));
    talk.run("SET a 1");
    assert!(!is_unchanged(&talk, &watched));
}
