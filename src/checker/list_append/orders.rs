//! What the reads tell: which transactions happened, in which order each key's elements were appended, and by whom.

use std::cmp::Reverse;
use std::ops::Range;

use super::internal::{self, Read};
use super::report::{Anomaly, Kind, Violations};
use super::{Op, Outcome, Summary, Txn, explain};

#[derive(Debug, Clone, Copy)]
pub(super) struct Append {
    pub(super) key: u64,
    pub(super) element: u64,
    pub(super) txn: usize,
    /// Its place among its transaction's operations.
    op: usize,
    /// Whether it is its transaction's last one to the key.
    is_last: bool,
    /// Whether its transaction did not abort.
    can_happen: bool,
    /// Whether a transaction that happened read it.
    is_seen: bool,
}

#[derive(Debug)]
pub(super) struct Key<'a> {
    pub(super) name: u64,
    /// Where its appends and reads stand.
    appends: Range<usize>,
    reads: Range<usize>,
    /// The longest list that a transaction that happened has read.
    pub(super) order: &'a [u64],
    /// Who appended each element of `order`.
    pub(super) writers: Vec<usize>,
    /// Who appended, among the transactions that happened, something that nobody read: after all of `order`. Sorted.
    pub(super) unseen: Vec<usize>,
    /// Whether every read is a beginning of `order`. If not, nothing more is inferred from the key.
    pub(super) is_sound: bool,
}

#[derive(Debug)]
pub(super) struct Orders<'a> {
    /// By key and element.
    appends: Vec<Append>,
    /// By key, the longest first. Not of aborted transactions.
    reads: Vec<Read<'a>>,
    pub(super) keys: Vec<Key<'a>>,
    /// By transaction: committed, or unknown and read by one that happened.
    pub(super) happened: Vec<bool>,
}

