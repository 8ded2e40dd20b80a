//! What a group's records add up to, in memory: the state that Raft reads, and what a restart rebuilds.

use std::collections::VecDeque;

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

    /// Takes one record in. In a replay the log may have a hole meanwhile, where entries were in a segment that is gone:
    /// then only what follows the hole is held, until the record comes that has the rest. [`GroupLog::is_whole`] tells
    /// at the end.
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
            Record::Keep { first, entries, .. } => self.keep(first, entries),
        }
    }

    /// Whether the log begins where its purge says. (openraft's own test suite begins logs at 1.)
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let begin = self.purged.as_ref().map_or(1, |(upto, _)| upto + 1);
        self.entries.is_empty() || self.first <= begin
    }

    /// Whether entries from `first` on would follow what is here without a hole. A log that never held anything may
    /// begin anywhere; and in a replay, entries may come before the purge that explains where they begin.
    #[must_use]
    pub fn continues(&self, first: u64) -> bool {
        let purged = self.purged.as_ref().map(|(upto, _)| upto + 1);
        let end = (!self.entries.is_empty()).then(|| self.end());
        purged.max(end).is_none_or(|next| first <= next)
    }

    fn append(&mut self, first: u64, entries: Vec<Bytes>) {
        if first > self.end() {
            self.entries.clear();
            self.bytes = 0;
        }
        self.truncate(first);
        if self.entries.is_empty() {
            self.first = first;
        }
        for entry in entries {
            self.bytes += entry.len();
            self.entries.push_back(entry);
        }
    }

    /// Fills in what of `entries` is missing: their own records may lie in segments that are gone, in front of the
    /// oldest that is left or between two that were kept before.
    fn keep(&mut self, first: u64, mut entries: Vec<Bytes>) {
        let purged = self.purged.as_ref().map_or(0, |(upto, _)| upto + 1);
        let gone = usize::try_from(purged.saturating_sub(first)).unwrap_or(usize::MAX);
        entries.drain(..gone.min(entries.len()));
        let first = first.max(purged);
        if self.entries.is_empty() {
            self.first = first;
        }
        let end = first + entries.len() as u64;
        if entries.is_empty() || end < self.first || first > self.end() {
            // What lies between was kept again later, and with it all that comes before.
            return;
        }
        self.bytes += entries.iter().map(Bytes::len).sum::<usize>();
        let (from, to) = (self.first, self.end());
        let mut front = VecDeque::new();
        for (index, entry) in (first..).zip(entries) {
            if index < from {
                front.push_back(entry);
            } else if index >= to {
                self.entries.push_back(entry);
            } else {
                self.bytes -= entry.len();
            }
        }
        self.first -= front.len() as u64;
        front.append(&mut self.entries);
        self.entries = front;
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
