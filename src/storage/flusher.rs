//! The one writer of a node's journal; it also drops frames that nobody needs any more.
//!
//! ```text
//!  ops ─▶ all that wait: one frame ─▶ sled ─▶ db.flush() ─▶ sync_data ─▶ watermark ─▶ done
//! ```
//!
//! `db.flush()` hands the bytes to the kernel; only `sync_data` after it makes them durable. (Syncing in a second thread
//! beside the next frame's write was measured: on two cores the wake-ups cost what the overlap gains.)
//!
//! A frame is needed while it holds a live entry, or the newest vote, purge, commit index or snapshot pointer of some
//! group. Only a prefix of the stream is ever deleted, so replay needs no gaps. A quiet group would pin old frames for
//! ever; when they add up, its metadata (or its few entries) are written again at the head.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::mpsc::Receiver;

use bytes::Bytes;

use super::journal::{Done, Mirror, Op, key};
use super::watermark::Watermark;
use super::{Record, Store, frame, sled_error};

/// Bytes of requests after which a frame is closed.
const FRAME_TARGET_BYTES: usize = 8 << 20;
/// Journal bytes up to which pinned frames are left alone.
const REWRITE_ABOVE_BYTES: usize = 8 << 20;
/// Frames deleted after one flush at the most, which bounds the stall.
const DELETE_FRAMES_MAX: usize = 512;
/// Parts, bytes and records' whereabouts of all frames on disk.
#[derive(Debug, Default)]
pub(super) struct FrameIndex {
    frames: BTreeMap<u64, (u32, usize)>,
    groups: BTreeMap<u32, Needs>,
    total: usize,
}

/// The frames one group needs.
#[derive(Debug, Default)]
struct Needs {
    /// Frame, and last index of the group's entries in it.
    entries: VecDeque<(u64, u64)>,
    vote: Option<u64>,
    purge: Option<u64>,
    committed: Option<u64>,
    snapshot: Option<u64>,
}

impl Needs {
    fn metadata(&self) -> Option<u64> {
        [self.vote, self.purge, self.committed, self.snapshot]
            .into_iter()
            .flatten()
            .min()
    }

    fn oldest_entries(&self) -> Option<u64> {
        self.entries.front().map(|&(seq, _)| seq)
    }

    fn truncate(&mut self, from: u64) {
        for (_, last) in self
            .entries
            .iter_mut()
            .rev()
            .take_while(|(_, last)| *last >= from)
        {
            *last = from.saturating_sub(1);
        }
    }

    fn take(&mut self, seq: u64, record: &Record) {
        match record {
            Record::Append { first, entries, .. } => {
                self.truncate(*first);
                self.entries.push_back((seq, first + entries.len() as u64 - 1));
            }
            Record::Truncate { from, .. } => self.truncate(*from),
            Record::Purge { upto, .. } => {
                while self.entries.front().is_some_and(|&(_, last)| last <= *upto) {
                    self.entries.pop_front();
                }
                self.purge = Some(seq);
            }
            Record::Vote { .. } => self.vote = Some(seq),
            Record::Committed { .. } => self.committed = Some(seq),
            Record::Snapshot { .. } => self.snapshot = Some(seq),
            Record::Rewrite { log, .. } => {
                self.entries.clear();
                if !log.entries.is_empty() {
                    self.entries.push_back((seq, log.end() - 1));
                }
                self.vote = Some(seq);
                (self.purge, self.committed, self.snapshot) = (Some(seq), Some(seq), Some(seq));
            }
        }
    }
}

impl FrameIndex {
    pub(super) fn take(&mut self, seq: u64, parts: u32, bytes: usize, records: &[Record]) {
        self.frames.insert(seq, (parts, bytes));
        self.total += bytes;
        for record in records {
            self.groups.entry(record.group()).or_default().take(seq, record);
        }
    }

    fn floor(&self) -> u64 {
        let needed = self
            .groups
            .values()
            .flat_map(|n| [n.metadata(), n.oldest_entries()]);
        needed.flatten().min().unwrap_or(u64::MAX)
    }
}

pub(super) struct Flusher {
    store: Store,
    tree: sled::Tree,
    mirror: Mirror,
    index: FrameIndex,
    next: u64,
    /// Commit indexes that wait for a frame that is needed anyway.
    lazy: BTreeMap<u32, Record>,
    /// The first failure, for good.
    failed: Option<String>,
    watermark: Watermark,
    /// Bytes ever written, and how many there were when pinned frames were last looked for.
    written: usize,
    looked: usize,
}

impl Flusher {
    pub(super) fn new(
        store: Store,
        tree: sled::Tree,
        mirror: Mirror,
        index: FrameIndex,
        next: u64,
        watermark: Watermark,
    ) -> Self {
        Flusher {
            store,
            tree,
            mirror,
            index,
            next,
            lazy: BTreeMap::new(),
            failed: None,
            watermark,
            written: 0,
            looked: 0,
        }
    }

