//! openraft's state machine over [`Shared`]: applying, and snapshots in the node's snapshot directory.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::shared::Shared;
use super::{LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::base::codec::{self, CodecError};
use crate::host::{Urgency, background, blocking, chance};
use crate::machine::{Frozen, Thaw};
use crate::storage::{Journal, Record, SnapshotWriter, Snapshots};

const READ_BYTES: usize = 256 << 10;

/// A finished snapshot on this node's disk.
#[derive(Debug, Clone)]
pub struct SnapshotHandle {
    pub snapshots: Snapshots,
    pub name: String,
}

type OurSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotHandle>;

/// One replica's state machine. Clones share it.
#[derive(Clone)]
pub struct StateMachine {
    shared: Arc<Shared>,
    journal: Journal,
    snapshots: Snapshots,
    /// One that is written here and one that is taken in may be done at the same moment.
    publishing: Arc<Mutex<()>>,
}

/// Writes a state that was cut in `get_snapshot_builder`.
pub struct Builder {
    frozen: Option<Frozen>,
    /// How long the cut held everything up.
    cut_us: u128,
    begin: Instant,
    meta: SnapshotMeta,
    machine: StateMachine,
    done: bool,
}

/// A directory name that was never used on this node.
pub fn snapshot_name(group: u32, index: u64) -> String {
    let unique = chance();
    format!("{group:06x}-{index:016x}-{unique:016x}")
}

impl StateMachine {
    #[must_use]
    pub fn new(shared: Arc<Shared>, journal: Journal, snapshots: Snapshots) -> StateMachine {
        StateMachine {
            shared,
            journal,
            snapshots,
            publishing: Arc::default(),
        }
    }

    fn handle(&self, name: String) -> SnapshotHandle {
        SnapshotHandle {
            snapshots: self.snapshots.clone(),
            name,
        }
    }

    fn number(&self) -> u32 {
        self.shared.group.number()
    }

    /// Makes `name` the current snapshot, durably, and removes the one before; or removes `name`, if there is a newer one: the log
    /// behind that one may be purged already.
    async fn publish(&self, name: String, meta: &SnapshotMeta) -> io::Result<()> {
        let _one_at_a_time = self.publishing.lock().await;
        let group = self.number();
        let current = self.journal.with(group, |log| log.snapshot.clone());
        if let Some((current, its)) = &current {
            if *current == name {
                return Ok(());
            }
            let its: SnapshotMeta = codec::decode(its).map_err(io::Error::other)?;
            if its.last_log_id > meta.last_log_id {
                let snapshots = self.snapshots.clone();
                return blocking(move || snapshots.remove(&name)).await;
            }
        }
        let before = current.map(|(name, _)| name);
        let meta = Bytes::from(codec::encode(meta).map_err(io::Error::other)?);
        let (tx, rx) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| drop(tx.send(result)));
        self.journal
            .append(vec![Record::Snapshot { group, name, meta }], Some(done))?;
        rx.await
            .map_err(|_| io::Error::other("the journal's flusher has stopped"))??;
        let snapshots = self.snapshots.clone();
        blocking(move || before.map_or(Ok(()), |name| snapshots.remove(&name))).await
    }
}

fn write(snapshots: &Snapshots, name: &str, frozen: &Frozen) -> io::Result<u64> {
    let mut writer = snapshots.create(name)?;
    let put = |bytes: &[u8]| writer.write(bytes).map_err(WriteError::Io);
    frozen.sections(put).map_err(|e| match e {
        WriteError::Io(e) => e,
        WriteError::Codec(e) => io::Error::other(e),
    })?;
    writer.finish()
}

enum WriteError {
    Io(io::Error),
    Codec(CodecError),
}

