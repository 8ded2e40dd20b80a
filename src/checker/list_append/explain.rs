//! Contradictions in words, a sentence a step.

use super::cycles::Step;
use super::graph::Labels;
use super::internal::{Contradiction, Read};
use super::orders::{Append, Orders};
use super::{Outcome, Txn};

/// Lists up to this length are told whole.
const WHOLE_UP_TO: usize = 12;
/// Of longer ones, that many of the last elements.
const TAIL: usize = 4;
/// Of a cycle's transactions.
const CLIENTS_TOLD: usize = 8;

fn show(list: &[u64]) -> String {
    if list.len() <= WHOLE_UP_TO {
        return format!("{list:?}");
    }
    let tail: Vec<String> = list[list.len() - TAIL..].iter().map(u64::to_string).collect();
    format!("[.., {}] ({} elements)", tail.join(", "), list.len())
}

pub(super) fn internal(txn: usize, contradiction: &Contradiction) -> String {
    let Contradiction {
        key,
        list,
        own,
        outside,
        early,
    } = contradiction;
    let list = show(list);
    if let Some(element) = early {
        return format!("T{txn} read key {key} as {list}, and only then appended {element} itself.");
    }
    match outside {
        None => format!("T{txn} appended {own:?} to key {key} itself, but then read it as {list}."),
        Some(outside) if own.is_empty() => format!(
            "T{txn} read key {key} as {} and then, without appending to it, as {list}.",
            show(outside)
        ),
        Some(outside) => format!(
            "T{txn} read key {key} as {}, not counting what it appended itself, {own:?}; it should have read both, but \
             read {list}.",
            show(outside)
        ),
    }
}

pub(super) fn duplicate(read: &Read, element: u64) -> String {
    let Read { key, txn, list, .. } = read;
    format!(
        "T{txn} read key {key} as {}, which holds {element} twice; it was appended once.",
        show(list)
    )
}

pub(super) fn unwritten(read: &Read, element: u64) -> String {
    let Read { key, txn, list, .. } = read;
    format!(
        "T{txn} read key {key} as {}, but no transaction appended {element} to it.",
        show(list)
    )
}

pub(super) fn aborted(read: &Read, append: &Append) -> String {
    let Read { key, txn, list, .. } = read;
    format!(
        "T{txn} read key {key} as {}, with {} in it, which T{} appended; but T{} aborted.",
        show(list),
        append.element,
        append.txn,
        append.txn
    )
}

pub(super) fn intermediate(read: &Read, append: &Append) -> String {
    let Read {
        key,
        txn,
        list,
        outside,
    } = read;
    format!(
        "T{txn} read key {key} as {}, which ends with T{}'s {}; but T{} appended more to that key afterwards.",
        show(&list[..outside.unwrap_or(list.len())]),
        append.txn,
        append.element,
        append.txn
    )
}

pub(super) fn incompatible(read: &Read, longest: &Read) -> String {
    let position = read
        .list
        .iter()
        .zip(longest.list)
        .take_while(|(one, other)| one == other)
        .count();
    format!(
        "T{} read key {} as {}, T{} read it as {}: they part at position {position}, with {} and {}.",
        read.txn,
        read.key,
        show(read.list),
        longest.txn,
        show(longest.list),
        read.list[position],
        longest.list[position],
    )
}

pub(super) fn swapped(read: &Read, first: &Append, second: &Append) -> String {
    format!(
        "T{} read key {} as {}, but T{} appended {} there before {}.",
        read.txn,
        read.key,
        show(read.list),
        first.txn,
        first.element,
        second.element
    )
}

/// The steps of a cycle, and what follows from them.
pub(super) fn cycle(history: &[Txn], orders: &Orders, steps: &[Step]) -> Vec<String> {
    let last = steps.len() - 1;
    let mut sentences: Vec<String> = steps
        .iter()
        .enumerate()
        .map(|(at, step)| {
            let yet = if at == last { "Yet " } else { "" };
            format!("{yet}{}", tell(history, orders, step))
        })
        .collect();
    let clients: Vec<String> = steps
        .iter()
        .take(CLIENTS_TOLD)
        .map(|step| format!("T{} is client {}'s", step.from, history[step.from].client))
        .collect();
    sentences.push(format!(
        "So T{} would come before itself: a contradiction. ({}.)",
        steps[0].from,
        clients.join(", ")
    ));
    sentences
}

fn tell(history: &[Txn], orders: &Orders, step: &Step) -> String {
    let Step { from, to, why } = *step;
    if why.label == Labels::RT {
        let over = match history[from].outcome {
            Outcome::Committed { at } | Outcome::Aborted { at } => at,
            Outcome::Unknown => history[from].invoked,
        };
        let begun = history[to].invoked;
        return format!(
            "T{from} had committed at {over} ns, before T{to} was invoked at {begun} ns, so T{to} comes after T{from}."
        );
    }
    let number = why.key as usize;
    let (key, position) = (&orders.keys[number], why.position as usize);
    let name = key.name;
    let missing = key.order.get(position).copied();
    let unseen = orders.unseen_element(number, to).unwrap_or_default();
    match (why.label, missing) {
        (Labels::WW, Some(element)) => {
            let before = key.order[position - 1];
            format!(
                "T{to} appended {element} to key {name} directly after T{from}'s {before}, so T{to} comes after T{from}."
            )
        }
        (Labels::WW, None) => {
            let before = key.order[position - 1];
            format!(
                "T{from} appended {before} to key {name}, the last element in any list of it; nobody ever read the \
                 {unseen} that T{to} appended there, so T{to} comes after T{from}."
            )
        }
        (Labels::WR, _) => format!(
            "T{to} read key {name} as {}, which ends with what T{from} appended, so T{to} comes after T{from}.",
            show(&key.order[..=position])
        ),
        (_, Some(element)) => format!(
            "T{from} read key {name} as {}, without the {element} that T{to} appended next, so T{to} comes after T{from}.",
            show(&key.order[..position])
        ),
        (_, None) => format!(
            "T{from} read key {name} as {}, without the {unseen} that T{to} appended and that is in no list at all, so \
             T{to} comes after T{from}.",
            show(&key.order[..position])
        ),
    }
}
