//! What the clients saw, in the order in which it happened: one counter is the clock of all.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use quorate::checker::linear;
use quorate::checker::list_append::{self, Txn};
use quorate::checker::register::{Register, RegisterOperation};

#[derive(Default)]
pub struct History {
    clock: Cell<u64>,
    pub txns: RefCell<Vec<Txn>>,
    /// By key.
    pub registers: RefCell<BTreeMap<String, Vec<RegisterOperation>>>,
    /// Unique elements: those of acknowledged transactions, and those of unknown outcome.
    pub acked: RefCell<BTreeSet<u64>>,
    pub open: RefCell<BTreeSet<u64>>,
    /// Elements of strict transactions that fail whatever happens.
    pub doomed: RefCell<Vec<u64>>,
    /// Counters: acknowledged increments and unknown ones.
    pub counts: RefCell<BTreeMap<String, (u64, u64)>>,
    /// Transactions of unknown outcome: their ids, and the index of their entry in `txns`.
    pub unknown: RefCell<Vec<(String, usize)>>,
    /// Nodes that have crashed at some time.
    pub crashed: RefCell<BTreeSet<u64>>,
    /// Keys that were set once, with a time to live.
    pub expiring: RefCell<Vec<String>>,
    /// Expiring keys that somebody has seen gone: when that was known.
    pub gone: RefCell<BTreeMap<String, u64>>,
    pub stats: RefCell<BTreeMap<&'static str, u64>>,
    pub story: RefCell<Vec<String>>,
}

pub type Shared = Rc<History>;

impl History {
    /// The next moment.
    pub fn now(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    pub fn count(&self, what: &'static str) {
        *self.stats.borrow_mut().entry(what).or_default() += 1;
    }

    pub fn tell(&self, line: impl FnOnce() -> String) {
        let at = turmoil::sim_elapsed().map_or(0, |at| at.as_millis());
        self.story.borrow_mut().push(format!("{at:>6} {}", line()));
    }

    /// Judges what can be judged from the history alone.
    pub fn check(&self) {
        if let Err(violations) = list_append::check(&self.txns.borrow()) {
            panic!("not strictly serializable:\n{violations}");
        }
        for (key, operations) in self.registers.borrow().iter() {
            if let Err(violation) = linear::check(&Register::default(), operations) {
                panic!("{key} is not linearizable:\n{violation}");
            }
        }
    }
}
