//! A node's data directory, opened before anything else is done: what is in it may forbid to start.

use std::sync::Arc;

use super::env::{Env, tell_here};
use super::node::StartError;
use crate::base::NodeId;
use crate::config::Config;
use crate::storage::{Disk, Identity, Journal, Snapshots, Store};

fn open_snapshots(disk: Arc<dyn Disk>, journal: &Journal) -> std::io::Result<Snapshots> {
    let current = |group| {
        journal
            .with(group, |log| log.snapshot.clone())
            .map(|(name, _)| name)
    };
    let current: Vec<String> = journal.groups().into_iter().filter_map(current).collect();
    Snapshots::open(disk, &current)
}

/// What a data directory holds.
pub(super) struct Opened {
    pub store: Store,
    pub known: Option<Identity>,
    pub journal: Journal,
    pub snapshots: Snapshots,
}

impl Opened {
    pub fn from(env: &Env, config: &Config, id: NodeId) -> Result<Opened, StartError> {
        let unusable = |e: std::io::Error| StartError::Storage(e.to_string());
        let disk = (env.open_disk)().map_err(unusable)?;
        let place = disk.place();
        let storage = |e: std::io::Error| StartError::Storage(format!("{place}: {e}"));
        let store = Store::open(Arc::clone(&disk)).map_err(unusable)?;
        // Refused before a peer hears of us.
        let known = Identity::load(&store, id, &config.layout());
        let known = known.map_err(|source| StartError::Identity {
            dir: place.clone().into(),
            source,
        })?;
        let journal = Journal::open_with(store.clone(), env.start_flusher.as_ref(), tell_here());
        let journal = journal.map_err(storage)?;
        if known.is_none() && !journal.groups().is_empty() {
            let why = "there is a journal, but no word of whose it is: store/db was cut off or removed. Remove the \
                       whole directory to have the node refilled by its peers";
            return Err(StartError::Storage(format!("{place}: {why}")));
        }
        let snapshots = open_snapshots(disk, &journal).map_err(storage)?;
        Ok(Opened {
            store,
            known,
            journal,
            snapshots,
        })
    }
}
