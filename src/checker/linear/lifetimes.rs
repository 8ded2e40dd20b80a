//! Refutes a history without a search, in O(n log n), after Gibbons & Korach, "Testing shared memories" (1997).
//!
//! A state that only one call can make, and that is not the first, is there once: from that call to the last one that
//! needs it. (So is every state of an object that never returns to one that it left.) It is there from the first
//! return among all of these calls to the last invocation among them:
//!
//! ```text
//!   Set(5) ├────┤                              5 must be there
//!   Get → 5   ├─────┤    ├─────┤ Get → 5       from ┤ to ├, and nothing else may: no other such state,
//!               └────────┘                     and no call altogether within that does not answer as in 5
//! ```
//!
//! Nearly every stale read or lost write of a register with unique values shows here, where a search would first try
//! all orders of everything before it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::violation::{Reason, Violation, describe};
use super::{Makes, Model, Operation, Reach};

/// A state and the calls that make or need it, as indices into the history.
#[derive(Debug, Clone, Copy)]
struct Lifetime<S> {
    state: S,
    makers: usize,
    needers: usize,
    /// The state is there from here on at the latest; and the call that must have happened by then.
    from: (u64, Option<usize>),
    /// The state is there until then at least; and the call that cannot have happened before.
    until: (u64, usize),
    /// As `until`, if the unknown operations that make the state have happened.
    until_if: (u64, usize),
}

pub(super) fn check<M: Model>(
    model: &M,
    history: &[Operation<M::Call, M::Reply>],
) -> Result<(), Box<Violation>> {
    let lifetimes = lifetimes(model, history);
    let refute = |reason| {
        let operations = history
            .iter()
            .filter(|operation| operation.reply().is_some())
            .count();
        Err(Box::new(Violation { operations, reason }))
    };
    for pair in lifetimes.windows(2) {
        if pair[1].from.0 < pair[0].until.0 {
            let [one, other] = [&pair[0], &pair[1]].map(|lifetime| lifetime.tell(history));
            return refute(Reason::TwoStates { one, other });
        }
    }
    for operation in history {
        let (invoked, returned) = operation.span();
        // Lifetimes are disjoint now: only the last that began before the call can hold all of it.
        let after = lifetimes.partition_point(|lifetime| lifetime.from.0 < invoked);
        let Some(lifetime) = after.checked_sub(1).map(|at| &lifetimes[at]) else {
            continue;
        };
        let (Some(reply), true) = (operation.reply(), returned < lifetime.until.0) else {
            continue;
        };
        let after = model.step(&lifetime.state, &operation.call, Some(reply));
        if after.as_ref() != Some(&lifetime.state) {
            return refute(Reason::Intruder {
                lasting: lifetime.tell(history),
                intruder: describe(operation),
            });
        }
    }
    Ok(())
}

/// The states that must be there for a while, in order of when that begins.
fn lifetimes<M: Model>(model: &M, history: &[Operation<M::Call, M::Reply>]) -> Vec<Lifetime<M::State>> {
    let mut numbers: HashMap<M::State, usize, BuildHasherDefault<DefaultHasher>> = HashMap::default();
    let mut lifetimes: Vec<Lifetime<M::State>> = Vec::new();
    let classes = model.classes(history);
    let mut unknown = classes.iter();
    let (start, mut is_wild) = (model.start(), false);
    for (at, operation) in history.iter().enumerate() {
        let reply = operation.reply();
        if reply.is_none() && unknown.next().is_some_and(Option::is_none) {
            continue;
        }
        let made = match model.makes(&operation.call, reply) {
            Makes::Only(state) => Some(state),
            Makes::Nothing => None,
            Makes::Anything => {
                is_wild = true;
                None
            }
        };
        let needed = reply.and_then(|reply| model.needs(&operation.call, reply));
        for (state, makes) in made
            .map(|state| (state, 1))
            .into_iter()
            .chain(needed.map(|state| (state, 0)))
        {
            let number = *numbers.entry(state.clone()).or_insert(lifetimes.len());
            if number == lifetimes.len() {
                lifetimes.push(Lifetime {
                    from: (if state == start { 0 } else { u64::MAX }, None),
                    makers: usize::from(state == start),
                    until: (0, at),
                    until_if: (0, at),
                    needers: 0,
                    state,
                });
            }
            let lifetime = &mut lifetimes[number];
            let (invoked, returned) = operation.span();
            lifetime.makers += makes;
            lifetime.needers += 1 - makes;
            lifetime.from = lifetime.from.min((returned, Some(at)));
            lifetime.until_if = lifetime.until_if.max((invoked, at));
            if reply.is_some() {
                lifetime.until = lifetime.until.max((invoked, at));
            }
        }
    }
    let never_returns = model.never_returns(history);
    let states: Vec<M::State> = lifetimes.iter().map(|lifetime| lifetime.state.clone()).collect();
    let mut reach = model.reach(history, &states).into_iter();
    lifetimes.retain_mut(|lifetime| {
        let by_anything = reach.next() != Some(Reach::ByItsMakers);
        let has_one_maker = lifetime.makers == 1 && !(is_wild && by_anything);
        if has_one_maker {
            lifetime.until = lifetime.until_if; // It must have happened, if anybody needs the state.
        }
        let comes_once = never_returns || has_one_maker;
        comes_once && lifetime.needers > 0 && lifetime.from.0 < lifetime.until.0
    });
    lifetimes.sort_by_key(|lifetime| lifetime.from);
    lifetimes
}

impl<S: std::fmt::Debug> Lifetime<S> {
    fn tell<C: std::fmt::Debug, R: std::fmt::Debug>(&self, history: &[Operation<C, R>]) -> String {
        let Lifetime {
            state, from, until, ..
        } = self;
        let first = from.1.map_or_else(
            || "the history begins with it".to_owned(),
            |at| describe(&history[at]),
        );
        let last = describe(&history[until.1]);
        format!(
            "the state {state:?} must be there from {} to {} ns, as it comes once, and by\n  {first}\nand for\n  {last}",
            from.0, until.0
        )
    }
}
