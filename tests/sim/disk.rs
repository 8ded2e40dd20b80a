//! A disk that loses what was not synced, tears what was being written, and fails when told to.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use quorate::storage::{Create, Database, Disk, DiskFile, DiskReader};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// So few that logs are read back from disk again and again.
const ENTRIES_BYTES: usize = 2 << 10;
/// Small, so that segments are changed, used again and rescued all the time.
const SEGMENT_BYTES: u64 = 32 << 10;
/// What a torn write is made of.
const SECTOR: usize = 512;

/// One node's disk. Clones share it; it outlives the node.
#[derive(Clone)]
pub struct SimDisk {
    node: u64,
    state: Arc<Mutex<State>>,
}

struct State {
    files: BTreeMap<String, File>,
    /// Removed, but the folder was not synced since: a crash may bring them back.
    removed: BTreeMap<String, Vec<u8>>,
    databases: BTreeMap<String, Tables>,
    /// Every operation fails from now on.
    broken: bool,
    rng: SmallRng,
}

#[derive(Default)]
struct File {
    synced: Vec<u8>,
    now: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

/// A database's contents.
#[derive(Default)]
struct Tables {
    synced: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
    now: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl SimDisk {
    pub fn new(node: u64, seed: u64) -> SimDisk {
        let state = State {
            files: BTreeMap::new(),
            removed: BTreeMap::new(),
            databases: BTreeMap::new(),
            broken: false,
            rng: SmallRng::seed_from_u64(seed),
        };
        SimDisk {
            node,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Fails everything (`true`), or works again.
    pub fn set_broken(&self, broken: bool) {
        self.state.lock().broken = broken;
    }

    /// The power goes. Of what was not synced any part may be there, in any order; a write may be torn.
    pub fn crash(&self) {
        let state = &mut *self.state.lock();
        let kept = [0.0, 0.5, 0.9][state.rng.random_range(0..3)];
        for file in state.files.values_mut() {
            for (at, bytes) in std::mem::take(&mut file.unsynced) {
                for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                    if state.rng.random_bool(kept) {
                        put(&mut file.synced, at + n * SECTOR, sector);
                    }
                }
            }
            file.now.clone_from(&file.synced);
        }
        for (name, bytes) in std::mem::take(&mut state.removed) {
            if state.rng.random_bool(kept) {
                let file = File {
                    now: bytes.clone(),
                    synced: bytes,
                    unsynced: Vec::new(),
                };
                state.files.entry(name).or_insert(file);
            }
        }
        state
            .databases
            .retain(|_, tables| tables.synced.is_some() || state.rng.random_bool(kept));
        for tables in state.databases.values_mut() {
            tables.now = tables.synced.clone().unwrap_or_default();
        }
        state.broken = false;
    }

    fn lock(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.broken {
            return Err(io::Error::other("the simulated disk fails"));
        }
        Ok(state)
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
    if bytes.len() < at + part.len() {
        bytes.resize(at + part.len(), 0);
    }
    bytes[at..at + part.len()].copy_from_slice(part);
}

fn within<'a>(name: &'a str, folder: &str) -> Option<&'a str> {
    name.strip_prefix(folder)?.strip_prefix('/')
}

struct Open {
    disk: SimDisk,
    name: String,
}

impl DiskFile for Open {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.lock()?;
        let file = state.files.entry(self.name.clone()).or_default();
        let at = usize::try_from(at).map_err(io::Error::other)?;
        put(&mut file.now, at, bytes);
        file.unsynced.push((at, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock()?;
        let file = state.files.entry(self.name.clone()).or_default();
        for (at, bytes) in std::mem::take(&mut file.unsynced) {
            put(&mut file.synced, at, &bytes);
        }
        Ok(())
    }
}

impl DiskReader for Open {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let state = self.disk.lock()?;
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let file = state.files.get(&self.name).ok_or(io::ErrorKind::NotFound)?;
        let found = file.now.get(at..at + buffer.len());
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Database for Open {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let state = self.disk.lock()?;
        let tables = state.databases.get(&self.name);
        Ok(tables.and_then(|tables| tables.now.get(key).cloned()))
    }

    fn put(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock()?;
        let tables = state.databases.entry(self.name.clone()).or_default();
        tables.now.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock()?;
        if let Some(tables) = state.databases.get_mut(&self.name) {
            tables.synced = Some(tables.now.clone());
        }
        Ok(())
    }
}

impl Disk for SimDisk {
    fn place(&self) -> String {
        format!("disk-{}", self.node)
    }

    fn files(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = self.lock()?;
        let names = state.files.keys().filter_map(|name| within(name, folder));
        Ok(names.map(str::to_owned).collect())
    }

    fn read(&self, file: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.lock()?.files.get(file).map(|file| file.now.clone()))
    }

    fn create(&self, file: &str, bytes: u64) -> io::Result<()> {
        let mut state = self.lock()?;
        let zeros = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        let made = File {
            synced: zeros.clone(),
            now: zeros,
            unsynced: Vec::new(),
        };
        state.files.insert(file.to_owned(), made);
        // The folder was synced.
        state.removed.clear();
        Ok(())
    }

    fn open(&self, file: &str) -> io::Result<Box<dyn DiskFile>> {
        self.lock()?.files.entry(file.to_owned()).or_default();
        Ok(Box::new(Open {
            disk: self.clone(),
            name: file.to_owned(),
        }))
    }

    fn open_to_read(&self, file: &str) -> io::Result<Option<Box<dyn DiskReader>>> {
        let there = self.lock()?.files.contains_key(file);
        let open = || Open {
            disk: self.clone(),
            name: file.to_owned(),
        };
        Ok(there.then(|| Box::new(open()) as Box<dyn DiskReader>))
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        let mut state = self.lock()?;
        let gone = state.files.remove(file).ok_or(io::ErrorKind::NotFound)?;
        state.removed.insert(file.to_owned(), gone.synced);
        Ok(())
    }

    fn databases(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = self.lock()?;
        let names = state.databases.keys().filter_map(|name| within(name, folder));
        Ok(names.map(str::to_owned).collect())
    }

    fn database(&self, name: &str, create: Create, _: u64) -> io::Result<Arc<dyn Database>> {
        let mut state = self.lock()?;
        match (state.databases.contains_key(name), create) {
            (false, Create::No) => return Err(io::ErrorKind::NotFound.into()),
            (true, Create::Fresh) => return Err(io::ErrorKind::AlreadyExists.into()),
            (false, _) => drop(state.databases.insert(name.to_owned(), Tables::default())),
            (true, _) => {}
        }
        Ok(Arc::new(Open {
            disk: self.clone(),
            name: name.to_owned(),
        }))
    }

    fn remove_database(&self, name: &str) -> io::Result<()> {
        self.lock()?.databases.remove(name);
        Ok(())
    }

    fn segment_bytes(&self) -> u64 {
        SEGMENT_BYTES
    }

    fn entries_bytes(&self) -> usize {
        ENTRIES_BYTES
    }

    fn threads(&self) -> bool {
        false
    }
}
