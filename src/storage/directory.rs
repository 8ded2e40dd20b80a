//! The real disk: plain files, and sled databases. The only file that names sled.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Create, Database, Disk, DiskFile, DiskReader};
use crate::base::limits::{JOURNAL_MEMORY_BYTES, JOURNAL_SEGMENT_BYTES};

/// How often, and after which pause, a locked database is tried again: 3 seconds in all.
const LOCK_TRIES: u32 = 150;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// A node's directory in the file system.
#[derive(Debug, Clone)]
pub struct Directory {
    dir: PathBuf,
    entries_bytes: usize,
}

impl Directory {
    /// Makes the directory if need be.
    ///
    /// # Errors
    /// A directory that cannot be made: the path is named.
    pub fn open(dir: &Path) -> io::Result<Directory> {
        std::fs::create_dir_all(dir).map_err(|e| {
            let text = format!("cannot create the data directory {}: {e}", dir.display());
            io::Error::new(e.kind(), text)
        })?;
        Ok(Directory {
            dir: dir.to_path_buf(),
            entries_bytes: JOURNAL_MEMORY_BYTES,
        })
    }

    /// With other than the usual many bytes of log entries in memory.
    #[must_use]
    pub fn keeping(self, entries_bytes: usize) -> Directory {
        Directory {
            entries_bytes,
            ..self
        }
    }

    fn names(&self, folder: &str, wanted: impl Fn(&Path) -> bool) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.dir.join(folder))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(name) = name
                && wanted(&path)
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}

impl DiskFile for File {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl DiskReader for File {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }
}

impl Disk for Directory {
    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn files(&self, folder: &str) -> io::Result<Vec<String>> {
        match self.names(folder, Path::is_file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names,
        }
    }

    fn read(&self, file: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.dir.join(file)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => bytes.map(Some),
        }
    }

    fn create(&self, file: &str, bytes: u64) -> io::Result<()> {
        let path = self.dir.join(file);
        let folder = path.parent().unwrap_or(&self.dir);
        std::fs::create_dir_all(folder)?;
        let mut file = File::create(&path)?;
        let zeros = [0; 16 << 10];
        let mut left = bytes;
        if bytes > self.segment_bytes() {
            // For one frame, which is about to be written.
            file.set_len(bytes)?;
            left = 0;
        }
        while left > 0 {
            let part = zeros.len().min(usize::try_from(left).unwrap_or(zeros.len()));
            file.write_all(&zeros[..part])?;
            left -= part as u64;
        }
        file.sync_all()?;
        sync_dir(folder)?;
        sync_dir(&self.dir)
    }

    fn open(&self, file: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        Ok(Box::new(options.open(self.dir.join(file))?))
    }

    fn open_to_read(&self, file: &str) -> io::Result<Option<Box<dyn DiskReader>>> {
        match File::open(self.dir.join(file)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => Ok(Some(Box::new(opened?))),
        }
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(file))
    }

    fn databases(&self, folder: &str) -> io::Result<Vec<String>> {
        std::fs::create_dir_all(self.dir.join(folder))?;
        sync_dir(&self.dir)?;
        self.names(folder, Path::is_dir)
    }

    fn database(&self, name: &str, create: Create, cache_bytes: u64) -> io::Result<Arc<dyn Database>> {
        let path = self.dir.join(name);
        match create {
            Create::No if !path.is_dir() => {
                let text = format!("there is no {}", path.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
            Create::Fresh => std::fs::create_dir(&path)?,
            Create::No | Create::IfAbsent => {}
        }
        Ok(Arc::new(Sled::open(
            path,
            sled::Config::new().cache_capacity(cache_bytes),
        )?))
    }

    fn remove_database(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_dir_all(self.dir.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn segment_bytes(&self) -> u64 {
        JOURNAL_SEGMENT_BYTES
    }

    fn entries_bytes(&self) -> usize {
        self.entries_bytes
    }

    fn threads(&self) -> bool {
        true
    }
}

/// A sled database, and the handle of our own on its file that makes it durable.
struct Sled {
    db: sled::Db,
    file: File,
    path: PathBuf,
}

impl Sled {
    fn open(path: PathBuf, config: sled::Config) -> io::Result<Sled> {
        remove_torn_index(&path)?;
        let config = config.path(&path).flush_every_ms(None);
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
        Ok(Sled { db, file, path })
    }
}

impl Database for Sled {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let value = self.db.get(key).map_err(sled_error)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn put(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.db.insert(key, value).map(drop).map_err(sled_error)
    }

    /// sled's `flush` ends in `sync_file_range`, which is no durability point: without `sync_data` on a handle of our
    /// own, a power loss takes acknowledged writes (DESIGN.md, section 10). Its `conf` it leaves to chance.
    fn sync(&self) -> io::Result<()> {
        self.db.flush().map_err(sled_error)?;
        self.file.sync_data()?;
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.is_file() {
                File::open(path)?.sync_all()?;
            }
        }
        sync_dir(&self.path)?;
        self.path.parent().map_or(Ok(()), sync_dir)
    }
}

fn sled_error(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(io) => io,
        other => io::Error::other(other),
    }
}

/// Makes the entries of a directory durable.
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
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
