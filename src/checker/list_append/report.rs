//! What is wrong with a history, by name and in words.

use std::error::Error;
use std::fmt;

/// Anomalies of one kind that are told in full; a broken store tends to produce the same one thousandfold.
const TOLD_PER_KIND: usize = 4;

/// The names are those of Adya (1999), with Elle's additions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A transaction does not read what it appended or read itself.
    Internal,
    /// A list holds an element twice.
    DuplicateElement,
    /// A list holds an element that nobody appended.
    UnwrittenElement,
    /// Two lists of a key of which neither begins with the other; or a list in which a transaction's elements are in
    /// another order than it appended them.
    IncompatibleOrders,
    /// G1a: a list holds an element of an aborted transaction.
    AbortedRead,
    /// G1b: a list ends with an element that its transaction followed up with another one.
    IntermediateRead,
    /// A committed append that no list holds, though a list was read later.
    LostAppend,
    /// Transactions that come before themselves.
    Cycle {
        cycle: Cycle,
        /// Whether the contradiction needs real time: without, the history is not even serializable.
        real_time: bool,
    },
}

/// By the edges of a cycle, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cycle {
    /// Only appends after appends.
    G0,
    /// Appends, and reads of appends.
    G1c,
    /// Exactly one read that misses a later append: read skew, lost update; with real time a stale read.
    GSingle,
    /// Several reads that miss a later append: write skew.
    G2,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Kind::Internal => "internal inconsistency",
            Kind::DuplicateElement => "duplicate element",
            Kind::UnwrittenElement => "unwritten element",
            Kind::IncompatibleOrders => "incompatible orders",
            Kind::AbortedRead => "G1a (aborted read)",
            Kind::IntermediateRead => "G1b (intermediate read)",
            Kind::LostAppend => "lost append",
            Kind::Cycle { cycle, real_time } => {
                let name = match cycle {
                    Cycle::G0 => "G0 (write cycle)",
                    Cycle::G1c => "G1c (circular information flow)",
                    Cycle::GSingle => "G-single (single anti-dependency cycle)",
                    Cycle::G2 => "G2 (anti-dependency cycle)",
                };
                let with = if *real_time { " with real time" } else { "" };
                return write!(f, "{name}{with}");
            }
        };
        f.write_str(text)
    }
}

/// One contradiction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    pub kind: Kind,
    /// The transactions that take part, as indices into the history; of a cycle in its order.
    pub txns: Vec<usize>,
    /// Step by step, a sentence each.
    pub steps: Vec<String>,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind)?;
        for step in &self.steps {
            write!(f, "\n  {step}")?;
        }
        Ok(())
    }
}

/// Why a history is not strictly serializable. Not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations {
    /// At most a few of each kind.
    pub anomalies: Vec<Anomaly>,
    /// How many more were found and are not told.
    pub untold: usize,
}

impl Violations {
    pub(super) fn push(&mut self, anomaly: impl FnOnce() -> Anomaly, kind: Kind) {
        let told = self.anomalies.iter().filter(|told| told.kind == kind).count();
        if told < TOLD_PER_KIND {
            self.anomalies.push(anomaly());
        } else {
            self.untold += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.anomalies.is_empty()
    }

    /// Whether an anomaly of the kind was found.
    pub fn has(&self, kind: Kind) -> bool {
        self.anomalies.iter().any(|anomaly| anomaly.kind == kind)
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.anomalies.len() + self.untold;
        write!(f, "not strictly serializable, {found} anomaly(ies) found:")?;
        for (number, anomaly) in (1..).zip(&self.anomalies) {
            write!(f, "\n{number}. {anomaly}")?;
        }
        if self.untold > 0 {
            write!(f, "\nand {} more of these kinds", self.untold)?;
        }
        Ok(())
    }
}

impl Error for Violations {}
