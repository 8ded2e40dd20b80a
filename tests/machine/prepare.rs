//! The first phase and the second: votes that are kept to, wait-die, and messages that come late, twice or for nothing.

use quorate::base::{AttemptId, Reply};
use quorate::machine::{No, ReadOutcome, Response};

use crate::talk::*;

#[test]
fn prepared_twice_is_the_same_vote_and_one_lock() {
    let mut talk = Talk::shard();
    talk.run("SET n 1");
    let holder = attempt(1, 1);
    let request = first_phase(prepare(holder, "INCR n"));
    let vote = yes(&[Reply::Int(2)]);
    assert_eq!(talk.ask(request.clone()), vote);
    assert_eq!(talk.ask(request.clone()), vote);
    assert_eq!(talk.state().prepared().count(), 1);
    assert_eq!(talk.ask(finish(holder, true)), Response::Done);
    assert_eq!(talk.get("n"), Some("2".into()), "an intent is applied once");
    assert_eq!(talk.ask(request), no(No::Late), "and cannot be prepared again");
    assert_eq!(talk.ask(finish(holder, true)), Response::Done);
    assert_eq!(talk.get("n"), Some("2".into()));
}

#[test]
fn an_abort_leaves_nothing_behind() {
    let mut talk = Talk::shard();
    talk.run("SET a 1");
    let (version, last) = (talk.version("a"), talk.state().last_write());
    let holder = attempt(1, 1);
    talk.ask(first_phase(prepare(holder, "SET a 2; SET b 2")));
    talk.ask(finish(holder, false));
    assert_eq!((talk.get("a"), talk.get("b")), (Some("1".into()), None));
    assert_eq!((talk.version("a"), talk.state().last_write()), (version, last));
    talk.assert_idle();
}

#[test]
fn the_older_waits_and_the_younger_dies() {
    let mut talk = Talk::shard();
    let holder = attempt(5, 1);
    talk.ask(first_phase(prepare(holder, "SET a 5")));
    let (older, younger) = (attempt(3, 1), attempt(8, 1));
    assert_eq!(talk.ask(first_phase(prepare(younger, "SET a 8"))), no(No::Locked));
    let ticket = talk.parks(first_phase(prepare(older, "GET a")));
    let answers = talk.entry(vec![finish(holder, true)]);
    assert_eq!(
        answers,
        [
            (ticket, yes(&[Reply::bulk("5")])),
            (talk.ticket(), Response::Done)
        ]
    );
    talk.ask(finish(older, false));
    talk.assert_idle();
}

#[test]
fn who_waits_for_one_lock_does_not_wait_for_an_older_owner_of_another() {
    let mut talk = Talk::shard();
    talk.ask(first_phase(prepare(attempt(2, 1), "SET a 1")));
    talk.ask(first_phase(prepare(attempt(6, 1), "SET b 1")));
    assert_eq!(
        talk.ask(first_phase(prepare(attempt(4, 1), "SET a 2; SET b 2"))),
        no(No::Locked)
    );
    assert_eq!(talk.state().parked(), 0);
}

/// Two olds wait for one young; when it goes, the first takes the lock and the other must not wait behind an older.
#[test]
fn a_waiter_dies_when_an_older_one_gets_the_lock_before_it() {
    let mut talk = Talk::shard();
    let (eldest, middle, holder) = (attempt(1, 1), attempt(2, 1), attempt(9, 1));
    talk.ask(first_phase(prepare(holder, "SET a 9")));
    let first = talk.parks(first_phase(prepare(eldest, "SET a 1")));
    let second = talk.parks(first_phase(prepare(middle, "SET a 2")));
    let answers = talk.entry(vec![finish(holder, false)]);
    assert_eq!(
        answers[..2],
        [(first, yes(&[Reply::ok()])), (second, no(No::Locked))]
    );
    assert_eq!(
        talk.ask(first_phase(prepare(middle, "SET a 2"))),
        no(No::Late),
        "its No is kept to"
    );
}

