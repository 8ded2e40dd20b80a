//! Requests that meet a lock: they wait in the state, in order, and are answered under their own ticket.

use quorate::base::Reply;
use quorate::machine::{Condition, No, ReadOutcome, Refusal, Response, Ticket};

use crate::talk::*;

#[test]
fn a_run_behind_a_lock_is_answered_under_its_own_ticket_when_the_lock_goes() {
    for (committed, seen) in [(true, 11), (false, 1)] {
        let mut talk = Talk::shard();
        let holder = attempt(1, 1);
        assert_eq!(
            talk.ask(first_phase(prepare(holder, "SET n 10"))),
            yes(&[Reply::ok()])
        );
        let ticket = talk.parks(run("INCR n"));
        assert_eq!(talk.read("GET n", &[]), ReadOutcome::Locked);
        assert_eq!(talk.run("SET other 1"), ok(), "another key is free");
        let answers = talk.entry(vec![finish(holder, committed)]);
        assert_eq!(answers, [(ticket, int(seen)), (talk.ticket(), Response::Done)]);
        assert_eq!(talk.get("n"), Some(seen.to_string()));
        assert_eq!(
            talk.version("n"),
            talk.index,
            "a parked write takes the index at which it runs"
        );
        talk.assert_idle();
    }
}

#[test]
fn waiters_go_in_order_of_arrival_also_within_an_entry() {
    let mut talk = Talk::shard();
    let holder = attempt(1, 1);
    talk.ask(first_phase(prepare(holder, "SET a x; SET b x")));
    assert_eq!(
        talk.entry(vec![run("APPEND a 1"), run("APPEND b 2"), run("APPEND a 3")]),
        []
    );
    assert_eq!(talk.entry(vec![run("APPEND a 4; APPEND b 4")]), []);
    let answers = talk.entry(vec![finish(holder, true)]);
    let tickets: Vec<Ticket> = answers.iter().map(|(ticket, _)| *ticket).collect();
    let at = |index, at| Ticket { index, at };
    assert_eq!(tickets, [at(2, 0), at(2, 1), at(2, 2), at(3, 0), at(4, 0)]);
    assert_eq!(
        (talk.get("a"), talk.get("b")),
        (Some("x134".into()), Some("x24".into()))
    );
    talk.assert_idle();
}

#[test]
fn a_run_over_two_locks_waits_for_both() {
    let mut talk = Talk::shard();
    let (one, other) = (attempt(1, 1), attempt(2, 1));
    talk.ask(first_phase(prepare(one, "SET a 1")));
    talk.ask(first_phase(prepare(other, "SET b 1")));
    let ticket = talk.parks(run("MSET a 2 b 2"));
    assert_eq!(talk.ask(finish(other, true)), Response::Done);
    let answers = talk.entry(vec![finish(one, true)]);
    assert_eq!(answers[0], (ticket, ok()));
    assert_eq!(
        (talk.get("a"), talk.get("b")),
        (Some("2".into()), Some("2".into()))
    );
    talk.assert_idle();
}

#[test]
fn a_parked_request_is_refused_when_replicated_time_passes_its_deadline() {
    let mut talk = Talk::shard();
    let holder = attempt(1, 1);
    talk.ask(first_phase(prepare(holder, "SET a 1")));
    let ticket = talk.parks(run("SET a 2").numbered(1, 1).until(1100));
    talk.now = 1100;
    assert_eq!(talk.run("SET z 1"), ok(), "the deadline itself is not past it");
    assert!(!talk.state().has_overdue(1100) && talk.state().has_overdue(1101));
    talk.now = 1101;
    let answers = talk.entry(vec![sweep()]);
    assert_eq!(answers[0], (ticket, refused(Refusal::Deadline)));
    talk.ask(finish(holder, false));
    assert_eq!(talk.get("a"), None);
    talk.assert_idle();
}

