//! The depth-first search for an order. Iterative: a history of any length needs no deep stack.

use super::memo::{Fingerprint, Memo};
use super::starvation::Starvation;
use super::timeline::{Place, Timeline};
use super::violation::{DeadEnd, Violation};
use super::{Answer, Blind, Model, Operation};

/// An unknown call that was put in order must be followed by a call that needs its effect.
///
/// Let `u` take state `s` to `t`, and let `y` follow. If `y` may answer the same in `s`, leaving `r`, then:
/// where `y` leaves `r` in `t` too, `u` is not needed; and where `u` takes `r` to what `y` leaves in `t`, `u` can come
/// after `y`. So in an order with as few unknown calls as possible, each as late as possible, neither is the case.
/// Two unknown calls that commute are kept in the order of their classes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Debt<S> {
    class: usize,
    /// `s`, the state before.
    before: S,
}

#[derive(Debug, Clone)]
struct Choice<S> {
    operation: usize,
    after: S,
    debt: Option<Debt<S>>,
}

/// Where the search can come back to.
struct Frame<S> {
    state: S,
    debt: Option<Debt<S>>,
    /// How many operations were in order when it was entered.
    taken: usize,
    /// Where its own choices begin.
    choices: usize,
    tried_unknown: bool,
}

/// Interchangeable unknown operations, in order of invocation; the first `used` are in order.
struct Class {
    members: Vec<usize>,
    used: usize,
}

type Configuration<S> = (Fingerprint, S, Option<Debt<S>>);

/// Operations are numbered: the known ones in order of invocation, then the unknown ones.
pub(super) struct Search<'a, M: Model> {
    model: &'a M,
    operations: Vec<&'a Operation<M::Call, M::Reply>>,
    known: usize,
    /// Of the known operations.
    blind: Vec<Blind>,
    timeline: Timeline,
    starvation: Starvation<M::State>,
    classes: Vec<Class>,
    /// The class of each unknown operation.
    class_of: Vec<usize>,
    /// What is in order so far, as a sequence and as a set.
    order: Vec<usize>,
    is_taken: Vec<bool>,
    fingerprint: Fingerprint,
    memo: Memo<Configuration<M::State>>,
    /// Configurations that were entered.
    entered: u64,
    frames: Vec<Frame<M::State>>,
    choices: Vec<Choice<M::State>>,
    /// How many known operations are in order, and the dead end that had most of them.
    known_taken: usize,
    deepest: Option<DeadEnd>,
}

