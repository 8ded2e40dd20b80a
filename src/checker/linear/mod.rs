//! Linearizability of a history of calls on one object: Wing & Gong, "Testing and verifying concurrent objects" (1993),
//! with the memo of configurations of Lowe, "Testing for linearizability" (2017).
//!
//! ```text
//! history ──timeline──▶ calls and returns in time order
//!                         │  search: put one call after another in order, each before the first return that waits
//!                         │  dead end ─▶ undo; a configuration (set of ordered calls, state) is entered only once
//!                         ▼
//!             all known calls in order: linearizable        nothing left to try: Violation
//! ```
//!
//! Deciding linearizability is NP-complete. What keeps real histories near linear, each without changing a verdict:
//!
//! 0. Where a state has one maker, it lasts from there to the last call that needs it: two states that must be there
//!    at the same time refute a history before any search (`lifetimes.rs`).
//! 1. A call that only reads and may come now comes now; no alternative is tried (`Search::settle`).
//! 2. An unknown call is put in order only directly before a call that needs its effect (`search.rs`, `Debt`).
//! 3. Unknown calls that nobody can tell apart are tried in one order only ([`Model::classes`]).
//! 4. A state that some call still needs, and that cannot come any more, ends the branch (`starvation.rs`).
//! 5. Writes that nobody can see are put in order all at once, before the next overwrite ([`Model::blind`]).
//!
//! Not here: bounds on time. A broken history with many concurrent state-changing calls can take exponential time;
//! [`check_within`] gives up instead.

mod lifetimes;
mod memo;
mod search;
mod starvation;
mod timeline;
mod violation;

use std::fmt::Debug;
use std::hash::Hash;

pub use violation::{Reason, Violation};

/// A sequential object: what a call may answer in a state, and which state it leaves.
pub trait Model {
    type State: Clone + Eq + Hash + Debug;
    type Call: Debug;
    type Reply: Debug;

    fn start(&self) -> Self::State;

    /// The state after `call`, if it may answer `reply` in `state`; `None` if it may not. Without a reply the caller
    /// does not know the outcome: whatever the call would have answered, this is what it did.
    fn step(
        &self,
        state: &Self::State,
        call: &Self::Call,
        reply: Option<&Self::Reply>,
    ) -> Option<Self::State>;

    /// For each unknown operation, in the history's order: `None` if leaving it out cannot change the verdict on this
    /// history, else a class. Members of a class must be interchangeable: exchanging two of them in any legal order
    /// leaves it legal. The default is sound for every model: each is needed and has a class of its own.
    fn classes(&self, history: &[Operation<Self::Call, Self::Reply>]) -> Vec<Option<u64>> {
        let unknown = history
            .iter()
            .filter(|operation| matches!(operation.outcome, Outcome::Unknown));
        (0..).zip(unknown).map(|(class, _)| Some(class)).collect()
    }

    /// For each of `states`, whether an operation that makes [`Makes::Anything`] may make it. Only prunes; the default
    /// prunes nothing.
    fn reach(&self, history: &[Operation<Self::Call, Self::Reply>], states: &[Self::State]) -> Vec<Reach> {
        let _ = history;
        vec![Reach::ByAnything; states.len()]
    }

    /// Whether no state comes again in this history once it was left, as with a counter. Only prunes.
    fn never_returns(&self, history: &[Operation<Self::Call, Self::Reply>]) -> bool {
        let _ = history;
        false
    }

    /// For each operation of the history. Only prunes; the default prunes nothing.
    fn blind(&self, history: &[Operation<Self::Call, Self::Reply>]) -> Vec<Blind> {
        vec![Blind::No; history.len()]
    }

    /// The state that must be there before the call for it to answer so, where there is just one. Only prunes; the
    /// default prunes nothing.
    fn needs(&self, call: &Self::Call, reply: &Self::Reply) -> Option<Self::State> {
        let _ = (call, reply);
        None
    }

    /// What the call can leave as a state different from the one before it. Must be true of every state in which the
    /// call may answer so. Only prunes; the default prunes nothing.
    fn makes(&self, call: &Self::Call, reply: Option<&Self::Reply>) -> Makes<Self::State> {
        let _ = (call, reply);
        Makes::Anything
    }
}

/// What [`Model::reach`] tells of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Some operation that makes [`Makes::Anything`] may make it.
    ByAnything,
    /// Only those that make just this state do.
    ByItsMakers,
}

/// How an operation with a known outcome writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blind {
    /// Where it may come, or what it leaves, depends on the state before.
    No,
    /// It may answer so in every state, and always leaves the same one.
    Overwrites,
    /// It overwrites, and leaving its effect out of any legal order of this history (by leaving out some unknown
    /// operations too where need be) leaves it legal. Any two such can stand for each other.
    Unseen,
}

/// What a call can change a state into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Makes<S> {
    /// It only reads: it leaves every state as it is.
    Nothing,
    /// If it changes the state then into this one.
    Only(S),
    Anything,
}

/// One call by one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<C, R> {
    /// For the words of a violation; a client may have several calls under way.
    pub client: u64,
    pub call: C,
    /// Nanoseconds, on the history's one clock.
    pub invoked: u64,
    pub outcome: Outcome<R>,
}

impl<C, R> Operation<C, R> {
    /// `None` if the outcome is unknown.
    pub fn reply(&self) -> Option<&R> {
        match &self.outcome {
            Outcome::Returned { reply, .. } => Some(reply),
            Outcome::Unknown => None,
        }
    }

    /// When it was invoked, and when it must have happened (never: `u64::MAX`). Nanoseconds.
    pub fn span(&self) -> (u64, u64) {
        match self.outcome {
            Outcome::Returned { at, .. } => (self.invoked, at),
            Outcome::Unknown => (self.invoked, u64::MAX),
        }
    }
}

/// What the caller learnt. Calls that definitely did not happen do not belong into a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<R> {
    /// It happened between `invoked` and `at`.
    Returned { at: u64, reply: R },
    /// It happened once, at any time after `invoked`, or never.
    Unknown,
}

/// The answer of [`check_within`], if no violation was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Linearizable,
    /// Neither proved nor refuted within the bound.
    GaveUp,
}

/// Whether all operations can be put in one order that the model allows, each somewhere between its call and its
/// return; unknown ones where it suits, or nowhere.
///
/// Memory: some 100 bytes a configuration; a healthy history has at most about one an operation.
///
/// # Errors
/// The history is not linearizable; the violation tells which states must be there at the same time, or how far an
/// order could be found and what does not fit then.
///
/// # Panics
/// If an operation returned before it was invoked.
pub fn check<M: Model>(model: &M, history: &[Operation<M::Call, M::Reply>]) -> Result<(), Box<Violation>> {
    match check_within(model, history, u64::MAX)? {
        Answer::Linearizable | Answer::GaveUp => Ok(()),
    }
}

/// As [`check`], but gives up after entering `configurations` of them.
///
/// # Errors
/// As [`check`].
///
/// # Panics
/// As [`check`].
pub fn check_within<M: Model>(
    model: &M,
    history: &[Operation<M::Call, M::Reply>],
    configurations: u64,
) -> Result<Answer, Box<Violation>> {
    lifetimes::check(model, history)?;
    search::Search::new(model, history).run(configurations)
}
