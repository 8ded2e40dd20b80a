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

mod flusher;
mod frame;
mod identity;
mod journal;
#[cfg(test)]
mod journal_tests;
mod mirror;
mod needs;
mod segments;
mod snapshots;
mod watermark;

pub use frame::Record;
pub use identity::{Identity, IdentityError};
pub use journal::{Done, Journal};
pub use mirror::GroupLog;
pub use snapshots::{SnapshotReader, SnapshotWriter, Snapshots};

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often, and after which pause, a locked database is tried again: 3 seconds in all.
const LOCK_TRIES: u32 = 150;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
/// Cache of the node's own sled, which holds one small value.
const STORE_CACHE_BYTES: u64 = 1 << 20;

/// sled's `flush` ends in `sync_file_range`, which is no durability point: without this `sync_data` on a handle of
/// our own, a power loss takes acknowledged writes (DESIGN.md, section 10).
pub(crate) fn flush_durably(db: &sled::Db, file: &File) -> io::Result<()> {
    db.flush().map_err(sled_error)?;
    file.sync_data()
}

pub(crate) fn sled_error(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(io) => io,
        other => io::Error::other(other),
    }
}

/// Opens a sled database and the handle on its file that [`flush_durably`] needs.
pub(crate) fn open_db(path: &Path, config: sled::Config) -> io::Result<(sled::Db, File)> {
    remove_torn_index(path)?;
    let config = config.path(path).flush_every_ms(None);
    // sled panics on some damaged files: to the caller that is an unreadable file like any other.
    let mut tries = 0;
    let db = loop {
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
        match opened {
            Ok(Ok(db)) => break db,
            // sled's own threads let go of a database a moment after its last handle is dropped.
            Ok(Err(e)) if tries < LOCK_TRIES && e.to_string().contains("could not acquire lock") => {
                tries += 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            Ok(Err(e)) => return Err(sled_error(e)),
            Err(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the sled file is damaged",
                ));
            }
        }
    };
    let file = File::options().read(true).write(true).open(path.join("db"))?;
    Ok((db, file))
}

/// Removes sled's index files (`snap.*`) that a full disk has cut off: with one of them sled opens nothing, and without
/// it scans its log.
fn remove_torn_index(path: &Path) -> io::Result<()> {
    /// Checksum and lengths: no index is shorter.
    const HEADER_BYTES: u64 = 13;
    let entries = match std::fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.")
            && (name.ends_with(".generating") || entry.metadata()?.len() < HEADER_BYTES)
        {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the files of a new database durable, and that they are there. sled leaves its own `conf` to chance.
pub(crate) fn sync_files(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() {
            File::open(path)?.sync_all()?;
        }
    }
    sync_dir(dir)
}

/// Opens (or creates) the node's database under `dir/store`.
///
/// # Errors
/// A directory that cannot be written, a file that is damaged or locked by another process: the path is named.
pub fn open_store(dir: &Path) -> io::Result<Store> {
    let named = |e: io::Error, what: &str| io::Error::new(e.kind(), format!("{what} {}: {e}", dir.display()));
    std::fs::create_dir_all(dir).map_err(|e| named(e, "cannot create the data directory"))?;
    let config = sled::Config::new().cache_capacity(STORE_CACHE_BYTES);
    let path = dir.join("store");
    let (db, file) = open_db(&path, config).map_err(|e| named(e, "cannot open the database in"))?;
    flush_durably(&db, &file).map_err(|e| named(e, "cannot write to the database in"))?;
    sync_files(&path)?;
    sync_dir(dir)?;
    Ok(Store {
        db,
        file: Arc::new(file),
        dir: dir.to_path_buf(),
    })
}

/// The node's open database, and the lock on its directory; [`Identity`] lives in it, [`Journal`] beside it.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) db: sled::Db,
    pub(crate) file: Arc<File>,
    pub(crate) dir: PathBuf,
}