/// "Refused" is told as "nothing happened", so it must stay true.
#[test]
fn a_copy_that_comes_after_the_refusal_is_refused_as_well() {
    let mut talk = Talk::shard();
    let holder = attempt(1, 1);
    let request = run("SET a 2").numbered(1, 1).until(1100);
    talk.ask(first_phase(prepare(holder, "SET a 1")));
    talk.parks(request.clone());
    talk.now = 1101;
    talk.entry(vec![sweep()]);
    talk.ask(finish(holder, false));
    assert_eq!(talk.ask(request), refused(Refusal::Deadline));
    assert_eq!(talk.get("a"), None);
}

#[test]
fn conditions_are_looked_at_when_the_lock_has_gone() {
    let mut talk = Talk::shard();
    talk.run("SET a 1");
    let version = talk.version("a");
    let holder = attempt(1, 1);
    talk.ask(first_phase(prepare(holder, "SET a 2")));
    let same = [at_version("a", version)];
    let ticket = talk.parks(run_if("SET b 1", &same));
    assert_eq!(
        talk.entry(vec![finish(holder, true)])[0],
        (ticket, Response::Conflict)
    );

    let version = talk.version("a");
    let holder = attempt(2, 1);
    talk.ask(first_phase(prepare(holder, "SET a 3")));
    let ticket = talk.parks(run_if("SET b 1", &[at_version("a", version)]));
    assert_eq!(talk.entry(vec![finish(holder, false)])[0], (ticket, ok()));
}

#[test]
fn conditions_are_all_or_nothing() {
    let mut talk = Talk::shard();
    talk.run("SET a 1");
    let a = talk.version("a");
    let both = |b| [at_version("a", a), at_version("b", b)];
    assert_eq!(talk.ask(run_if("SET c 1", &both(5))), Response::Conflict);
    assert_eq!(talk.get("c"), None);
    assert_eq!(
        talk.ask(run_if("SET c 1; SET b 1", &both(0))),
        Response::Replies(vec![Reply::ok(); 2])
    );
    let whole = Condition::Whole {
        version: talk.state().last_write(),
    };
    assert_eq!(talk.ask(run_if("DEL c", std::slice::from_ref(&whole))), int(1));
    assert_eq!(talk.ask(run_if("SET c 1", &[whole])), Response::Conflict);
}

#[test]
fn a_whole_shard_is_locked_against_everything() {
    let mut talk = Talk::shard();
    talk.run("MSET a 1 b 2");
    let holder = attempt(1, 1);
    assert_eq!(
        talk.ask(first_phase(prepare(holder, "FLUSHALL; SET c 1"))),
        yes(&[Reply::ok(), Reply::ok()])
    );
    let new_key = talk.parks(run("SET new 1"));
    let count = talk.parks(run("DBSIZE"));
    let younger = first_phase(prepare(attempt(2, 1), "SET a 9"));
    assert_eq!(talk.ask(younger), no(No::Locked));
    assert_eq!(talk.read("DBSIZE", &[]), ReadOutcome::Locked);
    let answers = talk.entry(vec![finish(holder, true)]);
    assert_eq!(answers[..2], [(new_key, ok()), (count, int(2))]);
    assert_eq!((talk.get("a"), talk.get("c")), (None, Some("1".into())));
    talk.assert_idle();
}

#[test]
fn a_whole_shard_waits_for_every_single_key() {
    let mut talk = Talk::shard();
    let (one, other) = (attempt(5, 1), attempt(6, 1));
    talk.ask(first_phase(prepare(one, "SET a 1")));
    talk.ask(first_phase(prepare(other, "SET b 1")));
    let flush = talk.parks(run("FLUSHALL"));
    let older = attempt(1, 1);
    let count = talk.parks(first_phase(prepare(older, "DBSIZE")));
    assert_eq!(talk.ask(finish(one, true)), Response::Done);
    let answers = talk.entry(vec![finish(other, true)]);
    assert_eq!(answers[..2], [(flush, ok()), (count, yes(&[Reply::Int(0)]))]);
    assert_eq!(talk.ask(finish(older, true)), Response::Done);
    talk.assert_idle();
}
