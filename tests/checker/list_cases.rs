//! One small history of each anomaly by hand, each beside the nearest lawful one.

use quorate::checker::list_append::{Cycle, Kind, Op, Outcome, Txn, check};

/// All transactions at the same time, unless `during` says otherwise.
fn txn(ops: &[Op]) -> Txn {
    Txn {
        client: 0,
        invoked: 0,
        outcome: Outcome::Committed { at: 100 },
        ops: ops.to_vec(),
    }
}

fn during(invoked: u64, at: u64, ops: &[Op]) -> Txn {
    Txn {
        invoked,
        outcome: Outcome::Committed { at },
        ..txn(ops)
    }
}

fn aborted(ops: &[Op]) -> Txn {
    Txn {
        outcome: Outcome::Aborted { at: 100 },
        ..txn(ops)
    }
}

fn unknown(invoked: u64, ops: &[Op]) -> Txn {
    Txn {
        invoked,
        outcome: Outcome::Unknown,
        ..txn(ops)
    }
}

fn a(key: u64, element: u64) -> Op {
    Op::Append { key, element }
}

fn r(key: u64, list: &[u64]) -> Op {
    Op::Read {
        key,
        list: Some(list.to_vec()),
    }
}

#[track_caller]
fn legal(history: &[Txn]) {
    if let Err(violations) = check(history) {
        panic!("a lawful history was blamed: {violations}");
    }
}

/// The only kind found is `kind`, of just the transactions `txns`, and the words hold all of `words`.
#[track_caller]
fn illegal(history: &[Txn], kind: Kind, txns: &[usize], words: &[&str]) {
    let violations = check(history).expect_err("an unlawful history");
    let text = violations.to_string();
    let [anomaly] = &*violations.anomalies else {
        panic!("wanted one anomaly: {text}");
    };
    assert_eq!(anomaly.kind, kind, "{text}");
    let mut found = anomaly.txns.clone();
    found.sort_unstable();
    assert_eq!(found, txns, "{text}");
    let names = txns.iter().map(|txn| format!("T{txn}"));
    for word in names.chain(words.iter().map(|word| (*word).to_owned())) {
        assert!(text.contains(&word), "{word:?} is missing in:\n{text}");
    }
}

const fn cycle(cycle: Cycle) -> Kind {
    Kind::Cycle {
        cycle,
        real_time: false,
    }
}

const fn late(cycle: Cycle) -> Kind {
    Kind::Cycle {
        cycle,
        real_time: true,
    }
}

#[test]
fn an_empty_history_is_fine() {
    assert_eq!(check(&[]).map(|summary| summary.committed), Ok(0));
    legal(&[txn(&[])]);
    legal(&[txn(&[r(1, &[])])]);
}

#[test]
fn a_transaction_reads_what_it_appended() {
    legal(&[txn(&[a(1, 1), r(1, &[1]), a(1, 2), r(1, &[1, 2])])]);
    illegal(
        &[txn(&[a(1, 1), r(1, &[])])],
        Kind::Internal,
        &[0],
        &["T0 appended [1] to key 1 itself, but then read it as []"],
    );
    illegal(
        &[txn(&[r(1, &[]), a(1, 1), r(1, &[])])],
        Kind::Internal,
        &[0],
        &["it should have read both"],
    );
}

#[test]
fn a_transaction_reads_the_same_twice() {
    let write = txn(&[a(1, 1)]);
    legal(&[write.clone(), txn(&[r(1, &[1]), r(1, &[1])])]);
    illegal(
        &[write.clone(), txn(&[r(1, &[]), r(1, &[1])])],
        Kind::Internal,
        &[1],
        &["T1 read key 1 as [] and then, without appending to it, as [1]"],
    );
    // Another key between makes no difference.
    illegal(
        &[write, txn(&[r(1, &[]), a(2, 5), r(1, &[1])])],
        Kind::Internal,
        &[1],
        &[],
    );
}

