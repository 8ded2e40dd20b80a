//! States that some call still needs and that no call left can make: a branch with one is lost, long before the
//! call's deadline shows it. Without this, a wrong order of two writes is noticed only when the second's reader returns.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};

use super::Makes;

/// What one operation needs and makes, states as small numbers.
#[derive(Debug, Clone, Copy)]
struct Role {
    needs: Option<usize>,
    makes: Option<usize>,
    makes_anything: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    needed: usize,
    made: usize,
}

impl Count {
    fn is_starving(self) -> bool {
        self.needed > 0 && self.made == 0
    }
}

/// Counts over all operations that are not in order yet.
#[derive(Debug)]
pub(super) struct Starvation<S> {
    numbers: HashMap<S, usize, BuildHasherDefault<DefaultHasher>>,
    roles: Vec<Role>,
    counts: Vec<Count>,
    /// By state: the operations that need it.
    needers: Vec<Vec<usize>>,
    starving: usize,
    /// The state that began to starve last.
    latest: usize,
    /// Operations that can make anything: while there is one, no state starves.
    wild: usize,
}

impl<S: Clone + Eq + Hash> Starvation<S> {
    pub(super) fn new(operations: impl Iterator<Item = (Option<S>, Makes<S>)>) -> Starvation<S> {
        let mut starvation = Starvation {
            numbers: HashMap::default(),
            roles: Vec::new(),
            counts: Vec::new(),
            needers: Vec::new(),
            starving: 0,
            latest: 0,
            wild: 0,
        };
        for (needs, makes) in operations {
            let makes_anything = makes == Makes::Anything;
            let role = Role {
                needs: needs.map(|state| starvation.number(state)),
                makes: match makes {
                    Makes::Only(state) => Some(starvation.number(state)),
                    Makes::Nothing | Makes::Anything => None,
                },
                makes_anything,
            };
            if let Some(state) = role.needs {
                starvation.needers[state].push(starvation.roles.len());
            }
            starvation.roles.push(role);
            starvation.put_back(starvation.roles.len() - 1);
        }
        starvation
    }

    fn number(&mut self, state: S) -> usize {
        let fresh = self.counts.len();
        let number = *self.numbers.entry(state).or_insert(fresh);
        if number == fresh {
            self.counts.push(Count::default());
            self.needers.push(Vec::new());
        }
        number
    }

    fn change(&mut self, state: usize, how: impl FnOnce(&mut Count)) {
        let count = &mut self.counts[state];
        let before = count.is_starving();
        how(count);
        match (before, count.is_starving()) {
            (false, true) => {
                self.starving += 1;
                self.latest = state;
            }
            (true, false) => self.starving -= 1,
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

    /// Whether a state other than the `current` one starves.
    pub(super) fn is_lost(&self, current: &S) -> bool {
        if self.wild > 0 || self.starving == 0 {
            return false;
        }
        let current = self.numbers.get(current);
        self.starving > usize::from(current.is_some_and(|state| self.counts[*state].is_starving()))
    }

    /// The operations that need the state that began to starve last, whether in order already or not.
    pub(super) fn starved(&self) -> &[usize] {
        self.needers.get(self.latest).map_or(&[], Vec::as_slice)
    }
}
