//! openraft's own storage test suite, on our log store and state machine.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::TypeConfig;
use super::log_store::LogStore;
use super::shared::Shared;
use super::state_machine::StateMachine;
use crate::base::GroupId;
use crate::storage::{Journal, Snapshots, open_store};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("temp dir");
        let journal = Journal::open(open_store(dir.path()).expect("store")).expect("journal");
        let snapshots = Snapshots::open(dir.path(), &[]).expect("snapshots");
        let group = GroupId::Shard(3);
        let log = LogStore::new(group.number(), journal.clone());
        let machine = StateMachine::new(Arc::new(Shared::new(group, 1)), journal, snapshots);
        Ok((dir, log, machine))
    }
}

#[test]
fn storage_passes_openrafts_suite() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime
        .block_on(Suite::test_all(Builder))
        .expect("the suite passes");
}
