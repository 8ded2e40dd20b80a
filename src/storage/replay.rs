//! A group's log while a start reads it back from the journal.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::slot::{Place, Slot};
use super::{GroupLog, Record};

/// A log while it is read back. Entries that were kept have moved to the journal's head, so it has holes meanwhile.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    log: GroupLog,
    slots: BTreeMap<u64, Slot>,
}

impl Replayed {
    /// Takes one record in; its entries lie at these places.
    pub fn take(&mut self, record: Record, places: impl Iterator<Item = Place>) {
        let slots = |first: u64, entries: Vec<Bytes>, places| {
            let slot = |(bytes, place)| Slot::Here {
                bytes,
                place: Some(place),
            };
            (first..=u64::MAX).zip(entries.into_iter().zip(places).map(slot))
        };
        match record {
            Record::Append { first, entries, .. } => {
                self.slots.split_off(&first);
                self.slots.extend(slots(first, entries, places));
            }
            Record::Keep { first, entries, .. } => {
                // What is there lies where it was before, which may go.
                for (index, slot) in slots(first, entries, places) {
                    self.slots.insert(index, slot);
                }
            }
            Record::Truncate { from, .. } => drop(self.slots.split_off(&from)),
            Record::Purge { upto, .. } => {
                self.slots.retain(|index, _| *index > upto);
                self.log.take(record);
            }
            other => self.log.take(other),
        }
    }
    /// Lets all entries go from memory.
    pub fn evict(&mut self) {
        for slot in self.slots.values_mut() {
            drop(slot.evict());
        }
    }

    /// The log, if it is whole: it begins where its purge says, and has no hole. (openraft's own test suite begins logs
    /// at 1.)
    ///
    /// # Errors
    /// The index of an entry that is missing.
    pub fn finish(self) -> Result<GroupLog, u64> {
        let Replayed { mut log, slots } = self;
        let begin = log.purged.as_ref().map_or(1, |(upto, _)| upto.saturating_add(1));
        let mut expected = None;
        for (index, slot) in slots {
            if *expected.get_or_insert(index.min(begin)) != index {
                return Err(expected.unwrap_or(begin));
            }
            expected = Some(index.saturating_add(1));
            if log.is_empty() {
                log.first = index;
            }
            log.push(slot);
        }
        Ok(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The segment where it was first may go any time after the start.
    #[test]
    fn an_entry_that_was_kept_lies_where_it_was_written_last() {
        let place = |segment| std::iter::once(Place { segment, at: 28 });
        let entries = || vec![Bytes::from_static(b"entry")];
        let append = |first| Record::Append {
            group: 1,
            first,
            entries: entries(),
        };
        let mut replayed = Replayed::default();
        replayed.take(append(1), place(1));
        replayed.take(append(2), place(2));
        replayed.take(
            Record::Keep {
                group: 1,
                first: 1,
                entries: entries(),
            },
            place(3),
        );
        replayed.evict();
        let log = replayed.finish().expect("whole");
        let segment_of = |index| match log.slot(index) {
            Some(&Slot::Away(away)) => away.place.segment,
            other => panic!("{other:?}"),
        };
        assert_eq!((segment_of(1), segment_of(2)), (3, 2));
    }
}
