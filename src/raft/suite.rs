//! openraft's own storage test suite, on our log store and state machine.

use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader, RaftSnapshotBuilder, StorageError};

use super::admission::Used;
use super::log_store::LogStore;
use super::shared::{Latest, Shared};
use super::state_machine::StateMachine;
use super::{Entry, TypeConfig, entry};
use crate::base::GroupId;
use crate::storage::{Directory, Journal, Record, Snapshots, open_store, open_store_keeping};

/// With so many bytes of entries in memory.
struct Builder(usize);

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("temp dir");
        let journal = Journal::open(open_store_keeping(dir.path(), self.0).expect("store")).expect("journal");
        let snapshots = Snapshots::open(Arc::new(Directory::open(dir.path()).expect("directory")), &[])
            .expect("snapshots");
        let group = GroupId::Shard(3);
        let log = LogStore::new(group.number(), journal.clone());
        let machine = StateMachine::new(
            Arc::new(Shared::new(group, 1, Used::default(), Latest::default())),
            journal,
            snapshots,
        );
        Ok((dir, log, machine))
    }
}

/// Entries behind a hole must never go to a follower; the stream that asked has to be ended.
#[tokio::test]
async fn a_read_behind_a_purge_gives_nothing_and_leaves_a_mark() {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = Journal::open(open_store(dir.path()).expect("store")).expect("journal");
    let mut log = LogStore::new(3, journal.clone());
    let id = openraft::testing::log_id::<TypeConfig>;
    let blank = |index| Entry::new(id(1, 1, index), EntryPayload::Blank);
    let encoded = (0..10).map(|index| entry::encode(&blank(index)).expect("encodes"));
    let append = Record::Append {
        group: 3,
        first: 0,
        entries: encoded.collect(),
    };
    journal.append(vec![append], None).expect("taken");
    let mark = log.purged_reads();
    log.purge(id(1, 1, 4)).await.expect("purges");
    let read = log.limited_get_log_entries(5, 8).await.expect("reads");
    assert_eq!(read, [5, 6, 7].map(blank));
    assert!(!mark.take());
    let read = log.limited_get_log_entries(4, 8).await.expect("reads");
    assert_eq!(read, []);
    assert!(mark.take() && !mark.take());
}

/// One is taken in while an older one is being written: the log behind the newer one may be purged by then.
#[tokio::test]
async fn a_snapshot_that_is_finished_late_does_not_replace_a_newer_one() {
    let (dir, _, mut machine) = Builder(usize::MAX).build().await.expect("a store");
    let (_other_dir, _, mut other) = Builder(usize::MAX).build().await.expect("a store");
    let entry = |index| {
        let id = openraft::testing::log_id::<TypeConfig>(1, 1, index);
        let entry = Entry::new(id, EntryPayload::Blank);
        futures::stream::iter([Ok::<_, std::io::Error>((entry, None))])
    };
    machine.apply(entry(1)).await.expect("applies");
    let mut older = machine.get_snapshot_builder().await;
    other.apply(entry(2)).await.expect("applies");
    let newer = other.get_snapshot_builder().await.build_snapshot().await;
    let newer = newer.expect("it is written");
    let taken_in = machine.install_snapshot(&newer.meta, newer.snapshot).await;
    taken_in.expect("it is taken in");
    older.build_snapshot().await.expect("it is written");
    let current = machine.get_current_snapshot().await.expect("it can be read");
    let current = current.expect("there is one");
    assert_eq!(current.meta, newer.meta);
    let kept = std::fs::read_dir(dir.path().join("snapshots")).expect("the folder is there");
    assert_eq!(kept.count(), 1, "the older one is gone");
    let read = current.snapshot.snapshots.read(&current.snapshot.name);
    assert!(read.is_ok(), "{:?}", read.err());
}

#[test]
fn storage_passes_openrafts_suite() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    for in_memory in [usize::MAX, 0] {
        let suite = Suite::test_all(Builder(in_memory));
        runtime.block_on(suite).expect("the suite passes");
    }
}
