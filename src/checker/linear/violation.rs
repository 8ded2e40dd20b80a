//! Why a history is not linearizable, in words.

use std::error::Error;
use std::fmt::{self, Debug};

use super::{Operation, Outcome};

/// Calls before the dead end that are told.
const TOLD_BEFORE: usize = 8;
/// Calls at the dead end that are told.
const TOLD_WAITING: usize = 24;

/// A configuration from which the search could not go on. Operations by the search's numbers.
#[derive(Debug)]
pub(super) struct DeadEnd {
    /// How many known operations were in order.
    pub(super) known: usize,
    /// The last of what was in order.
    pub(super) order: Vec<usize>,
    pub(super) state: String,
    /// The operations that might have come next.
    pub(super) waiting: Vec<usize>,
    /// One that needs a state that cannot come any more.
    pub(super) starved: Option<usize>,
}

impl DeadEnd {
    pub(super) fn tail(order: &[usize]) -> Vec<usize> {
        order[order.len().saturating_sub(TOLD_BEFORE)..].to_vec()
    }
}

/// No order of the operations explains all replies. What is told is the attempt that came furthest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Known operations that could be put in order, of `operations`.
    pub explained: usize,
    pub operations: usize,
    /// The state after those, as the model's `Debug` tells it.
    pub state: String,
    /// The last calls that could be put in order, in words.
    pub before: Vec<String>,
    /// The calls of which none can come next without some reply becoming inexplicable, in words.
    pub stuck: Vec<String>,
    /// A call whose reply no order can give any more from there on, if that shows before its turn comes.
    pub starved: Option<String>,
}

impl Violation {
    pub(super) fn new<'a, C: Debug + 'a, R: Debug + 'a>(
        dead_end: &DeadEnd,
        operations: usize,
        operation: impl Fn(usize) -> &'a Operation<C, R>,
    ) -> Violation {
        let tell = |number: &usize| describe(operation(*number));
        Violation {
            explained: dead_end.known,
            operations,
            state: dead_end.state.clone(),
            before: dead_end.order.iter().map(tell).collect(),
            stuck: dead_end.waiting.iter().map(tell).collect(),
            starved: dead_end.starved.as_ref().map(tell),
        }
    }
}

fn describe<C: Debug, R: Debug>(operation: &Operation<C, R>) -> String {
    let Operation {
        client,
        call,
        invoked,
        outcome,
    } = operation;
    match outcome {
        Outcome::Returned { at, reply } => {
            format!("client {client}: {call:?} answered {reply:?}, between {invoked} and {at} ns")
        }
        Outcome::Unknown => format!("client {client}: {call:?} with unknown outcome, from {invoked} ns on"),
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "not linearizable: the attempt that came furthest put {} of {} calls with a known outcome in order.",
            self.explained, self.operations
        )?;
        if !self.before.is_empty() {
            writeln!(f, "It ends in")?;
            for call in &self.before {
                writeln!(f, "  {call}")?;
            }
        }
        writeln!(
            f,
            "which leaves the state {}. Then one of these must come next:",
            self.state
        )?;
        for call in self.stuck.iter().take(TOLD_WAITING) {
            writeln!(f, "  {call}")?;
        }
        if self.stuck.len() > TOLD_WAITING {
            writeln!(f, "  and {} more", self.stuck.len() - TOLD_WAITING)?;
        }
        match &self.starved {
            Some(call) => write!(
                f,
                "but no call that is left can lead to what this one saw:\n  {call}"
            ),
            None => write!(
                f,
                "but none of them may answer as it did, or those that may make a later answer impossible: a contradiction"
            ),
        }
    }
}

impl Error for Violation {}
