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

use parking_lot::Mutex;

use super::flusher::Flusher;
use super::mirror::Replayed;
use super::needs::Needs;
use super::segments::Segments;
use super::watermark::Watermark;
use super::{GroupLog, Record, Store, frame};
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

pub(super) type Mirror = Arc<Mutex<BTreeMap<u32, GroupLog>>>;

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
    _store: Store,
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
        let opened = Segments::open(&store.disk, |segment, number, payload| {
            let records = frame::decode(payload);
            let records = records.map_err(|e| damaged(format!("journal frame {number}: {e}")))?;
            needs.take(segment, &records);
            for record in records {
                replayed.entry(record.group()).or_default().take(record);
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
        let mirror: Mirror = Arc::new(Mutex::new(logs));
        let (queue, ops) = sync_channel(JOURNAL_QUEUE_MAX);
        let flusher = Flusher::new(ops, segments, Arc::clone(&mirror), needs, next, watermark, tell);
        let flusher = start(flusher)?;
        Ok(Journal {
            inner: Arc::new(Inner {
                mirror,
                queue: Some(queue),
                flusher,
                _store: store,
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
            let log = mirror.entry(record.group()).or_default();
            if let Record::Append { group, first, .. } = record
                && !log.continues(*first)
            {
                let why = format!("group {group}: entries from {first} would leave a hole in the log");
                return Err(damaged(why));
            }
            log.take(record.clone());
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
        read(self.inner.mirror.lock().entry(group).or_default())
    }

    /// Groups that have any record.
    #[must_use]
    pub fn groups(&self) -> Vec<u32> {
        self.inner.mirror.lock().keys().copied().collect()
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
