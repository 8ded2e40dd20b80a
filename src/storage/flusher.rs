//! The one writer of a node's journal; it also sees to it that old segments can be used anew.
//!
//! ```text
//!  ops ─▶ all that wait: one frame ─▶ segment ─▶ sync_data ─▶ watermark ─▶ done
//! ```
//!
//! (Syncing in a second thread beside the next frame's write was measured: on two cores the wake-ups cost what the
//! overlap gains.)
//!
//! Only a prefix of the journal is ever given up, so replay needs no gaps. A quiet group would pin old segments for
//! ever; when they add up, what is live in the oldest one is written again at the head.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bytes::Bytes;

use super::journal::{Done, Mirror, Op, Synced, Tell};
use super::mirror::Placed;
use super::needs::Needs;
use super::segments::{HEADER_BYTES, Segments};
use super::slot::Place;
use super::watermark::Watermark;
use super::{Record, frame};
use crate::base::limits::{JOURNAL_FRAME_BYTES, JOURNAL_SLACK_BYTES};

/// Entries that the mirror may be told of later.
const PLACED_USUAL: usize = 256;
/// How long to wait for the mirror, at the most, to tell it of more.
const PATIENCE: Duration = Duration::from_millis(1);

/// See the module. Runs as a thread, or step by step in a simulation.
pub struct Flusher {
    ops: Receiver<Op>,
    segments: Segments,
    mirror: Mirror,
    needs: Needs,
    /// Number of the next frame.
    next: u64,
    /// The floor that the newest frame tells.
    floor: u64,
    buffer: Vec<u8>,
    /// Taken from the queue already, because what is rescued has its place behind them.
    backlog: VecDeque<Op>,
    /// Commit indexes that wait for a frame that is needed anyway.
    lazy: BTreeMap<u32, Record>,
    /// The first failure, for good.
    failed: Option<String>,
    watermark: Watermark,
    /// A segment was begun since pinned ones were last looked for.
    look: bool,
    /// A frame that is not synced yet: how writing it went, and who waits for it.
    written: Option<(Result<(), String>, Vec<Done>)>,
    /// Entries that were written, of which the mirror was not told yet where they lie.
    placed: Vec<Placed>,
    tell: Tell,
}

impl Flusher {
    pub(super) fn new(
        ops: Receiver<Op>,
        segments: Segments,
        mirror: Mirror,
        needs: Needs,
        next: u64,
        watermark: Watermark,
        tell: Tell,
    ) -> Self {
        Flusher {
            ops,
            segments,
            mirror,
            needs,
            next,
            floor: 0,
            buffer: Vec::new(),
            backlog: VecDeque::new(),
            lazy: BTreeMap::new(),
            failed: None,
            watermark,
            look: true,
            written: None,
            placed: Vec::new(),
            tell,
        }
    }

    /// Runs until every [`super::Journal`] handle is gone.
    pub(super) fn run(mut self) {
        while let Some(first) = self.backlog.pop_front().or_else(|| self.ops.recv().ok()) {
            // Who is about to append, and has only lost the processor to us, comes along: at no cost when nobody is.
            std::thread::yield_now();
            self.backlog.push_front(first);
            self.write_waiting();
            self.sync_written();
        }
        let last = std::mem::take(&mut self.lazy).into_values().collect::<Vec<_>>();
        if !last.is_empty() {
            // Only commit indexes: losing them costs a restart some waiting, so the error has been said enough.
            let _ = self.write(last).and_then(|()| self.sync());
        }
    }

    /// Writes what waits as one frame. Whether there is one to sync now; to be called again when it is synced.
    pub fn write_waiting(&mut self) -> bool {
        if let Some(first) = self.backlog.pop_front().or_else(|| self.ops.try_recv().ok()) {
            let (records, dones, needed) = self.collect(first);
            if needed {
                self.written = Some((self.write(records), dones));
            }
        }
        self.written.is_some()
    }

    /// Syncs the frame that was written, and has whoever waits for it told.
    pub fn sync_written(&mut self) {
        let Some((result, dones)) = self.written.take() else {
            return;
        };
        let result = result.and_then(|()| self.sync());
        let durable = result.is_ok();
        if !dones.is_empty() {
            (self.tell)(Synced { result, dones });
        }
        if durable {
            self.settle();
            self.rescue();
        }
    }

    /// Tells the mirror where the entries lie that are durable now: the older ones need not stay in memory.
    fn settle(&mut self) {
        // A writer may hold the lock while it waits for us: then after another frame. What has gathered meanwhile is worth a moment.
        let patience = if self.placed.len() > PLACED_USUAL {
            PATIENCE
        } else {
            Duration::ZERO
        };
        let Some(mut mirror) = self.mirror.try_lock_for(patience) else {
            return;
        };
        let most = self.segments.disk().entries_bytes();
        let gone = mirror.settle(self.placed.drain(..), most);
        drop(mirror);
        drop(gone);
    }