#[test]
fn an_older_waiter_goes_on_waiting_behind_a_younger_one_that_came_first() {
    let mut talk = Talk::shard();
    let (eldest, middle, holder) = (attempt(1, 1), attempt(2, 1), attempt(9, 1));
    talk.ask(first_phase(prepare(holder, "SET a 9")));
    let first = talk.parks(first_phase(prepare(middle, "SET a 2")));
    let second = talk.parks(first_phase(prepare(eldest, "GET a")));
    let answers = talk.entry(vec![finish(holder, false)]);
    assert_eq!(
        answers,
        [(first, yes(&[Reply::ok()])), (talk.ticket(), Response::Done)]
    );
    let answers = talk.entry(vec![finish(middle, true)]);
    assert_eq!(answers[0], (second, yes(&[Reply::bulk("2")])));
}

#[test]
fn a_newer_attempt_of_the_same_transaction_waits_for_the_older_to_be_finished() {
    let mut talk = Talk::shard();
    let (one, two) = (attempt(1, 1), attempt(1, 2));
    talk.ask(first_phase(prepare(one, "SET a 1")));
    let ticket = talk.parks(first_phase(prepare(two, "SET a 1")));
    let answers = talk.entry(vec![finish(one, false)]);
    assert_eq!(answers[0], (ticket, yes(&[Reply::ok()])));
    talk.ask(finish(two, true));
    assert_eq!(talk.get("a"), Some("1".into()));
    talk.assert_idle();
}

#[test]
fn copies_of_a_parked_prepare_get_one_vote() {
    let mut talk = Talk::shard();
    let (holder, older) = (attempt(5, 1), attempt(1, 1));
    talk.ask(first_phase(prepare(holder, "SET a 5")));
    let request = first_phase(prepare(older, "SET a 1"));
    let tickets = [(); 3].map(|()| talk.parks(request.clone()));
    assert_eq!(talk.state().parked(), 1);
    let answers = talk.entry(vec![finish(holder, true)]);
    let vote = yes(&[Reply::ok()]);
    let expected = tickets.map(|ticket| (ticket, vote.clone()));
    assert_eq!(answers[..3], expected);
}

#[test]
fn a_prepare_past_its_deadline_is_refused_and_so_is_a_parked_one() {
    let mut talk = Talk::shard();
    let until = |attempt: AttemptId, deadline| {
        let mut prepare = prepare(attempt, "SET a 1");
        prepare.deadline = deadline;
        first_phase(prepare)
    };
    assert_eq!(talk.ask(until(attempt(1, 1), 999)), no(No::Late));
    assert_eq!(talk.ask(until(attempt(5, 1), 1000)), yes(&[Reply::ok()]));
    let ticket = talk.parks(until(attempt(2, 1), 1010));
    talk.now = 1011;
    let answers = talk.entry(vec![sweep()]);
    assert_eq!(answers[0], (ticket, no(No::Late)));
    assert_eq!(
        talk.state().prepared().count(),
        1,
        "what is prepared waits for its decision"
    );
    talk.now = 2000;
    assert_eq!(talk.ask(until(attempt(2, 1), 1010)), no(No::Late));
    assert_eq!(
        talk.ask(finish(attempt(5, 1), true)),
        Response::Done,
        "a decision has no deadline here"
    );
    assert_eq!(talk.get("a"), Some("1".into()));
    talk.assert_idle();
}

#[test]
fn time_stamps_that_go_back_do_not_open_a_deadline_again() {
    let mut talk = Talk::shard();
    let mut late = prepare(attempt(1, 1), "SET a 1");
    late.deadline = 1050;
    talk.now = 1051;
    talk.run("SET z 1");
    talk.now = 900;
    assert_eq!(talk.ask(first_phase(late)), no(No::Late));
    assert_eq!(talk.machine.time(), 1051);
}

