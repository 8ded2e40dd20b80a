//! What a group's records add up to, in memory: the state that Raft reads, and what a restart rebuilds.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::Record;

/// One group's log as of the last record taken, whether it is on disk yet or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupLog {
    /// Index of the first entry in `entries`; meaningless while that is empty.
    pub first: u64,
    pub entries: VecDeque<Bytes>,
    /// Bytes of `entries`.
    pub bytes: usize,
    /// Index and encoded id of the last purged entry.
    pub purged: Option<(u64, Bytes)>,
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
    /// Directory name and metadata of the current snapshot.
    pub snapshot: Option<(String, Bytes)>,
}

impl GroupLog {
    /// Index past the last entry.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The entry at `index`, if it is there.
    #[must_use]
    pub fn get(&self, index: u64) -> Option<&Bytes> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.entries.get(at)
    }

    /// Takes one record in.
    pub fn take(&mut self, record: Record) {
        match record {
            Record::Append { first, entries, .. } => self.append(first, entries),
            Record::Truncate { from, .. } => self.truncate(from),
            Record::Purge { upto, id, .. } => {
                while self.first <= upto && !self.entries.is_empty() {
                    if let Some(entry) = self.entries.pop_front() {
                        self.bytes -= entry.len();
                    }
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
        let end = (!self.entries.is_empty()).then(|| self.end());
        purged.max(end).is_none_or(|next| first <= next)
    }

    fn append(&mut self, first: u64, entries: Vec<Bytes>) {
        self.truncate(first);
        if self.entries.is_empty() {
            self.first = first;
        }
        for entry in entries {
            self.bytes += entry.len();
            self.entries.push_back(entry);
        }
    }

    fn truncate(&mut self, from: u64) {
        while self.end() > from {
            match self.entries.pop_back() {
                Some(entry) => self.bytes -= entry.len(),
                None => break,
            }
        }
    }
}

/// A log while it is read back. Entries that were kept have moved to the journal's head, so it has holes meanwhile.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    log: GroupLog,
    entries: BTreeMap<u64, Bytes>,
}

impl Replayed {
    /// Takes one record in.
    pub fn take(&mut self, record: Record) {
        match record {
            Record::Append { first, entries, .. } => {
                self.entries.split_off(&first);
                self.entries.extend((first..=u64::MAX).zip(entries));
            }
            Record::Keep { first, entries, .. } => {
                for (index, entry) in (first..=u64::MAX).zip(entries) {
                    self.entries.entry(index).or_insert(entry);
                }
            }
            Record::Truncate { from, .. } => drop(self.entries.split_off(&from)),
            Record::Purge { upto, .. } => {
                self.entries.retain(|index, _| *index > upto);
                self.log.take(record);
            }
            other => self.log.take(other),
        }
    }

    /// The log, if it is whole: it begins where its purge says, and has no hole. (openraft's own test suite begins logs
    /// at 1.)
    ///
    /// # Errors
    /// The index of an entry that is missing.
    pub fn finish(self) -> Result<GroupLog, u64> {
        let Replayed { mut log, entries } = self;
        let begin = log.purged.as_ref().map_or(1, |(upto, _)| upto.saturating_add(1));
        let mut expected = None;
        for (index, entry) in entries {
            if *expected.get_or_insert(index.min(begin)) != index {
                return Err(expected.unwrap_or(begin));
            }
            expected = Some(index.saturating_add(1));
            log.append(index, vec![entry]);
        }
        Ok(log)
    }
}
