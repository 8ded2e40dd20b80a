//! openraft's log storage over the node's journal: thin, since the journal knows every log, and has the newest entries in memory.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::{Entry, LogId, TypeConfig, Vote, entry};
use crate::base::limits::{APPEND_BYTES_MAX, APPEND_ENTRIES_MAX};
use crate::base::{Mutant, codec, mutant};
use crate::storage::{GroupLog, Journal, Record};

/// One group's log. Clones share it.
#[derive(Clone)]
pub struct LogStore {
    group: u32,
    journal: Journal,
    purged_reads: PurgedReads,
}

/// Set when a replication stream has asked for entries that are purged. That happens when a heartbeat finds out, while
/// the stream waits for its back-off to pass, that the follower has lost its log: openraft turns to a snapshot, lets the
/// entries go, and does not tell the stream, which would go on for ever. The network ends it.
#[derive(Debug, Clone, Default)]
pub struct PurgedReads(Arc<AtomicBool>);

impl PurgedReads {
    fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether there was one since this was last asked. (Taken by the stream to another follower, it costs that one a
    /// new start, and is soon set again.)
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

fn to_bytes<T: Serialize>(value: &T) -> io::Result<Bytes> {
    codec::encode(value).map(Bytes::from).map_err(io::Error::other)
}

fn from_bytes<T: DeserializeOwned>(bytes: &Bytes) -> io::Result<T> {
    codec::decode(bytes).map_err(io::Error::other)
}

impl LogStore {
    #[must_use]
    pub fn new(group: u32, journal: Journal) -> LogStore {
        LogStore {
            group,
            journal,
            purged_reads: PurgedReads::default(),
        }
    }

    /// The mark that this log's readers set.
    #[must_use]
    pub fn purged_reads(&self) -> PurgedReads {
        self.purged_reads.clone()
    }

    /// The entries of the range that `choose` chooses, some of them perhaps from disk.
    async fn read(&self, choose: impl Fn(&GroupLog) -> Range<u64>) -> io::Result<Vec<Entry>> {
        loop {
            let chosen = self.journal.with(self.group, |log| {
                let Range { start, end } = choose(log);
                log.in_memory(start, end)
                    .map(|entries| entries.map(entry::decode).collect())
                    .ok_or_else(|| log.stretch(start, end))
            });
            let stretch = match chosen {
                Ok(entries) => return entries,
                Err(stretch) => stretch,
            };
            let (journal, group) = (self.journal.clone(), self.group);
            let read = if journal.may_block() {
                let read = move || journal.read(group, &stretch);
                let read = tokio::task::spawn_blocking(read).await;
                read.map_err(io::Error::other)?
            } else {
                journal.read(group, &stretch)
            };
            if let Some(entries) = read? {
                return entries.iter().map(entry::decode).collect();
            }
        }
    }

    /// The id of the last entry, or of the last one purged.
    async fn last_id(&self) -> io::Result<Option<LogId>> {
        let last = self.read(|log| log.end().saturating_sub(1)..log.end()).await?;
        match last.last() {
            Some(entry) => Ok(Some(entry.log_id)),
            None => self.purged_id(),
        }
    }

    fn purged_id(&self) -> io::Result<Option<LogId>> {
        self.journal.with(self.group, |log| {
            log.purged.as_ref().map(|(_, id)| from_bytes(id)).transpose()
        })
    }

    /// Appends a record and waits until it is on disk.
    async fn durable(&self, record: Record) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        // The receiver is gone only if the caller was dropped: then nobody waits for the word.
        let done = Box::new(move |result| drop(tx.send(result)));
        self.journal.append(vec![record], Some(done))?;
        rx.await
            .map_err(|_| io::Error::other("the journal's flusher has stopped"))?
    }
}

fn indexes(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&i) => i,
        Bound::Excluded(&i) => i + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&i) => i.saturating_add(1),
        Bound::Excluded(&i) => i,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let range = indexes(&range);
        self.read(|_| range.clone()).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.journal
            .with(self.group, |log| log.vote.as_ref().map(from_bytes).transpose())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let fitting = |log: &GroupLog| {
            if start < log.first && start < end {
                // What is left must not go out: it would follow a `prev` that it does not follow, and a follower without
                // a log of its own would take it (openraft issue 1795).
                self.purged_reads.note();
                return start..start;
            }
            let end = end.min(log.end()).min(start + APPEND_ENTRIES_MAX);
            let mut bytes = 0;
            // The first entry always goes, however large.
            let fits = |&index: &u64| {
                let size = log.size(index).unwrap_or(0);
                let fits = bytes == 0 || bytes + size <= APPEND_BYTES_MAX;
                bytes += size;
                fits
            };
            let count = (start..end).take_while(fits).count() as u64;
            start..start + count
        };
        self.read(fitting).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        Ok(LogState {
            last_purged_log_id: self.purged_id()?,
            last_log_id: self.last_id().await?,
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let record = Record::Vote {
            group: self.group,
            vote: to_bytes(vote)?,
        };
        if mutant::is(Mutant::VoteNotWaitedFor) {
            return self.journal.append(vec![record], None);
        }
        self.durable(record).await
    }

    /// Rides along with the next frame; a restart then applies at once what was known to be committed.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(id) = committed else { return Ok(()) };
        self.journal.append(
            vec![Record::Committed {
                group: self.group,
                id: to_bytes(&id)?,
            }],
            None,
        )
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let committed: Option<LogId> = self.journal.with(self.group, |log| {
            log.committed.as_ref().map(from_bytes).transpose()
        })?;
        // Never past the recovered log: an unsynced entry may be gone.
        Ok(committed.min(self.last_id().await?))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut first = None;
        let mut encoded = Vec::new();
        for entry in entries {
            first.get_or_insert(entry.log_id.index);
            encoded.push(entry::encode(&entry)?);
        }
        let Some(first) = first else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        let record = Record::Append {
            group: self.group,
            first,
            entries: encoded,
        };
        if mutant::is(Mutant::AcknowledgedBeforeWrite) {
            callback.io_completed(Ok(()));
            return self.journal.append(vec![record], None);
        }
        self.journal.append(
            vec![record],
            Some(Box::new(move |result| callback.io_completed(result))),
        )
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        self.durable(Record::Truncate {
            group: self.group,
            from,
        })
        .await
    }

    async fn purge(&mut self, id: LogId) -> Result<(), io::Error> {
        self.durable(Record::Purge {
            group: self.group,
            upto: id.index,
            id: to_bytes(&id)?,
        })
        .await
    }
}