impl<'a> Orders<'a> {
    /// Reports everything that is wrong short of a cycle.
    pub(super) fn infer(history: &'a [Txn], violations: &mut Violations) -> Orders<'a> {
        let (mut reads, mut contradictions) = (Vec::new(), Vec::new());
        for (number, txn) in history.iter().enumerate() {
            if !matches!(txn.outcome, Outcome::Aborted { .. }) {
                let found = internal::reads(number, &txn.ops, &mut reads);
                contradictions.extend(found.into_iter().map(|contradiction| (number, contradiction)));
            }
        }
        reads.sort_by_key(|read| (read.key, Reverse(read.list.len()), read.txn));
        let appends = appends(history);
        let mut orders = Orders {
            keys: keys(&appends, &reads),
            appends,
            reads,
            happened: history
                .iter()
                .map(|txn| matches!(txn.outcome, Outcome::Committed { .. }))
                .collect(),
        };
        orders.find_out_what_happened(history);
        for (txn, contradiction) in contradictions {
            if orders.happened[txn] {
                let anomaly = || Anomaly {
                    kind: Kind::Internal,
                    txns: vec![txn],
                    steps: vec![explain::internal(txn, &contradiction)],
                };
                violations.push(anomaly, Kind::Internal);
            }
        }
        for number in 0..orders.keys.len() {
            orders.settle_key(number, history, violations);
        }
        orders
    }

    /// The reads of key number `key` by transactions that happened, the longest first.
    pub(super) fn reads(&self, key: usize) -> impl Iterator<Item = &Read<'a>> + '_ {
        self.reads[self.keys[key].reads.clone()]
            .iter()
            .filter(|read| self.happened[read.txn])
    }

    pub(super) fn append(&self, key: usize, element: u64) -> Option<&Append> {
        self.find(key, element).map(|at| &self.appends[at])
    }

    fn find(&self, key: usize, element: u64) -> Option<usize> {
        let range = self.keys[key].appends.clone();
        let at = self.appends[range.clone()].binary_search_by_key(&element, |append| append.element);
        at.ok().map(|at| range.start + at)
    }

    /// Something that `txn` appended to key number `key` and nobody read.
    pub(super) fn unseen_element(&self, key: usize, txn: usize) -> Option<u64> {
        self.appends[self.keys[key].appends.clone()]
            .iter()
            .find(|append| append.txn == txn && !append.is_seen)
            .map(|append| append.element)
    }

    /// An unknown transaction happened if one that happened read its elements. Its own reads then count too.
    fn find_out_what_happened(&mut self, history: &[Txn]) {
        let is_unknown = |txn: usize| history[txn].outcome == Outcome::Unknown;
        // The reads of unknown transactions, by transaction. Reads are usually not known for those.
        let (mut late, mut found): (Vec<(usize, usize)>, Vec<usize>) = (Vec::new(), Vec::new());
        for key in 0..self.keys.len() {
            let mut longest: &[u64] = &[];
            for at in self.keys[key].reads.clone() {
                let Read { txn, list, .. } = self.reads[at];
                if is_unknown(txn) {
                    late.push((txn, at));
                } else if !longest.starts_with(list) {
                    self.see(key, list, &mut found);
                    longest = if longest.is_empty() { list } else { longest };
                }
            }
        }
        late.sort_unstable();
        while let Some(txn) = found.pop() {
            let first = late.partition_point(|(reader, _)| *reader < txn);
            for (_, at) in late[first..].iter().take_while(|(reader, _)| *reader == txn) {
                let Read { key, list, .. } = self.reads[*at];
                let key = self
                    .keys
                    .binary_search_by_key(&key, |known| known.name)
                    .expect("a key that was read is known");
                self.see(key, list, &mut found);
            }
        }
    }

    /// Marks the elements of a list as seen, and adds unknown transactions that turn out to have happened to `found`.
    fn see(&mut self, key: usize, list: &[u64], found: &mut Vec<usize>) {
        for element in list {
            if let Some(at) = self.find(key, *element) {
                let append = &mut self.appends[at];
                append.is_seen = true;
                if append.can_happen && !self.happened[append.txn] {
                    self.happened[append.txn] = true;
                    found.push(append.txn);
                }
            }
        }
    }

    /// Judges the reads of a key, and infers its order if they allow it.
    fn settle_key(&mut self, number: usize, history: &[Txn], violations: &mut Violations) {
        let Some(longest) = self.reads(number).next().copied() else {
            self.keys[number].unseen = self.unseen(number);
            return;
        };
        let mut is_sound = self.judge_list(number, &longest, history, violations);
        for read in self.reads(number).skip(1) {
            if longest.list.starts_with(read.list) {
                self.judge_end(number, read, violations);
                continue;
            }
            is_sound = false;
            if self.judge_list(number, read, history, violations) {
                let anomaly = || Anomaly {
                    kind: Kind::IncompatibleOrders,
                    txns: vec![read.txn, longest.txn],
                    steps: vec![explain::incompatible(read, &longest)],
                };
                violations.push(anomaly, Kind::IncompatibleOrders);
            }
        }
        self.judge_end(number, &longest, violations);
        let appends = longest
            .list
            .iter()
            .map_while(|element| self.append(number, *element));
        let appends: Vec<&Append> = appends.collect();
        // Apart, they would be a cycle; next to each other they are no edge.
        let swapped = |pair: &&[&Append]| pair[0].txn == pair[1].txn && pair[0].op > pair[1].op;
        if let Some(pair) = appends.windows(2).find(swapped) {
            let anomaly = || Anomaly {
                kind: Kind::IncompatibleOrders,
                txns: vec![longest.txn, pair[0].txn],
                steps: vec![explain::swapped(&longest, pair[1], pair[0])],
            };
            violations.push(anomaly, Kind::IncompatibleOrders);
        }
        let writers = appends.iter().map(|append| append.txn).collect();
        let unseen = self.unseen(number);
        let key = &mut self.keys[number];
        (key.order, key.writers, key.unseen, key.is_sound) = (longest.list, writers, unseen, is_sound);
    }

    fn unseen(&self, key: usize) -> Vec<usize> {
        let mut unseen: Vec<usize> = self.appends[self.keys[key].appends.clone()]
            .iter()
            .filter(|append| self.happened[append.txn] && !append.is_seen)
            .map(|append| append.txn)
            .collect();
        unseen.sort_unstable();
        unseen.dedup();
        unseen
    }

    /// Whether all elements of a list were appended, once, by transactions that did not abort.
    fn judge_list(&self, key: usize, read: &Read, history: &[Txn], violations: &mut Violations) -> bool {
        let mut is_sound = true;
        let mut blame = |kind, other: Option<usize>, step: String| {
            is_sound = false;
            let anomaly = || Anomaly {
                kind,
                txns: [read.txn].into_iter().chain(other).collect(),
                steps: vec![step],
            };
            violations.push(anomaly, kind);
        };
        let mut sorted = read.list.to_vec();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            blame(Kind::DuplicateElement, None, explain::duplicate(read, twice[0]));
        }
        for element in read.list {
            match self.append(key, *element) {
                None => {
                    blame(Kind::UnwrittenElement, None, explain::unwritten(read, *element));
                    break;
                }
                Some(append) if matches!(history[append.txn].outcome, Outcome::Aborted { .. }) => {
                    let step = explain::aborted(read, append);
                    blame(Kind::AbortedRead, Some(append.txn), step);
                    break;
                }
                Some(_) => {}
            }
        }
        is_sound
    }

