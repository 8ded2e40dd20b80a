//! Floor 1: the disk. The only place that names sled.
//!
//! ```text
//!  <node dir>/
//!    store/          one sled database: whose directory this is
//!    journal/        logs and votes of all groups on this node, in preallocated segments
//!    watermark       how far the journal was acknowledged
//!    snapshots/      one fresh sled database a snapshot; the journal holds the pointer to the current one
//! ```
//!
//! The journal is one stream of frames; a frame holds records of many groups and is made durable by one flush. What
//! the frames add up to is mirrored in memory ([`GroupLog`]), so Raft reads never touch the disk.
//!
//! Not here: what the bytes mean. Entries, votes and log ids are opaque; only indexes are numbers.

mod directory;
mod disk;
mod flusher;
mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
mod identity;
mod journal;
#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod memory_tests;
mod mirror;
mod needs;
mod replay;
mod segments;
mod slot;
mod snapshots;
mod watermark;

pub use directory::Directory;
pub use disk::{Create, Database, Disk, DiskFile, DiskReader};
pub use flusher::Flusher;
pub use frame::Record;
pub use identity::{Identity, IdentityError};
pub use journal::{Done, Journal, StartFlusher, Synced, Tell, flusher_thread};
pub use mirror::{GroupLog, Stretch};
pub use snapshots::{SnapshotReader, SnapshotWriter, Snapshots};

use std::io;
use std::sync::Arc;

/// Cache of the node's own database, which holds one small value.
const STORE_CACHE_BYTES: u64 = 1 << 20;

/// The node's open database, and the lock on its directory; [`Identity`] lives in it, [`Journal`] beside it.
#[derive(Clone)]
pub struct Store {
    pub(crate) db: Arc<dyn Database>,
    pub(crate) disk: Arc<dyn Disk>,
}

impl Store {
    /// Opens (or creates) the node's database `store`.
    ///
    /// # Errors
    /// A directory that cannot be written, a file that is damaged or locked by another process: the place is named.
    pub fn open(disk: Arc<dyn Disk>) -> io::Result<Store> {
        let named =
            |e: io::Error, what: &str| io::Error::new(e.kind(), format!("{what} {}: {e}", disk.place()));
        let db = disk.database("store", Create::IfAbsent, STORE_CACHE_BYTES);
        let db = db.map_err(|e| named(e, "cannot open the database in"))?;
        db.sync()
            .map_err(|e| named(e, "cannot write to the database in"))?;
        Ok(Store { db, disk })
    }
}

/// A store in a directory of the file system.
#[cfg(test)]
pub(crate) fn open_store(dir: &std::path::Path) -> io::Result<Store> {
    Store::open(Arc::new(Directory::open(dir)?))
}

/// The same, whose journal keeps only so many bytes of entries in memory.
#[cfg(test)]
pub(crate) fn open_store_keeping(dir: &std::path::Path, bytes: usize) -> io::Result<Store> {
    Store::open(Arc::new(Directory::open(dir)?.keeping(bytes)))
}