#[test]
fn a_transaction_does_not_read_what_it_appends_later() {
    legal(&[txn(&[a(1, 1), r(1, &[1])])]);
    illegal(
        &[txn(&[r(1, &[1]), a(1, 1)])],
        Kind::Internal,
        &[0],
        &["T0 read key 1 as [1], and only then appended 1 itself"],
    );
}

#[test]
fn an_element_is_in_a_list_once() {
    let writes = [txn(&[a(1, 1)]), txn(&[a(1, 2)])];
    let with = |list: &[u64]| [writes.as_slice(), &[txn(&[r(1, list)])]].concat();
    legal(&with(&[1, 2]));
    illegal(
        &with(&[1, 2, 1]),
        Kind::DuplicateElement,
        &[2],
        &["holds 1 twice"],
    );
    illegal(
        &with(&[1, 2, 9]),
        Kind::UnwrittenElement,
        &[2],
        &["no transaction appended 9"],
    );
}

#[test]
fn lists_grow_in_one_order() {
    let writes = [txn(&[a(1, 1)]), txn(&[a(1, 2)])];
    let with =
        |one: &[u64], other: &[u64]| [writes.as_slice(), &[txn(&[r(1, one)]), txn(&[r(1, other)])]].concat();
    legal(&with(&[1], &[1, 2]));
    illegal(
        &with(&[2], &[1, 2]),
        Kind::IncompatibleOrders,
        &[2, 3],
        &["T2 read key 1 as [2], T3 read it as [1, 2]: they part at position 0, with 2 and 1"],
    );
    illegal(&with(&[1, 2], &[2, 1]), Kind::IncompatibleOrders, &[2, 3], &[]);
}

#[test]
fn a_transactions_elements_keep_their_order() {
    let history = |list: &[u64]| [txn(&[a(1, 1), a(1, 2)]), txn(&[a(1, 3)]), txn(&[r(1, list)])];
    legal(&history(&[1, 2, 3]));
    illegal(
        &history(&[2, 1, 3]),
        Kind::IncompatibleOrders,
        &[0, 2],
        &["T2 read key 1 as [2, 1, 3], but T0 appended 1 there before 2"],
    );
    illegal(&history(&[1, 3, 2]), cycle(Cycle::G0), &[0, 1], &[]);
}

#[test]
fn g1a_nobody_reads_what_was_aborted() {
    let write = [a(1, 1)];
    let read = txn(&[r(1, &[1])]);
    legal(&[txn(&write), read.clone()]);
    legal(&[aborted(&write), txn(&[r(1, &[])])]);
    legal(&[aborted(&[a(1, 1), r(1, &[1])]), txn(&[r(1, &[])])]);
    illegal(
        &[aborted(&write), read],
        Kind::AbortedRead,
        &[0, 1],
        &[
            "G1a",
            "T1 read key 1 as [1], with 1 in it, which T0 appended; but T0 aborted",
        ],
    );
    // What an aborted transaction read is not judged.
    legal(&[aborted(&[r(1, &[77])])]);
}

#[test]
fn g1b_nobody_reads_half_a_transaction() {
    let write = txn(&[a(1, 1), a(1, 2)]);
    legal(&[write.clone(), txn(&[r(1, &[1, 2])])]);
    legal(&[write.clone(), txn(&[r(1, &[])])]);
    let violations = check(&[write.clone(), txn(&[r(1, &[1])])]).expect_err("half of it");
    assert!(violations.has(Kind::IntermediateRead), "{violations}");
    let text = violations.to_string();
    assert!(
        text.contains("T1 read key 1 as [1], which ends with T0's 1"),
        "{text}"
    );
    // The writer itself may.
    legal(&[txn(&[a(1, 1), r(1, &[1]), a(1, 2)]), txn(&[r(1, &[1, 2])])]);
}

#[test]
fn g0_appends_to_two_keys_are_in_one_order() {
    let history = |second: &[u64]| {
        [
            txn(&[a(1, 1), a(2, 1)]),
            txn(&[a(1, 2), a(2, 2)]),
            txn(&[r(1, &[1, 2])]),
            txn(&[r(2, second)]),
        ]
    };
    legal(&history(&[1, 2]));
    illegal(
        &history(&[2, 1]),
        cycle(Cycle::G0),
        &[0, 1],
        &[
            "T1 appended 2 to key 1 directly after T0's 1, so T1 comes after T0",
            "Yet T0 appended 1 to key 2 directly after T1's 2, so T0 comes after T1",
            "So T0 would come before itself: a contradiction",
        ],
    );
}

