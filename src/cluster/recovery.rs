//! Finishes transactions whose coordinator has gone silent: the leader of a shard that holds one prepared asks the
//! coordinator group, which answers from its log, or logs an abort first.
//!
//! Silence is measured from when this leader first saw the transaction, by its own steady clock. Replicated time would not
//! do: after a clock was ahead for a moment it stands still until wall clocks have caught up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::message::{Ask, Failure, Told};
use super::router::Router;
use crate::base::{AttemptId, GroupId, Millis, TxnId};
use crate::machine::{Body, Decision, Finish, Prepared, Request};
use crate::raft::{Group, Groups};

/// Questions of one round; the rest waits for the next.
const ASK_MAX: usize = 256;
/// How long the coordinator may take to answer what an operator wants settled.
const RECOVER: Duration = Duration::from_secs(1);

pub struct Recovery {
    pub groups: Arc<Groups>,
    pub router: Router,
    /// How long a prepared transaction may hear nothing.
    pub patience_ms: Millis,
}

impl Recovery {
    /// Runs until the runtime ends.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(Duration::from_millis((self.patience_ms / 4).max(20)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let patience = Duration::from_millis(self.patience_ms);
        let mut seen: BTreeMap<(GroupId, AttemptId), Instant> = BTreeMap::new();
        loop {
            tick.tick().await;
            let now = Instant::now();
            let before = std::mem::take(&mut seen);
            for group in self.groups.all().into_iter().filter(Group::is_leader) {
                let overdue: Vec<Prepared> = group.peek(|machine| {
                    let prepared = machine
                        .as_shard()
                        .into_iter()
                        .flat_map(crate::machine::Shard::prepared);
                    let mut is_overdue = |prepared: &Prepared| {
                        let key = (group.id(), prepared.attempt);
                        let since = before.get(&key).copied().unwrap_or(now);
                        seen.insert(key, since);
                        now - since > patience
                    };
                    let overdue: Vec<Prepared> = prepared.filter(|p| is_overdue(p)).collect();
                    overdue.into_iter().take(ASK_MAX).collect()
                });
                let finish = |prepared| finish(&self.router, &group, prepared, patience);
                let finished = overdue.into_iter().map(finish);
                futures::future::join_all(finished).await;
            }
        }
    }
}

/// Asks about every attempt of `txn` that is prepared here, however short a time it has been.
pub fn recover<'a>(router: &'a Router, group: &'a Group, txn: TxnId) -> BoxFuture<'a, Told> {
    Box::pin(async move {
        if !group.is_leader() {
            return Told::Failed(Failure::NotLeader(group.leader().0));
        }
        let prepared: Vec<Prepared> = group.peek(|machine| {
            let shard = machine.as_shard().into_iter();
            let prepared = shard.flat_map(crate::machine::Shard::prepared);
            prepared
                .filter(|prepared| prepared.attempt.txn == txn)
                .take(ASK_MAX)
                .collect()
        });
        let finished = prepared
            .into_iter()
            .map(|prepared| finish(router, group, prepared, RECOVER));
        futures::future::join_all(finished).await;
        Told::Recovered
    })
}

async fn finish(router: &Router, group: &Group, prepared: Prepared, patience: Duration) {
    let Prepared {
        attempt,
        coordinator,
        deadline,
        ..
    } = prepared;
    let ask = Ask::Query { attempt, deadline };
    let told = router.ask(coordinator, &ask, Instant::now() + patience).await;
    // Being worked on, or not reachable: the next round asks again.
    let Ok(Told::Decision(Some(decision))) = told else {
        return;
    };
    // A commit of another attempt of the same transaction is an abort of this one.
    let commit = matches!(decision, Decision::Commit { attempt: committed, .. } if committed == attempt);
    tracing::info!(group = %group.id(), %attempt, commit, "recovered a prepared transaction");
    let request = Request::anonymous(Body::Finish(Finish {
        attempt,
        commit,
        deadline,
    }));
    if let Err(e) = group.propose(request).await {
        tracing::debug!(group = %group.id(), %attempt, "not finished yet: {e}");
    }
}
