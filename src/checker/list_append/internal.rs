//! One transaction by itself: it must read what it appended and read before.

use super::Op;

/// What one transaction has shown of one key so far.
struct Seen<'a> {
    key: u64,
    /// The first list read, less the transaction's own elements.
    outside: Option<&'a [u64]>,
    /// The transaction's own elements, in order.
    own: Vec<u64>,
}

/// A list that a transaction read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read<'a> {
    pub(super) key: u64,
    pub(super) txn: usize,
    pub(super) list: &'a [u64],
    /// Set on the first read of a key: how much of the list was there before the transaction's own elements.
    pub(super) outside: Option<usize>,
}

/// A read that contradicts the transaction's own earlier operations.
#[derive(Debug)]
pub(super) struct Contradiction<'a> {
    pub(super) key: u64,
    pub(super) list: &'a [u64],
    /// What the list should have ended with, or been.
    pub(super) own: Vec<u64>,
    pub(super) outside: Option<&'a [u64]>,
    /// An own element that the list holds before it was appended.
    pub(super) early: Option<u64>,
}

/// The reads of transaction number `txn`, and where they contradict the transaction itself.
pub(super) fn reads<'a>(txn: usize, ops: &'a [Op], reads: &mut Vec<Read<'a>>) -> Vec<Contradiction<'a>> {
    let (mut keys, mut contradictions): (Vec<Seen>, Vec<Contradiction>) = (Vec::new(), Vec::new());
    for op in ops {
        match op {
            Op::Append { key, element } => {
                let seen = seen(&mut keys, *key);
                let list = seen.outside.filter(|list| list.contains(element));
                if let Some(list) = list {
                    contradictions.push(seen.contradicted(list, Some(*element)));
                }
                seen.own.push(*element);
            }
            Op::Read { list: None, .. } => {}
            Op::Read {
                key,
                list: Some(list),
            } => {
                let seen = seen(&mut keys, *key);
                let outside = list.strip_suffix(seen.own.as_slice());
                let agrees = outside.is_some() && (seen.outside.is_none() || seen.outside == outside);
                let first = if seen.outside.is_none() {
                    outside.map(<[u64]>::len)
                } else {
                    None
                };
                reads.push(Read {
                    key: *key,
                    txn,
                    list,
                    outside: first,
                });
                if !agrees {
                    contradictions.push(seen.contradicted(list, None));
                }
                seen.outside = seen.outside.or(outside);
            }
        }
    }
    contradictions
}

fn seen<'s, 'a>(keys: &'s mut Vec<Seen<'a>>, key: u64) -> &'s mut Seen<'a> {
    let at = keys.iter().position(|seen| seen.key == key).unwrap_or_else(|| {
        keys.push(Seen {
            key,
            outside: None,
            own: Vec::new(),
        });
        keys.len() - 1
    });
    &mut keys[at]
}

impl<'a> Seen<'a> {
    fn contradicted(&self, list: &'a [u64], early: Option<u64>) -> Contradiction<'a> {
        Contradiction {
            key: self.key,
            list,
            own: self.own.clone(),
            outside: self.outside,
            early,
        }
    }
}
