//! Small register histories by hand.

use quorate::checker::linear::{self, Answer, Operation, Outcome, check_within};
use quorate::checker::register::{Call, Register, RegisterOperation, Reply};

use Call::{Delete, Get, Incr, Set, SetIf};
use Reply::{Count, Deleted, Stored, Swapped, Value};

fn ok(client: u64, invoked: u64, at: u64, call: Call, reply: Reply) -> RegisterOperation {
    Operation {
        client,
        call,
        invoked,
        outcome: Outcome::Returned { at, reply },
    }
}

fn unknown(client: u64, invoked: u64, call: Call) -> RegisterOperation {
    Operation {
        client,
        call,
        invoked,
        outcome: Outcome::Unknown,
    }
}

#[track_caller]
fn legal(history: &[RegisterOperation]) {
    if let Err(violation) = linear::check(&Register::default(), history) {
        panic!("a lawful history was blamed: {violation}");
    }
}

/// Rejected, in words that hold all of `words`.
#[track_caller]
fn illegal(history: &[RegisterOperation], words: &[&str]) {
    let violation = linear::check(&Register::default(), history).expect_err("an unlawful history");
    let text = violation.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in:\n{text}");
    }
}

#[test]
fn an_empty_history_is_linearizable() {
    legal(&[]);
    legal(&[unknown(1, 5, Set(1))]);
}

#[test]
fn a_read_after_a_write_returns_it() {
    let write = ok(1, 0, 10, Set(7), Stored);
    legal(&[write.clone(), ok(2, 20, 30, Get, Value(Some(7)))]);
    illegal(
        &[write.clone(), ok(2, 20, 30, Get, Value(None))],
        &[
            "put 1 of them in order",
            "client 2: Get answered Value(None), between 20 and 30 ns",
        ],
    );
    // Concurrent: before or after.
    legal(&[write.clone(), ok(2, 9, 30, Get, Value(None))]);
    // Equal times count as concurrent.
    legal(&[write, ok(2, 10, 30, Get, Value(None))]);
}

#[test]
fn a_read_may_not_go_back() {
    let writes = [ok(1, 0, 10, Set(1), Stored), ok(1, 20, 100, Set(2), Stored)];
    let read = |invoked, value| ok(2, invoked, invoked + 5, Get, Value(Some(value)));
    let [one, two] = writes.clone();
    legal(&[one.clone(), two.clone(), read(30, 1), read(40, 2)]);
    illegal(
        &[one, two, read(30, 2), read(40, 1)],
        &["Get answered Value(Some(1))"],
    );
}

#[test]
fn concurrent_writes_have_one_order_for_all_readers() {
    let writes = [ok(1, 0, 100, Set(1), Stored), ok(2, 0, 100, Set(2), Stored)];
    let reads = |first, second| {
        let mut history = writes.to_vec();
        history.extend([
            ok(3, 10, 20, Get, Value(Some(first))),
            ok(4, 30, 40, Get, Value(Some(second))),
        ]);
        history
    };
    legal(&reads(1, 2));
    legal(&reads(2, 1));
    let mut back = reads(1, 2);
    back.push(ok(3, 50, 60, Get, Value(Some(1))));
    illegal(
        &back,
        &[
            "the state Some(1) must be there from 20 to 50 ns",
            "yet within that time is\n  client 4: Get answered Value(Some(2)), between 30 and 40 ns",
        ],
    );
}

#[test]
fn an_unknown_write_happens_late_or_never() {
    let base = [ok(1, 0, 10, Set(1), Stored), unknown(2, 20, Set(2))];
    let with = |more: &[RegisterOperation]| [base.as_slice(), more].concat();
    let read = |invoked, value| ok(3, invoked, invoked + 1, Get, Value(Some(value)));
    legal(&with(&[read(30, 1), read(1000, 1)]));
    legal(&with(&[read(30, 1), read(1000, 2)]));
    legal(&with(&[read(30, 2), read(1000, 2)]));
    illegal(&with(&[read(30, 2), read(1000, 1)]), &["Value(Some(1))"]);
    // Not before it was invoked.
    illegal(&with(&[read(12, 2)]), &["Value(Some(2))"]);
}

#[test]
fn an_unknown_write_that_nobody_read_can_be_what_a_failed_swap_saw() {
    let failed = ok(
        3,
        30,
        40,
        SetIf {
            expected: Some(1),
            value: 5,
        },
        Swapped(false),
    );
    let one = ok(1, 0, 10, Set(1), Stored);
    legal(&[one.clone(), unknown(2, 5, Set(2)), failed.clone()]);
    illegal(&[one, failed], &["Swapped(false)"]);
    let deleted = ok(3, 30, 40, Delete, Deleted(true));
    legal(&[unknown(2, 5, Set(2)), deleted.clone()]);
    illegal(std::slice::from_ref(&deleted), &["Deleted(true)"]);
    // One write cannot be seen twice.
    illegal(
        &[
            unknown(2, 5, Set(2)),
            deleted.clone(),
            ok(3, 50, 60, Delete, Deleted(true)),
        ],
        &[],
    );
}

