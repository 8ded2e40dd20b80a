//! What a node does with a replica by the clock, and what it shows of it: sleep, snapshots, digests, leadership, status.

use openraft::async_runtime::WatchReceiver;

use super::LogId;
use super::group::Group;
use crate::base::NodeId;
use crate::machine::Digest;

/// A replica at a glance.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GroupStatus {
    pub group: String,
    pub leader: Option<NodeId>,
    pub term: u64,
    pub role: String,
    pub asleep: bool,
    pub last_log: u64,
    pub committed: u64,
    pub applied: u64,
    pub snapshot: u64,
    /// Of the log entries that it keeps on disk; the newest of them are in memory, too.
    pub log_bytes: usize,
}

impl Group {
    /// Lets the replica sleep or wakes it; to be called every 100 ms or so.
    pub async fn look_after_sleep(&self) {
        let leads = self.is_leader();
        let has_leader = self.leader().0.is_some();
        self.inner.hibernation.look(leads, has_leader).await;
    }

    /// Whether this replica neither beats nor listens for heartbeats, since nobody uses the group.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.inner.hibernation.is_asleep()
    }

    /// Whether a snapshot of this replica is being written.
    #[must_use]
    pub fn writes_snapshot(&self) -> bool {
        self.inner.shared.with(|state| state.writes_snapshot)
    }

    /// Bytes of log entries applied since the last snapshot was cut, if they are enough for the next: at least `least`, and
    /// half of the last one's bytes, so that a large state is not written again and again for a little log. A replica that
    /// sleeps does with less: its log need not be applied again by a restart.
    #[must_use]
    pub fn snapshot_is_due(&self, least: u64) -> Option<u64> {
        let (since, last) = self
            .inner
            .shared
            .with(|state| (state.bytes_since_snapshot, state.snapshot_bytes));
        snapshot_is_due(since, last, least, self.is_asleep()).then_some(since)
    }

    /// Index of the last applied entry, and the checksum of the state there. Costs a walk over the whole state.
    ///
    /// # Errors
    /// A state that cannot be encoded.
    pub fn digest(&self) -> Result<(u64, u32), crate::base::codec::CodecError> {
        self.inner.shared.with(|state| {
            let index = state.applied.map_or(0, |id| id.index);
            Ok((index, state.machine.digest()?))
        })
    }

    /// Whether anything was applied here since the last entry that asked for digests.
    #[must_use]
    pub fn changed_since_digest(&self) -> bool {
        self.inner.shared.with(|state| state.digests.changed)
    }

    /// The last digest that was noted here, and at which log index.
    #[must_use]
    pub fn last_digest(&self) -> Option<(u64, Digest)> {
        self.inner
            .shared
            .with(|state| state.digests.noted.back().copied())
    }

    /// The digest that was noted here at a log index, while it is remembered.
    #[must_use]
    pub fn digest_at(&self, index: u64) -> Option<Digest> {
        let of_index = |&(at, digest): &(u64, Digest)| (at == index).then_some(digest);
        self.inner
            .shared
            .with(|state| state.digests.noted.iter().find_map(of_index))
    }

    /// Stops the replica for good, since what it holds is wrong.
    pub async fn fail(&self, why: String) {
        self.inner.shared.with(|state| {
            state.digests.failure.get_or_insert(why);
        });
        self.shutdown().await;
    }

    /// Lets this replica stand for election, from now on.
    pub fn may_elect(&self) {
        self.inner.raft.runtime_config().elect(true);
    }

    /// Hands leadership to another member, if it keeps up.
    pub async fn transfer_leader(&self, to: NodeId) {
        self.inner.hibernation.wake();
        if let Err(e) = self.inner.raft.trigger().transfer_leader(to).await {
            tracing::warn!(group = %self.inner.id, to, "cannot hand over: {e}");
        }
    }

    /// Cuts a snapshot; the log behind it is purged when it is on disk.
    pub async fn cut_snapshot(&self) {
        if let Err(e) = self.inner.raft.trigger().snapshot().await {
            tracing::warn!(group = %self.inner.id, "cannot cut a snapshot: {e}");
        }
    }

    /// Purges the log behind the current snapshot, but for the last `keep_bytes` of it: a follower that is a little
    /// behind needs no snapshot then.
    pub async fn purge_behind_snapshot(&self, keep_bytes: usize) {
        let snapshot = self
            .inner
            .raft
            .metrics()
            .borrow_watched()
            .snapshot
            .map(|id| id.index);
        let Some(snapshot) = snapshot else { return };
        let upto = self.inner.journal.with(self.inner.id.number(), |log| {
            let mut kept = 0;
            let mut behind = (log.first..=snapshot.min(log.end().saturating_sub(1))).rev();
            behind.find(|&index| {
                kept += log.size(index).unwrap_or(0);
                kept > keep_bytes
            })
        });
        if let Some(upto) = upto
            && let Err(e) = self.inner.raft.trigger().purge_log(upto).await
        {
            tracing::warn!(group = %self.inner.id, upto, "cannot purge the log: {e}");
        }
    }

    /// Why the replica has stopped, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        if let Some(why) = self.inner.shared.with(|state| state.digests.failure.clone()) {
            return Some(format!("{}: {why}", self.inner.id));
        }
        let metrics = self.inner.raft.metrics();
        let state = &metrics.borrow_watched().running_state;
        let error = state.as_ref().err();
        error.map(|e| format!("{}: {e}", self.inner.id))
    }

    #[must_use]
    pub fn status(&self) -> GroupStatus {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        GroupStatus {
            group: self.inner.id.to_string(),
            leader: metrics.current_leader,
            term: metrics.current_term,
            role: format!("{:?}", metrics.state).to_lowercase(),
            asleep: self.is_asleep(),
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: index(metrics.local_committed),
            applied: index(metrics.last_applied),
            snapshot: index(metrics.snapshot),
            log_bytes: self.inner.journal.with(self.inner.id.number(), |log| log.bytes),
        }
    }
}

/// Whether `since` bytes of log call for a snapshot after one of `last` bytes.
fn snapshot_is_due(since: u64, last: u64, least: u64, asleep: bool) -> bool {
    if asleep {
        since >= (least / 16).max(last / 8)
    } else {
        since >= least.max(last / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_state_is_not_written_again_for_a_little_log() {
        assert!(!snapshot_is_due(99, 0, 100, false));
        assert!(snapshot_is_due(100, 0, 100, false));
        assert!(snapshot_is_due(100, 200, 100, false));
        assert!(!snapshot_is_due(100, 1000, 100, false));
        assert!(snapshot_is_due(500, 1000, 100, false));
    }

    #[test]
    fn a_replica_that_sleeps_does_with_less_log_but_not_with_none() {
        assert!(!snapshot_is_due(99, 0, 1600, true));
        assert!(snapshot_is_due(100, 0, 1600, true));
        assert!(!snapshot_is_due(100, 1000, 1600, true));
        assert!(snapshot_is_due(125, 1000, 1600, true));
    }
}
