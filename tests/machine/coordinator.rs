//! The coordinator's log: the first record wins, and what is forgotten can never be committed.

use quorate::base::limits::SESSION_IDLE_MS;
use quorate::machine::{Decision, Read, ReadOutcome, Response, Seen};

use crate::talk::*;

fn decided(decision: Decision) -> Response {
    Response::Decision(decision)
}

fn log(talk: &Talk) -> &quorate::machine::Coordinator {
    talk.machine.as_coordinator().expect("a coordinator")
}

#[test]
fn the_first_record_wins_whoever_asks_for_what() {
    let mut talk = Talk::new(COORDINATOR);
    let first = commit(attempt(1, 1));
    assert_eq!(talk.ask(decide(1, first.clone(), 0)), decided(first.clone()));
    for other in [Decision::Abort, commit(attempt(1, 2)), first.clone()] {
        assert_eq!(talk.ask(decide(1, other, 0)), decided(first.clone()));
    }
    assert_eq!(talk.ask(decide(2, Decision::Abort, 0)), decided(Decision::Abort));
    assert_eq!(
        talk.ask(decide(2, commit(attempt(2, 1)), 0)),
        decided(Decision::Abort)
    );
    assert_eq!(
        log(&talk).unretired().keys().copied().collect::<Vec<_>>(),
        [txn(1)]
    );
}

#[test]
fn the_first_record_wins_within_an_entry() {
    let mut talk = Talk::new(COORDINATOR);
    let answers = talk.entry(vec![
        decide(1, Decision::Abort, 0),
        decide(1, commit(attempt(1, 1)), 0),
    ]);
    assert!(
        answers
            .iter()
            .all(|(_, response)| *response == decided(Decision::Abort)),
        "{answers:?}"
    );
}

#[test]
fn a_commit_after_the_deadline_is_an_abort_by_replicated_time() {
    let mut talk = Talk::new(COORDINATOR);
    talk.now = FAR;
    assert_eq!(
        talk.ask(decide(1, commit(attempt(1, 1)), 0)),
        decided(commit(attempt(1, 1)))
    );
    talk.now = FAR + 1;
    assert_eq!(
        talk.ask(decide(2, commit(attempt(2, 1)), 0)),
        decided(Decision::Abort)
    );
    talk.now = 1000;
    assert_eq!(
        talk.ask(decide(3, commit(attempt(3, 1)), 0)),
        decided(Decision::Abort),
        "time does not go back"
    );
    assert_eq!(
        talk.ask(decide(1, Decision::Abort, 0)),
        decided(commit(attempt(1, 1))),
        "a record stands"
    );
}

#[test]
fn a_commit_stays_unretired_until_all_were_told_and_is_remembered_after_that() {
    let mut talk = Talk::new(COORDINATOR);
    let record = commit(attempt(1, 1));
    talk.ask(decide(1, record.clone(), 0));
    assert_eq!(talk.ask(retire(1)), Response::Done);
    assert_eq!(talk.ask(retire(1)), Response::Done);
    assert!(log(&talk).unretired().is_empty());
    assert_eq!(log(&talk).decision(txn(1)), Some(&record));
    assert_eq!(talk.ask(decide(1, Decision::Abort, 0)), decided(record));
}

#[test]
fn below_the_watermark_everything_is_an_abort_but_an_unretired_commit() {
    let mut talk = Talk::new(COORDINATOR);
    let record = commit(attempt(1, 1));
    talk.ask(decide(1, record.clone(), 0));
    talk.ask(decide(2, Decision::Abort, 0));
    talk.ask(decide(5, Decision::Abort, 5));
    assert_eq!(talk.ask(decide(1, Decision::Abort, 0)), decided(record.clone()));
    assert_eq!(
        talk.ask(decide(2, commit(attempt(2, 1)), 0)),
        decided(Decision::Abort)
    );
    assert_eq!(
        talk.ask(decide(3, commit(attempt(3, 1)), 0)),
        decided(Decision::Abort),
        "never seen before"
    );
    talk.ask(retire(1));
    assert_eq!(log(&talk).decision(txn(1)), None);
    assert_eq!(
        talk.ask(decide(1, commit(attempt(1, 2)), 0)),
        decided(Decision::Abort),
        "done once is enough"
    );
    assert_eq!(
        talk.ask(decide(6, commit(attempt(6, 1)), 5)),
        decided(commit(attempt(6, 1)))
    );
}

#[test]
fn an_idle_session_is_forgotten_without_bringing_anything_back() {
    let mut talk = Talk::new(COORDINATOR);
    talk.ask(decide(1, Decision::Abort, 0));
    let record = commit(attempt(2, 1));
    talk.ask(decide(2, record.clone(), 0));
    talk.now = FAR + 2 * SESSION_IDLE_MS;
    let mut other = decide(1, Decision::Abort, 0);
    if let quorate::machine::Body::Decide(decide) = &mut other.body {
        decide.txn.session = 10;
    }
    talk.ask(other);
    assert_eq!(log(&talk).decision(txn(1)), None, "forgotten");
    assert_eq!(
        talk.ask(decide(1, commit(attempt(1, 1)), 0)),
        decided(Decision::Abort),
        "its deadline is past"
    );
    assert_eq!(
        talk.ask(decide(2, Decision::Abort, 0)),
        decided(record),
        "a durable queue forgets nothing"
    );
}

#[test]
fn a_status_tells_the_record_and_nothing_else() {
    let mut talk = Talk::new(COORDINATOR);
    talk.ask(decide(1, Decision::Abort, 0));
    talk.ask(decide(2, commit(attempt(2, 1)), 0));
    let status = |seq| talk.machine.read(&Read::Status(txn(seq)), 0, u64::MAX);
    assert_eq!(status(1), ReadOutcome::Ready(Seen::Decision(Decision::Abort)));
    assert_eq!(
        status(2),
        ReadOutcome::Ready(Seen::Decision(commit(attempt(2, 1))))
    );
    assert_eq!(status(3), ReadOutcome::Ready(Seen::Nothing));
}
