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

    /// Takes one record in.
    ///
    /// # Errors
    /// A record that leaves a hole: the journal is not whole.
    pub fn take(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Append { first, entries, .. } => return self.append(first, entries),
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
            Record::Keep { first, entries, .. } => return self.keep(first, entries),
        }
        Ok(())
    }

    fn append(&mut self, first: u64, entries: Vec<Bytes>) -> Result<(), String> {
        if self.entries.is_empty() {
            self.first = first;
        } else if first > self.end() {
            return Err(format!(
                "entries from {first} would leave a hole after {}",
                self.end() - 1
            ));
        } else {
            self.truncate(first);
            if self.entries.is_empty() {
                self.first = first;
            }
        }
        for entry in entries {
            self.bytes += entry.len();
            self.entries.push_back(entry);
        }
        Ok(())
    }

    fn keep(&mut self, first: u64, entries: Vec<Bytes>) -> Result<(), String> {
        let purged = self.purged.as_ref().map_or(0, |(upto, _)| upto + 1);
        for (at, entry) in entries.into_iter().enumerate().rev() {
            let index = first + at as u64;
            if index < purged {
                break;
            }
            if self.entries.is_empty() {
                self.first = index + 1;
            }
            if index >= self.first {
                continue;
            }
            if index + 1 < self.first {
                return Err(format!(
                    "kept entry {index} would leave a hole before {}",
                    self.first
                ));
            }
            self.bytes += entry.len();
            self.entries.push_front(entry);
            self.first = index;
        }
        Ok(())
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
