//! Snapshots that somebody asks for, and how far the members of a group have got: what `SAVE` and `WAIT` need.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use super::group::{Group, GroupError};

/// How often a snapshot that was asked for while another was being written is asked for again.
const AGAIN: Duration = Duration::from_millis(50);

impl Group {
    /// When this process last wrote a snapshot of this replica, and how long it took.
    #[must_use]
    pub fn snapshot_written(&self) -> Option<(Instant, Duration)> {
        self.inner.shared.with(|state| state.snapshot_written)
    }

    /// Bytes of log that no snapshot holds yet.
    #[must_use]
    pub fn bytes_since_snapshot(&self) -> u64 {
        self.inner.shared.with(|state| state.bytes_since_snapshot)
    }

    /// Writes a snapshot that has all that is applied here by now.
    ///
    /// # Errors
    /// The replica has stopped, in words.
    pub async fn save(&self) -> Result<(), String> {
        let wanted = self.applied();
        let mut metrics = self.inner.raft.metrics();
        loop {
            if let Some(why) = self.failure() {
                return Err(why);
            }
            let written = metrics.borrow_watched().snapshot.map_or(0, |id| id.index);
            if written >= wanted {
                return Ok(());
            }
            if !self.writes_snapshot() {
                self.cut_snapshot().await;
            }
            if let Ok(Err(_)) = tokio::time::timeout(AGAIN, metrics.changed()).await {
                return Err(format!("{}: it has stopped", self.id()));
            }
        }
    }

    /// At the leader: waits until this many other members have all that is committed now, but not longer than `patience`; says how
    /// many have.
    ///
    /// # Errors
    /// This replica does not lead.
    pub async fn replicated(&self, least: usize, patience: Duration) -> Result<usize, GroupError> {
        let index = self.confirmed_index().await?;
        let until = Instant::now() + patience;
        let mut metrics = self.inner.raft.metrics();
        let me = self.inner.shared.node;
        loop {
            let have = {
                let metrics = metrics.borrow_watched();
                let Some(members) = &metrics.replication else {
                    return Err(GroupError::NotLeader(metrics.current_leader));
                };
                let have = members.iter().filter(|(node, matched)| {
                    **node != me && matched.as_ref().is_some_and(|id| id.index >= index)
                });
                have.count()
            };
            if have >= least {
                return Ok(have);
            }
            match tokio::time::timeout_at(until, metrics.changed()).await {
                Err(_) => return Ok(have),
                Ok(Err(_)) => return Err(GroupError::NotLeader(None)),
                Ok(Ok(())) => {}
            }
        }
    }
}