#[test]
fn a_swap_and_an_increment_happen_once() {
    let swap = |client, reply| {
        let call = SetIf {
            expected: None,
            value: client,
        };
        ok(client, 0, 10, call, Swapped(reply))
    };
    legal(&[swap(1, true), swap(2, false)]);
    illegal(&[swap(1, true), swap(2, true)], &["client 1", "client 2"]);
    illegal(&[swap(1, false), swap(2, false)], &[]);
    let incr = |client, count| ok(client, 0, 10, Incr, Count(count));
    legal(&[incr(1, 2), incr(2, 1)]);
    illegal(&[incr(1, 1), incr(2, 1)], &["Count(1)"]);
    illegal(&[incr(1, 1), incr(2, 3)], &["Count(3)"]);
    legal(&[incr(1, 1), incr(2, 3), unknown(3, 0, Incr)]);
    illegal(&[incr(1, 1), incr(2, 4), unknown(3, 0, Incr)], &["Count(4)"]);
    illegal(&[incr(1, 0)], &["Count(0)"]);
}

#[test]
fn unknown_calls_work_together() {
    let get = |value| ok(9, 100, 110, Get, Value(value));
    let swap = SetIf {
        expected: Some(5),
        value: 6,
    };
    let chain = [unknown(1, 0, Set(5)), unknown(2, 0, swap), unknown(3, 0, Incr)];
    legal(&[chain.as_slice(), &[get(Some(7))]].concat());
    illegal(&[&chain[..2], &[get(Some(7))]].concat(), &["Value(Some(7))"]);
    legal(&[&chain[..2], &[get(Some(6))]].concat());
    illegal(&[&chain[1..2], &[get(Some(6))]].concat(), &[]);
    legal(&[
        ok(1, 0, 1, Set(3), Stored),
        unknown(2, 0, Delete),
        unknown(2, 0, Incr),
        get(Some(1)),
    ]);
}

#[test]
fn a_register_may_begin_with_a_value() {
    let history = [ok(1, 0, 1, Get, Value(Some(4)))];
    assert!(linear::check(&Register { start: Some(4) }, &history).is_ok());
    assert!(linear::check(&Register::default(), &history).is_err());
}

#[test]
fn a_reply_of_another_call_is_never_lawful() {
    illegal(&[ok(1, 0, 1, Get, Stored)], &["Get answered Stored"]);
}

#[test]
fn a_lost_value_is_named_before_its_turn_comes() {
    // Twice the same value, so that nobody can say which of the two was read.
    let history = |value| {
        [
            ok(1, 0, 10, Set(1), Stored),
            ok(1, 20, 30, Set(1), Stored),
            ok(2, 40, 50, Set(2), Stored),
            ok(3, 60, 70, Set(3), Stored),
            ok(4, 80, 90, Get, Value(Some(value))),
        ]
    };
    legal(&history(3));
    illegal(
        &history(1),
        &[
            "no call that is left can lead to what this one saw:\n  client 4: Get answered Value(Some(1))",
            "which leaves the state Some(2)",
        ],
    );
}

#[test]
fn states_that_come_once_do_not_overlap() {
    let history = |second: u64| {
        [
            ok(1, 0, 100, Set(1), Stored),
            ok(2, 0, 100, Set(2), Stored),
            ok(3, 10, 20, Get, Value(Some(1))),
            ok(4, 15, 30, Get, Value(Some(2))),
            ok(3, second, 70, Get, Value(Some(1))),
            ok(4, 60, 70, Get, Value(Some(2))),
        ]
    };
    legal(&history(30));
    illegal(
        &history(50),
        &[
            "the state Some(1) must be there from 20 to 50 ns",
            "the state Some(2) must be there from 30 to 60 ns",
            "These times overlap",
        ],
    );
    // The first state too is there from the beginning only.
    let start = Register { start: Some(9) };
    let late = [ok(1, 5, 10, Set(1), Stored), ok(2, 20, 30, Get, Value(Some(9)))];
    let violation = linear::check(&start, &late).expect_err("9 is gone");
    assert!(
        violation.to_string().contains("the history begins with it"),
        "{violation}"
    );
    let back = [&late[..1], &[ok(3, 5, 40, Set(9), Stored)], &late[1..]].concat();
    assert_eq!(linear::check(&start, &back), Ok(()));
}

#[test]
fn a_bound_ends_in_giving_up() {
    let mut history: Vec<RegisterOperation> = (0..20)
        .map(|client| ok(client, 0, 100, Incr, Count(client + 1)))
        .collect();
    assert_eq!(
        check_within(&Register::default(), &history, 1000),
        Ok(Answer::Linearizable)
    );
    assert_eq!(
        check_within(&Register::default(), &history, 5),
        Ok(Answer::GaveUp)
    );
    history.push(ok(30, 0, 100, Get, Value(Some(99))));
    assert!(check_within(&Register::default(), &history, 100_000).is_err());
}

#[test]
#[should_panic(expected = "returned before it was invoked")]
fn a_return_before_the_call_is_refused() {
    let _ = linear::check(&Register::default(), &[ok(1, 10, 5, Get, Value(None))]);
}
