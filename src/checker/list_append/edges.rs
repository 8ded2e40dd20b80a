//! Who comes before whom, as a graph. Nodes below the history's length are transactions; the others are way stations
//! that keep the number of edges linear: what leads into one leads on to everything behind it.
//!
//! ```text
//! real time        T1 ─rt▶ b1 ───▶ T3        a barrier b for each run of ends that no invocation divides:
//!                           └▶ b2 ─▶ T5      everything that was over before it comes before everything begun after it
//!
//! unseen appends   reader of the whole list ─rw▶ p3 ─▶ p2 ─▶ p1       p: one unseen writer and those before it
//!                                                 ▼     ▼     ▼       s: one and those after it, for a reader that is
//!                                                 W3    W2    W1      an unseen writer itself: it takes p1 and s3
//! ```

use super::graph::{Builder, Graph, Labels};
use super::orders::Orders;
use super::{Outcome, Txn};

/// For edges that come from no key.
const NO_KEY: (usize, usize) = (0, 0);

pub(super) fn build(history: &[Txn], orders: &Orders) -> Graph {
    let mut builder = Builder::new(history.len());
    for (number, key) in orders.keys.iter().enumerate() {
        if key.is_sound {
            add_key(&mut builder, orders, number);
        }
    }
    add_real_time(&mut builder, history, orders);
    builder.build()
}

fn add_key(builder: &mut Builder, orders: &Orders, number: usize) {
    let key = &orders.keys[number];
    let length = key.order.len();
    for position in 1..length {
        let (before, after) = (key.writers[position - 1], key.writers[position]);
        if before != after {
            builder.add(before, after, Labels::WW, (number, position));
        }
    }
    let unseen = Unseen::new(builder, &key.unseen);
    if let Some(last) = key.writers.last() {
        unseen.come_after(builder, *last, Labels::WW, (number, length));
    }
    for read in orders.reads(number) {
        let Some(position) = read.outside else { continue };
        if position > 0 && key.writers[position - 1] != read.txn {
            let writer = key.writers[position - 1];
            builder.add(writer, read.txn, Labels::WR, (number, position - 1));
        }
        if position == length {
            unseen.come_after(builder, read.txn, Labels::RW, (number, position));
        } else if key.writers[position] != read.txn {
            builder.add(read.txn, key.writers[position], Labels::RW, (number, position));
        }
    }
}

/// The way stations before a key's unseen writers: node `first + 2 i` is p of writer `i`, the next node is s.
struct Unseen<'a> {
    writers: &'a [usize],
    first: usize,
}

impl<'a> Unseen<'a> {
    fn new(builder: &mut Builder, writers: &'a [usize]) -> Unseen<'a> {
        let mut unseen = Unseen { writers, first: 0 };
        for (at, writer) in writers.iter().enumerate() {
            let (p, s) = (builder.add_node(), builder.add_node());
            if at == 0 {
                unseen.first = p;
            } else {
                builder.add(p, p - 2, Labels::THROUGH, NO_KEY);
                builder.add(s - 2, s, Labels::THROUGH, NO_KEY);
            }
            builder.add(p, *writer, Labels::THROUGH, NO_KEY);
            builder.add(s, *writer, Labels::THROUGH, NO_KEY);
        }
        unseen
    }

    /// Every unseen writer comes after `txn`, except `txn` itself.
    fn come_after(&self, builder: &mut Builder, txn: usize, label: Labels, why: (usize, usize)) {
        let count = self.writers.len();
        let (before, after) = match self.writers.binary_search(&txn) {
            Ok(at) => (at, at + 1),
            Err(_) => (count, count),
        };
        if before > 0 {
            builder.add(txn, self.first + 2 * (before - 1), label, why);
        }
        if after < count {
            builder.add(txn, self.first + 2 * after + 1, label, why);
        }
    }
}

/// The transitive reduction of "over before the other was invoked", by way of barriers.
fn add_real_time(builder: &mut Builder, history: &[Txn], orders: &Orders) {
    let (mut invoked, mut over) = (Vec::new(), Vec::new());
    for (number, txn) in history.iter().enumerate() {
        if orders.happened[number] {
            invoked.push((txn.invoked, number));
            if let Outcome::Committed { at } = txn.outcome {
                over.push((at, number));
            }
        }
    }
    invoked.sort_unstable();
    over.sort_unstable();
    let (mut over, mut barrier) = (over.into_iter().peekable(), None);
    for (time, txn) in invoked {
        let mut fresh = None;
        while let Some((_, earlier)) = over.next_if(|(at, _)| *at < time) {
            let node = *fresh.get_or_insert_with(|| builder.add_node());
            builder.add(earlier, node, Labels::RT, NO_KEY);
        }
        if let (Some(last), Some(node)) = (barrier, fresh) {
            builder.add(last, node, Labels::THROUGH, NO_KEY);
        }
        barrier = fresh.or(barrier);
        if let Some(node) = barrier {
            builder.add(node, txn, Labels::THROUGH, NO_KEY);
        }
    }
}