#[test]
fn g1c_information_does_not_flow_in_circles() {
    let history = |list: &[u64]| [txn(&[a(1, 1), r(2, &[1])]), txn(&[a(2, 1), r(1, list)])];
    legal(&history(&[]));
    illegal(
        &history(&[1]),
        cycle(Cycle::G1c),
        &[0, 1],
        &[
            "T1 read key 1 as [1], which ends with what T0 appended, so T1 comes after T0",
            "T0 read key 2 as [1], which ends with what T1 appended, so T0 comes after T1",
        ],
    );
}

#[test]
fn g_single_read_skew() {
    let history = |list: &[u64]| {
        [
            txn(&[a(1, 1), a(2, 1)]),
            txn(&[r(1, &[1]), r(2, list)]),
            txn(&[r(2, &[1])]),
        ]
    };
    legal(&history(&[1]));
    illegal(
        &history(&[]),
        cycle(Cycle::GSingle),
        &[0, 1],
        &["T1 read key 2 as [], without the 1 that T0 appended next, so T0 comes after T1"],
    );
}

#[test]
fn g_single_lost_update() {
    // Both read the empty list, both append: one did not see the other.
    let history = |list: &[u64]| {
        [
            txn(&[r(1, &[]), a(1, 1)]),
            txn(&[r(1, list), a(1, 2)]),
            txn(&[r(1, &[1, 2])]),
        ]
    };
    legal(&history(&[1]));
    illegal(
        &history(&[]),
        cycle(Cycle::GSingle),
        &[0, 1],
        &["T1 read key 1 as []"],
    );
}

#[test]
fn g2_write_skew() {
    let history = |list: &[u64]| {
        [
            txn(&[r(1, &[]), a(2, 1)]),
            txn(&[r(2, list), a(1, 1)]),
            txn(&[r(1, &[1]), r(2, &[1])]),
        ]
    };
    legal(&history(&[1]));
    illegal(
        &history(&[]),
        cycle(Cycle::G2),
        &[0, 1],
        &["T0 read key 1 as [], without the 1 that T1 appended next"],
    );
}

#[test]
fn g_single_goes_before_a_smaller_g2() {
    // T0 and T1 miss each other's appends; and by way of T2, T0 has seen T1 nevertheless.
    let history = |list: &[u64]| {
        [
            txn(&[r(1, &[]), a(2, 1), r(4, list)]),
            txn(&[r(2, &[]), a(1, 1), a(3, 1)]),
            txn(&[r(3, &[1]), a(4, 1)]),
            txn(&[r(1, &[1]), r(2, &[1]), r(4, &[1])]),
        ]
    };
    illegal(&history(&[]), cycle(Cycle::G2), &[0, 1], &[]);
    illegal(&history(&[1]), cycle(Cycle::GSingle), &[0, 1, 2], &[]);
}

#[test]
fn g2_among_appends_that_nobody_read() {
    let history = |list: &[u64]| [txn(&[r(1, &[]), a(2, 1)]), txn(&[r(2, list), a(1, 1)])];
    legal(&history(&[1]));
    illegal(
        &history(&[]),
        cycle(Cycle::G2),
        &[0, 1],
        &["T0 read key 1 as [], without the 1 that T1 appended and that is in no list at all"],
    );
    // Each reader of the whole list is itself one of its unseen writers, whatever its place among them.
    legal(&[txn(&[r(1, &[]), a(1, 1)])]);
    legal(&[txn(&[a(1, 3)]), txn(&[r(1, &[]), a(1, 1)]), txn(&[a(1, 2)])]);
    let three = [
        txn(&[r(1, &[]), a(1, 1)]),
        txn(&[a(1, 2)]),
        txn(&[r(1, &[]), a(1, 3)]),
    ];
    illegal(&three, cycle(Cycle::G2), &[0, 2], &[]);
}