    /// Runs until every [`super::Journal`] handle is gone.
    pub(super) fn run(mut self, ops: &Receiver<Op>) {
        let mut next = ops.recv().ok();
        while let Some(first) = next {
            let (records, dones, following) = self.collect(first, ops);
            if !dones.is_empty() {
                let result = self.write(records).and_then(|()| self.sync());
                for done in dones {
                    done(result.clone().map_err(io::Error::other));
                }
            }
            next = following.or_else(|| ops.recv().ok());
        }
        let last = std::mem::take(&mut self.lazy).into_values().collect::<Vec<_>>();
        if !last.is_empty() {
            // Only commit indexes: losing them costs a restart some waiting, so the error has been said enough.
            let _ = self.write(last).and_then(|()| self.sync());
        }
    }

    fn fail(&mut self, error: &io::Error) -> String {
        let text = format!("the journal cannot be written: {error}");
        tracing::error!("{text}");
        self.failed.get_or_insert(text).clone()
    }

    /// Makes all written frames durable.
    fn sync(&mut self) -> Result<(), String> {
        let synced = self
            .store
            .file
            .sync_data()
            .and_then(|()| self.watermark.advance(self.next));
        synced.map_err(|e| self.fail(&e))
    }

    /// Joins what waits into one frame's records. Also the first operation of the next frame, if one waits already.
    fn collect(&mut self, first: Op, ops: &Receiver<Op>) -> (Vec<Record>, Vec<Done>, Option<Op>) {
        let (mut size, mut records, mut dones) = (0, Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(op) = next.take_if(|_| size < FRAME_TARGET_BYTES) {
            size += op.records.iter().map(weight).sum::<usize>();
            for record in op.records {
                match record {
                    Record::Committed { group, .. } => drop(self.lazy.insert(group, record)),
                    needed => records.push(needed),
                }
            }
            dones.extend(op.done);
            next = ops.try_recv().ok();
        }
        (records, dones, next)
    }

    fn write(&mut self, mut records: Vec<Record>) -> Result<(), String> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        records.extend(std::mem::take(&mut self.lazy).into_values());
        records.extend(self.rewrites());
        let result = self.write_frame(&records).and_then(|()| self.delete_unneeded());
        result.map_err(|e| self.fail(&e))
    }

    fn write_frame(&mut self, records: &[Record]) -> io::Result<()> {
        let parts = frame::encode(records).map_err(io::Error::other)?;
        let seq = self.next;
        self.next += 1;
        let mut bytes = 0;
        let mut count = 0;
        for part in parts {
            bytes += part.len();
            self.tree.insert(key(seq, count), part).map_err(sled_error)?;
            count += 1;
        }
        self.store.db.flush().map_err(sled_error)?;
        self.index.take(seq, count, bytes, records);
        self.written += bytes;
        Ok(())
    }

    /// Records that, written again at the head, let old frames go.
    fn rewrites(&mut self) -> Vec<Record> {
        if self.index.total < REWRITE_ABOVE_BYTES || self.written < self.looked + REWRITE_ABOVE_BYTES / 16 {
            return Vec::new();
        }
        self.looked = self.written;
        // A writer may hold the lock while it waits for us: then another time.
        let Some(mirror) = self.mirror.try_lock() else {
            return Vec::new();
        };
        let horizon = self.horizon();
        let mut records = Vec::new();
        for (&group, needs) in &self.index.groups {
            let Some(log) = mirror.get(&group) else { continue };
            if needs.oldest_entries().is_some_and(|seq| seq < horizon) {
                if log.bytes < REWRITE_ABOVE_BYTES / 4 {
                    records.push(Record::Rewrite {
                        group,
                        log: log.clone(),
                    });
                }
            } else if needs.metadata().is_some_and(|seq| seq < horizon) {
                records.extend(metadata(group, log));
            }
        }
        records
    }

    /// The frame that splits the journal's bytes in halves: what still needs an older one is pinning.
    fn horizon(&self) -> u64 {
        let mut bytes = 0;
        let mut frames = self.index.frames.iter();
        let middle = frames.find(|(_, (_, size))| {
            bytes += size;
            bytes * 2 > self.index.total
        });
        middle.map_or(0, |(&seq, _)| seq)
    }

    fn delete_unneeded(&mut self) -> io::Result<()> {
        let floor = self.index.floor();
        for _ in 0..DELETE_FRAMES_MAX {
            let Some((&seq, &(parts, bytes))) = self.index.frames.first_key_value() else {
                break;
            };
            if seq >= floor {
                break;
            }
            // First part first: were only some of these deletions to survive a crash, that shows what happened.
            for part in 0..parts {
                self.tree.remove(key(seq, part)).map_err(sled_error)?;
            }
            self.index.frames.remove(&seq);
            self.index.total -= bytes;
        }
        Ok(())
    }
}

fn metadata(group: u32, log: &super::GroupLog) -> Vec<Record> {
    let mut records = Vec::new();
    records.extend(log.vote.clone().map(|vote| Record::Vote { group, vote }));
    records.extend(
        log.snapshot
            .clone()
            .map(|(name, meta)| Record::Snapshot { group, name, meta }),
    );
    records.extend(
        log.purged
            .clone()
            .map(|(upto, id)| Record::Purge { group, upto, id }),
    );
    records.extend(log.committed.clone().map(|id| Record::Committed { group, id }));
    records
}

fn weight(record: &Record) -> usize {
    match record {
        Record::Append { entries, .. } => entries.iter().map(Bytes::len).sum::<usize>() + 32,
        _ => 64,
    }
}
