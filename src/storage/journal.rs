//! The journal: every group's records in one stream, made durable by one flusher thread for the whole node.
//!
//! ```text
//!  append(records, done) ─▶ mirror (readable at once) ─▶ queue ─▶ flusher: join all that waits into one frame
//!                                                                         ─▶ segment ─▶ sync ─▶ tell: done(Ok), …
//! ```
//!
//! `done` runs only after the records, and all records appended before them, are on disk. After one failure nothing
//! is ever acknowledged again: the node has to stop.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;

use super::flusher::Flusher;
use super::mirror::Logs;
use super::needs::Needs;
use super::replay::Replayed;
use super::segments::Segments;
use super::slot::Slot;
use super::watermark::Watermark;
use super::{GroupLog, Record, Store, Stretch, frame, slot};
use crate::base::limits::JOURNAL_QUEUE_MAX;

/// Called once when records are durable or never will be.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// How a frame's sync went, and who waits for it.
pub struct Synced {
    pub(super) result: Result<(), String>,
    pub(super) dones: Vec<Done>,
}

impl Synced {
    /// Calls all that wait.
    pub fn tell(self) {
        for done in self.dones {
            done(self.result.clone().map_err(io::Error::other));
        }
    }
}

/// Sees to it that [`Synced::tell`] is called, for one frame after the other. A frame has records of several groups: told from
/// the flusher's thread, each of them would wake the thread that runs the groups.
pub type Tell = Box<dyn Fn(Synced) + Send>;

pub(super) struct Op {
    pub records: Vec<Record>,
    pub done: Option<Done>,
}

pub(super) type Mirror = Arc<Mutex<Logs>>;

/// Handle to the node's journal; cheap to clone. The last one dropped stops the flusher after what it has queued.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    mirror: Mirror,
    /// `None` only while dropping.
    queue: Option<SyncSender<Op>>,
    flusher: Option<JoinHandle<()>>,
    /// Keeps the directory locked against other processes.
    store: Store,
}

/// Has a flusher run. A thread that it gives is waited for when the journal is closed.
pub type StartFlusher = dyn Fn(Flusher) -> io::Result<Option<JoinHandle<()>>> + Send + Sync;

/// A flusher in a thread of its own.
///
/// # Errors
/// The system's.
pub fn flusher_thread(flusher: Flusher) -> io::Result<Option<JoinHandle<()>>> {
    let thread = std::thread::Builder::new().name("quorate-flusher".into());
    thread.spawn(move || flusher.run()).map(Some)
}

impl Journal {
    /// Rebuilds every group's log from the frames on disk and starts the flusher.
    ///
    /// # Errors
    /// The disk's; `InvalidData` for frames that were acknowledged and are missing or damaged. A torn *last* frame was
    /// never acknowledged and is dropped.
    pub fn open(store: Store) -> io::Result<Journal> {
        Journal::open_with(store, &flusher_thread, Box::new(Synced::tell))
    }

    /// As [`Journal::open`], with a flusher that runs as `start` has it run, and tells as `tell` does.
    ///
    /// # Errors
    /// As for [`Journal::open`]; those of `start`.
    pub fn open_with(store: Store, start: &StartFlusher, tell: Tell) -> io::Result<Journal> {
        let mut replayed: BTreeMap<u32, Replayed> = BTreeMap::new();
        let mut needs = Needs::default();
        let (mut in_memory, most) = (0, store.disk.entries_bytes());
        let opened = Segments::open(&store.disk, |found| {
            let records = frame::decode(found.payload);
            let records = records.map_err(|e| damaged(format!("journal frame {}: {e}", found.number)))?;
            for (record, end) in records {
                needs.take(found.segment, &record);
                let places = frame::entries_at(&record, end).into_iter();
                let log = replayed.entry(record.group()).or_default();
                log.take(record, places.map(|at| found.place.plus(at)));
            }
            in_memory += found.payload.len();
            if in_memory > most {
                replayed.values_mut().for_each(Replayed::evict);
                in_memory = 0;
            }
            Ok(())
        });
        let (segments, next) = opened?;
        let watermark = Watermark::open(store.disk.as_ref())?;
        if next < watermark.next() {
            let acknowledged = watermark.next();
            return Err(damaged(format!(
                "the journal ends before frame {next}, but frames before {acknowledged} were acknowledged: it was cut \
                 off or replaced. Remove the whole directory to have the node refilled by its peers"
            )));
        }
        let logs = replayed.into_iter().map(|(group, log)| {
            let lacks = |index| damaged(format!("the journal lacks entry {index} of group {group}"));
            Ok((group, log.finish().map_err(lacks)?))
        });
        let logs: BTreeMap<u32, GroupLog> = logs.collect::<io::Result<_>>()?;
        let mirror: Mirror = Arc::new(Mutex::new(Logs::new(logs)));
        let (queue, ops) = sync_channel(JOURNAL_QUEUE_MAX);
        let flusher = Flusher::new(ops, segments, Arc::clone(&mirror), needs, next, watermark, tell);
        let flusher = start(flusher)?;
        Ok(Journal {
            inner: Arc::new(Inner {
                mirror,
                queue: Some(queue),
                flusher,
                store,
            }),
        })
    }