impl From<CodecError> for WriteError {
    fn from(error: CodecError) -> Self {
        WriteError::Codec(error)
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        // Once it has succeeded, the flag may be the next one's.
        if !self.done {
            self.machine.shared.with(|state| state.writes_snapshot = false);
        }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(&mut self) -> Result<OurSnapshot, io::Error> {
        let frozen = self
            .frozen
            .take()
            .ok_or_else(|| io::Error::other("a builder builds once"))?;
        let index = self.meta.last_log_id.map_or(0, |id| id.index);
        let name = snapshot_name(self.machine.number(), index);
        let (snapshots, to) = (self.machine.snapshots.clone(), name.clone());
        let bytes = background("quorate-snapshot", Urgency::Lower, move || {
            write(&snapshots, &to, &frozen)
        })
        .await?;
        self.machine.publish(name.clone(), &self.meta).await?;
        let took = self.begin.elapsed();
        self.machine.shared.with(|state| {
            state.snapshot_bytes = bytes;
            state.snapshot_written = Some((Instant::now(), took));
            state.writes_snapshot = false;
        });
        self.done = true;
        let (group, cut_us) = (self.machine.shared.group, self.cut_us);
        tracing::debug!(%group, index, bytes, cut_us, "snapshot written");
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: self.machine.handle(name),
        })
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok(self
            .shared
            .with(|state| (state.applied, state.membership.clone())))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            match &entry.payload {
                EntryPayload::Blank => self.shared.skip(entry.log_id, None),
                EntryPayload::Membership(membership) => {
                    let stored = StoredMembership::new(Some(entry.log_id), membership.clone());
                    self.shared.skip(entry.log_id, Some(stored));
                }
                EntryPayload::Normal(payload) => self.shared.apply(entry.log_id, &payload.0)?,
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        let garbage = self.shared.with(|state| state.machine.take_garbage());
        if !garbage.is_empty() {
            tokio::spawn(async move {
                let freed = background("quorate-free", Urgency::Lowest, move || {
                    drop(garbage);
                    Ok(())
                });
                if let Err(e) = freed.await {
                    tracing::warn!("a large value was not freed in the background: {e}");
                }
            });
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let begin = Instant::now();
        let (frozen, meta) = self.shared.with(|state| {
            state.bytes_since_snapshot = 0;
            state.writes_snapshot = true;
            let meta = SnapshotMeta {
                last_log_id: state.applied,
                last_membership: state.membership.clone(),
            };
            (state.machine.freeze(), meta)
        });
        Builder {
            frozen: Some(frozen),
            cut_us: begin.elapsed().as_micros(),
            begin,
            meta,
            machine: self.clone(),
            done: false,
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotHandle,
    ) -> Result<(), io::Error> {
        let (ours, group) = (self.snapshots.clone(), self.number());
        let (name, machine, bytes) = blocking(move || {
            let mut reader = snapshot.snapshots.read(&snapshot.name)?;
            // One that lies in another directory (tests do that) is copied into ours on the way.
            let copy = (snapshot.snapshots != ours).then(|| snapshot_name(group, 0));
            let mut writer = copy.as_ref().map(|name| ours.create(name)).transpose()?;
            let mut thaw = Thaw::default();
            let bad = |e| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("snapshot {}: {e}", snapshot.name),
                )
            };
            while let Some(bytes) = reader.next(READ_BYTES)? {
                thaw.take(&bytes).map_err(bad)?;
                writer.as_mut().map_or(Ok(()), |writer| writer.write(&bytes))?;
            }
            writer.map(SnapshotWriter::finish).transpose()?;
            let name = copy.unwrap_or(snapshot.name.clone());
            Ok((name, thaw.finish().map_err(bad)?, reader.len()))
        })
        .await?;
        self.publish(name, meta).await?;
        self.shared.with(|state| state.snapshot_bytes = bytes);
        self.shared
            .install(machine, meta.last_log_id, meta.last_membership.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<OurSnapshot>, io::Error> {
        let current = self.journal.with(self.number(), |log| log.snapshot.clone());
        let Some((name, meta)) = current else {
            return Ok(None);
        };
        let meta: SnapshotMeta = codec::decode(&meta).map_err(io::Error::other)?;
        Ok(Some(Snapshot {
            meta,
            snapshot: self.handle(name),
        }))
    }
}
