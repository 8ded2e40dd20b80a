//! Big lawful histories, and the same with one thing wrong. They print how long the checkers take; no time is a
//! verdict. `cargo test --release --test checker big -- --nocapture --include-ignored` is the run that counts.
#![expect(
    clippy::disallowed_methods,
    reason = "the time is printed, and nothing depends on it"
)]

use std::time::Instant;

use quorate::checker::linear::{self, Operation, Outcome};
use quorate::checker::list_append::{self, Op, Txn};
use quorate::checker::register::{Call, Register, RegisterOperation, Reply};

use crate::rng::Rng;
use crate::stores::{Isolation, Planned, Shape, run, transactions};

const CLIENTS: usize = 16;

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    println!("{what}: {:.2} s", begun.elapsed().as_secs_f64());
    result
}

/// The calls of a workload, out of a hundred.
#[derive(Debug, Clone, Copy)]
struct Workload {
    name: &'static str,
    gets: u64,
    sets: u64,
    swaps: u64,
    increments: u64,
    deletes: u64,
}

const WORKLOADS: [Workload; 5] = [
    Workload {
        name: "half reads, half writes",
        gets: 50,
        sets: 50,
        swaps: 0,
        increments: 0,
        deletes: 0,
    },
    Workload {
        name: "writes mostly",
        gets: 10,
        sets: 90,
        swaps: 0,
        increments: 0,
        deletes: 0,
    },
    Workload {
        name: "compare and set",
        gets: 40,
        sets: 20,
        swaps: 40,
        increments: 0,
        deletes: 0,
    },
    Workload {
        name: "a counter",
        gets: 50,
        sets: 0,
        swaps: 0,
        increments: 50,
        deletes: 0,
    },
    Workload {
        name: "everything",
        gets: 40,
        sets: 20,
        swaps: 20,
        increments: 10,
        deletes: 10,
    },
];

/// A lawful history by closed-loop clients, one of a hundred operations with an unknown outcome.
fn register_history(rng: &mut Rng, workload: Workload, operations: usize) -> Vec<RegisterOperation> {
    let mut free_at = [0_u64; CLIENTS];
    let mut planned = Vec::with_capacity(operations);
    for number in 0..operations as u64 {
        let client = (0..CLIENTS)
            .min_by_key(|client| free_at[*client])
            .expect("there are clients");
        let invoked = free_at[client] + rng.below(20);
        let at = invoked + 20 + rng.below(200) + if rng.per_mille(2) { 3000 } else { 0 };
        free_at[client] = at + 1;
        let is_unknown = rng.per_mille(10);
        let latest = if is_unknown { at + 2000 } else { at };
        planned.push(Planned {
            client: client as u64,
            // Numbers far apart, so that increments do not make one value another.
            call: call(rng, workload, (number + 1) * 1000),
            invoked,
            point: invoked + rng.below(latest - invoked + 1),
            at,
            is_unknown,
            is_lost: is_unknown && rng.per_mille(500),
        });
    }
    expect_what_is_there(&mut planned);
    let answer = |state: &Option<u64>, call: &Call| Register::run(*state, *call).expect("small numbers");
    run(&Register::default(), &planned, answer)
}

fn call(rng: &mut Rng, workload: Workload, value: u64) -> Call {
    let mut roll = rng.below(100);
    for (share, call) in [
        (workload.gets, Call::Get),
        (workload.sets, Call::Set(value)),
        (
            workload.swaps,
            Call::SetIf {
                expected: None,
                value,
            },
        ),
        (workload.increments, Call::Incr),
        (workload.deletes, Call::Delete),
    ] {
        if roll < share {
            return call;
        }
        roll -= share;
    }
    Call::Get
}

/// Most swaps expect what the key holds just then.
fn expect_what_is_there(planned: &mut [Planned<Call>]) {
    let mut order: Vec<usize> = (0..planned.len()).collect();
    order.sort_by_key(|at| planned[*at].point);
    let mut state = None;
    for at in order {
        let plan = &mut planned[at];
        if let Call::SetIf { expected, value } = &mut plan.call {
            *expected = if *value % 4000 == 0 { Some(1) } else { state };
        }
        if !plan.is_lost {
            (state, _) = Register::run(state, plan.call).expect("small numbers");
        }
    }
}

