//! Snapshots: a fresh sled database each, since replacing a large one inside one database leaks space for good.
//!
//! ```text
//!  create(group) ─▶ write … ─▶ finish: footer, flush, sync ─▶ pointer goes to the journal ─▶ retain(current)
//! ```
//!
//! A directory without a pointer is rubbish from a crash and goes at the next start.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::disk::{Create, Database, Disk};
use crate::base::codec;
use crate::base::limits::SNAPSHOT_CHUNK_BYTES;

const FOLDER: &str = "snapshots";
const FOOTER: &[u8] = b"footer";
const CACHE_BYTES: u64 = 16 << 20;
/// Chunks that go to the disk together: about a megabyte.
const CHUNKS_PER_SYNC: u64 = 170;

#[derive(Debug, Serialize, Deserialize)]
struct Footer {
    format: u32,
    chunks: u64,
    bytes: u64,
    crc: u32,
}

/// The node's snapshots. Clones share them.
#[derive(Clone)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    /// Those being read, since a database is opened once at a time.
    reading: Arc<Mutex<HashMap<String, Weak<dyn Database>>>>,
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshots({})", self.disk.place())
    }
}

impl PartialEq for Snapshots {
    fn eq(&self, other: &Snapshots) -> bool {
        self.disk.place() == other.disk.place()
    }
}

fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

impl Snapshots {
    /// Opens the folder `snapshots` and removes what `current` does not name.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(disk: Arc<dyn Disk>, current: &[String]) -> io::Result<Snapshots> {
        for name in disk.databases(FOLDER)? {
            if !current.contains(&name) {
                disk.remove_database(&path(&name))?;
            }
        }
        Ok(Snapshots {
            disk,
            reading: Arc::default(),
        })
    }

    /// Starts a snapshot under a name that was never used (`name` must be unique per node).
    ///
    /// # Errors
    /// The disk's; one that is there already.
    pub fn create(&self, name: &str) -> io::Result<SnapshotWriter> {
        Ok(SnapshotWriter {
            db: self.disk.database(&path(name), Create::Fresh, CACHE_BYTES)?,
            buffer: Vec::new(),
            chunks: 0,
            bytes: 0,
            crc: crc(),
        })
    }

    /// Opens a finished snapshot for reading.
    ///
    /// # Errors
    /// The disk's; `NotFound`; `InvalidData` if it has no footer.
    pub fn read(&self, name: &str) -> io::Result<SnapshotReader> {
        let place = format!("{}/{}", self.disk.place(), path(name));
        let named = |e: io::Error| io::Error::new(e.kind(), format!("snapshot {place}: {e}"));
        let db = self.open_to_read(name).map_err(named)?;
        let footer = db.get(FOOTER).map_err(named)?;
        let footer = footer.ok_or_else(|| damaged(&place, "has no footer: it was never finished"))?;
        let footer: Footer = codec::decode(&footer).map_err(|e| damaged(&place, &e.to_string()))?;
        Ok(SnapshotReader {
            db,
            place,
            footer,
            next: 0,
            crc: crc(),
        })
    }

    fn open_to_read(&self, name: &str) -> io::Result<Arc<dyn Database>> {
        let mut reading = self.reading.lock();
        reading.retain(|_, db| db.strong_count() > 0);
        if let Some(db) = reading.get(name).and_then(Weak::upgrade) {
            return Ok(db);
        }
        let db = self.disk.database(&path(name), Create::No, CACHE_BYTES)?;
        reading.insert(name.to_owned(), Arc::downgrade(&db));
        Ok(db)
    }

    /// Removes a snapshot that is not the current one any more.
    ///
    /// # Errors
    /// The disk's; one that is gone already is none.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove_database(&path(name))
    }
}

fn crc() -> crc32fast::Hasher {
    crc32fast::Hasher::new()
}

fn damaged(place: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("snapshot {place} {why}"))
}

/// A snapshot being written: a byte stream, cut into chunks.
pub struct SnapshotWriter {
    db: Arc<dyn Database>,
    buffer: Vec<u8>,
    chunks: u64,
    bytes: u64,
    crc: crc32fast::Hasher,
}

