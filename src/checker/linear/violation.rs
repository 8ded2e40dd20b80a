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

/// No order of the operations explains all replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// How many have a known outcome.
    pub operations: usize,
    pub reason: Reason,
}

/// What shows it; calls and states in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Two states must be there at the same time.
    TwoStates { one: String, other: String },
    /// While a state must be there, there is a call that it does not explain, or that changes it.
    Intruder { lasting: String, intruder: String },
    /// All orders were tried. What is told is the attempt that came furthest.
    DeadEnd {
        /// How many operations with a known outcome could be put in order.
        explained: usize,
        /// The last calls that could.
        before: Vec<String>,
        /// The state after those.
        state: String,
        /// The calls of which none can come next without some reply becoming inexplicable.
        stuck: Vec<String>,
        /// A call whose reply no order can give any more from there on, if that shows before its turn comes.
        starved: Option<String>,
    },
}

impl Violation {
    pub(super) fn dead_end<'a, C: Debug + 'a, R: Debug + 'a>(
        dead_end: &DeadEnd,
        operations: usize,
        operation: impl Fn(usize) -> &'a Operation<C, R>,
    ) -> Violation {
        let tell = |number: &usize| describe(operation(*number));
        let reason = Reason::DeadEnd {
            explained: dead_end.known,
            before: dead_end.order.iter().map(tell).collect(),
            state: dead_end.state.clone(),
            stuck: dead_end.waiting.iter().map(tell).collect(),
            starved: dead_end.starved.as_ref().map(tell),
        };
        Violation { operations, reason }
    }
}

pub(super) fn describe<C: Debug, R: Debug>(operation: &Operation<C, R>) -> String {
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
            "not linearizable ({} calls with a known outcome):",
            self.operations
        )?;
        match &self.reason {
            Reason::TwoStates { one, other } => {
                write!(f, "{one}\nyet {other}\nThese times overlap: a contradiction")
            }
            Reason::Intruder { lasting, intruder } => write!(
                f,
                "{lasting}\nyet within that time is\n  {intruder}\nwhich that state does not explain, or which changes it: \
                 a contradiction"
            ),
            Reason::DeadEnd {
                explained,
                before,
                state,
                stuck,
                starved,
            } => {
                write!(
                    f,
                    "the attempt that came furthest put {explained} of them in order"
                )?;
                f.write_str(if before.is_empty() { "," } else { ", at last" })?;
                list(f, before)?;
                write!(
                    f,
                    "\nwhich leaves the state {state}. Then one of these must come next:"
                )?;
                list(f, &stuck[..stuck.len().min(TOLD_WAITING)])?;
                if stuck.len() > TOLD_WAITING {
                    write!(f, "\n  and {} more", stuck.len() - TOLD_WAITING)?;
                }
                match starved {
                    Some(call) => write!(
                        f,
                        "\nbut no call that is left can lead to what this one saw:\n  {call}"
                    ),
                    None => f.write_str(
                        "\nbut none of them may answer as it did, or those that may make a later answer impossible: a \
                         contradiction",
                    ),
                }
            }
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, calls: &[String]) -> fmt::Result {
    calls.iter().try_for_each(|call| write!(f, "\n  {call}"))
}

impl Error for Violation {}
