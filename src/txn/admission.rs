//! The order in which a coordinator starts transactions: those that share a key run one after another, first come,
//! first served, so that they do not die on each other's locks. One that touches a whole shard runs alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::base::{GroupId, Mutant, TxnId, mutant};

/// A key of a shard, as transactions share it.
pub(super) type Lane = (GroupId, Bytes);

#[derive(Debug, Default)]
pub(super) struct Admission {
    lanes: BTreeMap<Lane, VecDeque<TxnId>>,
    /// Transactions in lanes, running or not, with the number of lanes in which they are not first.
    blocked: BTreeMap<TxnId, usize>,
    /// What runs alone, and all that came after it: `None` for a transaction that runs alone.
    held: VecDeque<(TxnId, Option<BTreeSet<Lane>>)>,
    alone: Option<TxnId>,
}

impl Admission {
    /// Lets a transaction in; returns those that may start now. `lanes` is `None` for one that runs alone.
    pub fn enter(&mut self, txn: TxnId, lanes: Option<BTreeSet<Lane>>) -> Vec<TxnId> {
        self.held.push_back((txn, lanes));
        self.admit()
    }

    /// A transaction is over; returns those that may start now.
    pub fn leave(&mut self, txn: TxnId, lanes: &BTreeSet<Lane>) -> Vec<TxnId> {
        let mut started = Vec::new();
        self.held.retain(|(held, _)| *held != txn);
        if self.alone == Some(txn) {
            self.alone = None;
        }
        if self.blocked.remove(&txn).is_some() {
            for lane in lanes {
                let Some(queue) = self.lanes.get_mut(lane) else {
                    continue;
                };
                let was_first = queue.front() == Some(&txn);
                queue.retain(|other| *other != txn);
                match queue.front() {
                    None => drop(self.lanes.remove(lane)),
                    Some(next) if was_first && !mutant::is(Mutant::LaneNeverFreed) => {
                        let left = self.blocked.entry(*next).or_default();
                        *left = left.saturating_sub(1);
                        if *left == 0 {
                            started.push(*next);
                        }
                    }
                    Some(_) => {}
                }
            }
        }
        started.extend(self.admit());
        started
    }

    /// Who has the turn that `txn` waits for, and at which key; without one where either runs alone.
    pub fn ahead_of(&self, txn: TxnId, lanes: &BTreeSet<Lane>) -> Vec<(TxnId, Option<Lane>)> {
        if let Some(place) = self.held.iter().position(|(held, _)| *held == txn) {
            let first = self.held.front().map(|(held, _)| *held).filter(|_| place > 0);
            let running = self.blocked.keys().copied().filter(|_| place == 0);
            let ahead = self.alone.or(first).into_iter().chain(running);
            return ahead.map(|ahead| (ahead, None)).collect();
        }
        let turn = |lane: &Lane| {
            let first = self.lanes.get(lane)?.front().copied()?;
            (first != txn).then(|| (first, Some(lane.clone())))
        };
        lanes.iter().filter_map(turn).collect()
    }

    fn admit(&mut self) -> Vec<TxnId> {
        let mut started = Vec::new();
        while self.alone.is_none() {
            match self.held.front() {
                None => break,
                Some((_, None)) if !self.blocked.is_empty() => break,
                Some(_) => {}
            }
            match self.held.pop_front() {
                Some((txn, None)) => {
                    self.alone = Some(txn);
                    started.push(txn);
                }
                Some((txn, Some(lanes))) => {
                    let mut behind = 0;
                    for lane in lanes {
                        let queue = self.lanes.entry(lane).or_default();
                        behind += usize::from(!queue.is_empty());
                        queue.push_back(txn);
                    }
                    self.blocked.insert(txn, behind);
                    if behind == 0 {
                        started.push(txn);
                    }
                }
                None => break,
            }
        }
        started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txn(seq: u64) -> TxnId {
        TxnId { session: 1, seq }
    }

    fn lanes(keys: &[&'static str]) -> BTreeSet<Lane> {
        keys.iter()
            .map(|key| (GroupId::Shard(0), Bytes::from(*key)))
            .collect()
    }

    #[test]
    fn sharing_a_key_means_one_after_another_in_order_of_arrival() {
        let mut admission = Admission::default();
        assert_eq!(admission.enter(txn(1), Some(lanes(&["a", "b"]))), [txn(1)]);
        assert_eq!(admission.enter(txn(2), Some(lanes(&["b", "c"]))), []);
        assert_eq!(
            admission.enter(txn(3), Some(lanes(&["c"]))),
            [],
            "behind 2, although c is free"
        );
        assert_eq!(admission.enter(txn(4), Some(lanes(&["d"]))), [txn(4)]);
        assert_eq!(admission.leave(txn(1), &lanes(&["a", "b"])), [txn(2)]);
        assert_eq!(admission.leave(txn(2), &lanes(&["b", "c"])), [txn(3)]);
        assert_eq!(admission.leave(txn(3), &lanes(&["c"])), []);
        assert!(admission.leave(txn(4), &lanes(&["d"])).is_empty() && admission.lanes.is_empty());
    }

    #[test]
    fn one_that_runs_alone_waits_for_all_and_holds_up_all_that_come_after() {
        let mut admission = Admission::default();
        assert_eq!(admission.enter(txn(1), Some(lanes(&["a"]))), [txn(1)]);
        assert_eq!(admission.enter(txn(2), None), []);
        assert_eq!(admission.enter(txn(3), Some(lanes(&["z"]))), []);
        assert_eq!(admission.leave(txn(1), &lanes(&["a"])), [txn(2)]);
        assert_eq!(admission.leave(txn(2), &BTreeSet::new()), [txn(3)]);
    }
}