    /// Whether the list, as it was before the reader's own appends, ends where a transaction had ended.
    fn judge_end(&self, key: usize, read: &Read, violations: &mut Violations) {
        let Some(element) = read.outside.and_then(|length| read.list[..length].last()) else {
            return;
        };
        let Some(append) = self.append(key, *element) else {
            return;
        };
        if !append.is_last && append.txn != read.txn {
            let anomaly = || Anomaly {
                kind: Kind::IntermediateRead,
                txns: vec![read.txn, append.txn],
                steps: vec![explain::intermediate(read, append)],
            };
            violations.push(anomaly, Kind::IntermediateRead);
        }
    }

    pub(super) fn summary(&self, history: &[Txn]) -> Summary {
        let mut summary = Summary {
            keys: self.keys.len(),
            reads: self.reads.iter().filter(|read| self.happened[read.txn]).count(),
            elements_read: self.keys.iter().map(|key| key.order.len()).sum(),
            ..Summary::default()
        };
        for (txn, happened) in history.iter().zip(&self.happened) {
            let count = match (txn.outcome, happened) {
                (Outcome::Committed { .. }, _) => &mut summary.committed,
                (Outcome::Aborted { .. }, _) => &mut summary.aborted,
                (Outcome::Unknown, true) => &mut summary.unknown_seen,
                (Outcome::Unknown, false) => &mut summary.unknown_unseen,
            };
            *count += 1;
        }
        summary
    }
}

fn appends(history: &[Txn]) -> Vec<Append> {
    let mut appends = Vec::new();
    for (number, txn) in history.iter().enumerate() {
        for (op, what) in txn.ops.iter().enumerate() {
            if let Op::Append { key, element } = *what {
                appends.push(Append {
                    key,
                    element,
                    txn: number,
                    op,
                    is_last: true,
                    is_seen: false,
                    can_happen: !matches!(txn.outcome, Outcome::Aborted { .. }),
                });
            }
        }
    }
    appends.sort_by_key(|append| (append.key, append.txn, append.op));
    for at in 1..appends.len() {
        let (before, after) = (appends[at - 1], appends[at]);
        appends[at - 1].is_last = (before.key, before.txn) != (after.key, after.txn);
    }
    appends.sort_by_key(|append| (append.key, append.element));
    for pair in appends.windows(2) {
        assert!(
            (pair[0].key, pair[0].element) != (pair[1].key, pair[1].element),
            "element {} was appended to key {} twice, by T{} and T{}: nobody could tell which one a list shows",
            pair[0].element,
            pair[0].key,
            pair[0].txn,
            pair[1].txn
        );
    }
    appends
}

/// All keys, from two lists that are sorted by key.
fn keys<'a>(appends: &[Append], reads: &[Read]) -> Vec<Key<'a>> {
    let (mut keys, mut append, mut read) = (Vec::new(), 0, 0);
    loop {
        let next = [
            appends.get(append).map(|append| append.key),
            reads.get(read).map(|read| read.key),
        ];
        let Some(key) = next.into_iter().flatten().min() else {
            return keys;
        };
        let appends_end = append + appends[append..].partition_point(|append| append.key == key);
        let reads_end = read + reads[read..].partition_point(|read| read.key == key);
        keys.push(Key {
            name: key,
            appends: append..appends_end,
            reads: read..reads_end,
            order: &[],
            writers: Vec::new(),
            unseen: Vec::new(),
            is_sound: true,
        });
        (append, read) = (appends_end, reads_end);
    }
}