impl SnapshotWriter {
    /// Adds bytes to the stream.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while self.buffer.len() + bytes.len() >= SNAPSHOT_CHUNK_BYTES {
            let (head, tail) = bytes.split_at(SNAPSHOT_CHUNK_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(head);
            bytes = tail;
            let mut chunk = std::mem::take(&mut self.buffer);
            self.put(&chunk)?;
            chunk.clear();
            self.buffer = chunk;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn put(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.crc.update(chunk);
        self.db.put(&self.chunks.to_be_bytes(), chunk)?;
        self.chunks += 1;
        self.bytes += chunk.len() as u64;
        // All at once in the end, they would hold up the journal's syncs for as long as the disk takes.
        if self.chunks.is_multiple_of(CHUNKS_PER_SYNC) {
            self.db.sync()?;
        }
        Ok(())
    }

    /// Writes the footer; the snapshot is whole and on disk when this returns. Says how many bytes it has.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(mut self) -> io::Result<u64> {
        let rest = std::mem::take(&mut self.buffer);
        if !rest.is_empty() {
            self.put(&rest)?;
        }
        let footer = Footer {
            format: 1,
            chunks: self.chunks,
            bytes: self.bytes,
            crc: self.crc.clone().finalize(),
        };
        let footer = codec::encode(&footer).map_err(io::Error::other)?;
        self.db.put(FOOTER, &footer)?;
        self.db.sync()?;
        Ok(self.bytes)
    }
}

/// A snapshot being read, front to back.
pub struct SnapshotReader {
    db: Arc<dyn Database>,
    place: String,
    footer: Footer,
    next: u64,
    crc: crc32fast::Hasher,
}

impl SnapshotReader {
    /// Bytes of the whole stream.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.footer.bytes
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.footer.bytes == 0
    }

    /// The next bytes, about `at_least` of them; `None` at the end, where count and checksum have been checked.
    ///
    /// # Errors
    /// The disk's; `InvalidData` for a missing chunk or a wrong checksum.
    pub fn next(&mut self, at_least: usize) -> io::Result<Option<Vec<u8>>> {
        let mut out = Vec::with_capacity(at_least + SNAPSHOT_CHUNK_BYTES);
        while out.len() < at_least && self.next < self.footer.chunks {
            let chunk = self.db.get(&self.next.to_be_bytes())?;
            let chunk = chunk.ok_or_else(|| damaged(&self.place, &format!("lacks chunk {}", self.next)))?;
            self.crc.update(&chunk);
            out.extend_from_slice(&chunk);
            self.next += 1;
        }
        if self.next == self.footer.chunks && self.crc.clone().finalize() != self.footer.crc {
            return Err(damaged(&self.place, "does not match its checksum"));
        }
        Ok((!out.is_empty()).then_some(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Directory;

    fn disk(dir: &tempfile::TempDir) -> Arc<dyn Disk> {
        Arc::new(Directory::open(dir.path()).expect("opens"))
    }

    #[test]
    fn a_snapshot_reads_back_whole_and_damage_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let snapshots = Snapshots::open(disk(&dir), &[]).expect("opens");
        let data: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        let mut writer = snapshots.create("a").expect("creates");
        data.chunks(777).for_each(|c| writer.write(c).expect("writes"));
        assert_eq!(writer.finish().expect("finishes"), 100_000);
        let mut reader = snapshots.read("a").expect("reads");
        let mut back = Vec::new();
        while let Some(bytes) = reader.next(10_000).expect("reads on") {
            back.extend(bytes);
        }
        assert!(back == data);
        // Two peers may be sent the same one at a time.
        let mut other = snapshots.read("a").expect("reads");
        assert!(other.next(1).expect("reads on").is_some());
        drop(other);
        reader.db.put(&3u64.to_be_bytes(), b"other").expect("damages");
        drop(reader);
        let mut reader = snapshots.read("a").expect("opens");
        assert!(
            reader
                .next(1 << 20)
                .expect_err("damaged")
                .to_string()
                .contains("checksum")
        );
    }

    #[test]
    fn unfinished_and_unnamed_snapshots_go() {
        let dir = tempfile::tempdir().expect("temp dir");
        let snapshots = Snapshots::open(disk(&dir), &[]).expect("opens");
        for name in ["kept", "old"] {
            snapshots
                .create(name)
                .expect("creates")
                .finish()
                .expect("finishes");
        }
        drop(snapshots.create("torn").expect("creates"));
        assert!(snapshots.read("torn").is_err());
        let snapshots = Snapshots::open(disk(&dir), &["kept".into()]).expect("opens");
        assert!(snapshots.read("kept").is_ok() && snapshots.read("old").is_err());
        assert_eq!(
            std::fs::read_dir(dir.path().join("snapshots"))
                .expect("lists")
                .count(),
            1
        );
    }
}
