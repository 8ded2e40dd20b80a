//! Strict serializability of transactions that append to lists and read them: Kingsbury & Alvaro, "Elle: inferring
//! isolation anomalies from experimental observations" (2020).
//!
//! A list shows the order in which it was written, so who came before whom follows from the reads alone:
//!
//! ```text
//! history ─internal─▶ reads ─orders─▶ one order of elements a key ─edges─▶ graph ─cycles─▶ smallest cycle ─explain─▶ words
//!
//!   ww  a's element stands directly before b's in a list            a before b
//!   wr  b read a list that ends with a's element                    a before b
//!   rw  a read a list into which b appended only later              a before b
//!   rt  a was over before b was begun                               a before b
//! ```
//!
//! The history is strictly serializable exactly if every read can be one of a single growing list and no transaction
//! comes before itself. (An acyclic graph's topological order is a serial order that explains every read.)
//!
//! Cost: O(n log n) of operations and read elements for a history that is fine. Memory: about 200 bytes an operation.
//!
//! Not here: other datatypes, weaker models (a violation names the anomaly; which models it breaks is for the reader),
//! and predicate reads.

mod cycles;
mod edges;
mod explain;
mod graph;
mod internal;
mod orders;
mod report;

pub use report::{Anomaly, Cycle, Kind, Violations};

/// One transaction by one client. Transactions are named by their index in the history: `T0`, `T1`, …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    /// For the words of a violation.
    pub client: u64,
    /// Nanoseconds, on the history's one clock.
    pub invoked: u64,
    pub outcome: Outcome,
    pub ops: Vec<Op>,
}

/// What the client learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It happened between `invoked` and `at`.
    Committed { at: u64 },
    /// It did not happen. What it read is not judged, for the client was told not to rely on it.
    Aborted { at: u64 },
    /// It happened once, at any time after `invoked`, or never.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Puts `element` at the end of the list. An element may be appended to a key by one operation of the whole
    /// history.
    Append { key: u64, element: u64 },
    /// The whole list, empty where the key is absent; `None` if the client did not learn it.
    Read { key: u64, list: Option<Vec<u64>> },
}

/// What was checked, so that a test can assert that its history was worth checking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    pub committed: usize,
    pub aborted: usize,
    /// Of unknown outcome, but somebody read what they appended: they count as committed, without an end.
    pub unknown_seen: usize,
    /// Of unknown outcome, and nobody read anything of theirs: left out.
    pub unknown_unseen: usize,
    pub keys: usize,
    /// Reads of transactions that happened.
    pub reads: usize,
    /// Elements whose place is known, as somebody read them.
    pub elements_read: usize,
}

/// Whether one serial order of the committed transactions, and of some of the unknown ones, explains every read and has
/// every transaction between its invocation and its end.
///
/// # Errors
/// It does not: every kind of anomaly that was found, of each a few, with an explanation in words.
///
/// # Panics
/// If a transaction ended before it was invoked, if an element was appended to a key twice, or if the history has 2^31
/// operations or more.
pub fn check(history: &[Txn]) -> Result<Summary, Box<Violations>> {
    for txn in history {
        if let Outcome::Committed { at } | Outcome::Aborted { at } = txn.outcome {
            assert!(txn.invoked <= at, "a transaction ended before it was invoked");
        }
    }
    let mut violations = Violations::default();
    let orders = orders::Orders::infer(history, &mut violations);
    let graph = edges::build(history, &orders);
    cycles::find(history, &orders, &graph, &mut violations);
    if violations.is_empty() {
        Ok(orders.summary(history))
    } else {
        Err(Box::new(violations))
    }
}
