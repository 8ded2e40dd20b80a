//! Withdraw: what became of an id, and if nothing has, nothing ever will. "Refused" is said only where it is true.

use quorate::base::limits::{SESSION_IDLE_MS, SESSION_REPLIES_MAX, SESSIONS_MAX};
use quorate::base::{GroupId, Reply, RequestId};
use quorate::machine::{Body, Decision, Fate, Refusal, Request, Response, Stage, Staged, State, Wait};

use crate::talk::*;

fn withdraw(seq: u64) -> Request {
    Request::anonymous(Body::Withdraw).numbered(seq, 0)
}

/// At the coordinator: of the session that `txn` names.
fn withdraw_txn(seq: u64) -> Request {
    let mut request = Request::anonymous(Body::Withdraw);
    request.id = Some(txn(seq));
    request
}

fn stage(seq: u64) -> (Staged, Request) {
    let staged = Staged {
        attempt: attempt(seq, 1),
        participants: vec![SHARD, GroupId::Shard(1)],
        deadline: FAR,
    };
    let stage = Stage {
        staged: staged.clone(),
        refused: None,
    };
    (staged, Request::anonymous(Body::Stage(Box::new(stage))))
}

#[test]
fn an_id_that_nobody_has_heard_of_is_refused_for_ever() {
    let mut talk = Talk::shard();
    assert_eq!(talk.ask(withdraw(5)), refused(Refusal::Deadline));
    assert_eq!(
        talk.ask(withdraw(5)),
        refused(Refusal::Deadline),
        "the same again"
    );
    for late in [run("SET k late").numbered(5, 0), run("SET k late").numbered(5, 5)] {
        assert_eq!(talk.ask(late), refused(Refusal::Deadline));
    }
    assert_eq!(
        talk.ask(run("SET other 1").numbered(6, 0)),
        ok(),
        "the next number is new"
    );
    // The session goes on, or is forgotten: the number stays refused.
    assert_eq!(talk.ask(run("SET other 2").numbered(7, 7)), ok());
    assert_eq!(
        talk.ask(run("SET k late").numbered(5, 0)),
        refused(Refusal::Finished)
    );
    talk.now += 2 * SESSION_IDLE_MS;
    assert_eq!(
        talk.ask(run("SET k late").numbered(5, 0)),
        refused(Refusal::Finished)
    );
    assert_eq!(talk.get("k"), None);
}

#[test]
fn what_was_executed_is_told_and_not_executed_again() {
    let mut talk = Talk::shard();
    assert_eq!(talk.ask(run("INCR n").numbered(1, 0)), int(1));
    assert_eq!(talk.ask(withdraw(1)), int(1));
    assert_eq!(
        talk.state().fate(RequestId { session: 7, seq: 1 }),
        Fate::Executed
    );
    let conflict = run_if("INCR n", &[at_version("n", 99)]).numbered(2, 0);
    assert_eq!(talk.ask(conflict), Response::Conflict);
    assert_eq!(talk.ask(withdraw(2)), Response::Conflict);
    assert_eq!(talk.get("n"), Some("1".into()));
}

/// It may have been executed: "refused" would be a lie.
#[test]
fn of_a_finished_number_nobody_knows() {
    let mut talk = Talk::shard();
    assert_eq!(talk.ask(run("INCR n").numbered(1, 0)), int(1));
    assert_eq!(
        talk.ask(run("GET n").numbered(2, 2)),
        Response::Replies(vec![Reply::bulk("1")])
    );
    assert_eq!(talk.ask(withdraw(1)), refused(Refusal::Finished));
    // Idle for long, and all replies forgotten.
    talk.now += 2 * SESSION_IDLE_MS;
    assert_eq!(talk.run("GET n"), Response::Replies(vec![Reply::bulk("1")]));
    let mut other = withdraw(1);
    other.id = Some(RequestId { session: 8, seq: 1 });
    assert_eq!(talk.ask(other), refused(Refusal::Deadline), "another session's");
    assert_eq!(talk.ask(withdraw(2)), refused(Refusal::Finished));
}

#[test]
fn a_parked_request_is_not_decided_and_its_answer_is_the_withdrawals() {
    for (committed, seen) in [(true, 11), (false, 1)] {
        let mut talk = Talk::shard();
        let holder = attempt(1, 1);
        talk.ask(first_phase(prepare(holder, "SET n 10")));
        let parked = talk.parks(run("INCR n").numbered(1, 0));
        let asked = talk.parks(withdraw(1));
        assert_eq!(talk.state().fate(RequestId { session: 7, seq: 1 }), Fate::Waits);
        let answers = talk.entry(vec![finish(holder, committed)]);
        assert_eq!(
            answers,
            [
                (parked, int(seen)),
                (asked, int(seen)),
                (talk.ticket(), Response::Done)
            ]
        );
        assert_eq!(talk.ask(withdraw(1)), int(seen));
    }
}

#[test]
fn a_parked_request_past_its_deadline_is_refused_to_all_who_asked() {
    let mut talk = Talk::shard();
    let deadline = talk.now + 10;
    talk.ask(first_phase(prepare(attempt(1, 1), "SET n 10")));
    let parked = talk.parks(run("INCR n").numbered(1, 0).until(deadline));
    let asked = talk.parks(withdraw(1));
    talk.now = deadline + 1;
    let late = refused(Refusal::Deadline);
    assert_eq!(
        talk.entry(vec![sweep()]),
        [
            (parked, late.clone()),
            (asked, late),
            (talk.ticket(), Response::Done)
        ]
    );
}

