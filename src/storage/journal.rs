//! The journal: every group's records in one stream, made durable by one flusher thread for the whole node.
//!
//! ```text
//!  append(records, done) ─▶ mirror (readable at once) ─▶ queue ─▶ flusher: join all that waits into one frame
//!                                                                         ─▶ sled ─▶ flush ─▶ sync ─▶ done(Ok)
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

use super::flusher::{Flusher, FrameIndex};
use super::watermark::Watermark;
use super::{GroupLog, Record, Store, frame, sled_error};
use crate::base::limits::JOURNAL_QUEUE_MAX;

/// Called once, from the flusher's thread, when records are durable or never will be.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

pub(super) struct Op {
    pub records: Vec<Record>,
    pub done: Option<Done>,
}

pub(super) type Mirror = Arc<Mutex<BTreeMap<u32, GroupLog>>>;

pub(super) const TREE: &str = "journal";

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
}

impl Journal {
    /// Rebuilds every group's log from the frames on disk and starts the flusher.
    ///
    /// # Errors
    /// The disk's; `InvalidData` for a damaged frame that newer frames follow. A torn *last* frame was never
    /// acknowledged and is dropped.
    pub fn open(store: Store) -> io::Result<Journal> {
        let tree = store.db.open_tree(TREE).map_err(sled_error)?;
        let recovered = recover(&tree)?;
        let watermark = Watermark::open(&store.dir)?;
        if recovered.next < watermark.next() {
            let (found, acknowledged) = (recovered.next, watermark.next());
            return Err(damaged(format!(
                "the journal ends before frame {found}, but frames before {acknowledged} were acknowledged: the \
                 database was cut off or replaced. Remove the whole directory to have the node refilled by its peers"
            )));
        }
        let mirror: Mirror = Arc::new(Mutex::new(recovered.logs));
        let (queue, ops) = sync_channel(JOURNAL_QUEUE_MAX);
        let flusher = Flusher::new(
            store,
            tree,
            Arc::clone(&mirror),
            recovered.frames,
            recovered.next,
            watermark,
        );
        let thread = std::thread::Builder::new()
            .name("quorate-flusher".into())
            .spawn(move || flusher.run(&ops))?;
        Ok(Journal {
            inner: Arc::new(Inner {
                mirror,
                queue: Some(queue),
                flusher: Some(thread),
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
            log.take(record.clone()).map_err(io::Error::other)?;
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

struct Recovered {
    logs: BTreeMap<u32, GroupLog>,
    frames: FrameIndex,
    next: u64,
}

fn damaged(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn recover(tree: &sled::Tree) -> io::Result<Recovered> {
    let mut recovered = Recovered {
        logs: BTreeMap::new(),
        frames: FrameIndex::default(),
        next: 0,
    };
    let mut torn: Option<u64> = None;
    let mut current: Option<(u64, u32, Vec<u8>)> = None;
    let mut first = None;
    for item in tree {
        let (key, value) = item.map_err(sled_error)?;
        let (seq, part) = parse_key(&key)?;
        // Frames are deleted from the front, and a frame's first part first: only the first may lack its beginning.
        if first.is_none() {
            first = Some((seq, part > 0));
            recovered.next = seq;
        }
        if first == Some((seq, true)) {
            recovered.next = seq + 1;
            continue;
        }
        if let Some(bad) = torn.filter(|&bad| bad != seq) {
            return Err(damaged(format!(
                "journal frame {bad} is damaged, and newer frames follow it"
            )));
        }
        if seq != recovered.next && seq + 1 != recovered.next {
            return Err(damaged(format!(
                "journal frames {} to {seq} are missing",
                recovered.next
            )));
        }
        recovered.next = seq + 1;
        let whole_so_far = match &current {
            Some((at, parts, _)) => *at == seq && *parts == part,
            None => part == 0,
        };
        let Some((payload, last)) = frame::decode_part(&value).filter(|_| whole_so_far) else {
            torn = Some(seq);
            current = None;
            continue;
        };
        let (_, parts, joined) = current.get_or_insert_with(|| (seq, 0, Vec::new()));
        joined.extend_from_slice(payload);
        *parts += 1;
        if last && let Some((_, parts, joined)) = current.take() {
            take_frame(&mut recovered, seq, parts, &joined)?;
        }
    }
    if let Some(seq) = torn.or(current.map(|(seq, ..)| seq)) {
        for key in tree.scan_prefix(seq.to_be_bytes()).keys() {
            tree.remove(key.map_err(sled_error)?).map_err(sled_error)?;
        }
        recovered.next = seq;
    }
    Ok(recovered)
}

fn take_frame(recovered: &mut Recovered, seq: u64, parts: u32, joined: &[u8]) -> io::Result<()> {
    let bad = |e: String| io::Error::new(io::ErrorKind::InvalidData, format!("journal frame {seq}: {e}"));
    let records = frame::decode(joined).map_err(|e| bad(e.to_string()))?;
    recovered.frames.take(seq, parts, joined.len(), &records);
    for record in records {
        recovered
            .logs
            .entry(record.group())
            .or_default()
            .take(record)
            .map_err(bad)?;
    }
    Ok(())
}

pub(super) fn key(seq: u64, part: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&seq.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

fn parse_key(key: &[u8]) -> io::Result<(u64, u32)> {
    let parsed = key.split_at_checked(8).and_then(|(seq, part)| {
        Some((
            u64::from_be_bytes(seq.try_into().ok()?),
            u32::from_be_bytes(part.try_into().ok()?),
        ))
    });
    parsed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a journal key is not 12 bytes"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;

    use super::*;
    use crate::storage::open_store;

    fn open(dir: &Path) -> Journal {
        Journal::open(open_store(dir).expect("store opens")).expect("journal opens")
    }

    fn append(journal: &Journal, records: Vec<Record>) {
        let (tx, rx) = std::sync::mpsc::sync_channel(1);
        let done: Done = Box::new(move |result| tx.send(result).expect("the test waits"));
        journal.append(records, Some(done)).expect("taken");
        rx.recv().expect("answered").expect("durable");
    }

    fn entries(group: u32, first: u64, count: u64, size: usize) -> Record {
        let entries = (first..first + count)
            .map(|i| Bytes::from(vec![i as u8; size]))
            .collect();
        Record::Append {
            group,
            first,
            entries,
        }
    }

    fn purge(group: u32, upto: u64) -> Record {
        Record::Purge {
            group,
            upto,
            id: Bytes::from_static(b"id"),
        }
    }

    #[test]
    fn everything_acknowledged_is_there_after_reopening() {
        let dir = tempfile::tempdir().expect("temp dir");
        let journal = open(dir.path());
        append(
            &journal,
            vec![
                Record::Vote {
                    group: 1,
                    vote: Bytes::from_static(b"v1"),
                },
                entries(1, 1, 9, 10),
            ],
        );
        append(&journal, vec![entries(2, 1, 3, 200_000)]);
        append(
            &journal,
            vec![Record::Truncate { group: 1, from: 6 }, entries(1, 6, 1, 77)],
        );
        append(&journal, vec![purge(1, 2)]);
        journal
            .append(
                vec![Record::Committed {
                    group: 1,
                    id: Bytes::from_static(b"c"),
                }],
                None,
            )
            .expect("taken");
        let before: Vec<_> = [1, 2].map(|g| journal.with(g, GroupLog::clone)).into();
        drop(journal);
        let journal = open(dir.path());
        let after: Vec<_> = [1, 2].map(|g| journal.with(g, GroupLog::clone)).into();
        assert_eq!(before, after);
        assert_eq!(
            (after[0].first, after[0].end(), after[0].bytes),
            (3, 7, 3 * 10 + 77)
        );
        assert_eq!(after[0].committed.as_deref(), Some(&b"c"[..]));
    }

    fn with_tree(dir: &Path, change: impl FnOnce(&sled::Tree)) {
        let store = open_store(dir).expect("opens");
        let tree = store.db.open_tree(TREE).expect("tree");
        change(&tree);
        tree.flush().expect("flushes");
    }

    fn refused(dir: &Path) -> String {
        let refused = Journal::open(open_store(dir).expect("store opens")).err();
        refused.expect("must be refused").to_string()
    }

    /// A crash in the middle of a write leaves a frame that nobody was told of.
    #[test]
    fn a_torn_frame_that_was_not_acknowledged_is_dropped() {
        let dir = tempfile::tempdir().expect("temp dir");
        let journal = open(dir.path());
        append(&journal, vec![entries(1, 1, 3, 10)]);
        drop(journal);
        let parts = frame::encode(&[entries(1, 4, 1, 200_000)]).expect("encodes");
        with_tree(dir.path(), |tree| {
            tree.insert(key(1, 0), &parts[0][..]).expect("inserts");
        });
        let journal = open(dir.path());
        assert_eq!(journal.with(1, GroupLog::end), 4);
        append(&journal, vec![entries(1, 4, 1, 5)]);
        drop(journal);
        assert_eq!(open(dir.path()).with(1, GroupLog::end), 5);
    }

    /// A database file that is cut off opens: sled takes it for a shorter log. Acknowledged entries would be gone.
    #[test]
    fn missing_or_damaged_frames_that_were_acknowledged_are_refused() {
        let fresh = || {
            let dir = tempfile::tempdir().expect("temp dir");
            let journal = open(dir.path());
            (0..4).for_each(|i| append(&journal, vec![entries(1, 1 + i, 1, 10)]));
            drop(journal);
            dir
        };
        let dir = fresh();
        with_tree(dir.path(), |tree| drop(tree.remove(key(3, 0)).expect("removes")));
        assert!(refused(dir.path()).contains("ends before frame 3"));
        let dir = fresh();
        with_tree(dir.path(), |tree| drop(tree.remove(key(2, 0)).expect("removes")));
        assert!(refused(dir.path()).contains("frames 2 to 3 are missing"));
        let dir = fresh();
        with_tree(dir.path(), |tree| {
            drop(tree.insert(key(1, 0), vec![0u8; 50]).expect("damages"));
        });
        assert!(refused(dir.path()).contains("frame 1 is damaged"));
        let dir = fresh();
        std::fs::remove_dir_all(dir.path().join("store")).expect("removes");
        assert!(refused(dir.path()).contains("were acknowledged"));
    }

    #[test]
    fn a_quiet_group_does_not_pin_the_journal() {
        let dir = tempfile::tempdir().expect("temp dir");
        let journal = open(dir.path());
        append(
            &journal,
            vec![
                Record::Vote {
                    group: 9,
                    vote: Bytes::from_static(b"quiet"),
                },
                entries(9, 1, 2, 50),
            ],
        );
        for round in 0..300u64 {
            append(&journal, vec![entries(1, 1 + round * 10, 10, 50_000)]);
            append(&journal, vec![purge(1, round * 10 + 5)]);
        }
        let quiet = journal.with(9, GroupLog::clone);
        drop(journal);
        let store = open_store(dir.path()).expect("opens");
        let tree = store.db.open_tree(TREE).expect("tree");
        let kept: usize = tree.iter().values().map(|v| v.expect("reads").len()).sum();
        assert!(
            kept < 80 << 20,
            "150 MB went through and {} MB are kept",
            kept >> 20
        );
        drop((tree, store));
        let journal = open(dir.path());
        assert_eq!(journal.with(9, GroupLog::clone), quiet);
        assert_eq!(journal.with(1, |log| (log.first, log.end())), (2996, 3001));
    }
}
