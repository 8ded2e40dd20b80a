//! The transaction checker against a search that tries all orders, on random histories of a few transactions.

use std::collections::BTreeMap;

use quorate::checker::list_append::{Cycle, Kind, Op, Outcome, Txn, check};

use crate::rng::Rng;
use crate::rounds;
use crate::stores::{Isolation, Shape, transactions};

type Lists = BTreeMap<u64, Vec<u64>>;

/// Tries every order of the committed transactions and of every subset of the unknown ones.
fn any_order(history: &[Txn]) -> bool {
    let mut left: Vec<&Txn> = history
        .iter()
        .filter(|txn| !matches!(txn.outcome, Outcome::Aborted { .. }))
        .collect();
    try_all(&mut left, &Lists::new())
}

fn end(txn: &Txn) -> u64 {
    match txn.outcome {
        Outcome::Committed { at } | Outcome::Aborted { at } => at,
        Outcome::Unknown => u64::MAX,
    }
}

fn try_all(left: &mut Vec<&Txn>, lists: &Lists) -> bool {
    if left.iter().all(|txn| txn.outcome == Outcome::Unknown) {
        return true;
    }
    for index in 0..left.len() {
        let txn = left[index];
        if left.iter().any(|other| end(other) < txn.invoked) {
            continue;
        }
        if let Some(after) = run(txn, lists) {
            left.remove(index);
            let found = try_all(left, &after);
            left.insert(index, txn);
            if found {
                return true;
            }
        }
    }
    false
}

fn run(txn: &Txn, lists: &Lists) -> Option<Lists> {
    let mut lists = lists.clone();
    for op in &txn.ops {
        match op {
            Op::Append { key, element } => lists.entry(*key).or_default().push(*element),
            Op::Read { list: None, .. } => {}
            Op::Read {
                key,
                list: Some(list),
            } => {
                if lists.get(key).map_or(&[][..], Vec::as_slice) != list {
                    return None;
                }
            }
        }
    }
    Some(lists)
}

/// What a broken store, or a broken recorder, might have shown instead.
fn corrupt(rng: &mut Rng, history: &mut [Txn]) {
    let at = rng.index(history.len());
    let foreign: Vec<u64> = history
        .iter()
        .flat_map(|txn| &txn.ops)
        .filter_map(element)
        .collect();
    let txn = &mut history[at];
    match rng.below(8) {
        0 => {
            txn.outcome = Outcome::Aborted { at: txn.invoked + 5 };
            return;
        }
        1 => {
            txn.outcome = Outcome::Unknown;
            return;
        }
        2 => {
            let shift = rng.below(60);
            txn.invoked += shift;
            if let Outcome::Committed { at } | Outcome::Aborted { at } = &mut txn.outcome {
                *at += shift;
            }
            return;
        }
        _ => {}
    }
    let lists = txn.ops.iter_mut().filter_map(|op| match op {
        Op::Read { list: Some(list), .. } => Some(list),
        _ => None,
    });
    let mut lists: Vec<&mut Vec<u64>> = lists.collect();
    if lists.is_empty() {
        return;
    }
    let which = rng.index(lists.len());
    let list = &mut *lists[which];
    match rng.below(6) {
        0 if list.len() > 1 => {
            let (one, other) = (rng.index(list.len()), rng.index(list.len()));
            list.swap(one, other);
        }
        1 if !list.is_empty() => {
            list.remove(rng.index(list.len()));
        }
        2 => list.truncate(list.len().saturating_sub(1)),
        3 => list.clear(),
        4 if !foreign.is_empty() => list.push(foreign[rng.index(foreign.len())]),
        _ => {
            if let Some(first) = list.first().copied() {
                list.push(first);
            }
        }
    }
}

fn element(op: &Op) -> Option<u64> {
    match op {
        Op::Append { element, .. } => Some(*element),
        Op::Read { .. } => None,
    }
}

fn tiny(rng: &mut Rng, isolation: Isolation) -> Shape {
    Shape {
        txns: 2 + rng.index(4),
        clients: 1 + rng.index(4),
        keys: 1 + rng.below(3),
        ops_max: 4,
        unknown: 250 * rng.below(2),
        aborted: 100,
        list_max: 100,
        isolation,
    }
}

const ISOLATIONS: [Isolation; 4] = [
    Isolation::Strict,
    Isolation::Serializable,
    Isolation::Snapshot,
    Isolation::None,
];

#[test]
fn transactions_agree_with_trying_all_orders() {
    let mut kinds: BTreeMap<Kind, u64> = BTreeMap::new();
    let (mut accepted, mut rejected) = (0_u64, 0_u64);
    for seed in 0..rounds(200_000) {
        let rng = &mut Rng::new(seed);
        let isolation = ISOLATIONS[rng.index(4)];
        let shape = tiny(rng, isolation);
        let mut history = transactions(rng, shape);
        if isolation == Isolation::Strict {
            let found = check(&history);
            assert!(
                found.is_ok(),
                "seed {seed}: a lawful history {found:#?} {history:#?}"
            );
        }
        if rng.per_mille(600) {
            corrupt(rng, &mut history);
        }
        let wanted = any_order(&history);
        match check(&history) {
            Ok(_) => {
                assert!(
                    wanted,
                    "seed {seed}, {isolation:?}: no order explains {history:#?}"
                );
                accepted += 1;
            }
            Err(found) => {
                assert!(!wanted, "seed {seed}, {isolation:?}: {found} in {history:#?}");
                rejected += 1;
                for anomaly in &found.anomalies {
                    *kinds.entry(anomaly.kind).or_default() += 1;
                }
            }
        }
    }
    println!("{accepted} accepted, {rejected} rejected: {kinds:#?}");
    assert!(
        accepted > rejected / 4 && rejected > accepted / 4,
        "{accepted} {rejected}"
    );
    for kind in every_kind() {
        assert!(kinds.contains_key(&kind), "no random history shows {kind}");
    }
}

fn every_kind() -> Vec<Kind> {
    let mut kinds = vec![
        Kind::Internal,
        Kind::DuplicateElement,
        Kind::UnwrittenElement,
        Kind::IncompatibleOrders,
        Kind::AbortedRead,
        Kind::IntermediateRead,
        Kind::LostAppend,
    ];
    for cycle in [Cycle::G0, Cycle::G1c, Cycle::GSingle, Cycle::G2] {
        kinds.extend([true, false].map(|real_time| Kind::Cycle { cycle, real_time }));
    }
    // The corruptions above forge no elements.
    kinds.retain(|kind| *kind != Kind::UnwrittenElement);
    kinds
}
