//! Who waits for which keys of one shard, in the order in which they came, and who has been called because there may be something
//! for them. Pure.
//!
//! ```text
//!  join ─▶ waits in the queue of each of its keys ─call (as many as the key serves)─▶ tries ─▶ leaves, and the next may be called
//!                                                                                       └─ found nothing: joins again, at its old place
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::base::NodeId;
use crate::machine::commands::Need;

/// One client's wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WaiterId {
    pub node: NodeId,
    /// Tells the node's process from its earlier ones.
    pub boot: u32,
    pub number: u64,
}

/// Since when somebody waits; of two that came at the same moment, who was heard first.
type Place = (Instant, u64);

type QueueKey = (Bytes, Need);

/// The waiters of one shard; `A` is how one is called.
#[derive(Debug)]
pub struct Line<A> {
    waiters: BTreeMap<WaiterId, Waiter<A>>,
    queues: BTreeMap<QueueKey, Queue>,
    heard: u64,
}

#[derive(Debug)]
enum Waiter<A> {
    Waits {
        place: Place,
        queues: Vec<QueueKey>,
        call: A,
    },
    Called {
        queue: QueueKey,
        queues: Vec<QueueKey>,
        at: Instant,
    },
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<Place, WaiterId>,
    /// How many were called and have not left yet.
    called: usize,
}

impl<A> Default for Line<A> {
    fn default() -> Self {
        Line {
            waiters: BTreeMap::new(),
            queues: BTreeMap::new(),
            heard: 0,
        }
    }
}

impl<A> Line<A> {
    /// Takes in a waiter that has waited since `since`; if it was here already, at its new place. Then its keys are to be served.
    pub fn join(
        &mut self,
        id: WaiterId,
        keys: Vec<(Bytes, Need)>,
        since: Instant,
        call: A,
    ) -> BTreeSet<Bytes> {
        let mut changed = self.leave(id);
        self.heard += 1;
        let place = (since, self.heard);
        for key in &keys {
            self.queues
                .entry(key.clone())
                .or_default()
                .waiting
                .insert(place, id);
        }
        changed.extend(keys.iter().map(|(key, _)| key.clone()));
        let queues = keys;
        self.waiters.insert(id, Waiter::Waits { place, queues, call });
        changed
    }

    /// Lets a waiter go. The keys that are to be served, since it may have been in others' way, or that nobody may want any more.
    pub fn leave(&mut self, id: WaiterId) -> BTreeSet<Bytes> {
        match self.waiters.remove(&id) {
            None => BTreeSet::new(),
            Some(Waiter::Waits { place, queues, .. }) => {
                self.take_out(place, &queues);
                names(queues)
            }
            Some(Waiter::Called { queue, queues, .. }) => {
                if let Some(counted) = self.queues.get_mut(&queue) {
                    counted.called = counted.called.saturating_sub(1);
                }
                self.forget_if_unused(&queue);
                names(queues)
            }
        }
    }

    fn take_out(&mut self, place: Place, queues: &[QueueKey]) {
        for key in queues {
            if let Some(queue) = self.queues.get_mut(key) {
                queue.waiting.remove(&place);
            }
            self.forget_if_unused(key);
        }
    }

    fn forget_if_unused(&mut self, key: &QueueKey) {
        let unused = |queue: &Queue| queue.waiting.is_empty() && queue.called == 0;
        if self.queues.get(key).is_some_and(unused) {
            self.queues.remove(key);
        }
    }

    /// Calls those whose turn it is at `key`, of which so many find something at the same time as `serves` says.
    pub fn serve(&mut self, key: &Bytes, now: Instant, serves: impl Fn(&Need) -> usize) -> Vec<A> {
        let mut calls = Vec::new();
        let needs: Vec<QueueKey> = self
            .queues
            .range((key.clone(), Need::FIRST)..)
            .map(|(queue, _)| queue)
            .take_while(|(other, _)| other == key)
            .cloned()
            .collect();
        for queue_key in needs {
            let most = serves(&queue_key.1);
            while let Some(queue) = self.queues.get_mut(&queue_key)
                && queue.called < most
                && let Some((_, id)) = queue.waiting.pop_first()
            {
                calls.extend(self.call(id, &queue_key, now));
            }
        }
        calls
    }

    /// Calls a waiter out of turn; `None` if it does not wait.
    pub fn call_now(&mut self, id: WaiterId, now: Instant) -> Option<A> {
        let Some(Waiter::Waits { queues, .. }) = self.waiters.get(&id) else {
            return None;
        };
        let queue = queues.first()?.clone();
        self.call(id, &queue, now)
    }

