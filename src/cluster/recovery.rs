//! Finishes transactions whose coordinator has gone silent: the leader of a shard that holds one prepared asks the
//! coordinator group, which answers from its log, or logs an abort first.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::message::{Ask, Told};
use super::router::Router;
use crate::base::Millis;
use crate::host::Clock;
use crate::machine::{Body, Decision, Finish, Prepared, Request};
use crate::raft::{Group, Groups};

/// Questions of one round; the rest waits for the next.
const ASK_MAX: usize = 256;

pub struct Recovery {
    pub groups: Arc<Groups>,
    pub router: Router,
    pub clock: Clock,
    /// How long a prepared transaction may hear nothing.
    pub patience_ms: Millis,
}

impl Recovery {
    /// Runs until the runtime ends.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(Duration::from_millis((self.patience_ms / 4).max(20)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let clock = (self.clock)();
            for group in self.groups.all().into_iter().filter(Group::is_leader) {
                let overdue: Vec<Prepared> = group.peek(|machine| {
                    // A clock behind replicated time would find nothing overdue until it has caught up.
                    let now = clock.max(machine.time());
                    let prepared = machine
                        .as_shard()
                        .into_iter()
                        .flat_map(crate::machine::Shard::prepared);
                    prepared
                        .filter(|p| now.saturating_sub(p.since) > self.patience_ms)
                        .take(ASK_MAX)
                        .collect()
                });
                let finished = overdue.into_iter().map(|prepared| self.finish(&group, prepared));
                futures::future::join_all(finished).await;
            }
        }
    }

    async fn finish(&self, group: &Group, prepared: Prepared) {
        let Prepared {
            attempt,
            coordinator,
            deadline,
            ..
        } = prepared;
        let ask = Ask::Query { attempt, deadline };
        let patience = Duration::from_millis(self.patience_ms);
        let told = self
            .router
            .ask(coordinator, &ask, Instant::now() + patience)
            .await;
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
}
