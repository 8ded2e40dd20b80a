//! What a node runs on: the machine's own, or a simulation's.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::host::{Clock, Network, Tcp, system_clock};
use crate::storage::{Directory, Disk, StartFlusher, Synced, Tell, flusher_thread};

/// Opens the node's disk when its addresses are bound.
pub type OpenDisk = dyn Fn() -> io::Result<Arc<dyn Disk>> + Send + Sync;

/// A node's environment.
#[derive(Clone)]
pub struct Env {
    pub clock: Clock,
    pub network: Arc<dyn Network>,
    pub open_disk: Arc<OpenDisk>,
    pub start_flusher: Arc<StartFlusher>,
}

impl Env {
    /// The machine's clock, its TCP, and a directory in its file system.
    #[must_use]
    pub fn real(dir: &Path) -> Env {
        let dir = dir.to_path_buf();
        Env {
            clock: system_clock(),
            network: Arc::new(Tcp),
            open_disk: Arc::new(move || Ok(Arc::new(Directory::open(&dir)?))),
            start_flusher: Arc::new(flusher_thread),
        }
    }
}

/// Has a task of this runtime tell who waits for the disk: one wake-up for a frame, however many groups it serves.
#[expect(
    clippy::disallowed_methods,
    reason = "a full channel would have the flusher wait for the thread that may wait for room in the flusher's queue; it \
              holds no more than what the groups have under way"
)]
pub(super) fn tell_here() -> Tell {
    let (synced, mut told) = mpsc::unbounded_channel::<Synced>();
    tokio::spawn(async move {
        while let Some(synced) = told.recv().await {
            synced.tell();
        }
    });
    // Once the runtime is gone nobody waits.
    Box::new(move |frame| drop(synced.send(frame)))
}
