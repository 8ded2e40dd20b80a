//! What a group's records add up to: the state that Raft reads, and what a restart rebuilds. The newest entries are in memory, the
//! others only where they lie on disk.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::Record;
use super::slot::{Away, Place, Slot};

/// One group's log as of the last record taken, whether it is on disk yet or not.
#[derive(Debug, Clone, Default)]
pub struct GroupLog {
    /// Index of the first entry; meaningless while there is none.
    pub first: u64,
    slots: VecDeque<Slot>,
    /// Bytes of all entries.
    pub bytes: usize,
    /// Bytes of those that are in memory.
    resident: usize,
    /// All slots before this one are away.
    evicted: usize,
    /// Index and encoded id of the last purged entry.
    pub purged: Option<(u64, Bytes)>,
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
    /// Directory name and metadata of the current snapshot.
    pub snapshot: Option<(String, Bytes)>,
}

/// Consecutive entries, as they were when they were asked for.
#[derive(Debug)]
pub struct Stretch {
    pub(super) first: u64,
    pub(super) slots: Vec<Slot>,
}

impl GroupLog {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Index past the last entry.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Bytes of the entry at `index`, if it is there.
    #[must_use]
    pub fn size(&self, index: u64) -> Option<usize> {
        self.slots.get(self.place_of(index)?).map(Slot::len)
    }

    /// The entries from `start` to before `end` that are there, if all of those are in memory.
    #[must_use]
    pub fn in_memory(&self, start: u64, end: u64) -> Option<impl Iterator<Item = &Bytes>> {
        let entries = || self.slots(start, end).map(Slot::in_memory);
        let all = entries().all(|entry| entry.is_some());
        all.then(|| entries().flatten())
    }

    /// The same entries, wherever they are.
    #[must_use]
    pub fn stretch(&self, start: u64, end: u64) -> Stretch {
        Stretch {
            first: start.max(self.first),
            slots: self.slots(start, end).cloned().collect(),
        }
    }

    fn slots(&self, start: u64, end: u64) -> impl Iterator<Item = &Slot> {
        let end = end.min(self.end());
        let start = start.clamp(self.first, end.max(self.first));
        let range = (start - self.first) as usize..(end.max(start) - self.first) as usize;
        self.slots.range(range)
    }

    fn place_of(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first)?).ok()
    }

    pub(super) fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(self.place_of(index)?)
    }

    /// Takes one record in.
    pub fn take(&mut self, record: Record) {
        match record {
            Record::Append { first, entries, .. } => self.append(first, entries),
            Record::Truncate { from, .. } => self.truncate(from),
            Record::Purge { upto, id, .. } => {
                while self.first <= upto && !self.slots.is_empty() {
                    if let Some(slot) = self.slots.pop_front() {
                        self.forget(&slot);
                    }
                    self.evicted = self.evicted.saturating_sub(1);
                    self.first += 1;
                }
                self.purged = Some((upto, id));
            }
            Record::Vote { vote, .. } => self.vote = Some(vote),
            Record::Committed { id, .. } => self.committed = Some(id),
            Record::Snapshot { name, meta, .. } => self.snapshot = Some((name, meta)),
            // They are here: only their place on disk has changed.
            Record::Keep { .. } => {}
        }
    }

    /// Whether entries from `first` on would follow what is here without a hole. A log that never held anything may
    /// begin anywhere.
    #[must_use]
    pub fn continues(&self, first: u64) -> bool {
        let purged = self.purged.as_ref().map(|(upto, _)| upto + 1);
        let end = (!self.slots.is_empty()).then(|| self.end());
        purged.max(end).is_none_or(|next| first <= next)
    }

    fn append(&mut self, first: u64, entries: Vec<Bytes>) {
        self.truncate(first);
        if self.slots.is_empty() {
            self.first = first;
        }
        for bytes in entries {
            self.push(Slot::Here { bytes, place: None });
        }
    }

    /// Puts a slot behind the last.
    pub(super) fn push(&mut self, slot: Slot) {
        self.bytes += slot.len();
        self.resident += slot.resident();
        self.slots.push_back(slot);
    }

    fn truncate(&mut self, from: u64) {
        while self.end() > from {
            match self.slots.pop_back() {
                Some(slot) => self.forget(&slot),
                None => break,
            }
        }
        self.evicted = self.evicted.min(self.slots.len());
    }

    fn forget(&mut self, slot: &Slot) {
        self.bytes -= slot.len();
        self.resident -= slot.resident();
    }

    /// Notes where an entry lies that is durable now, if it is still the one of that index.
    fn place(&mut self, placed: &Placed) {
        let at = self.place_of(placed.index);
        if let Some(Slot::Here { bytes, place }) = at.and_then(|at| self.slots.get_mut(at))
            && bytes.as_ptr_range() == placed.bytes.as_ptr_range()
        {
            *place = Some(placed.place);
        }
    }

    /// Lets the oldest go from memory until no more than so many bytes are left there: never the newest, which is still on
    /// its way to others, and none that is not durable.
    fn evict(&mut self, most: usize, gone: &mut Vec<Bytes>) {
        while self.resident > most && self.evicted + 1 < self.slots.len() {
            let slot = &mut self.slots[self.evicted];
            if let Slot::Here { .. } = slot {
                let Some(bytes) = slot.evict() else { return };
                self.resident -= bytes.len();
                gone.push(bytes);
            }
            self.evicted += 1;
        }
    }

    /// An entry that was read back, because its place on disk is about to go.
    fn bring_back(&mut self, index: u64, bytes: Bytes) {
        let Some(at) = self.place_of(index) else { return };
        if let Some(slot) = self.slots.get_mut(at) {
            self.resident += bytes.len() - slot.resident();
            *slot = Slot::Here { bytes, place: None };
            self.evicted = self.evicted.min(at);
        }
    }
}