/// Makes a read in the last tenth return what an earlier read did; returns where.
fn make_stale(history: &mut [RegisterOperation]) {
    let old = history[..history.len() / 2]
        .iter()
        .rev()
        .find_map(|operation| match operation.outcome {
            Outcome::Returned {
                reply: Reply::Value(Some(value)),
                ..
            } => Some(value),
            _ => None,
        });
    let old = old.expect("somebody read something in the first half");
    let late = history.len() * 9 / 10;
    let read = history[late..].iter_mut().find_map(|operation| match operation {
        Operation {
            outcome:
                Outcome::Returned {
                    reply: Reply::Value(value),
                    ..
                },
            ..
        } => Some(value),
        _ => None,
    });
    *read.expect("somebody read something in the last tenth") = Some(old);
}

fn registers(operations: usize) {
    for workload in WORKLOADS {
        let mut history = register_history(&mut Rng::new(1), workload, operations);
        let what = format!("{operations} operations, {CLIENTS} clients, {}", workload.name);
        let found = timed(&what, || linear::check(&Register::default(), &history));
        assert_eq!(found, Ok(()));
        make_stale(&mut history);
        let found = timed("  with one stale read", || {
            linear::check(&Register::default(), &history)
        });
        let violation = found.expect_err("a value of long ago");
        println!("{violation}");
    }
}

#[test]
fn big_registers() {
    registers(10_000);
}

#[test]
#[ignore = "seconds in release, more in debug"]
fn big_registers_of_100_000() {
    registers(100_000);
}

fn shape(txns: usize) -> Shape {
    Shape {
        txns,
        clients: 64,
        keys: 40,
        ops_max: 6,
        unknown: 10,
        aborted: 20,
        list_max: 64,
        isolation: Isolation::Strict,
    }
}

fn lists(txns: usize) {
    let mut history = transactions(&mut Rng::new(1), shape(txns));
    let summary = timed(&format!("{txns} transactions"), || list_append::check(&history));
    println!("{summary:?}");
    assert!(summary.is_ok_and(|summary| summary.unknown_seen > 0 && summary.elements_read > txns / 2));
    let late = history.len() * 9 / 10;
    let read = history[late..]
        .iter_mut()
        .flat_map(|txn| &mut txn.ops)
        .find_map(|op| match op {
            Op::Read { list: Some(list), .. } if list.len() > 10 => Some(list),
            _ => None,
        });
    read.expect("a long list was read late").truncate(1);
    let found = timed("  with one stale read", || list_append::check(&history));
    println!("{}", found.expect_err("a stale list"));
}

#[test]
fn big_lists() {
    lists(20_000);
}

#[test]
#[ignore = "seconds in release, more in debug"]
fn big_lists_of_500_000() {
    lists(500_000);
}

/// A store without isolation: one component with almost all transactions in it.
#[test]
fn big_lists_that_are_broken_everywhere() {
    let isolation = Isolation::None;
    let history = transactions(
        &mut Rng::new(1),
        Shape {
            isolation,
            ..shape(20_000)
        },
    );
    let found = timed("20000 transactions without isolation", || {
        list_append::check(&history)
    });
    println!("{}", found.expect_err("chaos"));
}

/// Neither recursion nor anything quadratic: a ring through a million transactions, each reading its neighbour's key.
#[test]
#[ignore = "seconds in release, more in debug"]
fn big_ring_of_1_000_000() {
    let txns = 1_000_000;
    let history: Vec<Txn> = (0..txns)
        .map(|n| Txn {
            client: n,
            invoked: 0,
            outcome: list_append::Outcome::Committed { at: 1 },
            ops: vec![
                Op::Append { key: n, element: 1 },
                Op::Read {
                    key: (n + 1) % txns,
                    list: Some(vec![1]),
                },
            ],
        })
        .collect();
    let found = timed("a ring of 1000000 transactions", || list_append::check(&history));
    assert_eq!(found.expect_err("a ring").anomalies[0].txns.len(), 1_000_000);
}