    fn call(&mut self, id: WaiterId, queue: &QueueKey, at: Instant) -> Option<A> {
        let Some(Waiter::Waits { place, queues, call }) = self.waiters.remove(&id) else {
            return None;
        };
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.called += 1;
        }
        self.take_out(place, &queues);
        let queue = queue.clone();
        self.waiters.insert(id, Waiter::Called { queue, queues, at });
        Some(call)
    }

    /// Whether anybody waits for the key, or was called to it.
    #[must_use]
    pub fn wants(&self, key: &Bytes) -> bool {
        let mut from = self.queues.range((key.clone(), Need::FIRST)..);
        from.next().is_some_and(|((other, _), _)| other == key)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Those that wait or were called, with the moment of the call.
    pub fn waiters(&self) -> impl Iterator<Item = (WaiterId, Option<Instant>)> + '_ {
        self.waiters.iter().map(|(&id, waiter)| match waiter {
            Waiter::Waits { .. } => (id, None),
            Waiter::Called { at, .. } => (id, Some(*at)),
        })
    }
}

fn names(queues: Vec<QueueKey>) -> BTreeSet<Bytes> {
    queues.into_iter().map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use std::time::Duration;

    use super::*;

    fn id(number: u64) -> WaiterId {
        WaiterId {
            node: 1,
            boot: 7,
            number,
        }
    }

    fn list(keys: &[&'static str]) -> Vec<(Bytes, Need)> {
        let key = |key: &&'static str| (Bytes::from_static(key.as_bytes()), Need::List);
        keys.iter().map(key).collect()
    }

    fn key(key: &'static str) -> Bytes {
        Bytes::from_static(key.as_bytes())
    }

    #[test]
    fn who_came_first_is_called_first_and_no_more_than_find_something() {
        let now = Instant::now();
        let mut line = Line::default();
        for number in 1..=3 {
            line.join(id(number), list(&["a"]), now, number);
        }
        assert_eq!(line.serve(&key("a"), now, |_| 0), Vec::<u64>::new());
        assert_eq!(line.serve(&key("a"), now, |_| 2), [1, 2]);
        assert_eq!(
            line.serve(&key("a"), now, |_| 2),
            Vec::<u64>::new(),
            "both are taken"
        );
        assert_eq!(line.leave(id(1)), BTreeSet::from([key("a")]));
        // What the first has taken is gone; the second has not taken it yet.
        assert_eq!(line.serve(&key("a"), now, |_| 1), Vec::<u64>::new());
        line.leave(id(2));
        assert_eq!(line.serve(&key("a"), now, |_| 1), [3]);
        line.leave(id(3));
        assert!(line.is_empty() && !line.wants(&key("a")) && line.queues.is_empty());
    }

    #[test]
    fn who_found_nothing_stands_where_it_stood() {
        let now = Instant::now();
        let mut line = Line::default();
        let waited = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap_or(now);
        line.join(id(1), list(&["a"]), waited(9), 1);
        line.join(id(2), list(&["a"]), waited(8), 2);
        assert_eq!(line.serve(&key("a"), now, |_| 1), [1]);
        line.join(id(1), list(&["a"]), waited(9), 1);
        assert_eq!(line.serve(&key("a"), now, |_| 1), [1]);
        // One that comes from another leader's line, and has waited longer than any.
        line.join(id(3), list(&["a"]), waited(20), 3);
        line.leave(id(1));
        assert_eq!(line.serve(&key("a"), now, |_| 2), [3, 2]);
    }

    #[test]
    fn one_call_is_enough_for_who_waits_for_several_keys_and_types_do_not_mix() {
        let now = Instant::now();
        let mut line = Line::default();
        line.join(id(1), list(&["a", "b"]), now, 1);
        line.join(id(2), vec![(key("a"), Need::SortedSet)], now, 2);
        line.join(id(3), list(&["b"]), now, 3);
        let sorted = |need: &Need| usize::from(*need == Need::SortedSet);
        assert_eq!(
            line.serve(&key("a"), now, sorted),
            [2],
            "whoever stands before it"
        );
        assert_eq!(line.serve(&key("a"), now, |need| 1 - sorted(need)), [1]);
        assert_eq!(
            line.serve(&key("b"), now, |_| 1),
            [3],
            "the first is busy elsewhere"
        );
        for number in 1..=3 {
            line.leave(id(number));
        }
        assert!(line.is_empty() && line.queues.is_empty());
    }
}