/// An entry that a frame holds.
#[derive(Debug)]
pub(super) struct Placed {
    pub group: u32,
    pub index: u64,
    pub bytes: Bytes,
    pub place: Place,
}

/// The logs of all groups.
#[derive(Debug, Default)]
pub(super) struct Logs {
    groups: BTreeMap<u32, GroupLog>,
    /// Bytes of entries in memory.
    resident: usize,
}

impl Logs {
    pub fn new(groups: BTreeMap<u32, GroupLog>) -> Logs {
        let resident = groups.values().map(|log| log.resident).sum();
        Logs { groups, resident }
    }

    pub fn get(&self, group: u32) -> Option<&GroupLog> {
        self.groups.get(&group)
    }

    /// A group's log; a new one is empty.
    pub fn of(&mut self, group: u32) -> &GroupLog {
        self.groups.entry(group).or_default()
    }

    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.groups.keys().copied()
    }

    /// Bytes of all entries.
    pub fn bytes(&self) -> usize {
        self.groups.values().map(|log| log.bytes).sum()
    }

    fn change<T>(&mut self, group: u32, change: impl FnOnce(&mut GroupLog) -> T) -> T {
        let log = self.groups.entry(group).or_default();
        let before = log.resident;
        let result = change(log);
        self.resident = self.resident - before + log.resident;
        result
    }

    /// Takes one record in.
    pub fn take(&mut self, record: Record) {
        self.change(record.group(), |log| log.take(record));
    }

    /// An entry's bytes, to be written again: read by `read` if they are not in memory. They stay there until the new place is told.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn recall<E>(
        &mut self,
        group: u32,
        index: u64,
        read: impl FnOnce(Away) -> Result<Bytes, E>,
    ) -> Result<Option<Bytes>, E> {
        let bytes = match self.get(group).and_then(|log| log.slot(index)) {
            None => return Ok(None),
            // A copy, which no place matches that is yet to be told of the entry as it was appended.
            Some(Slot::Here { bytes, .. }) => Bytes::copy_from_slice(bytes),
            Some(&Slot::Away(away)) => read(away)?,
        };
        self.change(group, |log| log.bring_back(index, bytes.clone()));
        Ok(Some(bytes))
    }

    /// Notes where entries lie that are durable now; and if there are more than so many bytes in memory, the oldest of the
    /// logs that have most go. What they held is given back, to be freed where nobody waits.
    pub fn settle(&mut self, placed: impl Iterator<Item = Placed>, most: usize) -> Vec<Bytes> {
        for placed in placed {
            if let Some(log) = self.groups.get_mut(&placed.group) {
                log.place(&placed);
            }
        }
        let mut gone = Vec::new();
        if self.resident > most {
            // A little more, so that this is not done for each frame; little, since writers wait for it.
            let target = most - most / 64;
            let mut largest: Vec<(usize, u32)> = self
                .groups
                .iter()
                .map(|(&group, log)| (log.resident, group))
                .collect();
            largest.sort_unstable_by(|a, b| b.cmp(a));
            for (resident, group) in largest {
                let surplus = self.resident.saturating_sub(target);
                self.change(group, |log| {
                    log.evict(resident.saturating_sub(surplus), &mut gone);
                });
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(index: u64, bytes: &Bytes, segment: u32) -> Placed {
        Placed {
            group: 1,
            index,
            bytes: bytes.clone(),
            place: Place { segment, at: 28 },
        }
    }

    /// Its old place is about to be written anew; it may even be told only now.
    #[test]
    fn an_entry_that_is_written_again_goes_from_memory_only_to_its_new_place() {
        let entries = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        let mut logs = Logs::default();
        logs.take(Record::Append {
            group: 1,
            first: 1,
            entries: entries.to_vec(),
        });
        let none = |_| Err("in memory");
        let again = logs.recall(1, 1, none).expect("in memory").expect("there");
        assert_eq!(again, entries[0]);
        assert!(
            logs.settle(std::iter::once(placed(1, &entries[0], 1)), 0)
                .is_empty()
        );
        assert_eq!(logs.settle(std::iter::once(placed(1, &again, 2)), 0).len(), 1);
        let slot = logs.get(1).and_then(|log| log.slot(1)).expect("there");
        assert!(
            matches!(slot, Slot::Away(away) if away.place.segment == 2),
            "{slot:?}"
        );
        let read = |away: Away| {
            (away.place.segment == 2)
                .then(|| entries[0].clone())
                .ok_or("elsewhere")
        };
        assert_eq!(logs.recall(1, 1, read), Ok(Some(entries[0].clone())));
        assert_eq!((logs.resident, logs.bytes()), (6, 6));
        assert_eq!(logs.recall(1, 3, none), Ok(None));
    }
}
