//! The end of an epoch: last reads, and everything that was seen against everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use quorate::checker::linear::{self, Answer};
use quorate::checker::list_append::{self, Op, Outcome, Txn};
use quorate::checker::register::Register;

use super::epoch::Loads;
use super::lists;
use super::registers;
use super::report::Report;
use super::world::{Session, World, lock};
use crate::wait::now;

/// Lines of one kind of finding; a broken run has thousands.
const FINDINGS: usize = 5;

/// The client that reads everything at the end.
const LAST_READER: u64 = 9999;
/// Configurations that the check of one register may enter; far more than a history of its length needs.
const CONFIGURATIONS: u64 = 5_000_000;

/// Notes in `world` what must not be, and writes the histories to a file if there is anything.
pub fn judge(world: &World, loads: &Loads, report: &mut Report) {
    let mut session = Session::new(world, LAST_READER);
    if let Err(why) = read_all(world, loads, &mut session, report) {
        world.found(format!("after all faults were healed: {why}"));
    }
    let mut lists = std::mem::take(&mut *lock(&loads.lists.history));
    let mut registers = std::mem::take(&mut *lock(&loads.registers.histories));
    for wrong in lists::apply_told(world, &mut lists).into_iter().take(FINDINGS) {
        world.found(wrong);
    }
    let begun = now();
    match list_append::check(&lists.txns) {
        Ok(summary) => {
            report.count("list transactions judged: committed", summary.committed as u64);
            report.count("list transactions judged: aborted", summary.aborted as u64);
            report.count(
                "list transactions judged: unknown, seen",
                summary.unknown_seen as u64,
            );
            report.count(
                "list transactions judged: unknown, not seen",
                summary.unknown_unseen as u64,
            );
            report.count("elements read", summary.elements_read as u64);
        }
        Err(violations) => world.found(format!("lists: {violations}")),
    }
    report.checked("lists", begun.elapsed());
    // The same again without any theory; this checks the checker, too.
    for wrong in plainly_wrong(&lists.txns).into_iter().take(FINDINGS) {
        world.found(wrong);
    }
    let begun = now();
    for (key, history) in &mut registers {
        history.apply_told(world);
        report.count("register operations judged", history.operations.len() as u64);
        match linear::check_within(&Register::default(), &history.operations, CONFIGURATIONS) {
            Ok(Answer::Linearizable) => report.count("registers linearizable", 1),
            Ok(Answer::GaveUp) => report.count("registers given up on", 1),
            Err(violation) => world.found(format!("register {key}: {violation}")),
        }
    }
    report.checked("registers", begun.elapsed());
    if !world.findings().is_empty() {
        write_down(world, &lists.txns, &registers);
    }
}

fn read_all(world: &World, loads: &Loads, session: &mut Session, report: &mut Report) -> Result<(), String> {
    loads.lists.read_all(session)?;
    loads.registers.read_all(session)?;
    let increments = loads.counters.check(session)?;
    let (moves, looks) = loads.bank.check(session)?;
    report.count("increments acknowledged", increments.unsigned_abs());
    report.count("bank transfers acknowledged", moves.unsigned_abs());
    report.count("bank totals seen", looks);
    let (gone, after) = loads.expiry.counts();
    let idle = [
        increments.unsigned_abs(),
        moves.unsigned_abs(),
        looks,
        gone,
        after,
    ];
    if idle.contains(&0) && world.findings().is_empty() {
        return Err(format!("a workload did nothing, so nothing was shown: {idle:?}"));
    }
    Ok(())
}

/// What needs no theory: lists that do not continue one another, lost, doubled and revived elements.
fn plainly_wrong(history: &[Txn]) -> Vec<String> {
    let (mut longest, mut wrong) = (BTreeMap::<u64, &[u64]>::new(), Vec::new());
    for (key, list) in history.iter().flat_map(reads) {
        let known = longest.entry(key).or_default();
        let (short, long) = if list.len() > known.len() {
            (*known, list)
        } else {
            (list, *known)
        };
        if long[..short.len()] != *short {
            wrong.push(format!("list {key} was read as {short:?} and as {long:?}"));
        }
        *known = long;
    }
    let mut there = BTreeSet::new();
    for (&key, list) in &longest {
        for &element in *list {
            if !there.insert((key, element)) {
                wrong.push(format!("list {key} has {element} twice: {list:?}"));
            }
        }
    }
    for seen in history {
        let appended = seen.ops.iter().filter_map(|op| match op {
            Op::Append { key, element } => Some((*key, *element)),
            Op::Read { .. } => None,
        });
        for at in appended {
            match seen.outcome {
                Outcome::Committed { .. } if !there.contains(&at) => {
                    wrong.push(format!("{at:?} was acknowledged and is lost: {seen:?}"));
                }
                Outcome::Aborted { .. } if there.contains(&at) => {
                    wrong.push(format!("{at:?} was aborted and is there: {seen:?}"));
                }
                _ => {}
            }
            there.remove(&at);
        }
    }
    wrong.extend(there.into_iter().map(|at| format!("nobody appended {at:?}")));
    wrong
}

fn reads(seen: &Txn) -> impl Iterator<Item = (u64, &[u64])> {
    seen.ops.iter().filter_map(|op| match op {
        Op::Read {
            key,
            list: Some(list),
        } => Some((*key, list.as_slice())),
        _ => None,
    })
}

fn write_down(world: &World, lists: &[Txn], registers: &BTreeMap<u64, registers::History>) {
    let name = format!("nemesis-seed-{}-epoch-{}.txt", world.seed, world.epoch);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut text = String::new();
    for finding in world.findings() {
        writeln!(text, "FOUND {finding}").expect("a string takes it");
    }
    for (number, txn) in lists.iter().enumerate() {
        writeln!(text, "T{number} {txn:?}").expect("a string takes it");
    }
    for (key, history) in registers {
        for operation in &history.operations {
            writeln!(text, "register {key}: {operation:?}").expect("a string takes it");
        }
    }
    match fs::write(&file, text) {
        Ok(()) => world.found(format!("the histories are in {}", file.display())),
        Err(e) => world.found(format!(
            "the histories could not be written to {}: {e}",
            file.display()
        )),
    }
}