    /// Takes records in: readable at once through [`Journal::with`], durable when `done` is called.
    ///
    /// # Errors
    /// A hole in a log, or a flusher that has died; then `done` is dropped uncalled.
    pub fn append(&self, records: Vec<Record>, done: Option<Done>) -> io::Result<()> {
        // One lock over mirror and queue: both must see the records in the same order.
        let mut mirror = self.inner.mirror.lock();
        for record in &records {
            if let Record::Append { group, first, .. } = record
                && !mirror.of(*group).continues(*first)
            {
                let why = format!("group {group}: entries from {first} would leave a hole in the log");
                return Err(damaged(why));
            }
            mirror.take(record.clone());
        }
        let queue = self
            .inner
            .queue
            .as_ref()
            .ok_or_else(|| io::Error::other("the journal is closed"))?;
        queue
            .send(Op { records, done })
            .map_err(|_| io::Error::other("the journal's flusher has stopped"))
    }

    /// Reads a group's log.
    pub fn with<T>(&self, group: u32, read: impl FnOnce(&GroupLog) -> T) -> T {
        read(self.inner.mirror.lock().of(group))
    }

    /// Whether [`Journal::read`] may take as long as a disk does, so that it is to be called in a thread for such work.
    #[must_use]
    pub fn may_block(&self) -> bool {
        self.inner.store.disk.threads()
    }

    /// The bytes of a group's entries, from disk as far as they are not in memory any more. `None` if some of them were purged or
    /// replaced since they were asked for: then to be asked for again.
    ///
    /// # Errors
    /// The disk's; `InvalidData` for an entry that was changed on disk.
    pub fn read(&self, group: u32, stretch: &Stretch) -> io::Result<Option<Vec<Bytes>>> {
        let disk = self.inner.store.disk.as_ref();
        let away = stretch.slots.iter().filter_map(|slot| match slot {
            Slot::Here { .. } => None,
            &Slot::Away(away) => Some(away),
        });
        let mut read = slot::read(disk, away)?.into_iter();
        let mut entries = Vec::with_capacity(stretch.slots.len());
        for (index, slot) in (stretch.first..=u64::MAX).zip(&stretch.slots) {
            let found = match slot {
                Slot::Here { bytes, .. } => Some(bytes.clone()),
                Slot::Away(_) => read.next().flatten(),
            };
            let (None, &Slot::Away(away)) = (&found, slot) else {
                entries.extend(found);
                continue;
            };
            // A place is given up only when nobody has an entry there any more.
            let still = |log: &GroupLog| log.slot(index).is_some_and(|slot| slot.is_away(away));
            return if self.with(group, still) {
                Err(away.damaged(disk))
            } else {
                Ok(None)
            };
        }
        Ok(Some(entries))
    }

    /// Groups that have any record.
    #[must_use]
    pub fn groups(&self) -> Vec<u32> {
        self.inner.mirror.lock().numbers().collect()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.flusher.take() {
            // A panic of the flusher has already been logged by its thread, and callers saw its queue close.
            let _ = thread.join();
        }
    }
}

fn damaged(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
