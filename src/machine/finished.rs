//! Which attempts were refused or finished, until their deadline.
//!
//! At thousands of transactions a second these are tens of thousands, and each is looked up, noted and forgotten. They come nearly
//! in the order of their numbers and go nearly in that order, so each session's are in a queue; those that go at
//! one moment are in one list. On disk, and in digests, they are what they were: a map by attempt, and a set by deadline.

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::{Ascending, AttemptId, Millis, RequestId, SessionId};

/// An attempt within its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    seq: u64,
    term: u64,
    number: u32,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Finished {
    /// Whether each attempt was committed. None is empty.
    by_session: BTreeMap<SessionId, Ascending<Place, bool>>,
    /// Each list in order. None is empty.
    until: BTreeMap<Millis, Vec<AttemptId>>,
}

impl Place {
    fn of(attempt: AttemptId) -> Place {
        Place {
            seq: attempt.txn.seq,
            term: attempt.term,
            number: attempt.number,
        }
    }

    fn attempt(self, session: SessionId) -> AttemptId {
        AttemptId {
            txn: RequestId {
                session,
                seq: self.seq,
            },
            term: self.term,
            number: self.number,
        }
    }
}

impl Finished {
    /// Whether the attempt was committed; `None`: it is not known to be over.
    #[must_use]
    pub fn get(&self, attempt: AttemptId) -> Option<bool> {
        let queue = self.by_session.get(&attempt.txn.session)?;
        queue.get(Place::of(attempt)).copied()
    }

    /// Notes the attempt's end until `deadline` is past.
    pub fn insert(&mut self, attempt: AttemptId, deadline: Millis, committed: bool) {
        self.note(attempt, committed);
        let list = self.until.entry(deadline).or_default();
        if let Err(at) = list.binary_search(&attempt) {
            list.insert(at, attempt);
        }
    }

    fn note(&mut self, attempt: AttemptId, committed: bool) {
        let queue = self.by_session.entry(attempt.txn.session).or_default();
        queue.insert(Place::of(attempt), committed);
    }

    /// Forgets those whose deadline is before `time`; which they were.
    pub fn forget_before(&mut self, time: Millis) -> Vec<AttemptId> {
        let mut gone = Vec::new();
        while let Some(first) = self.until.first_entry().filter(|first| *first.key() < time) {
            gone.extend(first.remove());
        }
        for &attempt in &gone {
            self.forget(attempt);
        }
        gone
    }

    fn forget(&mut self, attempt: AttemptId) {
        let session = attempt.txn.session;
        let Some(queue) = self.by_session.get_mut(&session) else {
            return;
        };
        queue.remove(Place::of(attempt));
        if queue.is_empty() {
            self.by_session.remove(&session);
        }
    }

    /// The attempts, in order, and whether each was committed.
    pub fn iter(&self) -> impl Iterator<Item = (AttemptId, bool)> + '_ {
        self.by_session.iter().flat_map(|(&session, queue)| {
            queue
                .iter()
                .map(move |(place, &committed)| (place.attempt(session), committed))
        })
    }
}

struct ByAttempt<'a>(&'a Finished);
struct ByDeadline<'a>(&'a Finished);

impl Serialize for ByAttempt<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let count = self.0.by_session.values().map(Ascending::len).sum();
        serializer.collect_map(Counted(self.0.iter(), count))
    }
}

impl Serialize for ByDeadline<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let count = self.0.until.values().map(Vec::len).sum();
        let until = self.0.until.iter();
        let all = until.flat_map(|(&deadline, list)| list.iter().map(move |&attempt| (deadline, attempt)));
        serializer.collect_seq(Counted(all, count))
    }
}

/// An iterator that says how many there are: bincode wants to know before it writes them.
struct Counted<I>(I, usize);

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.1 = self.1.saturating_sub(1);
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.1, Some(self.1))
    }
}

impl Serialize for Finished {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut both = serializer.serialize_tuple(2)?;
        both.serialize_element(&ByAttempt(self))?;
        both.serialize_element(&ByDeadline(self))?;
        both.end()
    }
}

impl<'de> Deserialize<'de> for Finished {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Finished, D::Error> {
        type Both = (BTreeMap<AttemptId, bool>, BTreeSet<(Millis, AttemptId)>);
        let (by_attempt, by_deadline) = Both::deserialize(deserializer)?;
        let mut finished = Finished::default();
        for (attempt, committed) in by_attempt {
            finished.note(attempt, committed);
        }
        for (deadline, attempt) in by_deadline {
            finished.until.entry(deadline).or_default().push(attempt);
        }
        Ok(finished)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::codec;

    fn attempt((session, seq, number): (u8, u8, u8)) -> AttemptId {
        let session = SessionId::from(session);
        AttemptId {
            txn: RequestId {
                session,
                seq: seq.into(),
            },
            term: 1,
            number: number.into(),
        }
    }

    /// What it was before: the model, and the bytes that it is to have.
    #[derive(Default, Serialize)]
    struct Maps {
        finished: BTreeMap<AttemptId, bool>,
        until: BTreeSet<(Millis, AttemptId)>,
    }

    impl Maps {
        fn forget_before(&mut self, time: Millis) {
            while let Some(&(deadline, attempt)) = self.until.first().filter(|first| first.0 < time) {
                self.until.remove(&(deadline, attempt));
                self.finished.remove(&attempt);
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_a_set_and_so_are_its_bytes(
            steps in prop::collection::vec(((0..3u8, 0..20u8, 0..2u8), 0..9u64, any::<bool>(), 0..4u8), 0..200),
        ) {
            let (mut now, mut model, mut finished) = (0, Maps::default(), Finished::default());
            for (id, later, committed, what) in steps {
                let attempt = attempt(id);
                if what == 0 {
                    now += later;
                    model.forget_before(now);
                    finished.forget_before(now);
                } else {
                    model.finished.insert(attempt, committed);
                    model.until.insert((now + later, attempt));
                    finished.insert(attempt, now + later, committed);
                }
                prop_assert_eq!(finished.get(attempt), model.finished.get(&attempt).copied());
                let bytes = codec::encode(&finished).expect("it can be encoded");
                prop_assert_eq!(&bytes, &codec::encode(&model).expect("it can be encoded"));
                prop_assert_eq!(&codec::decode::<Finished>(&bytes).expect("it can be decoded"), &finished);
            }
        }
    }
}
