//! What storage asks of a disk. [`Directory`](super::Directory) is the real one; a simulation brings its own, which can
//! be slow, fail, and lose what was not synced.
//!
//! Names are paths relative to the node's directory, with `/` between the parts.

use std::io;
use std::sync::Arc;

/// A file that is written in place.
pub trait DiskFile: Send {
    /// Writes bytes at an offset.
    ///
    /// # Errors
    /// The disk's.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes what was written survive a power loss.
    ///
    /// # Errors
    /// The disk's.
    fn sync(&self) -> io::Result<()>;
}

/// A file that is read in places.
pub trait DiskReader: Send {
    /// Fills `buffer` from an offset on.
    ///
    /// # Errors
    /// `UnexpectedEof` for a file that is too short; the disk's.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
}

/// A small ordered store of keys and values.
pub trait Database: Send + Sync {
    /// # Errors
    /// The disk's; damage.
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// # Errors
    /// The disk's.
    fn put(&self, key: &[u8], value: &[u8]) -> io::Result<()>;

    /// Makes everything put survive a power loss, the database itself included.
    ///
    /// # Errors
    /// The disk's.
    fn sync(&self) -> io::Result<()>;
}

/// One node's directory.
pub trait Disk: Send + Sync {
    /// Where it is, for messages.
    fn place(&self) -> String;

    /// Names of the files in a folder, in any order; empty if there is no such folder.
    ///
    /// # Errors
    /// The disk's.
    fn files(&self, folder: &str) -> io::Result<Vec<String>>;

    /// A file's bytes, if there is one.
    ///
    /// # Errors
    /// The disk's.
    fn read(&self, file: &str) -> io::Result<Option<Vec<u8>>>;

    /// Makes a file of zeros, durable with its length and its name. One of that name is replaced. The disk has room for it, unless it is
    /// larger than [`Disk::segment_bytes`].
    ///
    /// # Errors
    /// The disk's.
    fn create(&self, file: &str, bytes: u64) -> io::Result<()>;

    /// Opens a file to be written; an empty one is made if there is none.
    ///
    /// # Errors
    /// The disk's.
    fn open(&self, file: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file to be read, if there is one.
    ///
    /// # Errors
    /// The disk's.
    fn open_to_read(&self, file: &str) -> io::Result<Option<Box<dyn DiskReader>>>;

    /// # Errors
    /// The disk's.
    fn remove(&self, file: &str) -> io::Result<()>;

    /// Names of the databases in a folder; makes the folder if need be.
    ///
    /// # Errors
    /// The disk's.
    fn databases(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Opens a database that is not open; `create` makes a new one, which must not be there yet if it is `Fresh`.
    ///
    /// # Errors
    /// The disk's; `NotFound`, `AlreadyExists`; damage; a lock that another process holds.
    fn database(&self, name: &str, create: Create, cache_bytes: u64) -> io::Result<Arc<dyn Database>>;

    /// Removes a database; one that is gone already is none.
    ///
    /// # Errors
    /// The disk's.
    fn remove_database(&self, name: &str) -> io::Result<()>;

    /// Size of the journal's segments.
    fn segment_bytes(&self) -> u64;

    /// Bytes of log entries that are kept in memory; older ones are read back when they are asked for.
    fn entries_bytes(&self) -> usize;

    /// Whether work may be left to threads. Not in a simulation.
    fn threads(&self) -> bool;
}

/// Whether opening a database may, or must, make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    No,
    IfAbsent,
    Fresh,
}