#[test]
fn real_time_g0() {
    // T0's append is over before T1's begins, but stands after it.
    let history = |invoked| {
        [
            during(0, 10, &[a(1, 1)]),
            during(invoked, 30, &[a(1, 2)]),
            during(40, 50, &[r(1, &[2, 1])]),
        ]
    };
    legal(&history(10));
    illegal(
        &history(11),
        late(Cycle::G0),
        &[0, 1],
        &["T0 had committed at 10 ns, before T1 was invoked at 11 ns, so T1 comes after T0"],
    );
}

#[test]
fn real_time_g1c() {
    // T0 read what was appended only after it.
    let history = |invoked| [during(0, 10, &[r(1, &[1])]), during(invoked, 30, &[a(1, 1)])];
    legal(&history(5));
    illegal(
        &history(20),
        late(Cycle::G1c),
        &[0, 1],
        &["G1c", "with real time"],
    );
}

#[test]
fn real_time_stale_read() {
    let history = |invoked| {
        [
            during(0, 10, &[a(1, 1)]),
            during(invoked, 30, &[r(1, &[])]),
            during(40, 50, &[r(1, &[1])]),
        ]
    };
    legal(&history(10));
    illegal(
        &history(20),
        late(Cycle::GSingle),
        &[0, 1],
        &["T1 read key 1 as [], without the 1 that T0 appended next, so T0 comes after T1"],
    );
}

#[test]
fn real_time_g2() {
    let crossed = [
        during(20, 30, &[r(1, &[])]),
        during(0, 10, &[a(2, 1)]),
        during(0, 30, &[r(2, &[]), a(3, 1)]),
        during(0, 25, &[a(1, 1), r(3, &[])]),
        during(40, 50, &[r(1, &[1]), r(2, &[1]), r(3, &[1])]),
    ];
    // T3 before T2 (rw), T2 before T1 (rw), T1 before T0 (time), T0 before T3 (rw).
    illegal(&crossed, late(Cycle::G2), &[0, 1, 2, 3], &["with real time"]);
    let mut lawful = crossed;
    lawful[0].invoked = 10;
    legal(&lawful);
}

#[test]
fn a_smaller_cycle_is_told_besides_a_graver_one() {
    // Two readers disagree which of two independent appends was first. The second of them is stale, too.
    let history = |begun| {
        [
            during(0, 100, &[a(1, 1)]),
            during(0, 100, &[a(2, 1)]),
            during(10, 20, &[r(1, &[1]), r(2, &[])]),
            during(begun, 40, &[r(2, &[1]), r(1, &[])]),
        ]
    };
    illegal(&history(20), cycle(Cycle::G2), &[0, 1, 2, 3], &[]);
    let violations = check(&history(30)).expect_err("two things are wrong");
    let kinds: Vec<_> = violations
        .anomalies
        .iter()
        .map(|anomaly| (anomaly.kind, anomaly.txns.len()))
        .collect();
    assert_eq!(
        kinds,
        [(cycle(Cycle::G2), 4), (late(Cycle::GSingle), 3)],
        "{violations}"
    );
}

#[test]
fn a_committed_append_is_not_lost() {
    let history = |list: &[u64]| [during(0, 10, &[a(1, 1)]), during(20, 30, &[r(1, list)])];
    legal(&history(&[1]));
    illegal(
        &history(&[]),
        Kind::LostAppend,
        &[0, 1],
        &[
            "lost append",
            "T0 had committed at 10 ns, before T1 was invoked at 20 ns",
            "T1 read key 1 as [], without the 1 that T0 appended and that is in no list at all",
        ],
    );
    // Not lost: nobody looked after it was done.
    legal(&[during(0, 10, &[a(1, 1)]), during(10, 30, &[r(1, &[])])]);
}