#[test]
fn a_no_is_kept_to_although_the_reason_has_gone() {
    let mut talk = Talk::shard();
    let holder = attempt(1, 1);
    talk.ask(first_phase(prepare(holder, "SET a 1")));
    let (locked, conditional) = (attempt(2, 1), attempt(3, 1));
    let requests = [
        first_phase(prepare(locked, "SET a 2")),
        first_phase(prepare_if(conditional, "SET b 1", &[at_version("b", 77)])),
    ];
    assert_eq!(talk.ask(requests[0].clone()), no(No::Locked));
    assert_eq!(talk.ask(requests[1].clone()), no(No::Condition));
    talk.ask(finish(holder, false));
    for request in requests {
        assert_eq!(talk.ask(request), no(No::Late));
    }
    assert_eq!(
        talk.ask(first_phase(prepare(attempt(2, 2), "SET a 2"))),
        yes(&[Reply::ok()])
    );
}

#[test]
fn an_abort_that_overtakes_its_prepare_wins() {
    let mut talk = Talk::shard();
    assert_eq!(talk.ask(finish(attempt(1, 1), false)), Response::Done);
    assert_eq!(
        talk.ask(first_phase(prepare(attempt(1, 1), "SET a 1"))),
        no(No::Late)
    );
    assert_eq!(
        talk.ask(first_phase(prepare(attempt(1, 2), "SET a 1"))),
        yes(&[Reply::ok()])
    );
}

#[test]
fn an_abort_of_a_parked_prepare_answers_it() {
    let mut talk = Talk::shard();
    let (holder, older) = (attempt(5, 1), attempt(1, 1));
    talk.ask(first_phase(prepare(holder, "SET a 5")));
    let ticket = talk.parks(first_phase(prepare(older, "SET a 1")));
    let answers = talk.entry(vec![finish(older, false)]);
    assert_eq!(answers, [(ticket, no(No::Late)), (talk.ticket(), Response::Done)]);
    assert_eq!(talk.ask(finish(holder, true)), Response::Done);
    talk.assert_idle();
}

#[test]
#[should_panic(expected = "did not prepare here or was aborted")]
fn a_commit_of_what_was_never_prepared_stops_the_replica() {
    Talk::shard().ask(finish(attempt(1, 1), true));
}

#[test]
#[should_panic(expected = "did not prepare here or was aborted")]
fn a_commit_of_what_was_aborted_stops_the_replica() {
    let mut talk = Talk::shard();
    talk.ask(first_phase(prepare(attempt(1, 1), "SET a 1")));
    talk.ask(finish(attempt(1, 1), false));
    talk.ask(finish(attempt(1, 1), true));
}

/// A participant that asked, and was told to commit by others while its question was under way, hears "abort" once the
/// record has been retired and forgotten.
#[test]
fn an_abort_after_the_commit_is_a_stray_and_changes_nothing() {
    let mut talk = Talk::shard();
    let holder = attempt(1, 1);
    talk.ask(first_phase(prepare(holder, "SET a 1")));
    talk.ask(finish(holder, true));
    assert_eq!(talk.ask(finish(holder, false)), Response::Done);
    assert_eq!(
        talk.ask(finish(holder, true)),
        Response::Done,
        "still remembered as committed"
    );
    assert_eq!(talk.get("a"), Some("1".into()));
}

#[test]
fn conditions_of_a_prepare_are_locked_with_it() {
    let mut talk = Talk::shard();
    talk.run("SET a 1");
    let holder = attempt(1, 1);
    let conditions = [at_version("a", talk.version("a")), at_version("gone", 0)];
    assert_eq!(
        talk.ask(first_phase(prepare_if(holder, "SET b 1", &conditions))),
        yes(&[Reply::ok()])
    );
    for key in ["a", "gone", "b"] {
        assert_eq!(
            talk.read(&format!("GET {key}"), &[]),
            ReadOutcome::Locked,
            "{key}"
        );
    }
    let ticket = talk.parks(run("SET a 2"));
    assert_eq!(talk.entry(vec![finish(holder, true)])[0], (ticket, ok()));
}