    fn fail(&mut self, error: &io::Error) -> String {
        let text = format!(
            "the journal in {} cannot be written: {error}",
            self.segments.place()
        );
        tracing::error!("{text}");
        self.failed.get_or_insert(text).clone()
    }

    /// Makes the written frame durable; what it says is needless can be used anew then.
    fn sync(&mut self) -> Result<(), String> {
        let synced = self
            .segments
            .sync()
            .and_then(|()| self.watermark.advance(self.next))
            .and_then(|()| self.segments.release(self.floor));
        synced.map_err(|e| self.fail(&e))
    }

    /// Joins what waits into one frame's records; also whether anything among them needs one.
    fn collect(&mut self, first: Op) -> (Vec<Record>, Vec<Done>, bool) {
        let (mut size, mut records, mut dones) = (0, Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(op) = next {
            size += op.records.iter().map(weight).sum::<usize>();
            for record in op.records {
                match record {
                    Record::Committed { group, .. } => drop(self.lazy.insert(group, record)),
                    needed => records.push(needed),
                }
            }
            dones.extend(op.done);
            next = if size < JOURNAL_FRAME_BYTES {
                self.backlog.pop_front().or_else(|| self.ops.try_recv().ok())
            } else {
                None
            };
        }
        let needed = !records.is_empty() || !dones.is_empty();
        (records, dones, needed)
    }

    fn write(&mut self, mut records: Vec<Record>) -> Result<(), String> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        records.extend(std::mem::take(&mut self.lazy).into_values());
        self.write_frame(&records).map_err(|e| self.fail(&e))
    }

    fn write_frame(&mut self, records: &[Record]) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        let ends = frame::encode(records, &mut self.buffer).map_err(io::Error::other)?;
        let floor = self.needs.floor().unwrap_or(self.next);
        let written = self.segments.write(self.next, floor, &mut self.buffer)?;
        self.next += 1;
        self.floor = floor;
        self.look |= written.began;
        let segment = self.segments.head_first();
        for (record, end) in records.iter().zip(ends) {
            self.needs.take(segment, record);
            self.placed.extend(placed(record, end, written.place));
        }
        if self.buffer.capacity() > 2 * JOURNAL_FRAME_BYTES {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Writes what is live in the oldest segment again, when the journal holds far more than what is needed of it.
    fn rescue(&mut self) {
        // What was rescued before must be on disk before more is chosen; and after a failure nothing gets there.
        if !self.look || !self.backlog.is_empty() || self.failed.is_some() {
            return;
        }
        let Some(second) = self.segments.second_first() else {
            return;
        };
        // A writer may hold the lock while it waits for us: then after another frame.
        let Some(mut mirror) = self.mirror.try_lock() else {
            return;
        };
        self.look = false;
        if self.segments.bytes() <= 2 * mirror.bytes() as u64 + JOURNAL_SLACK_BYTES {
            return;
        }
        // The mirror is ahead of the disk by what is queued, so the rescued has its place right behind that. Nobody
        // can queue more while we hold the lock.
        self.backlog.extend(self.ops.try_iter());
        match self.needs.rescue(second, &mut mirror, self.segments.disk()) {
            Ok(rescued) => {
                let ops = rescued.into_iter().map(|record| Op {
                    records: vec![record],
                    done: None,
                });
                self.backlog.extend(ops);
                self.look = true;
            }
            Err(e) => {
                drop(mirror);
                self.fail(&e);
            }
        }
    }
}

/// Where the entries lie of a record that ends at `end` in a frame that begins at `frame`.
fn placed(record: &Record, end: usize, frame: Place) -> Vec<Placed> {
    let (Record::Append {
        group,
        first,
        entries,
    }
    | Record::Keep {
        group,
        first,
        entries,
    }) = record
    else {
        return Vec::new();
    };
    let places = frame::entries_at(record, end);
    let indexes = *first..=u64::MAX;
    indexes
        .zip(entries.iter().zip(places))
        .map(|(index, (bytes, at))| Placed {
            group: *group,
            index,
            bytes: bytes.clone(),
            place: frame.plus(at),
        })
        .collect()
}

fn weight(record: &Record) -> usize {
    match record {
        Record::Append { entries, .. } | Record::Keep { entries, .. } => {
            entries.iter().map(Bytes::len).sum::<usize>() + 32
        }
        _ => 64,
    }
}