impl<'a, M: Model> Search<'a, M> {
    pub(super) fn new(model: &'a M, history: &'a [Operation<M::Call, M::Reply>]) -> Search<'a, M> {
        let mut known: Vec<_> = history
            .iter()
            .zip(model.blind(history))
            .filter(|(operation, _)| operation.reply().is_some())
            .collect();
        known.sort_by_key(|(operation, _)| operation.span());
        let spans: Vec<(u64, u64)> = known.iter().map(|(operation, _)| operation.span()).collect();
        let (mut operations, blind): (Vec<_>, Vec<_>) = known.into_iter().unzip();
        let known = operations.len();
        let (classes, class_of) = classes(model, history, &mut operations);
        let starvation = Starvation::new(model, history, &operations);
        Search {
            model,
            is_taken: vec![false; operations.len()],
            operations,
            known,
            blind,
            timeline: Timeline::new(&spans),
            starvation,
            classes,
            class_of,
            order: Vec::new(),
            fingerprint: Fingerprint::default(),
            memo: Memo::new(),
            entered: 0,
            frames: Vec::new(),
            choices: Vec::new(),
            known_taken: 0,
            deepest: None,
        }
    }

    pub(super) fn run(mut self, configurations: u64) -> Result<Answer, Box<Violation>> {
        self.enter(self.model.start(), None, None);
        loop {
            if self.timeline.is_empty() {
                return Ok(Answer::Linearizable);
            }
            if self.entered >= configurations {
                return Ok(Answer::GaveUp);
            }
            let Some(frame) = self.frames.last_mut() else {
                return Err(Box::new(self.violation()));
            };
            let (taken, state) = (frame.taken, &frame.state);
            if self.choices.len() > frame.choices {
                let choice = self
                    .choices
                    .pop()
                    .expect("there are more than the frame began with");
                let left = state.clone();
                self.undo(taken);
                self.absorb(choice.operation);
                self.take(choice.operation);
                self.enter(choice.after, choice.debt, Some(&left));
            } else if frame.tried_unknown {
                self.frames.pop();
            } else {
                frame.tried_unknown = true;
                self.undo(taken);
                self.offer_unknown();
            }
        }
    }

    /// Makes the current configuration one to go on from, unless it is known to lead nowhere. `left` is the state
    /// before.
    fn enter(&mut self, state: M::State, mut debt: Option<Debt<M::State>>, left: Option<&M::State>) {
        if self.settle(&state) {
            debt = None;
        }
        if let Some(needers) = self.starvation.lost(&state, left) {
            let starved = needers
                .iter()
                .copied()
                .find(|operation| !self.is_taken[*operation]);
            self.note_dead_end(&state, starved);
            return;
        }
        if !self.memo.enter((self.fingerprint, state.clone(), debt.clone())) {
            return;
        }
        self.entered += 1;
        self.frames.push(Frame {
            state,
            debt,
            taken: self.order.len(),
            choices: self.choices.len(),
            tried_unknown: false,
        });
        self.offer_known();
    }

    /// Puts every call in order that only reads and may come now. If a legal order goes on from here at all, then one
    /// does in which such a call comes first: no other call sees a difference, and it was invoked early enough. (Not
    /// so for a write of what is there already: it may be needed later, to bring that state back.) Returns whether
    /// there was one.
    fn settle(&mut self, state: &M::State) -> bool {
        let taken = self.order.len();
        let mut place = self.timeline.head();
        while let (next, Place::Call(operation)) = self.timeline.after(place) {
            if self.starvation.only_reads(operation) && self.step(state, operation).is_some() {
                self.take(operation);
            } else {
                place = next;
            }
        }
        self.order.len() > taken
    }

    /// Before a known overwrite, puts every other write in order that nobody sees and that may come now. If a legal
    /// order goes on with the overwrite, then one does in which they come first: their effect can be left out of where
    /// they stood, and here it is overwritten.
    fn absorb(&mut self, overwrite: usize) {
        if overwrite >= self.known || self.blind[overwrite] == Blind::No {
            return;
        }
        let mut place = self.timeline.head();
        while let (next, Place::Call(operation)) = self.timeline.after(place) {
            if operation != overwrite && self.blind[operation] == Blind::Unseen {
                self.take(operation);
            } else {
                place = next;
            }
        }
    }

    fn step(&self, state: &M::State, operation: usize) -> Option<M::State> {
        let operation = self.operations[operation];
        self.model.step(state, &operation.call, operation.reply())
    }

    /// Adds the known calls that may come now to the choices of the last frame.
    fn offer_known(&mut self) {
        let frame = self.frames.last().expect("called on entering a frame");
        let mut offers_unseen = false;
        for operation in self.timeline.candidates() {
            if self.blind[operation] == Blind::Unseen && std::mem::replace(&mut offers_unseen, true) {
                continue; // The first takes the others along.
            }
            let Some(after) = self.step(&frame.state, operation) else {
                continue;
            };
            if self.pays(frame.debt.as_ref(), operation, &after) {
                self.choices.push(Choice {
                    operation,
                    after,
                    debt: None,
                });
            }
        }
        // The last is tried first: that should be the one invoked first.
        self.choices[frame.choices..].reverse();
    }

    /// Adds the unknown calls that may come now to the choices of the last frame, whose known ones led nowhere.
    fn offer_unknown(&mut self) {
        let frame = self.frames.last().expect("called on a frame");
        let deadline = self.timeline.deadline();
        for (number, class) in self.classes.iter().enumerate() {
            if self.operations[class.members[0]].invoked > deadline {
                break;
            }
            let Some(&operation) = class.members.get(class.used) else {
                continue;
            };
            if self.operations[operation].invoked > deadline {
                continue;
            }
            let Some(after) = self.step(&frame.state, operation) else {
                continue;
            };
            if after != frame.state && self.pays(frame.debt.as_ref(), operation, &after) {
                self.choices.push(Choice {
                    operation,
                    after,
                    debt: Some(Debt {
                        class: number,
                        before: frame.state.clone(),
                    }),
                });
            }
        }
        self.choices[frame.choices..].reverse();
        if self.choices.len() == frame.choices {
            let state = frame.state.clone();
            self.note_dead_end(&state, None);
        }
    }

    /// Whether `operation`, which leaves `after`, needs the unknown call just before it; see [`Debt`].
    fn pays(&self, debt: Option<&Debt<M::State>>, operation: usize, after: &M::State) -> bool {
        let Some(debt) = debt else { return true };
        let Some(without) = self.step(&debt.before, operation) else {
            return true;
        };
        if without == *after {
            return false;
        }
        if operation >= self.known && debt.class <= self.class_of[operation - self.known] {
            return true;
        }
        let unknown = self.classes[debt.class].members[self.classes[debt.class].used - 1];
        self.step(&without, unknown).as_ref() != Some(after)
    }

    fn take(&mut self, operation: usize) {
        if operation < self.known {
            self.timeline.take(operation);
            self.known_taken += 1;
        } else {
            self.classes[self.class_of[operation - self.known]].used += 1;
        }
        self.starvation.take(operation);
        self.fingerprint.add(operation);
        self.is_taken[operation] = true;
        self.order.push(operation);
    }

    /// Takes operations out of order again until `taken` are left.
    fn undo(&mut self, taken: usize) {
        while self.order.len() > taken {
            let operation = self.order.pop().expect("there are more than none");
            if operation < self.known {
                self.timeline.put_back(operation);
                self.known_taken -= 1;
            } else {
                self.classes[self.class_of[operation - self.known]].used -= 1;
            }
            self.is_taken[operation] = false;
            self.starvation.put_back(operation);
            self.fingerprint.remove(operation);
        }
    }

    /// Remembers the current configuration if none that led nowhere had more known operations in order.
    fn note_dead_end(&mut self, state: &M::State, starved: Option<usize>) {
        if self
            .deepest
            .as_ref()
            .is_some_and(|deepest| deepest.known >= self.known_taken)
        {
            return;
        }
        self.deepest = Some(DeadEnd {
            known: self.known_taken,
            order: DeadEnd::tail(&self.order),
            state: format!("{state:?}"),
            waiting: self.timeline.candidates().collect(),
            starved,
        });
    }

    fn violation(self) -> Violation {
        let dead_end = self
            .deepest
            .expect("a search that fails has a branch that failed first");
        Violation::dead_end(&dead_end, self.known, |operation| self.operations[operation])
    }
}

/// Appends the unknown operations to `operations`, less those that may be left out. Returns their classes, ordered by
/// first member, and the class of each.
fn classes<'a, M: Model>(
    model: &M,
    history: &'a [Operation<M::Call, M::Reply>],
    operations: &mut Vec<&'a Operation<M::Call, M::Reply>>,
) -> (Vec<Class>, Vec<usize>) {
    let unknown = history.iter().filter(|operation| operation.reply().is_none());
    let mut classed: Vec<_> = unknown
        .zip(model.classes(history))
        .filter_map(|(operation, class)| Some((class?, operation)))
        .collect();
    classed.sort_by_key(|(class, operation)| (*class, operation.invoked));
    let mut groups: Vec<_> = classed.chunk_by(|left, right| left.0 == right.0).collect();
    groups.sort_by_key(|group| (group[0].1.invoked, group[0].0));
    let (mut classes, mut class_of) = (Vec::new(), Vec::new());
    for (number, group) in groups.into_iter().enumerate() {
        let first = operations.len();
        operations.extend(group.iter().map(|(_, operation)| *operation));
        class_of.extend(group.iter().map(|_| number));
        classes.push(Class {
            members: (first..operations.len()).collect(),
            used: 0,
        });
    }
    (classes, class_of)
}