#[test]
fn an_unknown_transaction_happened_or_not() {
    let maybe = unknown(0, &[a(1, 1), a(2, 1)]);
    let read = |invoked, key, list: &[u64]| during(invoked, invoked + 5, &[r(key, list)]);
    legal(&[maybe.clone(), read(10, 1, &[])]);
    legal(&[maybe.clone(), read(10, 1, &[1])]);
    legal(&[maybe.clone(), read(10, 1, &[]), read(20, 1, &[1])]);
    // All of it, and it stays.
    legal(&[maybe.clone(), read(10, 1, &[1]), read(20, 2, &[1])]);
    illegal(
        &[maybe.clone(), read(10, 1, &[1]), read(20, 2, &[])],
        late(Cycle::GSingle),
        &[0, 1, 2],
        &["in no list at all"],
    );
    illegal(
        &[maybe, read(10, 1, &[1]), read(20, 1, &[])],
        late(Cycle::GSingle),
        &[0, 1, 2],
        &[],
    );
    // Not before it was begun.
    illegal(
        &[unknown(50, &[a(1, 1)]), read(10, 1, &[1])],
        late(Cycle::G1c),
        &[0, 1],
        &[],
    );
}

#[test]
fn what_unknown_transactions_saw_of_each_other_counts_once_somebody_saw_them() {
    let chain = |seen: &[u64]| {
        [
            unknown(0, &[a(1, 1)]),
            unknown(0, &[r(1, &[1]), a(2, 1)]),
            during(10, 20, &[r(2, seen)]),
            during(30, 40, &[r(1, &[])]),
        ]
    };
    legal(&chain(&[]));
    illegal(&chain(&[1]), late(Cycle::GSingle), &[0, 1, 2, 3], &[]);
    let counts = |history: &[Txn]| {
        let summary = check(history).expect("lawful");
        (summary.unknown_seen, summary.unknown_unseen)
    };
    assert_eq!(counts(&chain(&[])), (0, 2));
    assert_eq!(counts(&chain(&[1])[..3]), (2, 0));
}

#[test]
fn the_smallest_cycle_is_told() {
    // A ring of ten and, in the same component, a pair.
    let mut history: Vec<Txn> = (0..10).map(|n| txn(&[a(n, 1), r((n + 1) % 10, &[1])])).collect();
    illegal(&history, cycle(Cycle::G1c), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], &[]);
    history[4].ops.push(a(20, 1));
    history[3].ops.push(r(20, &[1]));
    history[3].ops.push(a(21, 1));
    history[4].ops.push(r(21, &[1]));
    illegal(&history, cycle(Cycle::G1c), &[3, 4], &[]);
}

#[test]
fn anomalies_of_several_kinds_are_all_told_but_not_a_thousand() {
    let mut history: Vec<Txn> = (0..1000).map(|key| txn(&[r(key, &[7])])).collect();
    history.push(txn(&[a(2000, 1), r(2000, &[])]));
    let violations = check(&history).expect_err("nonsense");
    assert!(violations.has(Kind::UnwrittenElement) && violations.has(Kind::Internal));
    assert!(violations.anomalies.len() < 10);
    assert_eq!(violations.anomalies.len() + violations.untold, 1001);
    assert!(
        violations
            .to_string()
            .starts_with("not strictly serializable, 1001 anomaly(ies)")
    );
}

#[test]
fn long_lists_are_told_by_their_end() {
    let mut history: Vec<Txn> = (0..40).map(|element| txn(&[a(1, element)])).collect();
    let list: Vec<u64> = (0..40).collect();
    history.push(txn(&[r(1, &list), r(2, &[])]));
    history.push(during(200, 300, &[r(1, &list[..39])]));
    illegal(
        &history,
        late(Cycle::GSingle),
        &[39, 41],
        &["[.., 35, 36, 37, 38] (39 elements)", "without the 39"],
    );
}

#[test]
#[should_panic(expected = "element 1 was appended to key 1 twice, by T0 and T1")]
fn an_element_may_be_appended_once() {
    let _ = check(&[txn(&[a(1, 1)]), txn(&[a(1, 1)])]);
}

#[test]
#[should_panic(expected = "ended before it was invoked")]
fn an_end_before_the_begin_is_refused() {
    let _ = check(&[during(5, 4, &[])]);
}