/// Not written down, so it proves nothing.
#[test]
fn a_session_with_too_many_replies_is_full() {
    let mut talk = Talk::shard();
    let requests = (1..=SESSION_REPLIES_MAX as u64).map(|seq| run("GET n").numbered(seq, 0));
    talk.entry(requests.collect());
    let next = SESSION_REPLIES_MAX as u64 + 1;
    assert_eq!(talk.ask(withdraw(next)), refused(Refusal::Full));
    assert_eq!(
        talk.ask(run("INCR n").numbered(next, 2)),
        int(1),
        "it was not refused"
    );
}

/// A table that was full may have forgotten the whole session, with what it had executed.
#[test]
fn of_a_session_that_may_be_forgotten_nobody_knows() {
    for group in [SHARD, COORDINATOR] {
        let mut talk = Talk::new(group);
        let other = |session: u128, body: Body| {
            let mut request = Request::anonymous(body);
            request.id = Some(RequestId { session, seq: 1 });
            request
        };
        let first = 1000;
        let all = (0..SESSIONS_MAX as u128).map(|n| other(first + n, Body::Withdraw));
        talk.entry(all.collect());
        let gone = other(1, Body::Withdraw);
        for _ in 0..2 {
            assert_eq!(talk.ask(gone.clone()), refused(Refusal::Finished), "{group}");
        }
        let known = talk.ask(other(first, Body::Withdraw));
        assert_ne!(known, refused(Refusal::Finished), "{group}");
    }
}

#[test]
fn a_transaction_that_nobody_has_heard_of_never_commits() {
    let mut talk = Talk::new(COORDINATOR);
    let aborted = Response::Decision(Decision::Abort);
    assert_eq!(talk.ask(withdraw_txn(1)), aborted);
    assert_eq!(talk.ask(stage(1).1), aborted, "a late attempt is not staged");
    assert_eq!(talk.ask(decide(1, commit(attempt(1, 1)), 0)), aborted);
}

#[test]
fn a_coordinator_tells_what_is_decided_and_what_is_staged() {
    let mut talk = Talk::new(COORDINATOR);
    let committed = commit(attempt(1, 1));
    talk.ask(decide(1, committed.clone(), 0));
    assert_eq!(talk.ask(withdraw_txn(1)), Response::Decision(committed.clone()));
    talk.ask(retire(1));
    assert_eq!(talk.ask(withdraw_txn(1)), Response::Decision(committed));

    let (staged, request) = stage(2);
    talk.ask(request);
    assert_eq!(
        talk.ask(withdraw_txn(2)),
        Response::Staged(staged.clone()),
        "it may be committed"
    );
    assert_eq!(talk.ask(withdraw_txn(2)), Response::Staged(staged));
    // The session has moved on: 1 was committed, and only the asker would know.
    talk.ask(decide(3, Decision::Abort, 3));
    assert_eq!(talk.ask(withdraw_txn(1)), refused(Refusal::Finished));
}

#[test]
fn a_listing_shows_what_is_prepared_and_who_holds_the_lock_that_others_wait_for() {
    let mut talk = Talk::shard();
    let holder = attempt(2, 1);
    talk.ask(first_phase(prepare(holder, "SET a 1")));
    // Older than the holder: it waits.
    talk.parks(first_phase(prepare(attempt(1, 1), "SET a 2; SET b 2")));
    talk.parks(run("INCR a").numbered(4, 0).until(5000));
    let listing = talk.state().listed(SHARD, None);
    assert_eq!(listing.left_out, 0);
    let shown: Vec<_> = listing
        .rows
        .iter()
        .map(|row| {
            (
                row.txn,
                row.state,
                row.deadline,
                row.coordinator,
                row.waits.clone(),
            )
        })
        .collect();
    let behind = vec![Wait::Lock {
        holder,
        key: Some("a".into()),
    }];
    let single = RequestId { session: 7, seq: 4 };
    assert_eq!(
        shown,
        [
            (
                txn(1),
                State::Parked,
                Some(FAR),
                Some(COORDINATOR),
                behind.clone()
            ),
            (
                txn(2),
                State::Prepared,
                Some(FAR),
                Some(COORDINATOR),
                vec![Wait::Decision(COORDINATOR)]
            ),
            (single, State::Parked, Some(5000), None, behind),
        ]
    );
    assert!(listing.rows.iter().all(|row| row.participants == [SHARD]));
    talk.entry(vec![finish(holder, true)]);
    let states = |talk: &Talk, txn| -> Vec<State> {
        let listing = talk.state().listed(SHARD, Some(txn));
        listing.rows.iter().map(|row| row.state).collect()
    };
    assert_eq!(states(&talk, txn(2)), [State::Committed]);
    assert_eq!(states(&talk, txn(1)), [State::Prepared]);
    assert_eq!(states(&talk, single), [State::Parked], "behind the next holder");
    talk.entry(vec![finish(attempt(1, 1), false)]);
    assert_eq!(states(&talk, single), [State::Executed]);
}
