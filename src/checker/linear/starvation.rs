//! States that some call still needs and that cannot come any more: a branch with one is lost, long before the call's
//! deadline shows it. Without this, a wrong order of two writes is noticed only when the second's reader returns.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::{Makes, Model, Operation, Reach};

/// What one operation needs and makes, states as small numbers.
#[derive(Debug, Clone, Copy)]
struct Role {
    needs: Option<usize>,
    makes: Option<usize>,
    makes_anything: bool,
}

/// Of one state, over all operations that are not in order yet.
#[derive(Debug)]
struct Count {
    needed: usize,
    made: usize,
    reach: Reach,
    /// All operations that need it, in order or not.
    needers: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Starvation<S> {
    numbers: HashMap<S, usize, BuildHasherDefault<DefaultHasher>>,
    roles: Vec<Role>,
    counts: Vec<Count>,
    /// States that are needed and have no maker left: those that only their makers make, and the others.
    starving: usize,
    hungry: usize,
    /// The state that lost its last maker last.
    latest: usize,
    /// Operations left that make anything: while there is one, the hungry do not starve.
    wild: usize,
    never_returns: bool,
}

impl<S: Clone + Eq + std::hash::Hash> Starvation<S> {
    pub(super) fn new<M: Model<State = S>>(
        model: &M,
        history: &[Operation<M::Call, M::Reply>],
        operations: &[&Operation<M::Call, M::Reply>],
    ) -> Starvation<S> {
        let mut starvation = Starvation {
            numbers: HashMap::default(),
            roles: Vec::new(),
            counts: Vec::new(),
            starving: 0,
            hungry: 0,
            latest: 0,
            wild: 0,
            never_returns: model.never_returns(history),
        };
        let mut states = Vec::new();
        for (number, operation) in operations.iter().enumerate() {
            let reply = operation.reply();
            let needs = reply.and_then(|reply| model.needs(&operation.call, reply));
            let needs = needs.map(|state| starvation.number(state, &mut states));
            if let Some(state) = needs {
                starvation.counts[state].needers.push(number);
            }
            let makes = model.makes(&operation.call, reply);
            let makes_anything = makes == Makes::Anything;
            let makes = match makes {
                Makes::Only(state) => Some(starvation.number(state, &mut states)),
                Makes::Nothing | Makes::Anything => None,
            };
            starvation.roles.push(Role {
                needs,
                makes,
                makes_anything,
            });
        }
        for (count, reach) in starvation.counts.iter_mut().zip(model.reach(history, &states)) {
            count.reach = reach;
        }
        for operation in 0..operations.len() {
            starvation.put_back(operation);
        }
        starvation
    }

    fn number(&mut self, state: S, states: &mut Vec<S>) -> usize {
        let fresh = self.counts.len();
        *self.numbers.entry(state).or_insert_with_key(|state| {
            states.push(state.clone());
            self.counts.push(Count {
                needed: 0,
                made: 0,
                reach: Reach::ByItsMakers,
                needers: Vec::new(),
            });
            fresh
        })
    }

    fn change(&mut self, state: usize, how: impl FnOnce(&mut Count)) {
        let count = &mut self.counts[state];
        let was_short = count.is_short();
        how(count);
        let short = match count.reach {
            Reach::ByAnything => &mut self.hungry,
            Reach::ByItsMakers => &mut self.starving,
        };
        match (was_short, count.is_short()) {
            (false, true) => {
                *short += 1;
                self.latest = state;
            }
            (true, false) => *short -= 1,
            _ => {}
        }
    }

    pub(super) fn take(&mut self, operation: usize) {
        let role = self.roles[operation];
        if let Some(state) = role.needs {
            self.change(state, |count| count.needed -= 1);
        }
        if let Some(state) = role.makes {
            self.change(state, |count| count.made -= 1);
        }
        self.wild -= usize::from(role.makes_anything);
    }

    pub(super) fn put_back(&mut self, operation: usize) {
        let role = self.roles[operation];
        if let Some(state) = role.needs {
            self.change(state, |count| count.needed += 1);
        }
        if let Some(state) = role.makes {
            self.change(state, |count| count.made += 1);
        }
        self.wild += usize::from(role.makes_anything);
    }

    /// Whether the operation leaves every state as it is.
    pub(super) fn only_reads(&self, operation: usize) -> bool {
        let Role {
            makes,
            makes_anything,
            ..
        } = self.roles[operation];
        makes.is_none() && !makes_anything
    }

    /// If a state is needed that cannot come any more: all operations that need it, in order already or not. `left` is
    /// the state before the `current` one.
    pub(super) fn lost(&self, current: &S, left: Option<&S>) -> Option<&[usize]> {
        if let Some(left) = left.filter(|left| self.never_returns && *left != current)
            && let Some(count) = self.count(left)
            && count.needed > 0
        {
            return Some(&count.needers);
        }
        let mut lost = self.starving;
        let counts_hungry = self.wild == 0;
        if counts_hungry {
            lost += self.hungry;
        }
        if lost == 0 {
            return None;
        }
        let here = self
            .count(current)
            .is_some_and(|count| count.is_short() && (counts_hungry || count.reach == Reach::ByItsMakers));
        (lost > usize::from(here)).then(|| self.counts[self.latest].needers.as_slice())
    }

    fn count(&self, state: &S) -> Option<&Count> {
        self.numbers.get(state).map(|number| &self.counts[*number])
    }
}

impl Count {
    fn is_short(&self) -> bool {
        self.needed > 0 && self.made == 0
    }
}
